"""What several forms ask of equations, beside what whoever walks through a jaxpr asks (`jaxplain._graph.equations`)."""

from __future__ import annotations

from typing import Any

from .._graph.equations import runs
from .._graph.primitives import PRODUCTS


def first_outvar(eqn: Any) -> Any:
    """The first result of an equation, if it has any."""
    return eqn.outvars[0] if eqn.outvars else None


def multiplies(eqn: Any) -> bool:
    """Whether an equation, or what it calls, multiplies matrices."""
    return runs(eqn, PRODUCTS)
