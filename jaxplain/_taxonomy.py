"""Every method: its family, what it needs, what its maps are like, what they cost, its source, and what makes it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from . import _compose, _gradients, _references, features, perturbation, propagation
from ._convention import Explain
from ._html import counted, html_table, listing
from ._text import as_list, choose

__all__ = ["cite", "methods"]

Family: TypeAlias = Literal["linearisation", "structure", "adversarial", "perturbation"]
Need: TypeAlias = Literal["gradient", "layer", "baseline", "segments", "data", "composite", "patterns", "key"]
Resolution: TypeAlias = Literal["colour", "pixel", "layer", "region"]
Total: TypeAlias = Literal["", "score", "difference", "1", "0"]


@dataclass(frozen=True)
class Cost:
    """How often the network is evaluated to explain one example, and how often it is walked back through.

    A pass back through the layers behind one layer, or by rules that evaluate a unit again, counts as one; methods that
    may stop early are counted to the end. Predicting the class where ``target=None`` is not counted.

    Attributes:
      forward: the number of evaluations.
      backward: the number of backward passes, by gradient or by rules.
      each: what both numbers are for one of, where how many there are is not known beforehand: a ``"channel"`` of the
        layer, a ``"reference"`` among the data, a ``"window"`` of the image. Empty for methods of a known cost.
    """

    forward: int
    backward: int
    each: str = ""

    def __str__(self) -> str:
        passes = f"{self.forward} + {self.backward}" if self.backward else f"{self.forward}"
        return f"{passes} per {self.each}" if self.each else passes


@dataclass(frozen=True)
class Method:
    """One explanation method. What is said of its maps and its cost holds at its default options.

    Attributes:
      name: its public name in `jaxplain`.
      family: the family of the survey it is described in (Ayyar, Benois-Pineau, Zemmari 2021); authors place some
        methods differently.
      needs: what it asks for: a ``"gradient"``, that is a network to walk back through; of its user a ``"layer"`` (the
        last feature map by default), a ``"baseline"`` (0 by default), ``"segments"`` of the image (a grid by default),
        a ``"composite"`` of rules (defaults exist), ``"data"``, ``"patterns"`` fitted to data, a random ``"key"``.
      summary: what it computes, in one line.
      make: the public function, ``make(apply, **options) -> explain``.
      citations: keys of `jaxplain.cite`'s bibliography, that of the method first.
      cost: forward and backward passes.
      resolution: every ``"colour"`` of every pixel, in the input's shape; every ``"pixel"``; or what is enlarged to
        ``(N, H, W)``, the positions of a ``"layer"`` or ``"region"``s such as windows, segments, cells of a mask.
      total: what a map sums to, before it is enlarged. Complete methods: the ``"difference"`` between the score and
        that of what the input is compared with (a baseline, references, a blurred image, the ends of paths), up to the
        error of sums for integrals. Conservative ones: the ``"score"``, ``"1"`` or ``"0"``, on networks of ReLUs
        without biases, for a class of positive score; elsewhere biases take their share.
      class_discriminative: whether maps of different classes tell them apart. False also where the target enters the
        formula, but hardly the map: in guided backprop, DeconvNet, deep Taylor, excitation backprop and the pattern
        methods (Nie et al. 2018, Sixt et al. 2020), as in `lrp` by z+ alone, though contrastive forms exist; in
        Score-CAM, whose weights of channels are within a factor e of each other; in internal influence, the same
        everywhere in front of a global average.
      signed: whether maps of networks of ReLUs have negative values.
    """

    name: str
    family: Family
    needs: tuple[Need, ...]
    summary: str
    make: Callable[..., Explain]
    citations: tuple[str, ...]
    cost: Cost
    resolution: Resolution
    total: Total
    class_discriminative: bool
    signed: bool

    @property
    def reference(self) -> str:
        """Authors and year of the paper; `jaxplain.cite` has the rest."""
        return _references.short(self.citations[0])

    @property
    def deterministic(self) -> bool:
        """Whether it draws no random numbers."""
        return "key" not in self.needs


class Methods(list[Method]):
    """A list of methods, which notebooks show as a table."""

    def __repr__(self) -> str:
        return f"[{counted(len(self), 'method')}: {listing([method.name for method in self])}]"

    def _repr_html_(self) -> str:
        heading = ("method", "family", "needs", "passes", "computes", "reference")
        return html_table(
            heading, ((m.name, m.family, ", ".join(m.needs), str(m.cost), m.summary, m.reference) for m in self)
        )


def _method(
    family: Family,
    make: Callable[..., Explain],
    needs: tuple[Need, ...],
    summary: str,
    *citations: str,
    cost: Cost | Callable[..., Cost] = Cost(1, 1),
    resolution: Resolution = "colour",
    total: Total = "",
    class_discriminative: bool = True,
    signed: bool = True,
) -> Method:
    if callable(cost):  # of options, by their names
        options = inspect.signature(make).parameters
        cost = cost(**{name: options[name].default for name in inspect.signature(cost).parameters})
    name = make.__name__
    return Method(name, family, needs, summary, make, citations, cost, resolution, total, class_discriminative, signed)


_linearisation = functools.partial(_method, "linearisation")
_structure = functools.partial(_method, "structure")
_adversarial = functools.partial(_method, "adversarial")
_perturbation = functools.partial(_method, "perturbation")

# fmt: off
_TABLE = [
    _linearisation(_gradients.gradient, ("gradient",), "the gradient of the score", "simonyan2014"),
    _linearisation(_gradients.input_x_gradient, ("gradient",), "input times gradient", "shrikumar2016", total="score"),
    _linearisation(_gradients.integrated_gradients, ("gradient", "baseline"), "gradients along the line from a baseline", "sundararajan2017", cost=lambda steps: Cost(steps, steps), total="difference"),
    _linearisation(_gradients.expected_gradients, ("gradient", "key", "data"), "integrated gradients over baselines drawn from data", "erion2021", cost=lambda samples: Cost(samples, samples), total="difference"),
    _linearisation(_gradients.blur_integrated_gradients, ("gradient",), "gradients along the path that blurs the image", "xu2020", cost=lambda steps: Cost(steps, steps), total="difference"),
    _linearisation(_gradients.guided_integrated_gradients, ("gradient", "baseline"), "gradients along a path of small gradients", "kapishnikov2021", cost=lambda steps: Cost(steps, steps), total="difference"),
    _linearisation(_compose.smoothgrad, ("gradient", "key"), "the mean gradient under noise", "smilkov2017", cost=lambda samples: Cost(samples, samples)),
    _linearisation(_compose.vargrad, ("gradient", "key"), "the variance of the gradient under noise", "adebayo2018", cost=lambda samples: Cost(samples + 1, samples + 1), signed=False),
    _linearisation(propagation.deconvnet, ("gradient",), "the gradient, its negative part cut at activations", "zeiler2014", class_discriminative=False),
    _linearisation(propagation.guided_backprop, ("gradient",), "the gradient, cut there by its sign and the activation's input", "springenberg2015", class_discriminative=False),
    _linearisation(propagation.deeplift, ("gradient", "baseline"), "differences from a reference, by multipliers", "shrikumar2017", cost=Cost(2, 1), total="difference"),
    _linearisation(propagation.deep_shap, ("gradient", "data"), "the mean of DeepLIFT over references", "lundberg2017", "shrikumar2017", cost=Cost(2, 1, "reference"), total="difference"),
    _linearisation(features.cam, ("gradient", "layer"), "feature maps weighted by the dense layer behind their average", "zhou2016", resolution="layer"),
    _linearisation(features.grad_cam, ("gradient", "layer"), "feature maps weighted by their mean gradient", "selvaraju2017", resolution="layer"),
    _linearisation(features.guided_grad_cam, ("gradient", "layer"), "guided backprop where Grad-CAM is positive", "selvaraju2017", "springenberg2015", cost=Cost(2, 2)),
    _linearisation(features.grad_cam_plus_plus, ("gradient", "layer"), "positive gradients, every occurrence of a feature counting alike", "chattopadhay2018", resolution="layer", signed=False),
    _linearisation(features.xgrad_cam, ("gradient", "layer"), "gradients averaged with the activations as weights", "fu2020", resolution="layer", total="score"),
    _linearisation(features.hires_cam, ("gradient", "layer"), "gradient times activation, summed over channels", "draelos2020", resolution="layer", total="score"),
    _linearisation(features.layer_cam, ("gradient", "layer"), "positive gradient times activation, summed over channels", "jiang2021", resolution="layer", signed=False),
    _linearisation(features.grad_cam_elementwise, ("gradient", "layer"), "the positive part of gradient times activation", "gildenblat2021", resolution="layer", signed=False),
    _linearisation(features.eigen_cam, ("layer",), "the features' first principal component, of no class", "muhammad2020", cost=Cost(1, 0), resolution="layer", class_discriminative=False),
    _linearisation(features.eigen_grad_cam, ("gradient", "layer"), "the first principal component of gradient times activation", "muhammad2020", "gildenblat2021", resolution="layer"),
    _linearisation(features.full_grad, ("gradient",), "the gradient's share of the input and of every bias", "srinivas2019", resolution="pixel", signed=False),
    _linearisation(features.score_cam, ("layer",), "channels weighted by the score of the input seen through them", "wang2020", cost=Cost(1, 0, "channel"), resolution="layer", signed=False, class_discriminative=False),
    _linearisation(features.ablation_cam, ("layer",), "channels weighted by how far the score falls without them", "desai2020", cost=Cost(1, 0, "channel"), resolution="layer"),

    _structure(propagation.lrp, ("gradient", "composite"), "relevance handed back unit by unit", "bach2015", total="score"),
    _structure(propagation.deep_taylor, ("gradient",), "relevance by z+, bounded pixels by the box rule", "montavon2017", total="score", class_discriminative=False, signed=False),
    _structure(propagation.excitation_backprop, ("gradient", "layer"), "the probability of a winner-take-all walk from the target", "zhang2016", total="1", class_discriminative=False, signed=False),
    _structure(propagation.contrastive_lrp, ("gradient", "composite"), "the target's relevance less a dual concept's", "gu2018", cost=Cost(1, 2), signed=False),
    _structure(propagation.softmax_gradient_lrp, ("gradient", "composite"), "relevance from the gradient of the softmax", "iwana2019", total="0"),
    _structure(propagation.pattern_net, ("gradient", "patterns"), "the signal, by patterns in place of weights", "kindermans2018", class_discriminative=False),
    _structure(propagation.pattern_attribution, ("gradient", "patterns"), "what the signal contributes", "kindermans2018", class_discriminative=False),
    _structure(features.fem, ("layer",), "where channels are unusually strong, of no class", "fuad2020", cost=Cost(1, 0), resolution="layer", class_discriminative=False, signed=False),
    _structure(features.multilayer_fem, ("layer",), "FEM at several layers, combined", "bourroux2022", "fuad2020", cost=Cost(1, 0), resolution="layer", class_discriminative=False, signed=False),
    _structure(features.layer_attribution, ("gradient", "layer"), "any method, at the features of a layer", "kokhlikyan2020", resolution="layer", total="score"),
    _structure(features.conductance, ("gradient", "layer", "baseline"), "what flows through a layer on the way from a baseline", "dhamdhere2019", cost=lambda steps: Cost(2 * steps, steps), resolution="layer", total="difference"),
    _structure(features.internal_influence, ("gradient", "layer", "baseline"), "a layer's mean gradient on the way from a baseline", "leino2018", cost=lambda steps: Cost(steps, steps), resolution="layer", class_discriminative=False),
    _structure(features.neuron_attribution, ("gradient", "layer"), "any method, of one neuron in place of the score", "kokhlikyan2020", class_discriminative=False),

    _adversarial(perturbation.fgvis, ("gradient", "baseline"), "the least that has to be deleted, by colour, for the class to be gone", "wagner2019", cost=lambda steps: Cost(2 * steps, steps), signed=False),
    _adversarial(perturbation.adversarial_gradient_integration, ("gradient", "key"), "gradients along paths that lead to other classes", "pan2021", cost=lambda classes, steps: Cost(classes * steps, 2 * classes * steps), total="difference"),
    _adversarial(perturbation.perceptual_ball, ("gradient",), "the least visible change that makes it another class", "elliott2021", cost=lambda steps: Cost(2 * steps + 2, 2 * steps), resolution="pixel", signed=False),
    _adversarial(perturbation.similar_adversarial, ("gradient",), "how a similar and an adversarial image differ", "charachon2020", cost=lambda steps: Cost(2 * steps + 1, 2 * steps + 1), signed=False),
    _adversarial(perturbation.deepfool, ("gradient",), "the smallest change that makes it another class", "moosavidezfooli2016", cost=lambda steps, candidates: Cost(steps + 1, steps * candidates)),

    _perturbation(perturbation.occlusion, ("baseline",), "what the score loses where a window is covered", "zeiler2014", cost=Cost(1, 0, "window"), resolution="region"),
    _perturbation(perturbation.rise, ("baseline", "key"), "the mean of random masks, weighted by the score behind them", "petsiuk2018", cost=lambda masks: Cost(masks, 0), resolution="region", signed=False),
    _perturbation(perturbation.lime, ("baseline", "segments", "key"), "a linear model of the score, of which segments are shown", "ribeiro2016", cost=lambda samples: Cost(samples + 1, 0), resolution="region"),
    _perturbation(perturbation.kernel_shap, ("baseline", "segments", "key"), "Shapley values of segments, by least squares", "lundberg2017", "covert2021", cost=lambda samples: Cost(samples + 2, 0), resolution="region", total="difference"),
    _perturbation(perturbation.meaningful_perturbation, ("gradient", "key"), "the smallest smooth mask that removes the class", "fong2017", cost=lambda steps: Cost(steps + 1, steps), resolution="region", signed=False),
    _perturbation(perturbation.extremal_perturbation, ("gradient",), "the smooth mask of a given area that keeps the score highest", "fong2019", cost=lambda steps, areas: Cost(steps * len(areas), steps * len(areas)), resolution="region", signed=False),
]
# fmt: on

METHODS: dict[str, Method] = {method.name: method for method in _TABLE}


def methods(
    *,
    family: Family | None = None,
    needs: Need | Collection[Need] = (),
    without: Need | Collection[Need] = (),
    max_cost: int | None = None,
) -> Methods:
    """The methods of the library, or those that all of the conditions hold for.

    Args:
      family: ``"linearisation"``, ``"structure"``, ``"adversarial"`` or ``"perturbation"``.
      needs: one need or several, see `Method`: methods that have them all.
      without: one need or several: methods that have none of them. What explains a function that cannot be looked into
        are the methods ``without=["gradient", "layer"]``.
      max_cost: the largest number of forward and backward passes together. A method whose number depends on the
        network or the data (see `Cost`) fits no such limit.

    Returns:
      A list of `Method` records, in the order of the families; notebooks show it as a table.

    Raises:
      ValueError: if there is no such family or need.

    Example:
      >>> import jaxplain
      >>> [m.name for m in jaxplain.methods(needs="data")]
      ['expected_gradients', 'deep_shap']
      >>> [m.name for m in jaxplain.methods(family="structure", without="layer", max_cost=2)]
      ['lrp', 'deep_taylor', 'softmax_gradient_lrp', 'pattern_net', 'pattern_attribution']
    """
    families = get_args(Family) if family is None else (choose(family, get_args(Family), "family"),)
    wanted, unwanted = ({choose(need, get_args(Need), "need") for need in as_list(some)} for some in (needs, without))
    return Methods(
        method
        for method in METHODS.values()
        if method.family in families and wanted <= {*method.needs} and not unwanted & {*method.needs}
        if max_cost is None or (not method.cost.each and method.cost.forward + method.cost.backward <= max_cost)
    )


def cite(*names: str) -> str:
    r"""The papers of some methods, as BibTeX.

    Args:
      names: of methods; without any, all papers.

    Returns:
      The entries, each once, a blank line between them; in UTF-8.

    Raises:
      ValueError: if there is no such method.

    Example:
      >>> import jaxplain
      >>> print(jaxplain.cite("pattern_net", "pattern_attribution"))
      @inproceedings{kindermans2018,
        author = {Kindermans, Pieter-Jan and Schütt, Kristof T. and ...},
        title = {Learning how to explain neural networks: {PatternNet} and {PatternAttribution}},
        ...
    """
    chosen = [METHODS[choose(name, METHODS, "method")] for name in names or METHODS]
    keys = dict.fromkeys(key for method in chosen for key in method.citations)
    return "\n\n".join(_references.entries()[key] for key in keys)
