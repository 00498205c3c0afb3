"""What several forms ask of equations, beside what whoever walks through a jaxpr asks (`jaxplain._graph.equations`)."""

from __future__ import annotations

from typing import Any

from .._graph.equations import non_literals, runs
from .._graph.primitives import PRODUCTS


def first_outvar(eqn: Any) -> Any:
    """The first result of an equation, if it has any."""
    return eqn.outvars[0] if eqn.outvars else None


def live_equations(jaxpr: Any) -> tuple[Any, ...]:
    """The equations of a jaxpr that its results depend on, or that have another effect; NaN in the rest goes unseen."""
    needed, eqns = set(non_literals(jaxpr.outvars)), []
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or not needed.isdisjoint(eqn.outvars):
            needed.update(non_literals(eqn.invars))
            eqns.append(eqn)
    return tuple(reversed(eqns))


def multiplies(eqn: Any) -> bool:
    """Whether an equation, or what it calls, multiplies matrices."""
    return runs(eqn, PRODUCTS)
