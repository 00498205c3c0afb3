"""Rows that are all equal, computed once: what a network makes of one image that is repeated for a whole batch.

DeepLIFT's reference is such an image. A value is a *repeated row* where it was broadcast along its first axis, and
where an operation that works on every row by itself reads repeated rows alone. Operations on them are evaluated for one
row, and the result is broadcast; where nobody reads the broadcast, XLA leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend import core as jexc
from jax.extend.core import primitives as P

from .._graph.axes import Axis, axes_of, same
from .._graph.equations import (
    PLAIN_CALLS,
    called_jaxpr,
    has_own_derivative,
    is_elementwise_call,
    unclose,
    without_dead_equations,
)
from .._graph.primitives import TILE
from .._graph.rewrite import Form
from ._equations import first_outvar, multiplies


def repeated_rows(jaxpr: Any, consts: Sequence[Any] = ()) -> list[Form]:
    """The live equations of a jaxpr; those that multiply repeated rows, and what belongs to them, for one row."""
    jaxpr = without_dead_equations(jaxpr)
    repeated = around_products(jaxpr, repeated_in(jaxpr))
    row_of: dict[Any, Any] = {}  # a repeated value -> its one row, as soon as that is computed

    def once(eqn: Any) -> Callable[..., Any] | None:
        if first_outvar(eqn) not in repeated:
            return None

        def evaluate(*values: Any) -> Any:
            pairs = zip(eqn.invars, values, strict=True)
            rows = for_one_row(eqn, [row_of[v] if is_row(v, repeated) else value for v, value in pairs], repeated)
            row_of.update(zip(eqn.outvars, rows, strict=True))
            every = [jnp.broadcast_to(y, out.aval.shape) for y, out in zip(rows, eqn.outvars, strict=True)]
            return every if eqn.primitive.multiple_results else every[0]

        return evaluate

    return [Form(eqn, other=once(eqn)) for eqn in jaxpr.eqns]


def for_one_row(eqn: Any, operands: Sequence[Any], repeated: Collection[Any]) -> list[Any]:
    """The results of an equation for the one row that its repeated operands hold."""
    if has_own_derivative(eqn):  # elementwise, and cheap: for all rows, so that the derivative stays
        every = [jnp.broadcast_to(value, v.aval.shape) for value, v in zip(operands, eqn.invars, strict=True)]
        return [y[:1] for y in bound(eqn, every, eqn.params)]
    if eqn.primitive not in PLAIN_CALLS:
        # An operand that is not taken by the row is needed as a whole, as a weight whose rows are all equal is.
        by_row = operands_by_row(eqn) or (False,) * len(operands)
        operands = [
            value if flag or not is_row(v, repeated) else jnp.broadcast_to(value, v.aval.shape)
            for value, v, flag in zip(operands, eqn.invars, by_row, strict=True)
        ]
        name = OF_RESULT.get(eqn.primitive)
        return bound(eqn, operands, eqn.params | ({name: (1, *eqn.params[name][1:])} if name else {}))
    jaxpr, consts = unclose(called_jaxpr(eqn))
    inside = repeated_in(jaxpr, inner_of(eqn, jaxpr, repeated))
    env = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *operands), strict=True))
    for inner in jaxpr.eqns:
        values = [v.val if isinstance(v, jexc.Literal) else env[v] for v in inner.invars]
        outs = (
            for_one_row(inner, values, inside) if first_outvar(inner) in inside else bound(inner, values, inner.params)
        )
        env.update(zip(inner.outvars, outs, strict=True))
    return [env[out] for out in jaxpr.outvars]


def bound(eqn: Any, operands: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """The results of an equation with other parameters."""
    out = eqn.primitive.bind(*operands, **eqn.primitive.get_bind_params(params))
    return list(out) if eqn.primitive.multiple_results else [out]


# ----------------------------------------------------------------------------------------------- which values are


def repeated_in(jaxpr: Any, given: Collection[Any] = ()) -> set[Any]:
    """The values of a jaxpr that are repeated rows, provided that the given arguments are."""
    found = set(given)
    for eqn in jaxpr.eqns:
        if (eqn.primitive in (P.broadcast_in_dim_p, TILE) and is_repeated(eqn)) or (
            any(is_row(v, found) for v in eqn.invars) and keeps_rows(eqn, found)
        ):
            found.update(eqn.outvars)
    return found


def around_products(jaxpr: Any, repeated: Collection[Any]) -> set[Any]:
    """Of the repeated rows those that products make, or that are made of them, and what these are made of."""
    found: set[Any] = set()
    for eqn in jaxpr.eqns:
        if first_outvar(eqn) in repeated and (multiplies(eqn) or any(is_row(v, found) for v in eqn.invars)):
            found.update(eqn.outvars)
    for eqn in reversed(jaxpr.eqns):
        if first_outvar(eqn) in found:
            found.update(v for v in eqn.invars if is_row(v, repeated))
    return found


def is_row(atom: Any, repeated: Collection[Any] | Mapping[Any, Any]) -> bool:
    """Whether an operand is among the repeated rows."""
    return not isinstance(atom, jexc.Literal) and atom in repeated


def is_repeated(eqn: Any) -> bool:
    """Whether the first axis of a broadcast only repeats, and is longer than one."""
    shape, out = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    if out[:1] in ((), (1,)) or len(eqn.invars) > 1 or says_where(eqn):
        return False
    if eqn.primitive is TILE:
        return shape[:1] == (1,)
    kept = eqn.params["broadcast_dimensions"]
    return 0 not in kept or shape[0] == 1


def keeps_rows(eqn: Any, repeated: Collection[Any]) -> bool:
    """Whether an equation works on every row by itself, and all operands that it takes by the row are repeated."""
    if eqn.primitive in PLAIN_CALLS:
        jaxpr, _ = unclose(called_jaxpr(eqn))
        inside = repeated_in(jaxpr, inner_of(eqn, jaxpr, repeated))
        reading = [inner for inner in jaxpr.eqns if any(is_row(v, inside) for v in inner.invars)]
        return all(
            is_row(out, inside) for out in (*jaxpr.outvars, *(out for inner in reading for out in inner.outvars))
        )
    if has_own_derivative(eqn) and not is_elementwise_call(eqn):
        return False
    by_row = operands_by_row(eqn) or ()
    return any(by_row) and all(is_row(v, repeated) for v, flag in zip(eqn.invars, by_row, strict=False) if flag)


def inner_of(eqn: Any, jaxpr: Any, repeated: Collection[Any]) -> list[Any]:
    """The arguments of the jaxpr that a call runs that are repeated rows."""
    return [inner for v, inner in zip(eqn.invars, jaxpr.invars, strict=True) if is_row(v, repeated)]


def operands_by_row(eqn: Any) -> tuple[bool, ...] | None:
    """Which operands an equation takes row by row: row i of its result comes of their rows i, and all of the others.

    Args:
      eqn: the equation.

    Returns:
      One flag per operand; None where rows meet, change their place, or are told apart.
    """
    if says_where(eqn):
        return None
    first, *_ = (same(eqn) if is_elementwise_call(eqn) else axes_of(eqn)) or [Axis(is_aligned=False)]
    if not first.is_aligned or any(axis != 0 for _, axis in first.sources):
        return None
    shapes = [v.aval.shape for v in eqn.invars]
    rows = eqn.outvars[0].aval.shape[:1]
    return tuple((k, 0) in first.sources and shape[:1] == rows for k, shape in enumerate(shapes))


def says_where(eqn: Any) -> bool:
    """Whether an equation says over which devices its result is spread; that it may be over some says nothing."""
    shardings = (eqn.params.get("sharding"), eqn.params.get("out_sharding"))
    return any(sharding is not None and any(getattr(sharding, "spec", (True,))) for sharding in shardings)


OF_RESULT = {P.reshape_p: "new_sizes", P.broadcast_in_dim_p: "shape", P.slice_p: "limit_indices", TILE: "reps"}
