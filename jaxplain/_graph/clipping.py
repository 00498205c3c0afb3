"""ReLUs and their like: equations that keep a value between two numbers, by whatever names they go."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax.extend import core as jexc
from jax.extend.core import primitives as P

from .equations import non_literals, unclose

CLIPPING = frozenset([P.max_p, P.min_p, P.jit_p, P.custom_jvp_call_p])


def clip_bounds(eqn: Any) -> tuple[float, float] | None:
    """The numbers between which an equation keeps its operand, if it is a rectifier such as ``jax.nn.relu6``."""
    if eqn.primitive not in CLIPPING or not eqn.invars or non_literals(eqn.invars) != eqn.invars[:1]:
        return None
    if eqn.primitive in (P.jit_p, P.custom_jvp_call_p) and len(eqn.invars) == len(eqn.outvars) == 1:
        return next((clip_bounds_of_jaxpr(unclose(jaxpr)[0]) for jaxpr in jexc.jaxprs_in_params(eqn.params)), None)
    if eqn.primitive in (P.max_p, P.min_p) and jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.floating):
        number = float(eqn.invars[1].val)
        if math.isfinite(number):
            return (number, math.inf) if eqn.primitive is P.max_p else (-math.inf, number)
    return None


def clip_bounds_of_jaxpr(body: Any) -> tuple[float, float] | None:
    """The bounds of a jaxpr that only clips its argument, possibly several times."""
    value, low, high = body.invars[0], -math.inf, math.inf
    for eqn in body.eqns:
        kept = clip_bounds(eqn)
        if kept is None or eqn.invars[0] is not value:
            return None
        (value,) = eqn.outvars
        low, high = (min(max(bound, kept[0]), kept[1]) for bound in (low, high))
    return (low, high) if body.eqns and body.outvars[0] is value else None
