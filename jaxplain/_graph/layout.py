"""Which axis of a value holds the channels: read off the convolutions, and followed through the operations behind them.

Networks keep their channels last (Flax) or in front (Equinox); the operations say which, so that nobody has to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

from jax.extend.core import primitives as P

from .primitives import STACK, UNSTACK
from .trace import Graph, Op, scan_split


@dataclass(frozen=True)
class Layout:
    """How a value behind a convolution is laid out.

    Attributes:
      channels: the axis of its channels.
      positions: height and width of what the last convolution before it made.
    """

    channels: int
    positions: tuple[int, ...]


Lost: TypeAlias = tuple[tuple[int, ...], Layout]


def layouts(graph: Graph, given: dict[int, Layout] | None = None) -> dict[int, Layout]:
    """The layout of every value that lies behind a convolution, as far as it can be told.

    Args:
      graph: a network, or the body of a loop.
      given: the layouts of its inputs that are known.

    Returns:
      Layouts by the value's number.
    """
    known, lost = dict(given or {}), {}
    for op in graph.ops:
        if op.primitive in (P.scan_p, P.cond_p):
            known.update(behind_control_flow(op, known))
            continue
        for out in op.outputs:
            shape = graph.avals[out].shape
            if layout := behind(op, graph, known, shape):
                known[out] = layout
            elif before := lost_by(op, graph, known, lost):
                if before[0] == shape:
                    known[out] = before[1]
                else:
                    lost[out] = before
    return known


def lost_by(op: Op, graph: Graph, known: dict[int, Layout], lost: dict[int, Lost]) -> Lost | None:
    """The shape and layout that a value had before it was taken apart: in groups of channels, windows or tokens.

    A value of that shape behind it is taken to be put together again.
    """
    before = [(graph.avals[a].shape, known[a]) if a in known else lost[a] for a in op.reads if a in known or a in lost]
    return next((it for it in before if same_positions(*it)), None)


def positions(shape: tuple[int, ...], channels: int) -> tuple[int, ...]:
    """Height and width of a value with the batch in front."""
    return tuple(n for axis, n in enumerate(shape) if axis not in (0, channels))


def behind(op: Op, graph: Graph, known: dict[int, Layout], shape: tuple[int, ...]) -> Layout | None:
    """The layout of what an operation returns."""
    if op.primitive is P.conv_general_dilated_p:
        _, channels, *space = op.params["dimension_numbers"].out_spec
        return Layout(channels, tuple(shape[axis] for axis in space))
    operands = [(i, a, known[a]) for i, a in enumerate(op.inputs) if isinstance(a, int) and a in known]
    if op.primitive is P.dot_general_p and len(operands) != 1:
        return None
    moved = [(moved_axis(op, i, graph.avals[a].shape, layout.channels), layout) for i, a, layout in operands]
    found = [Layout(axis, layout.positions) for axis, layout in moved if axis is not None and axis < len(shape)]
    fitting = [layout for layout in found if same_positions(shape, layout)]  # a gate's positions are one by one
    return next(iter(fitting + found), None)


def same_positions(shape: tuple[int, ...], layout: Layout) -> bool:
    """Whether a value has the height and width, in any order, that the last convolution before it gave."""
    own, sizes = positions(shape, layout.channels), lambda lengths: sorted(n for n in lengths if n != 1)
    return len(own) >= len(layout.positions) and sizes(own) == sizes(
        layout.positions
    )  # a batch of one may stand between


def pools(op: Op, known: dict[int, Layout]) -> bool:
    """Whether an operation averages positions with weights that do not depend on the input."""
    if op.primitive is not P.dot_general_p:
        return False
    contracting = op.params["dimension_numbers"][0]
    pairs = zip(contracting, op.inputs, strict=True)
    operands = [(side, known[a]) for side, a in pairs if isinstance(a, int) and a in known]
    return len(operands) == 1 and all(layout.channels not in side for side, layout in operands)


def moved_axis(op: Op, operand: int, shape: tuple[int, ...], axis: int) -> int | None:
    """Where an operation moves an axis of one of its operands; None where that is gone."""
    params, out = op.params, op.eqn.outvars[0].aval.shape
    if op.primitive is P.transpose_p:
        return params["permutation"].index(axis)
    if op.primitive is P.broadcast_in_dim_p:
        return params["broadcast_dimensions"][axis]
    if op.primitive is P.reshape_p:
        front, n = math.prod(shape[:axis]), shape[axis]
        return next((i for i in reversed(range(len(out))) if out[i] == n and math.prod(out[:i]) == front), None)
    if op.primitive is P.dot_general_p:
        contracting, batch = (sides[operand] for sides in params["dimension_numbers"])
        free = [i for i in range(len(shape)) if i not in (*contracting, *batch)]
        others = len(out) - len(batch) - len(free)  # axes that come from the weight
        if axis in batch:
            return batch.index(axis)
        if axis in contracting:
            return (len(batch) + (len(free) if operand == 0 else 0)) if others == 1 else None
        return len(batch) + free.index(axis) + (others if operand else 0)
    if op.primitive is STACK:
        return axis + (params["axis"] <= axis)
    if op.primitive is UNSTACK:
        return None if axis == params["axis"] else axis - (params["axis"] < axis)
    gone = params.get("dimensions", ()) if op.primitive is P.squeeze_p else params.get("axes", ())
    if len(out) == len(shape) - len(gone):
        return None if axis in gone else axis - sum(i < axis for i in gone)
    return None


def behind_control_flow(op: Op, known: dict[int, Layout]) -> dict[int, Layout]:
    """The layouts of what a loop or a branch returns."""
    body = op.bodies[0]
    inside = layouts(body, inside_loop(op, known) if op.primitive is P.scan_p else passed(op.inputs[1:], body, known))
    carries = scan_split(op)[1] if op.primitive is P.scan_p else len(op.outputs)
    found = {}
    for i, (out, inner) in enumerate(zip(op.outputs, body.outputs, strict=True)):
        if isinstance(inner, int) and inner in inside:
            layout = inside[inner]
            found[out] = layout if i < carries else Layout(layout.channels + 1, layout.positions)
    return found


def inside_loop(op: Op, known: dict[int, Layout]) -> dict[int, Layout]:
    """The layouts of the inputs of a loop's body."""
    consts, carries = scan_split(op)
    stacked = consts + carries
    sliced = {
        a: Layout(known[a].channels - 1, known[a].positions)
        for a in op.inputs[stacked:]
        if isinstance(a, int) and a in known and known[a].channels > 0
    }
    (body,) = op.bodies
    in_slices = zip(op.inputs[stacked:], body.inputs[stacked:], strict=True)
    return passed(op.inputs[:stacked], body, known) | {
        inner: sliced[a] for a, inner in in_slices if isinstance(a, int) and a in sliced
    }


def passed(operands: Any, body: Graph, known: dict[int, Layout]) -> dict[int, Layout]:
    """The layouts of operands that a body takes as they are."""
    return {
        inner: known[a] for a, inner in zip(operands, body.inputs, strict=False) if isinstance(a, int) and a in known
    }
