"""Values that wait for others, so that they are not computed early and kept.

XLA on a CPU runs what is ready: what only the backward pass reads is computed in the forward pass already, and kept.
`jax.lax.optimization_barrier` is removed there before operations are ordered, a selection is not. In this order, LRP of
ResNet-50 needs a quarter less memory in about the same time, that of EfficientNet-Lite0 two fifths less and less time.
"""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from ._strided_scatter import Array

T = TypeVar("T")


def after(first: Array, values: T) -> T:
    """The same values, on a CPU not computed before ``first`` is.

    Nothing waits for an empty array, or for one whose type says that it is sharded. Where the compiler shards it, or an
    axis is mapped that is sharded, one number is sent between devices.

    Args:
      first: an array.
      values: arrays in a tree.
    """
    if first.size == 0 or any(jax.typeof(first).sharding.spec):
        return values

    def wait(first: Array, values: T) -> T:
        never = is_never(lax.slice(first, (0,) * first.ndim, (*[1] * (first.ndim - 1), *first.shape[-1:])))
        return jax.tree.map(lambda v: jnp.where(never, jnp.zeros((), v.dtype), v), values)

    return lax.platform_dependent(lax.stop_gradient(first), values, cpu=wait, default=lambda _, values: values)


@jax.custom_batching.custom_vmap
def is_never(row: Array) -> Array:
    """False, which XLA does not know; one for a whole batch, so that what waits is not batched.

    A maximum is computed once, where one value of the row would be computed again for each that waits.
    """
    return jnp.max(row, initial=-jnp.inf) > jnp.inf


@is_never.def_vmap
def _(_: int, __: list[bool], rows: Array) -> tuple[Array, bool]:
    return is_never(rows), False
