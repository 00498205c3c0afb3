"""The affine map of a unit, ``y = x w + b``, with the scales before and behind its weight folded into it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from .._convention import Array
from .._graph.axes import along_weight, weight_axes_of_input, weight_axes_of_output
from .._graph.primitives import RELABEL
from .._graph.trace import Op, run
from ._units import Affine, Unit


@dataclass(frozen=True, eq=False)
class AffineMap:
    """What a rule works with at a convolution, a dense layer, a BatchNorm or an average.

    Attributes:
      unit: the unit.
      parts: how it is put together.
      constants: the values of its constants.
      sign: -1 for the map with the opposite weight and bias.
    """

    unit: Unit
    parts: Affine
    constants: dict[int, Any]
    sign: int = 1

    @functools.cached_property
    def weight(self) -> Array:
        """The effective weight, laid out as the network's own; without one, what the input or the sum is scaled by."""
        base, operand, before, after = self.parts.base, self.parts.operand, self.parts.before, self.parts.after
        if base is None or len(base.inputs) == 1:
            return self._signed(self._scale(after, *self._scaled))
        atom, aval = base.inputs[1 - operand], base.eqn.invars[1 - operand].aval
        dtype = precise(aval.dtype, base.eqn.outvars[0].aval.dtype)
        weight = jnp.asarray(self.constants[atom] if isinstance(atom, int) else atom.val, dtype)
        if after:
            axes = weight_axes_of_output(base, operand)
            scale = one_of_others(self._scale(after, *self._scaled), axes)
            weight = weight * along_weight(scale, axes, len(aval.shape))
        if before:
            axes, groups = weight_axes_of_input(base, operand), base.params.get("feature_group_count", 1)
            scale = one_of_others(self._scale(before, self.unit.inputs[0], self._operand_type), axes)
            if groups > 1 and scale.ndim:
                # The input channels of a grouped convolution are contracted group by group: output channel o reads
                # those of its own group alone, so that the scale varies along the weight's output channels as well.
                axes = base.params["dimension_numbers"].rhs_spec[:2]
                scale = jnp.repeat(scale.reshape(groups, -1), aval.shape[axes[0]] // groups, axis=0)
            weight = weight * along_weight(scale, axes, len(aval.shape))
        return self._signed(weight.astype(dtype))

    @functools.cached_property
    def bias(self) -> Array:
        """The effective bias, of the output's shape: what the unit makes of an input that is zero."""
        ops, value, aval = self.unit.ops, self.unit.inputs[0], self._operand_type
        if not self.parts.before:  # the weight operation is left out: it maps zero to zero
            ops, (value, aval) = self.parts.after, self._scaled
        return self._signed(run(ops, {**self.constants, value: self._zeros(aval)})[self.unit.outputs[0]])

    def negated(self) -> AffineMap:
        """The map with the opposite weight and bias."""
        return dataclasses.replace(self, sign=-self.sign)

    def apply(self, x: Array, weight: Array) -> Array:
        """``x w`` for an input and a weight in place of the unit's own, without bias."""
        base, operand = self.parts.base, self.parts.operand
        if base is None or len(base.inputs) == 1:
            (y,) = (x,) if base is None else base.bind(x)
            return self.relayout(y * weight).astype(self._out_dtype)
        dtype = precise(base.eqn.invars[1 - operand].aval.dtype, base.eqn.outvars[0].aval.dtype)
        x, weight = x.astype(precise(x.dtype, dtype)), weight.astype(precise(dtype, x.dtype))
        return self.relayout(*base.bind(*([x, weight] if operand == 0 else [weight, x])))

    def transpose(self, cotangent: Array, weight: Array) -> Array:
        """``cᵀ w``: the transpose of ``x -> apply(x, weight)``."""
        apply = lambda x: self.apply(x, weight)
        return jax.linear_transpose(apply, self._operand_type)(cotangent.astype(self._out_dtype))[0]

    def relayout(self, value: Array) -> Array:
        """From the weight operation's result to the unit's: the transposes and reshapes among its scales and shifts."""
        for op in self.parts.after:
            if op.primitive in RELABEL:
                (value,) = op.bind(value)
        return value

    def _scale(self, ops: Sequence[Op], value: int, aval: Any) -> Array:
        """What scales and shifts, one after another, multiply a value by, in its layout: their derivative."""
        end = ops[-1].outputs[0] if ops else value
        y, pull = jax.vjp(lambda v: run(ops, {**self.constants, value: v})[end], self._zeros(aval))
        return pull(jnp.ones_like(y))[0]

    def _zeros(self, aval: Any) -> Array:
        """Zeros of a type, varying over the devices of a `shard_map` as the constants do."""
        zeros = [jnp.zeros((), aval.dtype)] + [jnp.zeros_like(v, aval.dtype, shape=()) for v in self.constants.values()]
        return jnp.broadcast_to(sum({jax.typeof(zero): zero for zero in zeros}.values()), aval.shape)

    def _signed(self, value: Array) -> Array:
        return -value if self.sign < 0 else value

    @property
    def _scaled(self) -> tuple[int, Any]:
        """The number and the type of what the scales and shifts behind the weight are applied to."""
        base = self.parts.base
        return (base.outputs[0], base.eqn.outvars[0].aval) if base else (self.unit.inputs[0], self._operand_type)

    @property
    def _operand_type(self) -> Any:
        """The type of the explained operand, which says how it lies on devices."""
        read = (pair for op in self.unit.ops for pair in zip(op.inputs, op.eqn.invars, strict=True))
        return next(var.aval for atom, var in read if atom in self.unit.inputs)

    @property
    def _out_dtype(self) -> Any:
        return self.unit.ops[-1].eqn.outvars[0].aval.dtype


def precise(stored: Any, other: Any) -> Any:
    """The dtype of a weight that rules compute with: as it is stored, unless that is of integers or less precise."""
    is_float = jnp.issubdtype(stored, jnp.floating)
    return stored if is_float and jnp.finfo(stored).bits >= jnp.finfo(other).bits else other


def one_of_others(values: Array, axes: Sequence[int | None]) -> Array:
    """Values along the axes that are the weight's, the first one along all others, where they are the same."""
    return values[tuple(0 if axis is None else slice(None) for axis in axes)]
