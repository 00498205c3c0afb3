"""Perturbation: cover, mask or change parts of the input and see what the score does."""

from .adversarial import adversarial_gradient_integration as adversarial_gradient_integration
from .adversarial import perceptual_ball as perceptual_ball
from .adversarial import similar_adversarial as similar_adversarial
from .attacks import deepfool as deepfool
from .attacks import fgsm as fgsm
from .attacks import pgd as pgd
from .extremal import extremal_perturbation as extremal_perturbation
from .fgvis import fgvis as fgvis
from .kernel_shap import kernel_shap as kernel_shap
from .lime import lime as lime
from .meaningful import meaningful_perturbation as meaningful_perturbation
from .occlusion import occlusion as occlusion
from .rise import rise as rise
from .superpixels import grid_segments as grid_segments
from .superpixels import slic as slic
