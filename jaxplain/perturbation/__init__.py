"""Perturbation: cover, mask or change parts of the input and see what the score does."""

from ._adversarial import adversarial_gradient_integration, perceptual_ball, similar_adversarial
from ._attacks import deepfool, fgsm, pgd
from ._extremal import extremal_perturbation
from ._feature_ablation import feature_ablation
from ._fgvis import fgvis
from ._hsic import hsic
from ._kernel_shap import kernel_shap
from ._lime import lime
from ._meaningful import meaningful_perturbation
from ._occlusion import occlusion
from ._rise import rise
from ._sobol import sobol
from ._superpixels import felzenszwalb, grid_segments, slic
from ._xrai import xrai

__all__ = [
    "adversarial_gradient_integration",
    "deepfool",
    "extremal_perturbation",
    "feature_ablation",
    "felzenszwalb",
    "fgsm",
    "fgvis",
    "grid_segments",
    "hsic",
    "kernel_shap",
    "lime",
    "meaningful_perturbation",
    "occlusion",
    "perceptual_ball",
    "pgd",
    "rise",
    "similar_adversarial",
    "slic",
    "sobol",
    "xrai",
]
