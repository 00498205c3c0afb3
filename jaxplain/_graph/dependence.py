"""Which values depend on the explained input, and which on random numbers, through loops and branches."""

from __future__ import annotations

from collections.abc import Sequence

from jax.extend.core import primitives as P

from .equations import runs
from .forward import Analysis, entering, forward
from .primitives import RANDOM
from .trace import Graph, Op, numbered


def dependents(graph: Graph, flags: Sequence[bool]) -> set[int]:
    """The values that depend on the flagged inputs."""
    return set(forward(graph, {a: True for a, flag in zip(graph.inputs, flags, strict=True) if flag}, DEPENDENCE))


def dependent_results(op: Op, operands: Sequence[bool | None]) -> list[bool | None]:
    """All results depend on what any operand does."""
    if op.primitive is P.ne_p and op.inputs[0] == op.inputs[1]:
        return [None]  # whether a value is NaN: the same for the input and for all that it is compared with
    return [any(operands) or None] * len(op.outputs)


either = lambda a, b: a or b
DEPENDENCE = Analysis(dependent_results, join=either, choose=either)


def carried_flags(op: Op, flags: Sequence[bool]) -> tuple[bool, ...]:
    """Which operands of a scan's body depend on the input, once what is carried has gone round."""
    return tuple(map(bool, entering(op, [flag or None for flag in flags], DEPENDENCE)))


def random_source(graph: Graph) -> Op | None:
    """The operation that draws the random numbers on which a network's outputs depend, if they depend on any."""
    known = forward(graph, {}, RANDOMNESS)
    return next((known[a] for a in numbered(graph.outputs) if a in known), None)


def randomness_behind(op: Op, operands: Sequence[Op | None]) -> list[Op | None]:
    """All results are as random as any operand is, or as what an operation draws."""
    source = op if runs(op.eqn, RANDOM) else next(filter(None, operands), None)
    return [source] * len(op.outputs)


RANDOMNESS = Analysis(randomness_behind, join=either, choose=either)
