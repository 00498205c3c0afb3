"""Methods that look at a layer: class activation maps, feature explanation, attributions to and of neurons."""

from ._attention import attentions
from ._attention_maps import attention_relevance, attention_rollout, legrad, rfem
from ._cam import (
    cam,
    eigen_cam,
    eigen_grad_cam,
    grad_cam,
    grad_cam_elementwise,
    grad_cam_plus_plus,
    guided_grad_cam,
    hires_cam,
    layer_cam,
    shapley_cam,
    xgrad_cam,
)
from ._fem import fem, multilayer_fem
from ._full_grad import full_grad
from ._gradient_free_cams import ablation_cam, score_cam
from ._layers import layers
from ._neurons import conductance, internal_influence, layer_attribution, neuron_attribution
from ._tap import tap

__all__ = [
    "ablation_cam",
    "attention_relevance",
    "attention_rollout",
    "attentions",
    "cam",
    "conductance",
    "eigen_cam",
    "eigen_grad_cam",
    "fem",
    "full_grad",
    "grad_cam",
    "grad_cam_elementwise",
    "grad_cam_plus_plus",
    "guided_grad_cam",
    "hires_cam",
    "internal_influence",
    "layer_attribution",
    "layer_cam",
    "layers",
    "legrad",
    "multilayer_fem",
    "neuron_attribution",
    "rfem",
    "score_cam",
    "shapley_cam",
    "tap",
    "xgrad_cam",
]
