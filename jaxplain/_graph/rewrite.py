"""A function, traced and evaluated again with other forms of some of its equations.

A *rewrite* is a function from a jaxpr to a list of `Form`, mostly one an equation: how it is evaluated. It is written
for one flat jaxpr; loops, branches and calls inside are entered here, with the same rewrite.
"""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.extend import core as jexc
from jax.extend import source_info_util
from jax.extend.core import primitives as P
from jax.interpreters.partial_eval import DynamicJaxprTracer

from .equations import unclose
from .primitives import CALLS, CONTROL_FLOW

Rewrite: TypeAlias = "Callable[[Any, Sequence[Any]], Sequence[Form]]"
CALLS_AND_LOOPS = (CALLS | CONTROL_FLOW) - {P.call_p}


class Form(NamedTuple):
    """How an equation of a jaxpr is evaluated.

    Attributes:
      eqn: the equation.
      prepare: what is done to its operands before, a function from a list of them to another one; None for nothing.
      other: a function of its operands to call instead; None evaluates it as it is.
    """

    eqn: Any
    prepare: Callable[[list[Any]], list[Any]] | None = None
    other: Callable[..., Any] | None = None


def with_rewritten_equations(
    f: Callable[..., Any], rewrite: Rewrite, *, before: Rewrite | None = None
) -> Callable[..., Any]:
    """The same function, some of its operations evaluated in another way.

    Args:
      f: any JAX function. What is no array in its arguments and results, numbers included, stays as it is.
      rewrite: ``(jaxpr, values of its constants) -> forms of its equations``, in order. It may leave out what is not
        live, change equations, and add some that give a variable another value from there on. Loops, branches and
        functions with a derivative of their own are entered and stay what they are.
      before: forms that make another function of it first.

    Returns:
      A function of the same arguments.
    """

    def g(*args: Any) -> Any:
        leaves, structure = jax.tree.flatten(args)
        arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array | np.ndarray)]
        kept: list[Any] = []

        def traced(*arrays: Any) -> list[Any]:
            given = iter(arrays)
            args = [next(given) if isinstance(leaf, jax.Array | np.ndarray) else leaf for leaf in leaves]
            out, tree = jax.tree.flatten(f(*structure.unflatten(args)))
            kept[:] = tree, [None if isinstance(leaf, jax.Array) else leaf for leaf in out]
            return [leaf for leaf in out if isinstance(leaf, jax.Array)]

        with collection_paused():
            closed = jax.make_jaxpr(traced)(*arrays)
            jaxpr, consts = unclose(rewrite_jaxpr(closed, before) if before else closed)
        is_traced = any(isinstance(a, DynamicJaxprTracer) for a in arrays)  # and not evaluated, as under jax.vmap alone
        with collection_paused() if is_traced else contextlib.nullcontext():
            values, (tree, out) = iter(interpret(jaxpr, consts, arrays, rewrite)), kept
        return tree.unflatten([next(values) if leaf is None else leaf for leaf in out])

    return g


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """Python's garbage collection paused, for the second or so in which `jax.jit` traces a function.

    Tracing makes tens of thousands of objects, nearly all of which stay. A collection looks at each again, in vain: of
    the time to trace LRP of ResNet-50 that was a quarter, with zᴮ and γ two fifths.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def interpret(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any], rewrite: Rewrite) -> list[Any]:
    """Evaluate a jaxpr, some of its equations in another way."""
    env = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))
    read = lambda atom: atom.val if isinstance(atom, jexc.Literal) else env[atom]
    for eqn, prepare, other in rewrite(jaxpr, consts):
        stack = source_info_util.current_name_stack() + eqn.source_info.name_stack
        with source_info_util.user_context(eqn.source_info.traceback, name_stack=stack), eqn.ctx.manager:
            values = list(map(read, eqn.invars))
            if prepare:
                values = prepare(values)
            if other is None:
                out = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(rewrite_subjaxprs(eqn, rewrite)))
            else:
                out = other(*values)
        env.update(zip(eqn.outvars, out if eqn.primitive.multiple_results else [out], strict=True))
    return list(map(read, jaxpr.outvars))


def rewrite_subjaxprs(eqn: Any, rewrite: Rewrite) -> dict[str, Any]:
    """An equation's parameters, the jaxprs that it runs evaluated in another way."""
    if eqn.primitive not in CALLS_AND_LOOPS or eqn.params.get("branches_platforms"):  # those are other ways already
        return eqn.params
    one = lambda value: rewrite_subjaxpr(value, rewrite) if isinstance(value, jexc.Jaxpr | jexc.ClosedJaxpr) else value
    return {
        name: tuple(map(one, value)) if isinstance(value, tuple) else one(value) for name, value in eqn.params.items()
    }


@functools.lru_cache(maxsize=512)  # the same jaxpr for the same one, so that what JAX compiled for it is found again
def rewrite_subjaxpr(jaxpr: Any, rewrite: Rewrite) -> Any:
    """A jaxpr inside another one that computes the same, some of its equations in another way."""
    return rewrite_jaxpr(jaxpr, rewrite)


def rewrite_jaxpr(jaxpr: Any, rewrite: Rewrite) -> Any:
    """A jaxpr that computes the same, some of its equations in another way."""
    inner, consts = unclose(jaxpr)
    if not changes_anything(inner, consts, rewrite):
        return jaxpr
    types = [v.aval for v in inner.invars]  # with their sharding
    closed = jax.make_jaxpr(lambda *args: interpret(inner, consts, args, rewrite))(*types)
    return closed if isinstance(jaxpr, jexc.ClosedJaxpr) else unclose(closed)[0]


def changes_anything(jaxpr: Any, consts: Sequence[Any], rewrite: Rewrite) -> bool:
    """Whether a jaxpr has an equation that is evaluated in another way, and only values that have a shape."""

    def entered(eqn: Any) -> bool:
        return eqn.primitive in CALLS_AND_LOOPS and any(
            changes_anything(*unclose(body), rewrite) for body in jexc.jaxprs_in_params(eqn.params)
        )

    return all(hasattr(v.aval, "weak_type") for v in jaxpr.invars) and any(
        prepare is not None or other is not None or entered(eqn) for eqn, prepare, other in rewrite(jaxpr, consts)
    )


source_info_util.register_exclusion(__file__)  # lines are the user's
