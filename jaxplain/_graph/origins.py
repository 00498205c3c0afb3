"""What the axes of a value are made of: the axes of the input, followed through the operations of a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from jax.extend.core import primitives as P

from .trace import Atom, Graph, Op, scan_split

Origins: TypeAlias = tuple[frozenset[int], ...]  # for each axis of a value, the axes of the input it is made of
Met: TypeAlias = list[tuple[Op, Origins]]

NONE: frozenset[int] = frozenset()
CONVOLVED = -1  # among the origins of what lies behind a convolution
QUERIES, KEYS = -2, -3  # of the axes of an attention's weights, until they are applied
MARKS = {"first": "input's channels first", "last": "input's channels last"}


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
