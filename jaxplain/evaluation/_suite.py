"""Explainers and metrics of one network, compiled, each at its first call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from .._channels import channel_axis
from .._convention import Apply, Array, Explain, Function, Target
from ._measures import Measure, is_array

Compiled = Callable[..., Array]


@dataclass(frozen=True)
class CompiledSuite:
    """What is compared, compiled for one network; metrics of the network are compiled once for all methods.

    Attributes:
      apply: the network.
      context: what it is called with before the input: variables, or a model that holds functions beside arrays.
      methods: the explainers by label.
      measures: the metrics by label.
      score: a callable target, which is no array that a compiled function could take.
    """

    apply: Apply
    context: tuple[Any, ...]
    methods: Mapping[str, Explain]
    measures: Mapping[str, Measure]
    score: Function | None = None

    def explain(self, label: str, x: Array, target: Target, key: Array | None) -> Array:
        """The attribution by one of the methods."""
        return self.explainers[label](*self.arrays, x, target=target, key=key)

    def measure(
        self,
        label: str,
        x: Array,
        attribution: Array,
        target: Target,
        key: Array | None,
        truth: Mapping[str, Any] = MappingProxyType({}),
    ) -> dict[str, Array]:
        """All metrics of one method's attribution by label, ``(N,)`` each.

        Args:
          label: the method's.
          x: the input.
          attribution: what the method returned.
          target: the target that was explained.
          key: for metrics that draw random numbers.
          truth: what metrics of maps compare them with.
        """
        values = {}
        for name, measure in self.measures.items():
            if missing := [need for need in measure.needs if need not in truth]:
                raise ValueError(f"the metric {name} needs {' and '.join(missing)}: see Example.truth")
            compiled = self.metrics[name][label]
            if measure.kind == "map":
                maps = jnp.moveaxis(attribution, self.channel_axis(attribution, x), -1)
                values[name] = compiled(maps, **{need: jnp.asarray(truth[need]) for need in measure.needs})
            else:
                given = {"attribution": attribution} if measure.kind == "network" else {}
                values[name] = compiled(*self.arrays, x, target=target, key=key, **given)
            if values[name].shape != x.shape[:1]:
                raise ValueError(f"the metric {name} returned shape {values[name].shape}: it must return (N,)")
        return values

    def channel_axis(self, attribution: Array, x: Array) -> int:
        """The axis of an attribution's channels, the last one of a map that has none."""
        if attribution.shape != x.shape:
            return attribution.ndim - 1
        kind = (x.shape, x.dtype)
        if kind not in self._channel_axes:
            self._channel_axes[kind] = channel_axis(lambda x: self.apply(*self.context, x), jax.ShapeDtypeStruct(*kind))
        return self._channel_axes[kind]

    @cached_property
    def explainers(self) -> dict[str, Compiled]:
        """The compiled explainers by label, ``(*arrays, x, target=..., key=...) -> attribution``."""
        return {label: self.compiled(explain) for label, explain in self.methods.items()}

    @cached_property
    def metrics(self) -> dict[str, dict[str, Compiled]]:
        """The compiled metrics by their own label and that of the method."""
        return {name: self.by_method(measure) for name, measure in self.measures.items()}

    def by_method(self, measure: Measure) -> dict[str, Compiled]:
        """A metric compiled: one of explainers for each of them, any other once for all."""
        if measure.kind == "explainer":
            made = {label: measure.function(self.of_network(explain)) for label, explain in self.methods.items()}
            return {label: self.compiled(metric) for label, metric in made.items()}
        shared = jax.jit(measure.function) if measure.kind == "map" else self.compiled(measure.function(self.apply))
        return dict.fromkeys(self.methods, shared)

    def of_network(self, explain: Explain) -> Explain:
        """An explainer that says which network it explains, whether it was made by the library or not."""

        def explaining(*args: Any, **options: Any) -> Array:
            return explain(*args, **options)

        vars(explaining)["apply"] = self.apply
        return explaining

    # ------------------------------------------------------------------------------------- arrays before the input

    @property
    def arrays(self) -> tuple[Any, ...]:
        """The context as compiled functions take it, with `None` in place of all that is no array and stays bound."""
        return jax.tree.map(lambda leaf: leaf if is_array(leaf) else None, self.context)

    def compiled(self, function: Callable[..., Array]) -> Compiled:
        """``function(*context, x, target=..., ...)`` as a compiled one of arrays and the input."""

        def call(*args: Any, target: Target = None, **rest: Any) -> Array:
            return function(*self.with_arrays(args[:-1]), args[-1], target=self.score or target, **rest)

        return jax.jit(call)

    def with_arrays(self, arrays: tuple[Any, ...]) -> tuple[Any, ...]:
        """The context with these arrays in place of its own."""
        leaves, tree = jax.tree.flatten(self.context)
        given = iter(jax.tree.leaves(arrays))
        return tree.unflatten([next(given) if is_array(leaf) else leaf for leaf in leaves])

    @cached_property
    def _channel_axes(self) -> dict[Any, int]:
        """Where the network has the channels of inputs of a shape and dtype, which it is traced to tell."""
        return {}
