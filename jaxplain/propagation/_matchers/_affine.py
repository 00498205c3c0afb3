"""Affine maps: a weight operation or a pooling sum, with the constant scales and shifts behind and before it."""

from __future__ import annotations

import itertools
from typing import Any

from jax.extend.core import primitives as P

from ..._graph.axes import relabel, varying, weight_axes_of_input, weight_axes_of_output
from ..._graph.primitives import RELABEL, SHIFTS
from ..._graph.trace import Op
from .._units import WEIGHTED, Affine, Unit
from ._view import View

KINDS = {
    P.conv_general_dilated_p: "conv",
    P.dot_general_p: "dense",
    P.reduce_sum_p: "pool",
    P.reduce_window_sum_p: "pool",
    P.cumsum_p: "pool",
}


def match(view: View, last: Op) -> Unit | None:
    """The affine unit that ends in an operation: around a weight, or scales and shifts by themselves."""
    base, behind = base_of(view, last)
    if base is not None:
        return around(view, base, behind)
    # Without a weight the scales and shifts nearest to the end are a unit.
    scales = list(itertools.takewhile(view.is_shift_or_scale, reversed(behind)))[::-1]
    if not scales:
        return None
    affine = Affine(None, 0, (), tuple(scales))
    return view.new_unit(
        "scale", scales, view.explained(scales[0]), scales[-1].outputs, affine=affine, named_by=scales[0]
    )


def base_of(view: View, last: Op) -> tuple[Op | None, list[Op]]:
    """The weight operation that absorbs all up to an operation, and what that is.

    Without one: the scales, shifts and moved axes in front of the operation that no weight absorbs, in order.
    """
    behind, op = view.chain(last, lambda op: view.is_shift_or_scale(op) or (op is not last and view.is_relabel(op)))
    kind = kind_of_base(view, op) if op else None
    if op is None or kind is None:
        return None, behind
    count = absorbed(view, op, kind, behind)
    return (op, behind) if count == len(behind) else (None, behind[count:])


def around(view: View, base: Op, behind: list[Op]) -> Unit:
    """The unit of a weight operation, what it absorbs behind it, and the scales before it that fit its weight."""
    (value,), kind = view.explained(base), KINDS[base.primitive]
    operand = base.inputs.index(value)
    before = preceding_scales(view, value) if kind in WEIGHTED else []
    axes = weight_axes_of_input(base, operand) if before else ()
    if not all(is_absorbable(view, op, axes) for op in before):
        before = []
    ops = [*before, base, *behind]
    affine = Affine(base, operand, tuple(before), tuple(behind))
    return view.new_unit(kind, ops, view.explained(ops[0]), ops[-1].outputs, affine=affine, named_by=base)


def preceding_scales(view: View, value: int) -> list[Op]:
    """Scales and shifts that only this operation uses and that no earlier weight absorbs."""
    scales, _ = view.chain(view.only_use_of(value), view.is_shift_or_scale)
    return [] if scales and base_of(view, scales[-1])[0] is not None else scales


def kind_of_base(view: View, op: Op) -> str | None:
    """What a weight operation or pooling sum is, if one real operand of it is explained."""
    return KINDS.get(op.primitive) if len(view.explained(op)) == 1 and view.is_float(op.outputs[0]) else None


def absorbed(view: View, base: Op, kind: str, behind: list[Op]) -> int:
    """How many operations a weight absorbs: moved axes, and scales while they vary along axes of the weight alone."""
    if kind not in WEIGHTED:  # a pooling sum, which the scales are the weight of
        scales = [op for op in behind if view.is_shift_or_scale(op)]
        if not all(map(view.keeps_shape, scales)):
            return 0
        is_uniform = lambda op: is_absorbable(view, op, (None,) * len(view.shape(op.outputs[0])))
        return len(behind) if len(scales) == len(behind) or all(map(is_uniform, scales)) else 0
    axes = weight_axes_of_output(base, base.inputs.index(view.explained(base)[0]))
    for count, op in enumerate(behind):
        if op.primitive in RELABEL:
            axes = relabel(op, axes)
        elif not is_absorbable(view, op, axes):
            return count
    return len(behind)


def is_absorbable(view: View, op: Op, axes: tuple[Any, ...]) -> bool:
    """Whether the constant of a scale varies along axes of the weight only; a shift always does."""
    if op.primitive in SHIFTS:
        return view.keeps_shape(op)
    (constant,) = (a for a in op.inputs if not view.depends(a))
    return view.keeps_shape(op) and all(axes[i] is not None for i in varying(constant, view.graph, view.producer))
