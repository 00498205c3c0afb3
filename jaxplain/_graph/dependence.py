"""Which values depend on the explained input, which of them by derivatives, and which on random numbers."""

from __future__ import annotations

from collections.abc import Sequence

from jax.extend.core import primitives as P

from .equations import runs
from .forward import Analysis, entering, forward
from .primitives import RANDOM
from .trace import Graph, Op, numbered


def dependents(graph: Graph, flags: Sequence[bool], stops: bool = False) -> set[int]:
    """The values that depend on the flagged inputs; with ``stops``, not by way of `jax.lax.stop_gradient` alone."""
    given = {a: True for a, flag in zip(graph.inputs, flags, strict=True) if flag}
    return set(forward(graph, given, DIFFERENTIABLE if stops else DEPENDENCE))


def dependent_results(op: Op, operands: Sequence[bool | None]) -> list[bool | None]:
    """All results depend on what any operand does."""
    if op.primitive is P.ne_p and op.inputs[0] == op.inputs[1]:
        return [None]  # whether a value is NaN: the same for the input and for all that it is compared with
    return [any(operands) or None] * len(op.outputs)


def differentiable_results(op: Op, operands: Sequence[bool | None]) -> list[bool | None]:
    """The same, but what is behind `jax.lax.stop_gradient` counts as a constant."""
    return [None] if op.primitive is P.stop_gradient_p else dependent_results(op, operands)


either = lambda a, b: a or b
DEPENDENCE = Analysis(dependent_results, join=either, choose=either)
DIFFERENTIABLE = Analysis(differentiable_results, join=either, choose=either)


def carried_flags(op: Op, flags: Sequence[bool], stops: bool = False) -> tuple[bool, ...]:
    """Which operands of a scan's body depend on the input, once what is carried has gone round."""
    analysis = DIFFERENTIABLE if stops else DEPENDENCE
    return tuple(map(bool, entering(op, [flag or None for flag in flags], analysis)))


def random_source(graph: Graph) -> Op | None:
    """The operation that draws the random numbers on which a network's outputs depend, if they depend on any."""
    known = forward(graph, {}, RANDOMNESS)
    return next((known[a] for a in numbered(graph.outputs) if a in known), None)


def randomness_behind(op: Op, operands: Sequence[Op | None]) -> list[Op | None]:
    """All results are as random as any operand is, or as what an operation draws."""
    source = op if runs(op.eqn, RANDOM) else next(filter(None, operands), None)
    return [source] * len(op.outputs)


RANDOMNESS = Analysis(randomness_behind, join=either, choose=either)
