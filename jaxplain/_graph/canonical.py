"""The same network in fewer spellings: what the search for units need not know."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core as jexc
from jax.extend.core import primitives as P

from .equations import non_literals
from .origins import MARKS
from .primitives import ELEMENTWISE, RELABEL, STACK
from .rewrite import Form
from .trace import NAMES

Array = Any

KEEP_A_SUM = (RELABEL - {P.name_p}) | {P.broadcast_in_dim_p}  # what may lie before and behind its reciprocal


def canonical(jaxpr: Any, consts: Sequence[Any] = ()) -> list[Form]:
    """The equations of a jaxpr, some in a form that says more of what they do.

    * An elementwise operation that stretches an operand's axis of size 1 becomes one of operands that were broadcast.
    * A maximum over an axis along which values were stacked, and its like, becomes an elementwise one of those values.
    * A product with the reciprocal of a sum, as of exponentials in a softmax, becomes a division by it.
    * A name that the network gives to what it computes is noted, and no operation between others.
    """
    made_by = {out: eqn for eqn in jaxpr.eqns for out in eqn.outvars}
    others = (noted, unstacked, divided)
    form_of = lambda eqn: next(
        (form for other in others if (form := other(eqn, made_by))), Form(eqn, broadcasting(eqn))
    )
    return list(map(form_of, jaxpr.eqns))


def noted(eqn: Any, made_by: dict[Any, Any]) -> Form | None:
    """The name of a computed value as those that jaxplain gives, which `flatten` takes out of the operations."""
    if eqn.primitive is not P.name_p or isinstance(eqn.invars[0], jexc.Literal) or eqn.invars[0] not in made_by:
        return None
    name = eqn.params["name"]
    if name.startswith(NAMES) or name in MARKS.values():
        return None
    return Form(eqn, None, functools.partial(P.name_p.bind, name=NAMES + name))


def broadcasting(eqn: Any) -> Callable[[list[Any]], list[Any]] | None:
    """For an elementwise equation that stretches operands: how to broadcast them."""
    if eqn.primitive not in ELEMENTWISE:
        return None
    shape = eqn.outvars[0].aval.shape
    stretched = [v.aval.ndim == len(shape) and v.aval.shape != shape for v in eqn.invars]
    if not any(stretched) or not shape:
        return None
    return lambda values: [jnp.broadcast_to(v, shape) if flag else v for flag, v in zip(stretched, values, strict=True)]


def unstacked(eqn: Any, made_by: dict[Any, Any]) -> Form | None:
    """A reduction of stacked values as an elementwise function of them."""
    axes = eqn.params.get("axes", ())
    if eqn.primitive not in FOLDS or len(axes) != 1 or isinstance(eqn.invars[0], jexc.Literal):
        return None
    stack = made_by.get(eqn.invars[0])
    if stack is None or stack.primitive not in (STACK, P.concatenate_p):
        return None
    axis = stack.params["axis" if stack.primitive is STACK else "dimension"]
    if axis != axes[0] or (stack.primitive is P.concatenate_p and any(v.aval.shape[axis] != 1 for v in stack.invars)):
        return None

    def folded(*pieces: Array) -> Array:
        pieces = pieces if stack.primitive is STACK else tuple(lax.squeeze(piece, (axis,)) for piece in pieces)
        return FOLDS[eqn.primitive](pieces).astype(eqn.outvars[0].aval.dtype)

    return Form(eqn.replace(invars=stack.invars), None, folded)


def divided(eqn: Any, made_by: dict[Any, Any]) -> Form | None:
    """``v · (1 / Σ)`` as ``v / Σ``, also where axes move between, and numbers are added to the sum or scale it."""
    if eqn.primitive is not P.mul_p or len(non_literals(eqn.invars)) < 2 or not is_real(eqn.outvars[0]):
        return None
    shape = eqn.outvars[0].aval.shape
    for value, inverse in (eqn.invars, eqn.invars[::-1]):
        moves, reciprocal = behind(made_by.get(inverse), KEEP_A_SUM, made_by)
        total = reciprocal_of(reciprocal)
        _, maker = behind(made_by.get(total), KEEP_A_SUM | {P.add_p, P.mul_p, P.div_p}, made_by)
        if maker is not None and maker.primitive is P.reduce_sum_p:

            def divide(value: Array, total: Array, moves: Sequence[Any] = moves) -> Array:
                for move in reversed(moves):
                    total = move.primitive.bind(total, **move.primitive.get_bind_params(move.params))
                return lax.div(jnp.broadcast_to(value, shape), jnp.broadcast_to(total, shape))

            return Form(eqn.replace(invars=[value, total]), None, divide)
    return None


def is_real(v: Any) -> bool:
    """Whether a value is of real floating point."""
    return jnp.issubdtype(v.aval.dtype, jnp.floating)


def behind(maker: Any, passing: Collection[Any], made_by: dict[Any, Any]) -> tuple[list[Any], Any]:
    """The equations up to one that are of these, each of one value and numbers; and what lies before them."""
    passed = []
    while maker is not None and maker.primitive in passing and non_literals(maker.invars) == maker.invars[:1]:
        passed.append(maker)
        maker = made_by.get(maker.invars[0])
    return passed, maker


def reciprocal_of(maker: Any) -> Any:
    """The value that an equation is one over, if it is."""
    if maker is None or len(non_literals(maker.invars)) != 1:
        return None
    if maker.primitive is P.integer_pow_p and maker.params["y"] == -1:
        return maker.invars[0]
    one, *values = maker.invars
    is_one = isinstance(one, jexc.Literal) and np.ndim(one.val) == 0 and one.val == 1
    return values[0] if maker.primitive is P.div_p and is_one else None


def index_of(is_better: Callable[[Array, Array], Array]) -> Callable[[Sequence[Array]], Array]:
    """The number of the first piece that no other one is better than."""

    def fold(pieces: Sequence[Array]) -> Array:
        best, index = pieces[0], jnp.zeros(jnp.shape(pieces[0]), jnp.int32)
        for number, piece in enumerate(pieces[1:], start=1):
            better = is_better(piece, best)
            best, index = lax.select(better, piece, best), lax.select(better, jnp.full_like(index, number), index)
        return index

    return fold


FOLDS: dict[Any, Callable[[Sequence[Array]], Array]] = {
    P.reduce_max_p: functools.partial(functools.reduce, lax.max),
    P.reduce_min_p: functools.partial(functools.reduce, lax.min),
    P.reduce_sum_p: functools.partial(functools.reduce, lax.add),
    P.reduce_prod_p: functools.partial(functools.reduce, lax.mul),
    P.reduce_or_p: functools.partial(functools.reduce, lax.bitwise_or),
    P.reduce_and_p: functools.partial(functools.reduce, lax.bitwise_and),
    P.argmax_p: index_of(lax.gt),
    P.argmin_p: index_of(lax.lt),
}
