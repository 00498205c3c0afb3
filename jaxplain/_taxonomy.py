"""Every method: its family and mechanism, its needs, what its maps are like and cost, its source, and what makes it."""

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
Mechanism: TypeAlias = Literal[
    "gradient",
    "modified gradient",
    "path integral",
    "relevance rules",
    "weighted features",
    "feature statistics",
    "optimisation",
    "sampled masks",
    "attention",
]
Need: TypeAlias = Literal[
    "gradient", "layer", "baseline", "segments", "data", "composite", "patterns", "key", "attention"
]
Resolution: TypeAlias = Literal["colour", "pixel", "layer", "region"]
Total: TypeAlias = Literal["", "score", "difference", "1", "0"]
SURVEY_YEAR = 2021
SEGMENTS = 7 * 7  # of the grid that methods of segments take by default


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
      mechanism: how it is implemented, the survey's second way to group methods, at the default options. A
        ``"gradient"`` is a derivative as it is, also averaged over noise or shared among biases; a ``"modified gradient"``
        is walked back with other slopes or weights; a ``"path integral"`` adds gradients up on the way from elsewhere;
        ``"relevance rules"`` hand back the score, or its difference to a reference's, unit by unit; ``"weighted
        features"`` are channels times weights that tell of a class; ``"feature statistics"`` ask the activations alone,
        or what is made of them, where they are unusual; ``"optimisation"`` searches for a mask or an image; ``"sampled
        masks"`` watch the score while parts are covered; ``"attention"`` reads how tokens look at each other.
      needs: what it asks for: a ``"gradient"``, that is a network to walk back through; of its user a ``"layer"`` (the
        last feature map by default), a ``"baseline"`` (0 by default), ``"segments"`` of the image (a grid by default),
        a ``"composite"`` of rules (defaults exist), ``"data"``, ``"patterns"`` fitted to data, a random ``"key"``; a network with ``"attention"`` between tokens.
      summary: what it computes, in one line.
      make: the public function, ``make(apply, **options) -> explain``.
      citations: keys of `jaxplain.cite`'s bibliography, that of the method first.
      cost: forward and backward passes.
      resolution: every ``"colour"`` of every pixel, in the input's shape; every ``"pixel"``; or what is enlarged to
        ``(N, H, W)``, the positions of a ``"layer"`` or a ``"region"``, such as windows, segments, cells of a mask.
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
    mechanism: Mechanism
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
    def in_survey(self) -> bool:
        """Whether it is of the survey's kind and time: white-box, for convolutional networks, up to 2021.

        The others extend it.
        """
        is_white_box = not {"gradient", "layer"}.isdisjoint(self.needs)
        return (
            is_white_box
            and "attention" not in self.needs
            and int(_references.field(self.citations[0], "year")) <= SURVEY_YEAR
        )

    @property
    def composite(self) -> str | None:
        """The name of the composite that it takes by default, if it takes one."""
        option = inspect.signature(self.make).parameters.get("composite")
        return option and option.default

    @property
    def deterministic(self) -> bool:
        """Whether it draws no random numbers."""
        return "key" not in self.needs


class Methods(list[Method]):
    """A list of methods, which notebooks show as a table."""

    def __repr__(self) -> str:
        return f"[{counted(len(self), 'method')}: {listing([method.name for method in self])}]"

    def _repr_html_(self) -> str:
        heading = ("method", "family", "mechanism", "needs", "passes", "computes", "reference")
        known = lambda m: (m.name, m.family, m.mechanism, ", ".join(m.needs), str(m.cost), m.summary, m.reference)
        return html_table(heading, map(known, self))


def _method(
    family: Family,
    mechanism: Mechanism,
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
    known = (needs, summary, make, citations, cost, resolution, total, class_discriminative, signed)
    return Method(name, family, mechanism, *known)


_linearisation = functools.partial(_method, "linearisation")
_structure = functools.partial(_method, "structure")
_adversarial = functools.partial(_method, "adversarial")
_perturbation = functools.partial(_method, "perturbation")

# fmt: off
_TABLE = [
    _linearisation("gradient", _gradients.gradient, ("gradient",), "the gradient of the score", "simonyan2014"),
    _linearisation("gradient", _gradients.input_x_gradient, ("gradient",), "input times gradient", "shrikumar2016", total="score"),
    _linearisation("path integral", _gradients.integrated_gradients, ("gradient", "baseline"), "gradients along the line from a baseline", "sundararajan2017", cost=lambda steps: Cost(steps, steps), total="difference"),
    _linearisation("path integral", _gradients.expected_gradients, ("gradient", "key", "data"), "integrated gradients over baselines drawn from data", "erion2021", cost=lambda samples: Cost(samples, samples), total="difference"),
    _linearisation("path integral", _gradients.blur_integrated_gradients, ("gradient",), "gradients along the path that blurs the image", "xu2020", cost=lambda steps: Cost(steps, steps), total="difference"),
    _linearisation("path integral", _gradients.guided_integrated_gradients, ("gradient", "baseline"), "gradients along a path of small gradients", "kapishnikov2021", cost=lambda steps: Cost(steps, steps), total="difference"),
    _linearisation("path integral", perturbation.xrai, ("gradient", "segments"), "integrated gradients averaged over regions, the densest first", "kapishnikov2019", cost=lambda steps: Cost(2 * steps, 2 * steps), resolution="region"),
    _linearisation("gradient", _compose.smoothgrad, ("gradient", "key"), "the mean gradient under noise", "smilkov2017", cost=lambda samples: Cost(samples, samples)),
    _linearisation("gradient", _compose.vargrad, ("gradient", "key"), "the variance of the gradient under noise", "adebayo2018", cost=lambda samples: Cost(samples + 1, samples + 1), signed=False),
    _linearisation("modified gradient", propagation.deconvnet, ("gradient",), "the gradient, its negative part cut at activations", "zeiler2014", class_discriminative=False),
    _linearisation("modified gradient", propagation.guided_backprop, ("gradient",), "the gradient, cut there by its sign and the activation's input", "springenberg2015", class_discriminative=False),
    _linearisation("relevance rules", propagation.deeplift, ("gradient", "baseline"), "differences from a reference, by multipliers", "shrikumar2017", cost=Cost(2, 1), total="difference"),
    _linearisation("relevance rules", propagation.deep_shap, ("gradient", "data"), "the mean of DeepLIFT over references", "lundberg2017", "shrikumar2017", cost=Cost(2, 1, "reference"), total="difference"),
    _linearisation("weighted features", features.cam, ("gradient", "layer"), "feature maps weighted by the dense layer behind their average", "zhou2016", resolution="layer"),
    _linearisation("weighted features", features.grad_cam, ("gradient", "layer"), "feature maps weighted by their mean gradient", "selvaraju2017", resolution="layer"),
    _linearisation("modified gradient", features.guided_grad_cam, ("gradient", "layer"), "guided backprop where Grad-CAM is positive", "selvaraju2017", "springenberg2015", cost=Cost(2, 2)),
    _linearisation("weighted features", features.grad_cam_plus_plus, ("gradient", "layer"), "positive gradients, every occurrence of a feature counting alike", "chattopadhay2018", resolution="layer", signed=False),
    _linearisation("weighted features", features.xgrad_cam, ("gradient", "layer"), "gradients averaged with the activations as weights", "fu2020", resolution="layer", total="score"),
    _linearisation("weighted features", features.shapley_cam, ("gradient", "layer"), "the mean gradient less half of the curvature's part as weights", "cai2025", cost=Cost(2, 2), resolution="layer"),
    _linearisation("weighted features", features.hires_cam, ("gradient", "layer"), "gradient times activation, summed over channels", "draelos2020", resolution="layer", total="score"),
    _linearisation("weighted features", features.layer_cam, ("gradient", "layer"), "positive gradient times activation, summed over channels", "jiang2021", resolution="layer", signed=False),
    _linearisation("weighted features", features.grad_cam_elementwise, ("gradient", "layer"), "the positive part of gradient times activation", "gildenblat2021", resolution="layer", signed=False),
    _linearisation("feature statistics", features.eigen_cam, ("layer",), "the features' first principal component, of no class", "muhammad2020", cost=Cost(1, 0), resolution="layer", class_discriminative=False),
    _linearisation("feature statistics", features.eigen_grad_cam, ("gradient", "layer"), "the first principal component of gradient times activation", "muhammad2020", "gildenblat2021", resolution="layer"),
    _linearisation("gradient", features.full_grad, ("gradient",), "the gradient's share of the input and of every bias", "srinivas2019", resolution="pixel", signed=False),
    _linearisation("weighted features", features.score_cam, ("layer",), "channels weighted by the score of the input seen through them", "wang2020", cost=Cost(1, 0, "channel"), resolution="layer", signed=False, class_discriminative=False),
    _linearisation("weighted features", features.ablation_cam, ("layer",), "channels weighted by how far the score falls without them", "desai2020", cost=Cost(1, 0, "channel"), resolution="layer"),

    _structure("relevance rules", propagation.lrp, ("gradient", "composite"), "relevance handed back unit by unit", "bach2015", total="score"),
    _structure("relevance rules", propagation.deep_taylor, ("gradient",), "relevance by z+, bounded pixels by the box rule", "montavon2017", total="score", class_discriminative=False, signed=False),
    _structure("relevance rules", propagation.excitation_backprop, ("gradient", "layer"), "the probability of a winner-take-all walk from the target", "zhang2016", total="1", class_discriminative=False, signed=False),
    _structure("relevance rules", propagation.contrastive_lrp, ("gradient", "composite"), "the target's relevance less a dual concept's", "gu2018", cost=Cost(1, 2), signed=False),
    _structure("relevance rules", propagation.concept_relevance, ("gradient", "layer", "composite"), "the part of LRP through some channels of a layer", "achtibat2023", cost=Cost(2, 2), total="score"),
    _structure("relevance rules", propagation.softmax_gradient_lrp, ("gradient", "composite"), "relevance from the gradient of the softmax", "iwana2019", total="0"),
    _structure("modified gradient", propagation.pattern_net, ("gradient", "patterns"), "the signal, by patterns in place of weights", "kindermans2018", class_discriminative=False),
    _structure("modified gradient", propagation.pattern_attribution, ("gradient", "patterns"), "what the signal contributes", "kindermans2018", class_discriminative=False),
    _structure("feature statistics", features.fem, ("layer",), "where channels are unusually strong, of no class", "fuad2020", cost=Cost(1, 0), resolution="layer", class_discriminative=False, signed=False),
    _structure("feature statistics", features.multilayer_fem, ("layer",), "FEM at several layers, combined", "bourroux2022", "fuad2020", cost=Cost(1, 0), resolution="layer", class_discriminative=False, signed=False),
    _structure("attention", features.attention_rollout, ("attention",), "attention and skip connections, multiplied over layers, of no class", "abnar2020", cost=Cost(1, 0), resolution="layer", class_discriminative=False, signed=False),
    _structure("attention", features.attention_relevance, ("gradient", "attention"), "attention weighted by its gradient, from layer to layer", "chefer2021", resolution="layer", signed=False),
    _structure("attention", features.legrad, ("gradient", "attention"), "the positive gradient in the attention of every block", "bousselham2025", resolution="layer", signed=False),
    _structure("attention", features.rfem, ("attention",), "attention that stands out in its head, rolled out, of no class", "ayyar2025", "fuad2020", cost=Cost(1, 0), resolution="layer", class_discriminative=False, signed=False),
    _structure("gradient", features.layer_attribution, ("gradient", "layer"), "any method, at the features of a layer", "kokhlikyan2020", resolution="layer", total="score"),
    _structure("path integral", features.conductance, ("gradient", "layer", "baseline"), "what flows through a layer on the way from a baseline", "dhamdhere2019", cost=lambda steps: Cost(2 * steps, steps), resolution="layer", total="difference"),
    _structure("path integral", features.internal_influence, ("gradient", "layer", "baseline"), "a layer's mean gradient on the way from a baseline", "leino2018", cost=lambda steps: Cost(steps, steps), resolution="layer", class_discriminative=False),
    _structure("gradient", features.neuron_attribution, ("gradient", "layer"), "any method, of one neuron in place of the score", "kokhlikyan2020", class_discriminative=False),

    _adversarial("optimisation", perturbation.fgvis, ("gradient", "baseline"), "the least that has to be deleted, by colour, for the class to be gone", "wagner2019", cost=lambda steps: Cost(2 * steps, steps), signed=False),
    _adversarial("path integral", perturbation.adversarial_gradient_integration, ("gradient", "key"), "gradients along paths that lead to other classes", "pan2021", cost=lambda classes, steps: Cost(classes * steps, 2 * classes * steps), total="difference"),
    _adversarial("optimisation", perturbation.perceptual_ball, ("gradient",), "the least visible change that makes it another class", "elliott2021", cost=lambda steps: Cost(2 * steps + 2, 2 * steps), resolution="pixel", signed=False),
    _adversarial("optimisation", perturbation.similar_adversarial, ("gradient",), "how a similar and an adversarial image differ", "charachon2020", cost=lambda steps: Cost(2 * steps + 1, 2 * steps + 1), signed=False),
    _adversarial("optimisation", perturbation.deepfool, ("gradient",), "the smallest change that makes it another class", "moosavidezfooli2016", cost=lambda steps, candidates: Cost(steps + 1, steps * candidates)),

    _perturbation("sampled masks", perturbation.occlusion, ("baseline",), "what the score loses where a window is covered", "zeiler2014", cost=Cost(1, 0, "window"), resolution="region"),
    _perturbation("sampled masks", perturbation.feature_ablation, ("baseline", "segments"), "what the score loses where a segment is replaced", "kokhlikyan2020", cost=Cost(SEGMENTS + 1, 0), resolution="region"),
    _perturbation("sampled masks", perturbation.rise, ("baseline", "key"), "the mean of random masks, weighted by the score behind them", "petsiuk2018", cost=lambda masks: Cost(masks, 0), resolution="region", signed=False),
    _perturbation("sampled masks", perturbation.lime, ("baseline", "segments", "key"), "a linear model of the score, of which segments are shown", "ribeiro2016", cost=lambda samples: Cost(samples + 1, 0), resolution="region"),
    _perturbation("sampled masks", perturbation.kernel_shap, ("baseline", "segments", "key"), "Shapley values of segments, by least squares", "lundberg2017", "covert2021", cost=lambda samples: Cost(samples + 2, 0), resolution="region", total="difference"),
    _perturbation("sampled masks", perturbation.sobol, ("baseline", "segments"), "the share of the score's variance that segments have a part in", "fel2021", cost=lambda samples: Cost(samples * (SEGMENTS + 1), 0), resolution="region", signed=False),
    _perturbation("sampled masks", perturbation.hsic, ("baseline", "segments", "key"), "how far the score depends on which segments are shown, by kernels", "novello2022", cost=lambda samples: Cost(samples, 0), resolution="region", signed=False),
    _perturbation("optimisation", perturbation.meaningful_perturbation, ("gradient", "key"), "the smallest smooth mask that removes the class", "fong2017", cost=lambda steps: Cost(steps + 1, steps), resolution="region", signed=False),
    _perturbation("optimisation", perturbation.extremal_perturbation, ("gradient",), "the smooth mask of a given area that keeps the score highest", "fong2019", cost=lambda steps, areas: Cost(steps * len(areas), steps * len(areas)), resolution="region", signed=False),
]
# fmt: on

METHODS: dict[str, Method] = {method.name: method for method in _TABLE}


def methods(
    *,
    family: Family | None = None,
    mechanism: Mechanism | Collection[Mechanism] = (),
    needs: Need | Collection[Need] = (),
    without: Need | Collection[Need] = (),
    max_cost: int | None = None,
) -> Methods:
    """The methods of the library, or those that all of the conditions hold for.

    Args:
      family: ``"linearisation"``, ``"structure"``, ``"adversarial"`` or ``"perturbation"``.
      mechanism: one or several, see `Method`: methods of any of them; without any, all.
      needs: one need or several, see `Method`: methods that have them all.
      without: one need or several: methods that have none of them. What explains a function that cannot be looked into
        are the methods ``without=["gradient", "layer", "attention"]``.
      max_cost: the largest number of forward and backward passes together. A method whose number depends on the
        network or the data (see `Cost`) fits no such limit.

    Returns:
      A list of `Method` records, in the order of the families; notebooks show it as a table.

    Raises:
      ValueError: if there is no such family, mechanism or need.

    Example:
      >>> import jaxplain
      >>> [m.name for m in jaxplain.methods(needs="data")]
      ['expected_gradients', 'deep_shap']
      >>> [m.name for m in jaxplain.methods(family="structure", without=["layer", "attention"], max_cost=2)]
      ['lrp', 'deep_taylor', 'softmax_gradient_lrp', 'pattern_net', 'pattern_attribution']
      >>> [m.name for m in jaxplain.methods(mechanism="feature statistics")]
      ['eigen_cam', 'eigen_grad_cam', 'fem', 'multilayer_fem']
    """
    families = get_args(Family) if family is None else (choose(family, get_args(Family), "family"),)
    mechanisms = [choose(m, get_args(Mechanism), "mechanism") for m in as_list(mechanism or get_args(Mechanism))]
    wanted, unwanted = ({choose(need, get_args(Need), "need") for need in as_list(some)} for some in (needs, without))
    return Methods(
        method
        for method in METHODS.values()
        if method.family in families
        and method.mechanism in mechanisms
        and wanted <= {*method.needs}
        and not unwanted & {*method.needs}
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
