"""What an equation of a jaxpr reads, returns and calls: questions that whoever walks through a jaxpr asks.

Here, in `rewrite`, `clipping` and `trace`, and nowhere else, versions of JAX differ in what a jaxpr looks like.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Sequence
from typing import Any

import jax
from jax.extend import core as jexc
from jax.extend import source_info_util
from jax.extend.core import primitives as P

from .primitives import ELEMENTWISE

PLAIN_CALLS = (P.jit_p, P.remat_p, P.closed_call_p, P.call_p)  # which only call


def unclose(jaxpr: Any) -> tuple[Any, Sequence[Any]]:
    """A jaxpr and its constants, whether it came closed, open, or (from JAX 0.11) as one of both."""
    return getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ())


def non_literals(atoms: Sequence[Any]) -> list[Any]:
    """Without the literals."""
    return [atom for atom in atoms if not isinstance(atom, jexc.Literal)]


def varying_axes(v: Any) -> frozenset[str]:
    """The axes of a mesh over which a value differs, inside `jax.shard_map` with its checks."""
    return getattr(getattr(v.aval, "mat", None), "varying", frozenset())


def without_dead_equations(jaxpr: Any) -> Any:
    """The jaxpr without equations that its results do not depend on, and that have no other effect."""
    needed, eqns = set(non_literals(jaxpr.outvars)), []
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or not needed.isdisjoint(eqn.outvars):
            needed.update(non_literals(eqn.invars))
            eqns.append(eqn)
    return jaxpr.replace(eqns=eqns[::-1])


def runs(eqn: Any, primitives: Container[jexc.Primitive]) -> bool:
    """Whether an equation, or what it calls, is one of these operations."""
    inner = (unclose(jaxpr)[0] for jaxpr in jexc.jaxprs_in_params(eqn.params))
    return eqn.primitive in primitives or any(runs(eqn, primitives) for jaxpr in inner for eqn in jaxpr.eqns)


def jaxpr_to_inline(eqn: Any, keep_call: Callable[[Any], bool]) -> Any:
    """The jaxpr to inline where an equation only calls one, or chooses one by the platform: all compute the same."""
    if choices := eqn.params.get("branches_platforms"):
        return eqn.params["branches"][choices.index(None) if None in choices else 0]
    if eqn.primitive in PLAIN_CALLS or (has_own_derivative(eqn) and not keep_call(eqn)):
        return called_jaxpr(eqn)
    return None


def subgraph_jaxprs(eqn: Any) -> tuple[Any, ...]:
    """The jaxprs that control flow runs."""
    if eqn.primitive is P.scan_p:
        return (eqn.params["jaxpr"],)
    if eqn.primitive is P.cond_p:
        return tuple(eqn.params["branches"])
    return ()


def has_own_derivative(eqn: Any) -> bool:
    """Whether an equation calls a function that may have a derivative of its own."""
    return eqn.primitive in (P.custom_jvp_call_p, P.custom_vjp_call_p) or hasattr(eqn.params.get("_prim"), "expand")


def called_jaxpr(eqn: Any) -> Any:
    """The jaxpr that a call runs, also of functions that JAX 0.12 writes as objects (hijax)."""
    if "_prim" in eqn.params:
        return expansion(eqn.params["_prim"])
    return eqn.params.get("call_jaxpr", eqn.params.get("jaxpr"))


@functools.lru_cache(maxsize=512)
def expansion(function: Any) -> Any:
    """What an operation that JAX defines by others is made of."""
    f = lambda *flat: jax.tree.leaves(function.expand(*jax.tree.unflatten(function.in_tree, flat)))
    return jax.make_jaxpr(f)(*function.in_avals_flat)


def is_elementwise_call(eqn: Any) -> bool:
    """Whether an equation is a custom derivative around elementwise operations with one result."""
    if not has_own_derivative(eqn) or len(eqn.outvars) != 1:
        return False

    def all_elementwise(jaxpr: Any) -> bool:
        jaxpr, _ = unclose(jaxpr)
        return all(
            eqn.primitive in ELEMENTWISE
            or (eqn.primitive is P.broadcast_in_dim_p and not eqn.invars[0].aval.shape)
            or ((inner := jaxpr_to_inline(eqn, lambda _: False)) is not None and all_elementwise(inner))
            for eqn in jaxpr.eqns
        )

    return all_elementwise(called_jaxpr(eqn))


source_info_util.register_exclusion(__file__)  # lines are the user's
