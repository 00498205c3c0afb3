"""What is compared: explainers by name or as they are, metrics by name or as functions, made ready for one network."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .. import metrics as library
from .._channels import channel_axis
from .._convention import Apply, Array, Explain, Function, Target, outputs_of, warn_of_probabilities
from .._taxonomy import METHODS, known

__all__ = ["BETTER"]

Better: TypeAlias = Literal["higher", "lower", ""]
Methods: TypeAlias = Iterable[str] | Mapping[str, str | Explain]
Metrics: TypeAlias = Iterable[str] | Mapping[str, str | Callable[..., Any]]

BETTER: dict[str, Better] = {
    "insertion": "higher",
    "deletion": "lower",
    "average_drop": "lower",
    "increase_in_confidence": "higher",
    "pixel_flipping": "lower",
    "region_perturbation": "higher",
    "selectivity": "lower",
    "road": "lower",
    "monotonicity": "higher",
    "monotonicity_correlation": "higher",
    "faithfulness_correlation": "higher",
    "faithfulness_estimate": "higher",
    "sensitivity_n": "higher",
    "infidelity": "lower",
    "non_sensitivity": "lower",
    "sparseness": "higher",
    "complexity": "lower",
    "effective_complexity": "lower",
    "pointing_game": "higher",
    "grid_pointing_game": "higher",
    "relevance_mass_accuracy": "higher",
    "relevance_rank_accuracy": "higher",
    "attribution_localisation": "higher",
    "top_k_intersection": "higher",
    "auc": "higher",
    "auc_judd": "higher",
    "nss": "higher",
    "sim": "higher",
    "pcc": "higher",
    "ssim": "higher",
    "kl": "lower",
    "max_sensitivity": "lower",
    "avg_sensitivity": "lower",
    "local_lipschitz_estimate": "lower",
    "random_logit": "lower",
}
"""The metrics that can be given by name, and which direction is better."""


@dataclass(frozen=True)
class Measure:
    """A metric of explanations.

    Attributes:
      name: what it is called in tables.
      of: what it is made from, its first parameter: of a network (``"apply"``), of an explainer (``"explain"``), or
        not made at all but called with a map (``"attribution"``).
      function: one of `jaxplain.metrics`, or one like them.
      better: whether ``"higher"`` or ``"lower"`` values are better; empty where nobody knows.
      needs: what a metric of maps compares them with, such as ``"mask"``.
    """

    name: str
    of: Literal["apply", "explain", "attribution"]
    function: Callable[..., Any]
    better: Better
    needs: tuple[str, ...] = ()


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


def named_method(name: str) -> Callable[..., Explain]:
    """The public function of a method that runs with its default options."""
    method = METHODS[known(name, METHODS, "method")]
    for need in ("data", "patterns"):
        if need in method.needs:
            raise ValueError(f"{name} needs {need}: make it yourself and pass {{label: explainer}}")
    return method.make


def find_measures(metrics: Metrics) -> list[Measure]:
    """The metrics, by name or as functions whose first parameter is ``apply``, ``explain`` or ``attribution``.

    Raises:
      TypeError: for a function that is no metric of these forms.
      ValueError: for an unknown name.
    """
    if isinstance(metrics, str) or callable(metrics):
        raise TypeError(f"metrics={metrics!r} is one metric: pass a list of names or {{label: metric}}")
    chosen = dict(metrics) if isinstance(metrics, Mapping) else {name: name for name in metrics}
    return [find_measure(label, metric) for label, metric in chosen.items()]


def find_measure(label: str, metric: str | Callable[..., Any]) -> Measure:
    """One metric, by name or as a function."""
    function = metric if callable(metric) else getattr(library, known(metric, BETTER, "metric"))
    name = getattr(function.func if isinstance(function, functools.partial) else function, "__name__", "")
    first, *others = inspect.signature(function).parameters.values()
    needs = tuple(p.name for p in others if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    if needs and first.name != "attribution":
        raise TypeError(f"the metric {label} needs {' and '.join(needs)}: bind it with functools.partial")
    if first.name not in ("apply", "explain", "attribution"):
        raise TypeError(
            f"the first parameter of the metric {label} is {first.name}: pass a function of apply or explain that "
            "returns a metric, or one of an attribution"
        )
    return Measure(label, first.name, function, BETTER.get(name, ""), needs)  # type: ignore[arg-type]


def warn_of_softmax(apply: Apply, args: tuple[Any, ...], methods: Methods, measures: list[Measure]) -> None:
    """Warn where the network ends in a softmax and what was asked for takes another; compiled code cannot see that."""
    given = methods.values() if isinstance(methods, Mapping) else methods
    asked = {method: METHODS[method].make for method in given if isinstance(method, str)}
    asked |= {measure.name: measure.function for measure in measures}
    if taking := [name for name, function in asked.items() if softened(function)]:
        compiled = all(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(args))
        outputs = outputs_of(jax.jit(apply) if compiled else apply, args)
        remedy = "return the logits, or bind softmax=False or of='output' with functools.partial"
        warn_of_probabilities(outputs, f"{', '.join(taking)} flatten them by another", remedy)


def softened(function: Callable[..., Any]) -> bool:
    """Whether a method or a metric takes the softmax of the outputs, by the options it has or is bound to."""
    options = inspect.signature(function).parameters
    values = {"softmax": True, "of": "probability", "probabilities": True}
    return any(name in options and options[name].default == value for name, value in values.items())


# --------------------------------------------------------------------------------------------------- for one network


@dataclass(frozen=True)
class Bench:
    """A network on the bench: its explainers and metrics compiled, to be called with arrays.

    Attributes:
      arrays: what is passed before the input, with `None` in place of all that is no array, which is bound.
      explainers: by label, ``(*arrays, x, target=..., key=...) -> attribution``.
      measures: the metrics.
      values: ``(label, measure, x, attribution, target, key, truth) -> (N,)``; ``truth`` has what the measure needs.
      axis_of: ``(attribution, x) ->`` the axis of the attribution's channels, the last one of a map that has none.
    """

    arrays: tuple[Any, ...]
    explainers: dict[str, Explain]
    measures: list[Measure]
    values: Callable[..., Array]
    axis_of: Callable[[Array, Array], int]


def bench(
    apply: Apply,
    context: tuple[Any, ...],
    explainers: Mapping[str, Explain],
    measures: list[Measure],
    score: Function | None = None,
) -> Bench:
    """Compile explainers and metrics, each at its first call, a metric of the network once for all explainers.

    Args:
      apply: the network.
      context: what it is called with before the input: variables, or a model that holds functions beside arrays.
      explainers: by label.
      measures: the metrics.
      score: a callable target, which is no array that a compiled function could take.
    """
    leaves, tree = jax.tree.flatten(context)
    is_array = lambda leaf: isinstance(leaf, jax.Array | np.ndarray)
    places = [i for i, leaf in enumerate(leaves) if is_array(leaf)]

    def filled(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
        """The context with these arrays in their places."""
        by_place = dict(zip(places, jax.tree.leaves(arrays), strict=True))
        return tree.unflatten([by_place.get(i, leaf) for i, leaf in enumerate(leaves)])

    def with_arrays(function: Callable[..., Array]) -> Callable[..., Array]:
        """``function`` of all arguments as a compiled one of arrays and the input."""

        def call(*args: Any, target: Target = None, **rest: Any) -> Array:
            return function(*filled(args[:-1]), args[-1], target=score or target, **rest)

        vars(call)["apply"] = lambda *args: apply(*filled(args[:-1]), args[-1])  # so that metrics find the network
        return jax.jit(call)

    compiled = {label: with_arrays(explain) for label, explain in explainers.items()}
    made = {m.name: with_arrays(m.function(apply)) for m in measures if m.of == "apply"}
    made |= {m.name: jax.jit(m.function) for m in measures if m.of == "attribution"}
    arrays = jax.tree.map(lambda leaf: leaf if is_array(leaf) else None, context)

    @functools.cache
    def network_axis(shape: tuple[int, ...], dtype: Any) -> int:
        return channel_axis(lambda x: apply(*context, x), jax.ShapeDtypeStruct(shape, dtype))

    def axis_of(attribution: Array, x: Array) -> int:
        return network_axis(x.shape, x.dtype) if attribution.shape == x.shape else attribution.ndim - 1

    def values(
        label: str,
        measure: Measure,
        x: Array,
        attribution: Array,
        target: Target,
        key: Array | None,
        truth: Mapping[str, Any],
    ) -> Array:
        if measure.of == "attribution":
            attribution = jnp.moveaxis(attribution, axis_of(attribution, x), -1)
            if missing := [name for name in measure.needs if name not in truth]:
                raise ValueError(f"the metric {measure.name} needs {' and '.join(missing)}: see Example.truth")
            numbers = made[measure.name](attribution, **{name: jnp.asarray(truth[name]) for name in measure.needs})
        elif measure.of == "apply":
            numbers = made[measure.name](*arrays, x, attribution=attribution, target=target, key=key)
        else:
            numbers = measure.function(compiled[label])(*arrays, x, target=target, key=key)
        if numbers.shape != x.shape[:1]:
            raise ValueError(f"the metric {measure.name} returned shape {numbers.shape}: it must return (N,)")
        return numbers

    return Bench(arrays, compiled, measures, values, axis_of)
