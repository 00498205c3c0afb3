"""Which axis of an image holds the channels: said by the user, or read off the network's first convolutions.

Flax keeps channels last, ``(N, H, W, C)``; Equinox and networks converted from PyTorch have them first,
``(N, C, H, W)``. The axes of the input are followed through the operations of the network. The first convolutions tell
which of them are positions, whatever lies before: transposes, a normalisation, patches, `jax.vmap` of single examples.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import primitives as P

from .graph import Atom, Graph, Op, scan_split, trace

Channels: TypeAlias = Literal["first", "last"]
Origins: TypeAlias = tuple[frozenset[int], ...]  # for each axis of a value, the axes of the input it is made of
Met: TypeAlias = list[tuple[Op, Origins]]

NONE: frozenset[int] = frozenset()
CONVOLVED = -1  # among the origins of what lies behind a convolution
QUERIES, KEYS = -2, -3  # of the axes of an attention's weights, until they are applied
MARKS = {"first": "input's channels first", "last": "input's channels last"}


def layout(apply: Callable[..., Any], *, channels: Channels) -> Callable[..., Any]:
    """Say where the channels of a network's input are, where no convolution tells.

    Explainers and metrics read the layout off the first convolutions. A network without any is taken to have its
    channels last, unless it is wrapped here: one of dense layers, a transformer whose patches are cut by reshaping.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function; the last argument is the input.
      channels: ``"first"`` for ``(N, C, H, W)``, ``"last"`` for ``(N, H, W, C)``.

    Returns:
      The same function, to make explainers and metrics from; they raise a ValueError where its first convolution
      disagrees.

    Raises:
      ValueError: if ``channels`` is neither.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x.reshape(len(x), -1).sum(axis=1)
      >>> x = jnp.arange(12.0).reshape(1, 3, 2, 2)
      >>> jaxplain.heatmap(jaxplain.gradient(jaxplain.layout(f, channels="first")))(x).shape
      (1, 2, 2)
    """
    require_channels(channels)

    @functools.wraps(apply)
    def laid_out(*args: Any, **options: Any) -> Any:
        *context, x = args
        return apply(*context, checkpoint_name(x, MARKS[channels]), **options)

    return laid_out


def channel_axis(f: Callable[[Any], Any], x: Any, channels: Channels | None = None) -> int:
    """The axis of the channels of a network's input.

    Args:
      f: ``x -> outputs``.
      x: the input, the batch in front.
      channels: what the user says, if anything.

    Returns:
      Its number; the last one where nothing tells.

    Raises:
      ValueError: where convolutions disagree with each other or with what was said, or where nothing tells and the
        shape looks like channels first.
    """
    read = channels_read(trace(f, x, whole=lambda eqn: False)[0])
    if read is None:
        return said_axis(x.shape, channels, 'wrap the network, jaxplain.layout(apply, channels="first")')
    if channels is not None and said_axis(x.shape, channels) != read:
        raise ValueError(f"the network reads the channels of its input from axis {read}: leave out {channels=}")
    return read


def said_axis(shape: Sequence[int], channels: Channels | None, remedy: str = 'say channels="first"') -> int:
    """The axis of the channels of an array of that shape, by what the user says; where that is nothing, the last."""
    require_channels(channels)
    if channels is None and len(shape) == 4 and shape[1] <= 4 < min(shape[2:]):
        raise ValueError(
            f"images of shape {tuple(shape)} look as if their channels were first, and nothing tells: {remedy}, or "
            '"last"'
        )
    return 1 if channels == "first" else len(shape) - 1


def require_channels(channels: Channels | None) -> None:
    """Check the option."""
    if channels not in (None, "first", "last"):
        raise ValueError(f"unknown {channels=}: choose first, (N, C, H, W), or last, (N, H, W, C)")


def channels_read(graph: Graph) -> int | None:
    """The axis of the channels of a network's input, by what was said of it and by its first convolutions."""
    met: Met = []
    follow(graph, of_input(graph), met)
    rank = len(graph.avals[graph.inputs[0]].shape)
    found: dict[int, Op] = {}
    for op, labels in met:
        if (axis := told(op, labels, rank)) is not None:
            found.setdefault(axis, op)
    if len(found) > 1:
        (one, first), (other, second), *_ = found.items()
        raise ValueError(
            f"{words(first)} has the channels of the input at axis {one}, {words(second)} at axis {other}: one of them "
            "is wrong"
        )
    return next(iter(found), None)


def words(op: Op) -> str:
    """What says where the channels are."""
    return f"the convolution at {op.place}" if op.primitive is P.conv_general_dilated_p else "jaxplain.layout"


def told(op: Op, labels: Origins, rank: int) -> int | None:
    """The axis of the input's channels as a mark or a convolution says: the one that is no position."""
    if op.primitive is P.name_p:
        marked = labels[1 if op.params["name"] == MARKS["first"] else -1]
        return next(iter(marked)) if len(marked) == 1 else None
    if CONVOLVED in NONE.union(*labels):
        return None
    space = NONE.union(*(labels[axis] for axis in op.params["dimension_numbers"].lhs_spec[2:]))
    others = set(range(1, rank)) - space
    return others.pop() if len(others) == 1 else None


def axis_of_channels(labels: Origins | None, channels: int) -> int | None:
    """The axis of a value that holds the input's channels, the last one where several do."""
    return next((i for i in reversed(range(1, len(labels or ()))) if labels and channels in labels[i]), None)


def is_picture(labels: Origins | None, axis: int, channels: int, rank: int) -> bool:
    """Whether the axes of a value, but for the batch and its channels, may be positions, as far as is known.

    They are not where some are parts of the channels, as the heads of an attention, or its queries and keys,
    or where one of them is all positions.

    Args:
      labels: what its axes are made of.
      axis: that of its channels.
      channels: the axis of the input's channels.
      rank: how many axes the input has.
    """
    if labels is None:
        return True
    own = [label for i, label in enumerate(labels) if i not in (0, axis % len(labels))]
    everywhere = set(range(1, rank)) - {channels}
    parts = {channels in label for label in own if label} == {True, False}
    weights = NONE.union(*own) >= {QUERIES, KEYS}
    tokens = rank > 3 and any(label >= everywhere for label in own) and not all(own)
    return not (parts or weights or tokens)


# --------------------------------------------------------------------------------------- following the input's axes


def of_input(graph: Graph) -> dict[int, Origins]:
    """The origins of the input's own axes."""
    return {x: tuple(frozenset([axis]) for axis in range(len(graph.avals[x].shape))) for x in graph.inputs}


def follow(graph: Graph, given: dict[int, Origins], met: Met | None = None) -> dict[int, Origins]:
    """What the axes of each value are made of, as far as it is known.

    Args:
      graph: a network, or the body of a loop.
      given: the origins of the axes of its inputs.
      met: a list to which convolutions and marks are added, with the origins of what they read.

    Returns:
      Origins by the value's number.
    """
    known, met = dict(given), [] if met is None else met
    for op in graph.ops:
        operands = [known.get(a) if isinstance(a, int) else None for a in op.inputs]
        if not any(operands):
            continue
        if op.primitive in (P.scan_p, P.cond_p):
            known.update(behind_bodies(op, operands, met))
            continue
        marked = op.primitive is P.name_p and op.params["name"] in MARKS.values()
        if operands[0] and (marked or op.primitive is P.conv_general_dilated_p):
            met.append((op, operands[0]))
        for out in op.outputs:
            if labels := axes_behind(op, operands, graph.avals[out].shape):
                known[out] = labels
    return known


def axes_behind(op: Op, operands: Sequence[Origins | None], shape: Sequence[int]) -> Origins | None:
    """What the axes of a result of that shape are made of, where that is known."""
    params, labels = op.params, operands[0]
    if op.primitive is P.dot_general_p:
        return behind_product(op, operands)
    if op.primitive is P.conv_general_dilated_p:
        return behind_convolution(op, labels) if labels else None
    if op.primitive is P.gather_p:
        return behind_gather(op, labels, len(shape)) if labels else None
    if labels and op.primitive is P.transpose_p:
        return tuple(labels[axis] for axis in params["permutation"])
    if labels and op.primitive is P.broadcast_in_dim_p:
        placed = dict(zip(params["broadcast_dimensions"], labels, strict=True))
        return tuple(placed.get(axis, NONE) for axis in range(len(shape)))
    if labels and op.primitive is P.reshape_p:
        return regrouped(labels, op.eqn.invars[0].aval.shape, shape)
    alike = [labels for labels in operands if labels and len(labels) == len(shape)]
    if alike:
        return tuple(NONE.union(*axes) for axes in zip(*alike, strict=True))
    gone = params.get("dimensions", ()) if op.primitive is P.squeeze_p else params.get("axes", params.get("axis", ()))
    gone = (gone,) if isinstance(gone, int) else gone
    if labels and len(labels) == len(shape) + len(gone):  # a reduction, a slice that loses its axis
        return tuple(labels[axis] for axis in range(len(labels)) if axis not in gone)
    if labels and len(labels) == len(shape) - 1 and len(gone) == 1:  # a stack
        (new,) = gone
        return (*labels[:new], NONE, *labels[new:])
    return None


def behind_product(op: Op, operands: Sequence[Origins | None]) -> Origins:
    """A product's own axes, and those of a weight, which are made of what it contracts.

    Two values that depend on the input make an attention's weights, or apply them.
    """
    contracted, batch = op.params["dimension_numbers"]
    ranks = [len(v.aval.shape) for v in op.eqn.invars]
    sides = [labels or (NONE,) * rank for labels, rank in zip(operands, ranks, strict=True)]
    shared = tuple(sides[0][i] | sides[1][j] for i, j in zip(*batch, strict=True))
    mixed = [NONE.union(*(labels[i] for i in axes)) for labels, axes in zip(sides, contracted, strict=True)]
    applied = not (mixed[0] | mixed[1]).isdisjoint({QUERIES, KEYS})

    def free(k: int) -> Origins:
        own = [sides[k][i] for i in range(ranks[k]) if i not in (*contracted[k], *batch[k])]
        if not all(operands):
            return tuple(axis | (NONE if operands[k] else mixed[1 - k]) for axis in own)
        return tuple(axis - {QUERIES, KEYS} if applied else axis | {(QUERIES, KEYS)[k]} for axis in own)

    return (*shared, *free(0), *free(1))


def behind_convolution(op: Op, labels: Origins) -> Origins:
    """Positions stay positions, and channels are made of channels."""
    numbers = op.params["dimension_numbers"]
    placed = dict(zip(numbers.out_spec, (labels[axis] for axis in numbers.lhs_spec), strict=True))
    return tuple(placed[axis] | {CONVOLVED} for axis in range(len(labels)))


def behind_gather(op: Op, labels: Origins, rank: int) -> Origins:
    """Axes that are kept whole stay what they are; the others are made of those that were chosen from."""
    numbers = op.params["dimension_numbers"]
    chosen = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    kept = iter([labels[axis] for axis in range(len(labels)) if axis not in chosen])
    others = NONE.union(*(labels[axis] for axis in chosen))
    return tuple(next(kept) if axis in numbers.offset_dims else others for axis in range(rank))


def regrouped(labels: Origins, before: Sequence[int], after: Sequence[int]) -> Origins:
    """The axes of a reshaped array: each block of axes is made of the block of as many elements that it was.

    Axes of size 1, of which a grey image's channels are one, stay where they are between the others.
    """
    fronts = [[math.prod(shape[:axis]) for axis in range(len(shape))] for shape in (before, after)]
    common = [front for front in fronts[0] if front in fronts[1]]  # where a block starts

    def blocks(shape: Sequence[int], fronts: Sequence[int]) -> list[tuple[int, bool]]:
        starts = [next(f for f in reversed(fronts[: i + 1]) if f in common) for i in range(len(shape))]
        return [(f, True) if n == 1 else (first, False) for n, f, first in zip(shape, fronts, starts, strict=True)]

    pairs = list(zip(blocks(before, fronts[0]), labels, strict=True))
    return tuple(NONE.union(*(own for b, own in pairs if b == block)) for block in blocks(after, fronts[1]))


def behind_bodies(op: Op, operands: Sequence[Origins | None], met: Met) -> dict[int, Origins]:
    """What the axes of a loop's or a branch's results are made of."""
    loop = op.primitive is P.scan_p
    consts, carries = scan_split(op) if loop else (0, len(op.outputs))
    found: dict[int, Origins] = {}
    for body in op.bodies:
        given = entering(op, operands, body)
        if loop:  # what is carried, from its second turn on
            once = follow(body, given)
            again = zip(body.inputs[consts : consts + carries], body.outputs, strict=False)
            given |= {a: once[out] for a, out in again if a not in given and isinstance(out, int) and out in once}
        inside = follow(body, given, met)
        for i, (out, inner) in enumerate(zip(op.outputs, body.outputs, strict=True)):
            if labels := of(inner, inside):
                found[out] = labels if i < carries else (NONE, *labels)
    return found


def entering(op: Op, operands: Sequence[Origins | None], body: Graph) -> dict[int, Origins]:
    """What the axes of a body's inputs are made of: those of a scan's slices lack the first."""
    whole = operands[1:]  # of a branch
    if op.primitive is P.scan_p:
        stacked = sum(scan_split(op))
        whole = [*operands[:stacked], *(labels and labels[1:] for labels in operands[stacked:])]
    return {a: labels for a, labels in zip(body.inputs, whole, strict=True) if labels}


def of(atom: Atom, known: dict[int, Origins]) -> Origins | None:
    """The origins of a value that is no literal."""
    return known.get(atom) if isinstance(atom, int) else None
