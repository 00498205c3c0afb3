"""Forms of operations that mean the same once XLA has compiled them.

Two habits of its CPU compiler make explanations quietly wrong, and both are ended here, in one place, for whatever an
explanation consists of (`tests/compiled/test_safeguards.py` says when XLA has mended them):

* It fuses a product by a smaller array, repeated, such as ``jnp.ones``, with a reduction behind it, and reads memory
  that nobody wrote. `jax.lax.optimization_barrier` does not keep it from that. So no convolution and no matrix product
  reads an operand that may be one: `as_data` hides what it is.
* It computes a value again for each of its readers, rounded in different ways, so that a comparison of ``x`` with
  ``max(x)``, by which JAX differentiates a maximum, finds the winner nowhere. So the winner's index decides as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core as jexc
from jax.extend.core import primitives as P

from .._graph.equations import unclose
from .._graph.primitives import PRODUCTS
from .._graph.rewrite import Form
from ._equations import first_outvar, multiplies

RESHAPES = frozenset([P.reshape_p, P.broadcast_in_dim_p, P.squeeze_p, P.convert_element_type_p])
CHOICES = {  # of one of two values: how the chosen one compares with the other
    P.max_p: P.ge_p,
    P.min_p: P.le_p,
}
EXTREMES = {P.reduce_max_p: lax.argmax, P.reduce_min_p: lax.argmin}


def safeguards(jaxpr: Any, consts: Sequence[Any] = ()) -> list[Form]:
    """The equations of a jaxpr, with the form of each that XLA cannot misread."""
    jaxpr = comparing_operands(jaxpr)
    prepare, winners = spread_operands(jaxpr, consts), winner_masks(jaxpr)
    return [Form(eqn, prepare.get(first_outvar(eqn)), winners.get(first_outvar(eqn))) for eqn in jaxpr.eqns]


# ---------------------------------------------------------------------------- no product reads a spread-out array


def spread_operands(jaxpr: Any, consts: Sequence[Any] = ()) -> dict[Any, Callable[[list[Any]], list[Any]]]:
    """For equations that multiply, or call what multiplies: how to hide operands that may be smaller arrays, repeated.

    Args:
      jaxpr: the jaxpr.
      consts: the values of its constants.

    Returns:
      Functions from operands to operands, by the equation's first result.
    """
    spread = spread_values(jaxpr, [False] * len(jaxpr.invars), consts)
    known = dict(zip(jaxpr.constvars, consts, strict=False))

    def hide(eqn: Any, v: Any) -> bool:
        if v not in spread or v.aval.size == 1:
            return False
        return v not in known or eqn.primitive not in PRODUCTS or is_repeated(known[v])

    found = {}
    for eqn in jaxpr.eqns:
        flags = [hide(eqn, v) for v in eqn.invars] if multiplies(eqn) else []
        if any(flags):
            found[first_outvar(eqn)] = hiding(flags)
    return found


def spread_values(jaxpr: Any, given: Sequence[bool], consts: Sequence[Any]) -> Marks:
    """The variables that may be smaller arrays, repeated: what is made of numbers, indices and such variables alone.

    So may what is made of constants, which XLA evaluates while it compiles.

    Args:
      jaxpr: the jaxpr.
      given: which of its arguments are.
      consts: the values of its constants.
    """
    known = zip(jaxpr.constvars, consts, strict=False)
    arguments = zip(jaxpr.invars, given, strict=True)
    found = Marks(v for v, flag in arguments if flag or v.aval.size == 1)
    found.update(v for v, value in known if v.aval.size == 1 or not isinstance(value, jax.core.Tracer))
    for eqn in jaxpr.eqns:
        flags = spread_results(eqn, [v in found for v in eqn.invars])
        found.update(v for v, flag in zip(eqn.outvars, flags, strict=True) if flag or v.aval.size == 1)
    return found


def spread_results(eqn: Any, flags: Sequence[bool]) -> list[bool]:
    """Which results of an equation may be spread-out arrays, given which operands are; more rather than fewer."""
    if eqn.primitive is P.broadcast_in_dim_p and repeats(eqn):
        return [True]
    bodies = [unclose(body) for body in jexc.jaxprs_in_params(eqn.params)]
    flags = flags[1:] if eqn.primitive is P.cond_p else flags
    if not bodies or any(len(body.invars) != len(flags) for body, _ in bodies):
        return [all(flags)] * len(eqn.outvars)
    inside = [(body, spread_values(body, flags, consts)) for body, consts in bodies]
    return [any(body.outvars[i] in found for body, found in inside) for i in range(len(eqn.outvars))]


def repeats(eqn: Any) -> bool:
    """Whether a broadcast holds a number of its operand more than once."""
    before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    same = dict(zip(eqn.params["broadcast_dimensions"], before, strict=True))
    return any(n != same.get(axis, 1) for axis, n in enumerate(after))


class Marks(set[Any]):
    """Marked variables of a jaxpr; literals, which cannot be looked up, always are."""

    def __contains__(self, atom: object) -> bool:
        return isinstance(atom, jexc.Literal) or super().__contains__(atom)


def is_repeated(value: Any) -> bool:
    """Whether an array, known here and now, holds one number, or is a view that repeats a smaller one."""
    if isinstance(value, np.ndarray) and 0 in value.strides:
        return True
    if isinstance(value, jax.Array) and any(device.platform != "cpu" for device in value.devices()):
        return False
    numbers = np.asarray(value).reshape(-1)
    return bool((numbers[:16] == numbers[:1]).all() and (numbers == numbers[:1]).all())


def hiding(flags: Sequence[bool]) -> Callable[[list[Any]], list[Any]]:
    """A function that hides the flagged ones of a list of operands, where they are about to be compiled."""

    def hidden(values: list[Any]) -> list[Any]:
        if not any(isinstance(v, jax.core.Tracer) for v in values):
            return values
        return [as_data(v) if flag else v for flag, v in zip(flags, values, strict=True)]

    return hidden


def as_data(value: Any) -> Any:
    """The same array of floats, as ``value + min(index, 0)``, of which XLA does not see that it is the value."""
    value = jnp.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.floating) or any(jax.typeof(value).sharding.spec):
        return value

    def hidden(value: Any) -> Any:
        return value + jnp.minimum(lax.iota(value.dtype, value.size).reshape(value.shape), 0)

    return lax.platform_dependent(value, cpu=hidden, default=lambda value: value)


# --------------------------------------------------------------------------- no value is compared with itself again


def comparing_operands(jaxpr: Any) -> Any:
    """The same jaxpr; what compares ``x`` with ``max(x, y)`` compares it with ``y``, which says the same."""
    made_by = {out: eqn for eqn in jaxpr.eqns for out in eqn.outvars}

    def compared(eqn: Any) -> Any:
        for value, chosen in (eqn.invars, eqn.invars[::-1]) if eqn.primitive is P.eq_p else ():
            choice = made_by.get(chosen) if not isinstance(chosen, jexc.Literal) else None
            if choice is None or choice.primitive not in CHOICES:
                continue
            for one, other in (choice.invars, choice.invars[::-1]):
                if is_same(value, one, made_by):
                    return eqn.replace(primitive=CHOICES[choice.primitive], invars=[value, other])
        return eqn

    eqns = [compared(eqn) for eqn in jaxpr.eqns]
    return jaxpr if all(a is b for a, b in zip(eqns, jaxpr.eqns, strict=True)) else jaxpr.replace(eqns=eqns)


def is_same(a: Any, b: Any, made_by: dict[Any, Any]) -> bool:
    """Whether two variables hold the same value: they are one, or the same reshape of one."""
    if isinstance(a, jexc.Literal) or isinstance(b, jexc.Literal):
        return isinstance(a, jexc.Literal) and isinstance(b, jexc.Literal) and bool(np.all(a.val == b.val))
    if a is b:
        return True
    one, other = made_by.get(a), made_by.get(b)
    if one is None or other is None or one.primitive is not other.primitive or one.primitive not in RESHAPES:
        return False
    return one.params == other.params and is_same(one.invars[0], other.invars[0], made_by)


def winner_masks(jaxpr: Any) -> dict[Any, Callable[..., Any]]:
    """For equations that compare ``x`` with its maximum: the same, true at the winner's index in any case.

    Returns:
      Functions of the equation's operands, by its result.
    """
    made_by = {out: eqn for eqn in jaxpr.eqns for out in eqn.outvars}

    def path_to(v: Any) -> list[Any]:
        """The equations that a value went through, from the last one that is no reshape."""
        path: list[Any] = []
        while not isinstance(v, jexc.Literal) and v in made_by:
            path.insert(0, made_by[v])
            if path[0].primitive not in RESHAPES:
                break
            v = path[0].invars[0]
        return path

    found = {}
    for eqn in jaxpr.eqns:
        for value, extreme in (eqn.invars, eqn.invars[::-1]) if eqn.primitive is P.eq_p else ():
            reduction, *reshapes = path_to(extreme) or [None]
            if reduction is None or reduction.primitive not in EXTREMES:
                continue
            (x,) = reduction.invars
            if is_same(value, x, made_by) and stays_in_place(reduction, reshapes):
                found[first_outvar(eqn)] = winner_mask(eqn.invars.index(value), reduction)
    return found


def stays_in_place(reduction: Any, reshapes: Sequence[Any]) -> bool:
    """Whether reshapes put each axis that a reduction left back to where it was."""
    (x,), axes = reduction.invars, reduction.params["axes"]
    kept = [axis for axis in range(x.aval.ndim) if axis not in axes]
    place = dict(enumerate(kept))  # from an axis now to the axis of x
    for eqn in reshapes:
        before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
        if eqn.primitive is P.broadcast_in_dim_p:
            moved = dict(enumerate(eqn.params["broadcast_dimensions"]))
        else:
            wide = [[axis for axis, n in enumerate(shape) if n != 1] for shape in (before, after)]
            if [before[i] for i in wide[0]] != [after[i] for i in wide[1]]:
                return False
            moved = dict(zip(*wide, strict=True))
        place = {moved[axis]: own for axis, own in place.items() if axis in moved}
    return all(axis == own for axis, own in place.items())


def winner_mask(operand: int, reduction: Any) -> Callable[..., Any]:
    """``x == max(x)``, or where x is the winner by its index; NaN never is."""
    axes, index_of = reduction.params["axes"], EXTREMES[reduction.primitive]

    def mask(*operands: Any) -> Any:
        return lax.eq(*operands) | winner(lax.stop_gradient(operands[operand]), axes, index_of)

    return mask


def winner(x: Any, axes: Collection[int], index_of: Callable[..., Any]) -> Any:
    """Where the first of the largest values lies, of those that share all other axes."""
    order = [axis for axis in range(x.ndim) if axis not in axes] + sorted(axes)
    moved = x.transpose(order)
    rows = moved.reshape(*moved.shape[: x.ndim - len(axes)], -1)
    index = jnp.expand_dims(index_of(rows, rows.ndim - 1, np.int32), -1)
    found = (lax.broadcasted_iota(np.int32, rows.shape, rows.ndim - 1) == index) & (rows == rows)
    return found.reshape(moved.shape).transpose(np.argsort(order).tolist())
