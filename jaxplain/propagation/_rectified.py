"""Where no relevance can arrive: at the negative outputs of a unit in front of a ReLU, under most rules.

A ReLU's result is zero there. Rules that answer with a multiple of their input hand zeros no relevance, so that
nothing comes back to those outputs, whatever the numbers are: terms about them need not be computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, get_args

from ..fast._relus import bounds
from ._units import Branching, Plan, Unit

R = TypeVar("R")
Answer = Literal["multiple", "gradient", "relevance"]
NOWHERE_BELOW, NOT_AT_ZERO, ANYWHERE = range(3)  # relevance: only where the value is positive, where it is not 0, ...


def answers(what: Answer) -> Callable[[R], R]:
    """Let a rule say what it answers with, so that terms nobody has relevance for are not computed.

    It is a promise: where it is not kept, explanations are wrong. A rule that says nothing may answer with anything.
    What one rule says goes for itself only, not for a function that wraps it.

    Args:
      what: a ``"multiple"`` of the inputs, zero wherever they are; the true ``"gradient"``; or the ``"relevance"`` as
        it came, in equal parts where there are several inputs.

    Raises:
      ValueError: if ``what`` is none of these.
    """
    if what not in get_args(Answer):
        raise ValueError(f"a rule cannot answer with {what!r}: choose {', '.join(get_args(Answer))}")

    def says(rule: R) -> R:
        vars(rule)["answers"] = what, rule
        return rule

    return says


def answer_of(rule: Any) -> Answer | None:
    """What a rule says that it answers with."""
    what, whose = getattr(rule, "answers", (None, None))
    return what if whose is rule and not hasattr(rule, "forward") else None


def rectified(plan: Plan, rules: Mapping[Unit, Any]) -> set[Unit]:
    """The units to whose outputs provably no relevance arrives where they are negative or zero.

    Only those whose rules say what they answer with: other rules may call one of these with other relevance than
    what arrives.

    Args:
      plan: the units in the order of evaluation.
      rules: the rule of each; None for the true gradient.
    """
    where: dict[int, int] = {}
    anywhere = lambda atoms: where.update({a: ANYWHERE for a in atoms if isinstance(a, int)})
    anywhere(plan.graph.outputs)
    for step in reversed(plan.steps):
        if isinstance(step, Branching):
            anywhere(step.op.inputs)
        elif isinstance(step, Unit):
            arriving = max(where.get(out, NOWHERE_BELOW) for out in step.outputs)
            handed = handed_on(step, rules[step], arriving)
            where.update({a: max(handed, where.get(a, NOWHERE_BELOW)) for a in step.inputs})
    positive = lambda unit: all(where.get(out, NOWHERE_BELOW) == NOWHERE_BELOW for out in unit.outputs)
    return {unit for unit, rule in rules.items() if answer_of(rule) and positive(unit)}


def handed_on(unit: Unit, rule: Any, arriving: int) -> int:
    """Where a unit hands on relevance, given where it arrives."""
    answer = answer_of(rule) if rule and unit.is_float else "gradient"
    if answer == "multiple":
        return NOT_AT_ZERO
    if answer == "gradient" and unit.kind in ("shape", "max_pool", "sort"):  # each result is one of the inputs
        return arriving
    if answer == "relevance" and arriving < ANYWHERE and is_relu(unit):
        return NOWHERE_BELOW
    return ANYWHERE


def is_relu(unit: Unit) -> bool:
    """Whether a unit is a ReLU in some form: zero, and nothing else, wherever its input is negative or zero."""
    low = -math.inf  # of what the operations, each applied to the result of the one before, have kept so far
    for op in unit.ops if unit.kind == "activation" else ():
        operands = sorted(op.inputs, key=lambda a: not isinstance(a, int))  # max(0, x) is max(x, 0)
        kept = bounds(op.eqn.replace(invars=operands))
        if kept is None:
            return False
        low = min(max(low, kept[0]), kept[1])
    return low == 0
