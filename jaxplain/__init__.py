"""Explanations of image classifiers as JAX function transforms."""

from . import metrics
from ._augment import augment
from ._channels import layout
from ._compose import chunked, contrast, ensemble, heatmap, multiply, smooth, smoothgrad, vargrad
from ._convention import explainer, full_precision, scores
from ._gradients import (
    blur_integrated_gradients,
    expected_gradients,
    gradient,
    guided_integrated_gradients,
    input_x_gradient,
    integrated_gradients,
)
from ._taxonomy import cite, methods
from .evaluation import Comparison, compare, recommend
from .fast import accelerate
from .features import (
    ablation_cam,
    attention_relevance,
    attention_rollout,
    attentions,
    cam,
    conductance,
    eigen_cam,
    eigen_grad_cam,
    fem,
    full_grad,
    grad_cam,
    grad_cam_elementwise,
    grad_cam_plus_plus,
    guided_grad_cam,
    hires_cam,
    internal_influence,
    layer_attribution,
    layer_cam,
    layers,
    legrad,
    multilayer_fem,
    neuron_attribution,
    rfem,
    score_cam,
    shapley_cam,
    tap,
    xgrad_cam,
)
from .perturbation import (
    adversarial_gradient_integration,
    deepfool,
    extremal_perturbation,
    feature_ablation,
    fgvis,
    hsic,
    kernel_shap,
    lime,
    meaningful_perturbation,
    occlusion,
    perceptual_ball,
    rise,
    similar_adversarial,
    sobol,
    xrai,
)
from .propagation import (
    composites,
    concept_relevance,
    contrastive_lrp,
    deconvnet,
    deep_shap,
    deep_taylor,
    deeplift,
    excitation_backprop,
    fit_patterns,
    guided_backprop,
    lrp,
    pattern_attribution,
    pattern_net,
    rules,
    softmax_gradient_lrp,
    summary,
)

__all__ = [
    "Comparison",
    "ablation_cam",
    "accelerate",
    "adversarial_gradient_integration",
    "attention_relevance",
    "attention_rollout",
    "attentions",
    "augment",
    "blur_integrated_gradients",
    "cam",
    "chunked",
    "cite",
    "compare",
    "composites",
    "concept_relevance",
    "conductance",
    "contrast",
    "contrastive_lrp",
    "deconvnet",
    "deep_shap",
    "deep_taylor",
    "deepfool",
    "deeplift",
    "eigen_cam",
    "eigen_grad_cam",
    "ensemble",
    "excitation_backprop",
    "expected_gradients",
    "explainer",
    "extremal_perturbation",
    "feature_ablation",
    "fem",
    "fgvis",
    "fit_patterns",
    "full_grad",
    "full_precision",
    "grad_cam",
    "grad_cam_elementwise",
    "grad_cam_plus_plus",
    "gradient",
    "guided_backprop",
    "guided_grad_cam",
    "guided_integrated_gradients",
    "heatmap",
    "hires_cam",
    "hsic",
    "input_x_gradient",
    "integrated_gradients",
    "internal_influence",
    "kernel_shap",
    "layer_attribution",
    "layer_cam",
    "layers",
    "layout",
    "legrad",
    "lime",
    "lrp",
    "meaningful_perturbation",
    "methods",
    "metrics",
    "multilayer_fem",
    "multiply",
    "neuron_attribution",
    "occlusion",
    "pattern_attribution",
    "pattern_net",
    "perceptual_ball",
    "recommend",
    "rfem",
    "rise",
    "rules",
    "score_cam",
    "scores",
    "shapley_cam",
    "similar_adversarial",
    "smooth",
    "smoothgrad",
    "sobol",
    "softmax_gradient_lrp",
    "summary",
    "tap",
    "vargrad",
    "xgrad_cam",
    "xrai",
]

__version__ = "1.0.0"

from importlib.util import find_spec
from typing import NoReturn

from ._execution import execute_with
from ._text import as_known, did_you_mean
from .fast._accelerate import accelerated_for

execute_with(accelerated_for)


def __getattr__(name: str) -> NoReturn:
    """Tell the name that was meant."""
    if find_spec(f"jaxplain.{name}") is not None:
        raise AttributeError(f"jaxplain.{name} is a module: import jaxplain.{name}, or from jaxplain import {name}")
    raise AttributeError(f"module 'jaxplain' has no attribute {name!r}{did_you_mean(as_known(name, __all__), __all__)}")
