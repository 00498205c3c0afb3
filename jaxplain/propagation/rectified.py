"""Where no relevance can arrive: at the negative outputs of a unit in front of a ReLU, under most rules.

A ReLU's result is zero there. Rules that answer with a multiple of their input hand zeros no relevance, so that
nothing comes back to those outputs, whatever the numbers are: terms about them need not be computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..fast.rectifiers import bounds
from .units import Branching, Plan, Unit

NOWHERE_BELOW, NOT_AT_ZERO, ANYWHERE = range(3)  # relevance: only where the value is positive, where it is not 0, ...


def rectified(plan: Plan, rules: Mapping[Unit, Any]) -> set[int]:
    """The values of a plan that provably have no relevance where they are negative or zero.

    Args:
      plan: the units in the order of evaluation.
      rules: the rule of each; what they answer with is what they say of themselves (see `jaxplain.rules.answers`).
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
    return {out for unit in rules for out in unit.outputs if where.get(out, NOWHERE_BELOW) == NOWHERE_BELOW}


def handed_on(unit: Unit, rule: Any, arriving: int) -> int:
    """Where a unit hands on relevance, given where it arrives."""
    answer = getattr(rule, "answers", None) if rule and unit.is_float else "gradient"
    if answer == "multiple":
        return NOT_AT_ZERO
    if answer == "gradient" and unit.kind in ("shape", "max_pool"):  # each result is one of the inputs
        return arriving
    if answer in ("gradient", "relevance") and arriving < ANYWHERE and is_relu(unit):
        return NOWHERE_BELOW
    return ANYWHERE


def is_relu(unit: Unit) -> bool:
    """Whether a unit is a ReLU in some form: zero, and nothing else, wherever its input is negative or zero."""
    low = -math.inf
    for op in unit.ops if unit.kind == "activation" else ():
        operands = sorted(op.inputs, key=lambda a: not isinstance(a, int))  # max(0, x) is max(x, 0)
        kept = bounds(op.eqn.replace(invars=operands))
        if kept is None:
            return False
        low = min(max(low, kept[0]), kept[1])
    return low == 0
