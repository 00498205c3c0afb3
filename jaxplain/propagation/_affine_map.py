"""The affine map of a unit, ``y = x w + b``, with the scales before and behind its weight folded into it."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import primitives as P

from .._convention import Array
from .._graph.trace import Op, run
from ._units import UNIFORM, Affine, Unit


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
        """The effective weight, in the layout of the network's own; of the output's shape, or a number, without one."""
        base = self.parts.base
        if base is None or len(base.inputs) == 1:
            factors = (self._factor(op) for op in self.parts.weight_axes)
            return self._signed(functools.reduce(jnp.multiply, factors, jnp.ones((), self._dtype)))
        weight = own = self._value(base.inputs[1 - self.parts.operand])
        for op in self.parts.weight_axes:
            weight = weight * self._along_weight(op, weight.shape)
        return self._signed(weight.astype(own.dtype))

    @functools.cached_property
    def bias(self) -> Array:
        """The effective bias, of the output's shape: what the unit makes of an input that is zero."""
        (shape,), (dtype,), base = self.unit.input_shapes, self.unit.input_dtypes, self.parts.base
        # Zero, varying over the devices of a `shard_map` as the constants do.
        zero = sum((jnp.zeros_like(v, dtype, shape=()) for v in self.constants.values()), jnp.zeros((), dtype))
        env, ops = {**self.constants, self.unit.inputs[0]: jnp.broadcast_to(zero, shape)}, self.unit.ops
        if base is not None and not self.parts.before:  # the weight operation is left out: it maps zero to zero
            aval, ops = base.eqn.outvars[0].aval, self.parts.after
            env[base.outputs[0]] = jnp.broadcast_to(zero.astype(aval.dtype), aval.shape)
        return self._signed(run(ops, env)[self.unit.outputs[0]])

    def negated(self) -> AffineMap:
        """The map with the opposite weight and bias."""
        return dataclasses.replace(self, sign=-self.sign)

    def apply(self, x: Array, weight: Array) -> Array:
        """``x w`` for an input and a weight in place of the unit's own, without bias."""
        base, operand = self.parts.base, self.parts.operand
        if base is None or len(base.inputs) == 1:
            y = x if base is None else self.relayout(*base.bind(x))
            return (y * weight).astype(self._out_dtype)
        weight = weight.astype(base.eqn.invars[1 - operand].aval.dtype)
        return self.relayout(*base.bind(*([x, weight] if operand == 0 else [weight, x])))

    def transpose(self, cotangent: Array, weight: Array) -> Array:
        """``cᵀ w``: the transpose of ``x -> apply(x, weight)``."""
        apply = lambda x: self.apply(x, weight)
        return jax.linear_transpose(apply, self._operand_type)(cotangent.astype(self._out_dtype))[0]

    def relayout(self, value: Array) -> Array:
        """From the weight operation's result to the unit's: the transposes and reshapes among its scales and shifts."""
        for op in self.parts.after:
            if op not in self.parts.weight_axes:
                (value,) = op.bind(value)
        return value

    def _signed(self, value: Array) -> Array:
        return -value if self.sign < 0 else value

    @property
    def _operand_type(self) -> Any:
        """The type of the explained operand, which says how it lies on devices."""
        read = (pair for op in self.unit.ops for pair in zip(op.inputs, op.eqn.invars, strict=True))
        return next(var.aval for atom, var in read if atom in self.unit.inputs)

    @property
    def _dtype(self) -> Any:
        return self.unit.ops[0].eqn.outvars[0].aval.dtype

    @property
    def _out_dtype(self) -> Any:
        return self.unit.ops[-1].eqn.outvars[0].aval.dtype

    def _value(self, atom: Any) -> Array:
        return self.constants[atom] if isinstance(atom, int) else atom.val

    def _factor(self, op: Op) -> Array:
        """The constant that a scale multiplies by; ±1 for a shift."""
        explained_first = isinstance(op.inputs[0], int) and op.inputs[0] not in self.constants
        if op.primitive is P.neg_p or (op.primitive is P.sub_p and not explained_first):
            return -jnp.ones((), self._dtype)
        if op.primitive not in (P.mul_p, P.div_p):
            return jnp.ones((), self._dtype)
        constant = jnp.asarray(self._value(op.inputs[1 if explained_first else 0]))
        if self.parts.weight_axes[op] is UNIFORM:
            constant = constant[(0,) * constant.ndim]
        return constant if op.primitive is P.mul_p else 1 / constant

    def _along_weight(self, op: Op, shape: tuple[int, ...]) -> Array:
        """The factor of a scale, its axes moved to the weight's, so that it broadcasts against a weight of a shape."""
        factor, axes, base = self._factor(op), self.parts.weight_axes[op], self.parts.base
        if factor.ndim == 0:
            return factor
        # Of the factor's axes keep those that run along the weight (along the others it is constant), in its order.
        kept = [i for i, axis in enumerate(axes) if axis is not None]
        vector = factor[tuple(slice(None) if i in kept else 0 for i in range(factor.ndim))]
        vector = vector.transpose(tuple(sorted(range(len(kept)), key=lambda i: axes[kept[i]])))
        order = sorted(axes[i] for i in kept)
        sizes = dict(zip(order, vector.shape, strict=True))
        # The input channels of a grouped convolution are contracted group by group: output channel o reads those of
        # its own group alone, so that the factor varies along the weight's output channels as well.
        groups = base.params.get("feature_group_count", 1) if base else 1
        if base and groups > 1 and op in self.parts.before and sizes[order[0]] > 1:
            outward, inward = base.params["dimension_numbers"].rhs_spec[:2]
            table = jnp.repeat(vector.reshape(groups, -1), shape[outward] // groups, axis=0)  # (out, in of its group)
            table = table if outward < inward else table.T
            return table.reshape([n if axis in (inward, outward) else 1 for axis, n in enumerate(shape)])
        return vector.reshape([sizes.get(axis, 1) for axis in range(len(shape))])
