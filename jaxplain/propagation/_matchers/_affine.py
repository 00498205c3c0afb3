"""Affine maps: a weight operation or a pooling sum, with the constant scales and shifts behind and before it."""

from __future__ import annotations

from typing import Any

from jax.extend.core import primitives as P

from ..._graph.axes import relabel, varying, weight_axes_of_input, weight_axes_of_output
from ..._graph.primitives import RELABEL, SHIFTS
from ..._graph.trace import Op
from .._units import UNIFORM, WEIGHTED, Affine, Unit
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
    base, behind, axes = base_of(view, last)
    if base is not None:
        return around(view, base, behind, axes)
    # Without a weight the scales and shifts nearest to the end are a unit.
    scales: list[Op] = []
    for op in reversed(behind):
        if not view.is_shift_or_scale(op):
            break
        scales.insert(0, op)
    if not scales:
        return None
    affine = Affine(None, 0, (), tuple(scales), dict.fromkeys(scales, ()))
    return view.new_unit(
        "scale", scales, view.explained(scales[0]), scales[-1].outputs, affine=affine, named_by=scales[0]
    )


def base_of(view: View, last: Op) -> tuple[Op | None, list[Op], dict[Op, tuple[Any, ...]]]:
    """The weight operation that absorbs all up to an operation, what that is, and along which axes of the weight.

    Without one: the scales, shifts and moved axes in front of the operation that no weight absorbs, in order.
    """
    # Upwards from the last operation, as long as nothing else reads what is made.
    behind: list[Op] = []
    op: Op | None = last
    while op and (view.is_shift_or_scale(op) or (behind and view.is_relabel(op))):
        behind.insert(0, op)
        op = view.only_use_of(*view.explained(op))
    kind = kind_of_base(view, op) if op else None
    if op is None or kind is None:
        return None, behind, {}
    axes, absorbed = absorb_scales(view, op, kind, behind)
    return (op, behind, axes) if absorbed == len(behind) else (None, behind[absorbed:], {})


def around(view: View, base: Op, behind: list[Op], weight_axes: dict[Op, tuple[Any, ...]]) -> Unit:
    """The unit of a weight operation, what it absorbs behind it, and the scales before it that fit its weight."""
    (value,), kind = view.explained(base), KINDS[base.primitive]
    operand = base.inputs.index(value)
    before = preceding_scales(view, value) if kind in WEIGHTED else []
    axes = weight_axes_of_input(base, operand) if before else ()
    if not all(is_absorbable(view, op, axes) for op in before):
        before = []
    ops = [*before, base, *behind]
    affine = Affine(base, operand, tuple(before), tuple(behind), weight_axes | dict.fromkeys(before, axes))
    return view.new_unit(kind, ops, view.explained(ops[0]), ops[-1].outputs, affine=affine, named_by=base)


def preceding_scales(view: View, value: int) -> list[Op]:
    """Scales and shifts that only this operation uses and that no earlier weight absorbs."""
    scales: list[Op] = []
    op = view.only_use_of(value)
    while op and view.is_shift_or_scale(op):
        scales.insert(0, op)
        op = view.only_use_of(*view.explained(op))
    return [] if scales and base_of(view, scales[-1])[0] is not None else scales


def kind_of_base(view: View, op: Op) -> str | None:
    """What a weight operation or pooling sum is, if one real operand of it is explained."""
    return KINDS.get(op.primitive) if len(view.explained(op)) == 1 and view.is_float(op.outputs[0]) else None


def absorb_scales(view: View, base: Op, kind: str, behind: list[Op]) -> tuple[dict[Op, tuple[Any, ...]], int]:
    """Track which axes of the result are the weight's, and absorb scales while they vary along those alone.

    Returns:
      The axis of the weight for each axis of each scale, and how many operations are absorbed.
    """
    if kind not in WEIGHTED:
        scales = [op for op in behind if view.is_shift_or_scale(op)]
        if not all(map(view.keeps_shape, scales)):
            return {}, 0
        if len(scales) == len(behind):  # the scales, of the result's shape, are the weight
            return dict.fromkeys(scales, ()), len(behind)
        is_uniform = all(is_absorbable(view, op, (None,) * len(view.shape(op.outputs[0]))) for op in scales)
        return (dict.fromkeys(scales, UNIFORM), len(behind)) if is_uniform else ({}, 0)
    axes = weight_axes_of_output(base, base.inputs.index(view.explained(base)[0]))
    absorbed: dict[Op, tuple[Any, ...]] = {}
    for i, op in enumerate(behind):
        if op.primitive in RELABEL:
            axes = relabel(op, axes)
        elif is_absorbable(view, op, axes):
            absorbed[op] = axes
        else:
            return absorbed, i
    return absorbed, len(behind)


def is_absorbable(view: View, op: Op, axes: tuple[Any, ...]) -> bool:
    """Whether the constant of a scale varies along axes of the weight only; a shift always does."""
    if op.primitive in SHIFTS:
        return view.keeps_shape(op)
    (constant,) = (a for a in op.inputs if not view.depends(a))
    return view.keeps_shape(op) and all(axes[i] is not None for i in varying(constant, view.graph, view.producer))
