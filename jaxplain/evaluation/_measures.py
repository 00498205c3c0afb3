"""What is compared: explainers by name or as they are, metrics by name, as functions, or as a user's own `Measure`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import jax
import numpy as np

from .. import metrics as library
from .._convention import Apply, Explain, outputs_of, warn_of_probabilities
from .._migration import renamed
from .._taxonomy import METHODS
from .._text import choose

__all__ = ["BETTER", "Measure"]

Better: TypeAlias = Literal["higher", "lower", ""]
Kind: TypeAlias = Literal["network", "explainer", "map"]
Methods: TypeAlias = Iterable[str] | Mapping[str, str | Explain]
Metrics: TypeAlias = "Iterable[str] | Mapping[str, str | Measure | Callable[..., Any]]"


@dataclass(frozen=True)
class Measure:
    """A metric of explanations, as `compare` and `evaluate` take it.

    Attributes:
      function: one of `jaxplain.metrics`, or one like them.
      kind: what it is made from: ``"network"``, ``function(apply)(*args, attribution=...)``; ``"explainer"``,
        ``function(explain)(*args)``; or nothing, ``"map"``, ``function(attribution, ...)``.
      better: whether ``"higher"`` or ``"lower"`` values are better; empty where nobody knows.

    Raises:
      ValueError: for another kind or direction.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jaxplain.evaluation import Measure
      >>> largest = Measure(lambda attribution: attribution.max(axis=(1, 2)), "map", "higher")
      >>> run = jaxplain.compare(lambda x: x.sum(axis=(1, 2)), ["grad_cam"], metrics={"largest": largest})
    """

    function: Callable[..., Any]
    kind: Kind
    better: Better = ""

    def __post_init__(self):
        choose(self.kind, get_args(Kind), "kind of metric")
        choose(self.better, get_args(Better), "direction")

    @property
    def needs(self) -> tuple[str, ...]:
        """What has to be given besides: options without a default, or what a map is compared with, a ``"mask"``."""
        _, *others = inspect.signature(self.function).parameters.values()
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        return tuple(p.name for p in others if p.default is p.empty and p.kind not in variadic)


def library_measures(kind: Kind, **better: Better) -> dict[str, Measure]:
    """Metrics of the library, by name."""
    return {name: Measure(getattr(library, name), kind, direction) for name, direction in better.items()}


MEASURES: dict[str, Measure] = {
    **library_measures(
        "network",
        insertion="higher",
        deletion="lower",
        average_drop="lower",
        average_gain="higher",
        increase_in_confidence="higher",
        pixel_flipping="lower",
        region_perturbation="higher",
        selectivity="lower",
        road="lower",
        road_combined="higher",
        monotonicity="higher",
        monotonicity_correlation="higher",
        faithfulness_correlation="higher",
        faithfulness_estimate="higher",
        sensitivity_n="higher",
        infidelity="lower",
        non_sensitivity="lower",
        completeness="",
        consistency="",
        irof="",
        sufficiency="",
    ),
    **library_measures(
        "map",
        sparseness="higher",
        complexity="lower",
        effective_complexity="lower",
        pointing_game="higher",
        grid_pointing_game="higher",
        relevance_mass_accuracy="higher",
        relevance_rank_accuracy="higher",
        attribution_localisation="higher",
        top_k_intersection="higher",
        iou="higher",
        box_iou="higher",
        auc="higher",
        auc_judd="higher",
        nss="higher",
        sim="higher",
        pcc="higher",
        ssim="higher",
        kl="lower",
        focus="",
        max_box_accuracy="",
        rank_correlation="",
    ),
    **library_measures(
        "explainer",
        max_sensitivity="lower",
        avg_sensitivity="lower",
        local_lipschitz_estimate="lower",
        relative_input_stability="lower",
        relative_output_stability="lower",
        relative_representation_stability="lower",
        continuity="lower",
        random_logit="lower",
        efficient_mprt="higher",
        adcc="higher",
        mprt="",
        smooth_mprt="",
    ),
}
"""Every metric of the library that compares methods; those without a direction must be given as functions."""

OPPOSITE: dict[Better, Better] = {"higher": "lower", "lower": "higher", "": ""}
"""What is better where the least relevant is taken away first, in the place of the most relevant."""

BETTER: dict[str, Better] = {name: measure.better for name, measure in MEASURES.items() if measure.better}
"""The metrics that can be given by name, and which direction is better."""


def find_explainers(apply: Apply, methods: Methods) -> dict[str, Explain]:
    """The explainers by label: names of methods stand for the method with its default options.

    Raises:
      TypeError: for an explainer without a label.
      ValueError: for an unknown name, or a method that cannot do without data.
    """
    if isinstance(methods, str) or callable(methods):
        raise TypeError(f"methods={methods!r} is one method: pass a list of names or {{label: explainer}}")
    chosen = dict(methods) if isinstance(methods, Mapping) else dict.fromkeys(methods)
    explainers = {}
    for label, method in chosen.items():
        method = label if method is None else method
        if callable(method) and not isinstance(label, str):
            raise TypeError("an explainer has no name of its own: pass {label: explainer} instead of a list")
        explainers[label] = method if callable(method) else named_method(method)(apply)
    if not explainers:
        raise ValueError("there are no methods to compare: pass a list of names or {label: explainer}")
    return explainers


def titles_of(methods: Methods, labels: Iterable[str]) -> dict[str, str]:
    """What tables and pictures call the methods: one that goes by its name alone says which composite it takes."""
    named = methods if isinstance(methods, Mapping) else {label: label for label in labels}

    def title(label: str) -> str:
        composite = METHODS[label].composite if named[label] == label else None
        return f"{label}:composite={composite}" if composite else label

    return {label: title(label) for label in labels}


def named_method(name: str) -> Callable[..., Explain]:
    """The public function of a method that runs with its default options."""
    method = METHODS[choose(name, METHODS, "method")]
    for need in ("data", "patterns"):
        if need in method.needs:
            raise ValueError(f"{name} needs {need}: make it yourself and pass {{label: explainer}}")
    return method.make


def find_measures(metrics: Metrics) -> dict[str, Measure]:
    """The metrics by label: names, functions of the library, their options bound or not, or measures.

    Raises:
      TypeError: for a function that is none of the library's, or one that options are missing of.
      ValueError: for an unknown name.
    """
    if isinstance(metrics, str) or callable(metrics):
        raise TypeError(f"metrics={metrics!r} is one metric: pass a list of names or {{label: metric}}")
    chosen = dict(metrics) if isinstance(metrics, Mapping) else {name: name for name in metrics}
    return {label: find_measure(label, metric) for label, metric in chosen.items()}


def find_measure(label: str, metric: str | Measure | Callable[..., Any]) -> Measure:
    """One metric."""
    measure = metric if isinstance(metric, Measure) else known_measure(label, metric)
    if measure.needs and measure.kind != "map":
        raise TypeError(f"the metric {label} needs {' and '.join(measure.needs)}: bind it with functools.partial")
    return measure


def known_measure(label: str, metric: str | Callable[..., Any]) -> Measure:
    """A metric of the library, by name or as a function, its options bound or not."""
    if not callable(metric):
        return MEASURES[choose(metric, BETTER, "metric")]
    if isinstance(metric, functools.partial):
        of, options = known_measure(label, metric.func), renamed(metric.keywords)
        better = OPPOSITE[of.better] if options.get("order") == "lerf" else of.better
        return replace(of, function=functools.partial(metric.func, *metric.args, **options), better=better)
    for measure in MEASURES.values():
        if measure.function is metric:
            return measure
    raise TypeError(
        f"the metric {label} is none of jaxplain.metrics, so say what it is made from: "
        "jaxplain.evaluation.Measure(function, 'network'), 'explainer' or 'map'"
    )


def warn_of_softmax(apply: Apply, args: tuple[Any, ...], methods: Methods, measures: Mapping[str, Measure]) -> None:
    """Warn where the network ends in a softmax and what was asked for takes another; compiled code cannot see that."""
    given = methods.values() if isinstance(methods, Mapping) else methods
    named = [method for method in given if isinstance(method, str)]
    taking = [name for name in named if takes_softmax(METHODS[name].make)]
    taking += [label for label, measure in measures.items() if takes_softmax(measure.function)]
    if taking:
        outputs = outputs_of(jax.jit(apply) if all(map(is_array, jax.tree.leaves(args))) else apply, args)
        remedy = "return the logits, or bind of='output' with functools.partial"
        warn_of_probabilities(outputs, f"{', '.join(taking)} flatten them by another", remedy)


def takes_softmax(function: Callable[..., Any]) -> bool:
    """Whether a method or a metric takes the softmax of the outputs, by the option it has or is bound to."""
    of = inspect.signature(function).parameters.get("of")
    return of is not None and of.default == "probability"


def is_array(leaf: Any) -> bool:
    """Whether a compiled function takes this as an argument."""
    return isinstance(leaf, jax.Array | np.ndarray)
