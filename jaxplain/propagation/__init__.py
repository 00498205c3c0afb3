"""Backpropagation with other rules: one engine, and the methods that are nothing but their rules."""

from . import composites, rules
from ._concepts import concept_relevance
from ._deeplift import deep_shap, deeplift
from ._excitation import excitation_backprop
from ._guided import deconvnet, guided_backprop
from ._lrp import contrastive_lrp, deep_taylor, lrp, softmax_gradient_lrp
from ._patterns import fit_patterns, pattern_attribution, pattern_net
from ._summary import summary

__all__ = [
    "composites",
    "concept_relevance",
    "contrastive_lrp",
    "deconvnet",
    "deep_shap",
    "deep_taylor",
    "deeplift",
    "excitation_backprop",
    "fit_patterns",
    "guided_backprop",
    "lrp",
    "pattern_attribution",
    "pattern_net",
    "rules",
    "softmax_gradient_lrp",
    "summary",
]
