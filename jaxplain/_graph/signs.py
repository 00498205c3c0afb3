"""Sign analysis: which values provably have no negative element, as behind a ReLU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jax.extend import core as jexc
from jax.extend.core import primitives as P

from .equations import jaxpr_to_inline, unclose
from .primitives import POSITIVE, SIGN_KEEPING
from .trace import Graph


def nonnegative_values(graph: Graph) -> set[int]:
    """The values that provably have no negative element."""
    return followed(((op.eqn, op.inputs, op.outputs) for op in graph.ops), ())


def nonpositive_values(graph: Graph, nonnegative: set[int]) -> set[int]:
    """The values that provably have no positive element, such as ``min(x, 0)``."""
    found: set[int] = set()
    above = lambda a: known(a, nonnegative)
    below = lambda a: bool(np.all(np.asarray(a.val) <= 0)) if isinstance(a, jexc.Literal) else a in found
    for op in graph.ops:
        operands = op.inputs[1:] if op.primitive is P.select_n_p else op.inputs
        if op.primitive is P.neg_p:
            holds = above(operands[0])
        elif op.primitive is P.min_p:
            holds = any(map(below, operands))
        elif op.primitive is P.clamp_p:
            holds = below(operands[2])
        elif op.primitive in (P.mul_p, P.div_p):
            holds = any(above(a) and below(b) for a, b in (operands, operands[::-1])) or any(map(is_zero, operands))
        else:
            keeps = op.primitive in SIGN_KEEPING or op.primitive in (P.max_p, P.select_n_p)
            holds = keeps and op.primitive is not P.log1p_p and all(map(below, operands))
        if holds and len(op.outputs) == 1:
            found.add(op.outputs[0])
    return found


def is_zero(atom: Any) -> bool:
    """Whether an operand is the number 0."""
    return isinstance(atom, jexc.Literal) and not np.any(np.asarray(atom.val))


def followed(equations: Iterable[tuple[Any, Sequence[Any], Sequence[Any]]], start: Iterable[Any]) -> set[Any]:
    """The values without a negative element: these, and the results of ``(equation, inputs, outputs)``."""
    found = set(start)
    for eqn, inputs, outputs in equations:
        if nonnegative(eqn, [known(a, found) for a in inputs], inputs):
            found.update(outputs)
    return found


def known(atom: Any, found: set[Any]) -> bool:
    """Whether a value is among those found, or a number that is not negative."""
    return bool(np.all(np.asarray(atom.val) >= 0)) if isinstance(atom, jexc.Literal) else atom in found


def nonnegative(eqn: Any, known: list[bool], inputs: Sequence[Any]) -> bool:
    """Whether an equation's results have no negative element, knowing which operands have none."""
    primitive = eqn.primitive
    if primitive in POSITIVE:
        return True
    if primitive in (P.max_p, P.and_p):
        return any(known)
    if primitive is P.mul_p and inputs[0] == inputs[1]:
        return True
    if primitive is P.integer_pow_p:
        return eqn.params["y"] % 2 == 0 or all(known)
    if primitive is P.select_n_p:
        return all(known[1:])
    if primitive is P.clamp_p:
        return known[0]
    if primitive in SIGN_KEEPING:
        return all(known)
    if primitive is P.gather_p:
        return known[0] and (eqn.params["fill_value"] or 0) >= 0
    if primitive is P.dynamic_slice_p:
        return known[0]
    function = jaxpr_to_inline(eqn, lambda _: False)
    return function is not None and nonnegative_call(function, known)


def nonnegative_call(function: Any, operands: list[bool]) -> bool:
    """Whether the results of a function have no negative element, knowing which operands have none."""
    jaxpr, _ = unclose(function)
    found = followed(
        ((eqn, eqn.invars, eqn.outvars) for eqn in jaxpr.eqns),
        (v for v, positive in zip(jaxpr.invars, operands, strict=True) if positive),
    )
    return all(known(a, found) for a in jaxpr.outvars)
