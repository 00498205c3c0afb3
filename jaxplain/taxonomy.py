"""Every method: its family, what it needs, one line, its source, and the function that makes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from . import compose, features, gradients, propagation
from .explainer import Explain

Family = Literal["linearisation", "structure", "adversarial", "perturbation"]
Need = Literal["key", "layer", "baseline", "data", "composite", "patterns"]


@dataclass(frozen=True)
class Method:
    """One explanation method.

    Attributes:
      name: its public name in `jaxplain`.
      family: the family of the survey it is described in (Ayyar, Benois-Pineau, Zemmari 2021); authors place some
        methods differently.
      needs: what its user provides: a random ``"key"``, a ``"layer"``, a ``"baseline"`` (0 by default), a
        ``"composite"`` of rules (defaults exist), ``"data"``, fitted ``"patterns"``.
      summary: what it computes, in one line.
      reference: authors and year; the docstring has the rest.
      make: the public function, ``make(apply, **options) -> explain``.
    """

    name: str
    family: Family
    needs: tuple[Need, ...]
    summary: str
    reference: str
    make: Callable[..., Explain]


# fmt: off
_TABLE: dict[Family, list[tuple[Any, tuple[Need, ...], str, str]]] = {
    "linearisation": [
        (gradients.gradient, (), "the gradient of the score", "Simonyan et al. 2014"),
        (gradients.input_x_gradient, (), "input times gradient", "Shrikumar et al. 2016"),
        (gradients.integrated_gradients, ("baseline",), "gradients along the line from a baseline", "Sundararajan et al. 2017"),
        (gradients.expected_gradients, ("key", "data"), "integrated gradients over baselines drawn from data", "Erion et al. 2021"),
        (gradients.blur_integrated_gradients, (), "gradients along the path that blurs the image", "Xu et al. 2020"),
        (gradients.guided_integrated_gradients, ("baseline",), "gradients along a path of small gradients", "Kapishnikov et al. 2021"),
        (compose.smoothgrad, ("key",), "the mean gradient under noise", "Smilkov et al. 2017"),
        (compose.vargrad, ("key",), "the variance of the gradient under noise", "Adebayo et al. 2018"),
        (propagation.deconvnet, (), "the gradient, its negative part cut at activations", "Zeiler & Fergus 2014"),
        (propagation.guided_backprop, (), "the gradient, cut there by its sign and the activation's input", "Springenberg et al. 2015"),
        (propagation.deeplift, ("baseline",), "differences from a reference, by multipliers", "Shrikumar et al. 2017"),
        (propagation.deep_shap, ("data",), "the mean of DeepLIFT over references", "Lundberg & Lee 2017"),
        (features.cam, ("layer",), "feature maps weighted by the dense layer behind their average", "Zhou et al. 2016"),
        (features.grad_cam, ("layer",), "feature maps weighted by their mean gradient", "Selvaraju et al. 2017"),
        (features.guided_grad_cam, ("layer",), "guided backprop where Grad-CAM is positive", "Selvaraju et al. 2017"),
        (features.grad_cam_plus_plus, ("layer",), "positive gradients, every occurrence of a feature counting alike", "Chattopadhay et al. 2018"),
        (features.xgrad_cam, ("layer",), "gradients averaged with the activations as weights", "Fu et al. 2020"),
        (features.hires_cam, ("layer",), "gradient times activation, summed over channels", "Draelos & Carin 2020"),
        (features.layer_cam, ("layer",), "positive gradient times activation, summed over channels", "Jiang et al. 2021"),
        (features.grad_cam_elementwise, ("layer",), "the positive part of gradient times activation", "Gildenblat et al. 2021"),
        (features.eigen_cam, ("layer",), "the features' first principal component, of no class", "Muhammad & Yeasin 2020"),
        (features.eigen_grad_cam, ("layer",), "the first principal component of gradient times activation", "Muhammad & Yeasin 2020"),
        (features.full_grad, (), "the gradient's share of the input and of every bias", "Srinivas & Fleuret 2019"),
        (features.score_cam, ("layer",), "channels weighted by the score of the input seen through them", "Wang et al. 2020"),
        (features.ablation_cam, ("layer",), "channels weighted by how far the score falls without them", "Desai & Ramaswamy 2020"),
    ],
    "structure": [
        (propagation.lrp, ("composite",), "relevance handed back unit by unit", "Bach et al. 2015"),
        (propagation.deep_taylor, (), "relevance by z+, bounded pixels by the box rule", "Montavon et al. 2017"),
        (propagation.excitation_backprop, ("layer",), "the probability of a winner-take-all walk from the target", "Zhang et al. 2016"),
        (propagation.contrastive_lrp, ("composite",), "the target's relevance less a dual concept's", "Gu et al. 2018"),
        (propagation.softmax_gradient_lrp, ("composite",), "relevance from the gradient of the softmax", "Iwana et al. 2019"),
        (propagation.pattern_net, ("patterns",), "the signal, by patterns in place of weights", "Kindermans et al. 2018"),
        (propagation.pattern_attribution, ("patterns",), "what the signal contributes", "Kindermans et al. 2018"),
        (features.fem, ("layer",), "where channels are unusually strong, of no class", "Fuad et al. 2020"),
        (features.multilayer_fem, ("layer",), "FEM at several layers, combined", "Bourroux et al. 2022"),
        (features.layer_attribution, ("layer",), "any method, at the features of a layer", "Kokhlikyan et al. 2020"),
        (features.conductance, ("layer", "baseline"), "what flows through a layer on the way from a baseline", "Dhamdhere et al. 2019"),
        (features.internal_influence, ("layer", "baseline"), "a layer's mean gradient on the way from a baseline", "Leino et al. 2018"),
        (features.neuron_attribution, ("layer",), "any method, of one neuron in place of the score", "Kokhlikyan et al. 2020"),
    ],
}
# fmt: on

METHODS: dict[str, Method] = {
    make.__name__: Method(make.__name__, family, needs, summary, reference, make)
    for family, rows in _TABLE.items()
    for make, needs, summary, reference in rows
}


def methods() -> list[Method]:
    """Every method of the library.

    Returns:
      `Method` records, in the order of the families.

    Example:
      >>> import jaxplain
      >>> [m.name for m in jaxplain.methods() if "data" in m.needs]
      ['expected_gradients', 'deep_shap']
    """
    return list(METHODS.values())
