"""What the axes of a value are made of: the axes of the input, followed through the operations of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from jax.extend.core import primitives as P

from .axes import axes_of
from .forward import Analysis, facts_inside, forward
from .trace import Graph, Op

Origins: TypeAlias = tuple[frozenset[int], ...]  # for each axis of a value, the axes of the input it is made of

NONE: frozenset[int] = frozenset()
CONVOLVED = -1  # among the origins of what lies behind a convolution
QUERIES, KEYS = -2, -3  # of the axes of an attention's weights, until they are applied
MARKS = {"first": "input's channels first", "last": "input's channels last"}


def of_input(graph: Graph) -> dict[int, Origins]:
    """The origins of the input's own axes."""
    return {x: tuple(frozenset([axis]) for axis in range(len(graph.avals[x].shape))) for x in graph.inputs}


def follow(
    graph: Graph, given: dict[int, Origins], visit: Callable[[Op, list[Origins | None]], None] | None = None
) -> dict[int, Origins]:
    """What the axes of each value are made of, as far as it is known.

    Args:
      graph: a network, or the body of a loop.
      given: the origins of the axes of its inputs.
      visit: called with every operation and the origins of what it reads.

    Returns:
      Origins by the value's number.
    """
    return forward(graph, given, ORIGINS, visit)


def inside_loop(op: Op, known: dict[int, Origins]) -> dict[int, Origins]:
    """The origins of the inputs of a loop's body."""
    return facts_inside(op, known, ORIGINS)


def origins_behind(op: Op, operands: Sequence[Origins | None]) -> list[Origins | None]:
    """What the axes of an operation's results are made of, where that is known."""
    convolves = op.primitive is P.conv_general_dilated_p
    if all(labels is None for labels in operands) or (convolves and operands[0] is None):
        return [None] * len(op.outputs)
    if op.primitive is P.dot_general_p:
        return [behind_product(op, operands)]
    new = frozenset([CONVOLVED] if convolves else [])
    read = lambda sources: (labels[i] for k, i in sources if (labels := operands[k]) is not None)
    results = (axes_of(op.eqn, number) for number in range(len(op.outputs)))
    return [None if axes is None else tuple(new.union(*read(axis.sources)) for axis in axes) for axes in results]


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
        if None in operands:
            return tuple(axis | (NONE if operands[k] is not None else mixed[1 - k]) for axis in own)
        return tuple(axis - {QUERIES, KEYS} if applied else axis | {(QUERIES, KEYS)[k]} for axis in own)

    return (*shared, *free(0), *free(1))


ORIGINS: Analysis[Origins] = Analysis(
    origins_behind,
    join=lambda a, b: b if a is None else a,
    slice=lambda labels: labels[1:],
    stack=lambda labels: (NONE, *labels),
)
