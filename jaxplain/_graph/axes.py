"""Which axes of a weight the axes of values run along."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from jax.extend.core import primitives as P

from .primitives import ELEMENTWISE
from .trace import Atom, Graph, Op


def weight_axes_of_output(base: Op, operand: int) -> tuple[Any, ...]:
    """For each axis of a weight operation's result, the axis of the weight it runs along, or None."""
    if base.primitive is P.conv_general_dilated_p:
        numbers = base.params["dimension_numbers"]
        return along_channels(base, operand, numbers.out_spec, numbers.rhs_spec[0])
    contract, batch = base.params["dimension_numbers"]
    ranks = [len(a.aval.shape) for a in base.eqn.invars]
    free = [[i for i in range(ranks[k]) if i not in contract[k] and i not in batch[k]] for k in (0, 1)]
    of_weight = [list(batch[1 - operand]), free[0] if operand == 1 else [], free[1] if operand == 0 else []]
    padding = [None] * len(free[operand])
    return tuple(of_weight[0] + (of_weight[1] + padding if operand == 1 else padding + of_weight[2]))


def weight_axes_of_input(base: Op, operand: int) -> tuple[Any, ...]:
    """For each axis of the explained operand, the axis of the weight it is contracted with, or None."""
    if base.primitive is P.conv_general_dilated_p:
        numbers = base.params["dimension_numbers"]
        return along_channels(base, operand, numbers.lhs_spec, numbers.rhs_spec[1])
    contract, batch = base.params["dimension_numbers"]
    axes: list[Any] = [None] * len(base.eqn.invars[operand].aval.shape)
    for mine, other in ((contract[operand], contract[1 - operand]), (batch[operand], batch[1 - operand])):
        for i, j in zip(mine, other, strict=True):
            axes[i] = j
    return tuple(axes)


def along_channels(base: Op, operand: int, layout: Sequence[int], axis: int) -> tuple[Any, ...]:
    """For each axis of a convolution's input or output in this layout: the kernel's axis at its channels, else None."""
    known = operand == 0 and base.params["batch_group_count"] == 1
    return tuple(axis if known and i == layout[1] else None for i in range(len(layout)))


def relabel(op: Op, axes: tuple[Any, ...], graph: Graph) -> tuple[Any, ...]:
    """Follow the axes through an operation that moves them."""
    if op.primitive is P.transpose_p:
        return tuple(axes[i] for i in op.params["permutation"])
    if op.primitive is P.squeeze_p:
        return tuple(a for i, a in enumerate(axes) if i not in op.params["dimensions"])
    if op.primitive is not P.reshape_p:
        return axes
    (before, after) = graph.aval(op.inputs[0]).shape, graph.avals[op.outputs[0]].shape
    starts = {(math.prod(before[:i]), n): axes[i] for i, n in enumerate(before) if n != 1}  # axes that stay whole
    return tuple(starts.get((math.prod(after[:i]), n)) for i, n in enumerate(after))


def varying(constant: Atom, graph: Graph, producer: dict[int, Op]) -> tuple[int, ...]:
    """The axes along which a constant may have different values."""
    shape = graph.aval(constant).shape
    op = producer.get(constant) if isinstance(constant, int) else None
    if op is not None and op.primitive is P.broadcast_in_dim_p:
        mapped = op.params["broadcast_dimensions"]
        return tuple(mapped[i] for i in varying(op.inputs[0], graph, producer) if shape[mapped[i]] != 1)
    if op is not None and op.primitive in ELEMENTWISE:
        ranked = [a for a in op.inputs if len(graph.aval(a).shape) == len(shape)]
        return tuple(sorted({i for a in ranked for i in varying(a, graph, producer)}))
    return tuple(i for i, n in enumerate(shape) if n != 1)
