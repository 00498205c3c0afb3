"""Which axis of a value holds the channels: read off the convolutions, and followed through the operations behind them.

Networks keep their channels last (Flax) or in front (Equinox); the operations say which, so that nobody has to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from jax.extend.core import primitives as P

from .axes import axes_of
from .forward import Analysis, facts_inside, forward
from .trace import Graph, Op


@dataclass(frozen=True)
class Layout:
    """How a value behind a convolution is laid out.

    Attributes:
      channels: the axis of its channels.
      positions: height and width of what the last convolution before it made.
    """

    channels: int
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Apart:
    """What a value had before it was taken apart: in groups of channels, windows or tokens.

    A value of that shape behind it is taken to be put together again.
    """

    shape: tuple[int, ...]
    layout: Layout


Known: TypeAlias = "Layout | Apart"


def layouts(graph: Graph, given: dict[int, Layout] | None = None) -> dict[int, Layout]:
    """The layout of every value that lies behind a convolution, as far as it can be told.

    Args:
      graph: a network, or the body of a loop.
      given: the layouts of its inputs that are known.

    Returns:
      Layouts by the value's number.
    """
    known: dict[int, Known] = forward(graph, {**(given or {})}, LAYOUTS)
    return {value: layout for value, layout in known.items() if isinstance(layout, Layout)}


def inside_loop(op: Op, known: dict[int, Layout]) -> dict[int, Layout]:
    """The layouts of the inputs of a loop's body."""
    given: dict[int, Known] = facts_inside(op, {**known}, LAYOUTS)
    return {value: layout for value, layout in given.items() if isinstance(layout, Layout)}


def layouts_behind(op: Op, operands: Sequence[Known | None]) -> list[Known | None]:
    """The layouts of what an operation returns, or what they were before it was taken apart."""
    if all(known is None for known in operands) and op.primitive is not P.conv_general_dilated_p:
        return [None] * len(op.outputs)
    return [layout_behind(op, operands, number) for number in range(len(op.outputs))]


def layout_behind(op: Op, operands: Sequence[Known | None], result: int) -> Known | None:
    """The layout of one of an operation's results."""
    shape = op.eqn.outvars[result].aval.shape
    # A convolution says it.
    if op.primitive is P.conv_general_dilated_p:
        _, channels, *space = op.params["dimension_numbers"].out_spec
        return Layout(channels, tuple(shape[axis] for axis in space))
    # Others move it; of several operands the one with the result's positions is followed, and not a gate.
    known = [(k, layout) for k, layout in enumerate(operands) if isinstance(layout, Layout)]
    if op.primitive is not P.dot_general_p or len(known) == 1:
        moved = [(moved_axis(op, k, layout.channels, result), layout.positions) for k, layout in known]
        found = [Layout(axis, positions) for axis, positions in moved if axis is not None and axis < len(shape)]
        fitting = [layout for layout in found if same_positions(shape, layout)]
        if found:
            return next(iter(fitting + found))
    # Or take the value apart, or put it together again.
    shapes = (v.aval.shape for v in op.eqn.invars)
    before = (Apart(s, fact) if isinstance(fact, Layout) else fact for s, fact in zip(shapes, operands, strict=True))
    apart = next((it for it in before if it and same_positions(it.shape, it.layout)), None)
    return apart.layout if apart and apart.shape == shape else apart


def positions(shape: tuple[int, ...], channels: int) -> tuple[int, ...]:
    """Height and width of a value with the batch in front."""
    return tuple(n for axis, n in enumerate(shape) if axis not in (0, channels))


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


def moved_axis(op: Op, operand: int, axis: int, result: int = 0) -> int | None:
    """Where an axis of one of an operation's operands is in one of its results; None where that is gone."""
    shape, out = (v.aval.shape for v in (op.eqn.invars[operand], op.eqn.outvars[result]))
    if op.primitive is P.dot_general_p:
        contracting, batch = (sides[operand] for sides in op.params["dimension_numbers"])
        if axis in contracting:  # channels are made of channels: the weight's own axis, if it is one
            free = len(shape) - len(contracting) - len(batch)
            is_one = len(out) - len(batch) - free == 1
            return (len(batch) + (free if operand == 0 else 0)) if is_one else None
    axes = enumerate(axes_of(op.eqn, result) or ())
    moved = [(i, is_aligned) for i, (sources, is_aligned) in axes if (operand, axis) in sources]
    if op.primitive is P.reshape_p:  # not into an axis that is made of others as well
        moved = [(i, is_aligned) for i, is_aligned in moved if out[i] == shape[axis] and (is_aligned or out[i] == 1)]
    return moved[-1][0] if moved else None


LAYOUTS: Analysis[Known] = Analysis(
    layouts_behind,
    join=lambda a, b: b if a is None else a,
    slice=lambda it: Layout(it.channels - 1, it.positions) if isinstance(it, Layout) and it.channels > 0 else None,
    stack=lambda it: Layout(it.channels + 1, it.positions) if isinstance(it, Layout) else None,
)
