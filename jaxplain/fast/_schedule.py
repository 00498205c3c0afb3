"""Work in the order in which it was written: what only the backward pass needs is not computed in the forward pass.

XLA on a CPU runs what is ready. A rule's sum over a layer's inputs reads what the forward pass made, so that it is
computed as soon as that is there, and kept until relevance arrives. Here a product whose operands were ready long
before it was written waits for the product that was written before it. `jax.lax.optimization_barrier` is removed before
XLA orders operations; a selection by a flag that it cannot know is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import primitives as P

from .._graph.equations import non_literals
from .._graph.primitives import ELEMENTWISE, PRODUCTS
from ._equations import first_outvar, multiplies

T = TypeVar("T")
LONG = 4  # products written in between
MADE = ELEMENTWISE | {P.broadcast_in_dim_p}  # where they are read, element by element


def products_to_delay(eqns: Sequence[Any]) -> dict[Any, Any]:
    """For the results of those products among equations that wait: the value that they wait for.

    Products of values that are all there already do not: their operands would be copied.
    """
    written, last = 0, None  # how many products, and the result of the last one
    ready: dict[Any, int] = {}  # for a value: how many products had been written when all that it needs was there
    made: set[Any] = set()
    waits: dict[Any, Any] = {}
    for eqn in eqns:
        read = non_literals(eqn.invars)
        when = max((ready.get(v, 0) for v in read), default=0)
        if multiplies(eqn):
            if eqn.primitive in PRODUCTS and last is not None and written - when >= LONG and not made.isdisjoint(read):
                waits[first_outvar(eqn)] = last
            written += 1
            when, last = written, next(filter(is_float, eqn.outvars), last)
        elif eqn.primitive in MADE:
            made.update(eqn.outvars)
        ready.update(dict.fromkeys(eqn.outvars, when))
    return waits


def is_float(v: Any) -> bool:
    """Whether a value can be waited for: real numbers, at least one."""
    return jnp.issubdtype(v.aval.dtype, jnp.floating) and 0 not in v.aval.shape


def delay_until(first: jax.Array, values: T) -> T:
    """The same values, on a CPU not computed before ``first`` is.

    Nothing waits for an empty array, or for one whose type says that it is sharded. Where the compiler shards it, or an
    axis is mapped that is sharded, one number is sent between devices.

    Args:
      first: an array.
      values: arrays in a tree.
    """
    if first.size == 0 or any(jax.typeof(first).sharding.spec):
        return values

    def wait(first: jax.Array, values: T) -> T:
        no = opaque_false(lax.slice(first, (0,) * first.ndim, (*[1] * (first.ndim - 1), *first.shape[-1:])))
        return jax.tree.map(lambda v: jnp.where(no, jnp.zeros((), v.dtype), v), values)

    return lax.platform_dependent(lax.stop_gradient(first), values, cpu=wait, default=lambda _, values: values)


@jax.custom_batching.custom_vmap
def opaque_false(row: jax.Array) -> jax.Array:
    """Always false, but opaque to XLA. Under `jax.vmap` a single flag, so that what waits is not batched.

    A maximum is computed once, where one value of the row would be computed again for each that waits.
    """
    return jnp.max(row, initial=-jnp.inf) > jnp.inf


@opaque_false.def_vmap
def _(_: int, __: list[bool], rows: jax.Array) -> tuple[jax.Array, bool]:
    return opaque_false(rows), False
