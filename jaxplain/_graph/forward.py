"""Follow what is known of a network's inputs to all of its values, through loops, branches and calls.

An analysis says what an operation makes of facts about its operands. `forward` does the walking: it inlines calls, goes
round loops until nothing new is known of what they carry, and joins the branches of a `cond`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from jax.extend import core as jexc
from jax.extend.core import primitives as P

from .equations import jaxpr_to_inline
from .trace import Atom, Graph, Op, flatten, scan_split

Fact = TypeVar("Fact")
Facts = list["Fact | None"]  # of operands or results, in order; None where nothing is known


@dataclass(frozen=True)
class Analysis(Generic[Fact]):
    """What is to be known of values.

    Attributes:
      transfer: ``(operation, facts of its operands) -> facts of its results``.
      join: what holds of a value that may be either of two.
      slice: what holds of the slices along the first axis of a value.
      stack: what holds of a stack of values along a new first axis.
      literal: what holds of a number that stands in the network.
      choose: ``(fact of the index, fact of the result) -> fact`` of what a `cond` returns.
    """

    transfer: Callable[[Op, Facts[Fact]], Sequence[Fact | None]]
    join: Callable[[Fact | None, Fact | None], Fact | None]
    slice: Callable[[Fact], Fact | None] = lambda fact: fact
    stack: Callable[[Fact], Fact | None] = lambda fact: fact
    literal: Callable[[Any], Fact | None] = lambda value: None
    choose: Callable[[Fact | None, Fact | None], Fact | None] = lambda index, result: result


def forward(
    graph: Graph,
    given: dict[int, Fact],
    analysis: Analysis[Fact],
    visit: Callable[[Op, Facts[Fact]], None] | None = None,
) -> dict[int, Fact]:
    """The facts of a graph's values, by number.

    Args:
      graph: a network, or the body of a loop.
      given: what is known of its inputs.
      analysis: what is to be known.
      visit: called with every operation, those of loops and branches included, and the facts of its operands.
    """
    known = dict(given)
    for op in graph.ops:
        results = behind(op, facts_of(op.inputs, known, analysis), analysis, visit)
        known.update((out, fact) for out, fact in zip(op.outputs, results, strict=True) if fact is not None)
    return known


def facts_of(atoms: Sequence[Atom], known: dict[int, Fact], analysis: Analysis[Fact]) -> Facts[Fact]:
    """What is known of some values and literals."""
    return [analysis.literal(a.val) if isinstance(a, jexc.Literal) else known.get(a) for a in atoms]


def behind(op: Op, operands: Facts[Fact], analysis: Analysis[Fact], visit: Any = None) -> Sequence[Fact | None]:
    """What is known of an operation's results."""
    if op.primitive is P.scan_p:
        _, carries = scan_split(op)
        results = returned(op.bodies[0], entering(op, operands, analysis), analysis, visit)
        return [*results[:carries], *(fact if fact is None else analysis.stack(fact) for fact in results[carries:])]
    if op.primitive is P.cond_p:
        branches = [returned(body, operands[1:], analysis, visit) for body in op.bodies]
        joined = [functools.reduce(analysis.join, facts) for facts in zip(*branches, strict=True)]
        return [analysis.choose(operands[0], fact) for fact in joined]
    function = jaxpr_to_inline(op.eqn, lambda eqn: False)  # of an operation that was kept whole, such as jax.nn.relu
    if function is not None:
        return returned(inlined(function), operands, analysis, visit)
    if visit:
        visit(op, operands)
    return analysis.transfer(op, operands)


def returned(body: Graph, given: Facts[Fact], analysis: Analysis[Fact], visit: Any = None) -> Facts[Fact]:
    """What is known of what a body returns, given the facts of its inputs."""
    known = {a: fact for a, fact in zip(body.inputs, given, strict=True) if fact is not None}
    return facts_of(body.outputs, forward(body, known, analysis, visit), analysis)


def entering(op: Op, operands: Facts[Fact], analysis: Analysis[Fact]) -> Facts[Fact]:
    """What is known of the inputs of a loop's body, at every turn; for a branch, of its inputs."""
    if op.primitive is not P.scan_p:
        return list(operands[1:])
    consts, carries = scan_split(op)
    start = consts + carries
    given = [*operands[:start], *(fact if fact is None else analysis.slice(fact) for fact in operands[start:])]
    while True:  # what is carried is what it was before, or what the last turn made of it
        results = returned(op.bodies[0], given, analysis)
        carried = list(map(analysis.join, given[consts:start], results[:carries]))
        if carried == given[consts:start]:
            return given
        given[consts:start] = carried


def facts_inside(op: Op, known: dict[int, Fact], analysis: Analysis[Fact]) -> dict[int, Fact]:
    """What is known of the inputs of a loop's body, by their number there, given what is known around it."""
    given = entering(op, facts_of(op.inputs, known, analysis), analysis)
    return {a: fact for a, fact in zip(op.bodies[0].inputs, given, strict=True) if fact is not None}


@functools.lru_cache(maxsize=512)
def inlined(jaxpr: Any) -> Graph:
    """The graph of a jaxpr, all that it calls inlined."""
    return flatten(jaxpr, keep_call=lambda eqn: False)
