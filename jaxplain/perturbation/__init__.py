"""Perturbation: cover, mask or change parts of the input and see what the score does."""

from ._adversarial import adversarial_gradient_integration, perceptual_ball, similar_adversarial
from ._attacks import deepfool, fgsm, pgd
from ._extremal import extremal_perturbation
from ._fgvis import fgvis
from ._kernel_shap import kernel_shap
from ._lime import lime
from ._meaningful import meaningful_perturbation
from ._occlusion import occlusion
from ._rise import rise
from ._superpixels import grid_segments, slic

__all__ = [
    "adversarial_gradient_integration",
    "deepfool",
    "extremal_perturbation",
    "fgsm",
    "fgvis",
    "grid_segments",
    "kernel_shap",
    "lime",
    "meaningful_perturbation",
    "occlusion",
    "perceptual_ball",
    "pgd",
    "rise",
    "similar_adversarial",
    "slic",
]
