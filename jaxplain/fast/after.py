"""Values that wait for others, so that they are not computed early and kept.

XLA on a CPU runs what is ready: what only the backward pass reads is computed in the forward pass already, and kept.
`jax.lax.optimization_barrier` is removed there before operations are ordered, a selection is not. In this order, LRP of
ResNet-50 needs a quarter less memory and that of EfficientNet-Lite0 two fifths less, and neither needs more time.
"""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from .placed import Array

T = TypeVar("T")


def after(first: Array, values: T) -> T:
    """The same values, on a CPU not computed before ``first`` is.

    Args:
      first: an array; where its type says that it is sharded, nothing waits for it.
      values: arrays in a tree.
    """
    if first.size == 0 or any(jax.typeof(first).sharding.spec):
        return values

    def wait(first: Array, values: T) -> T:
        never = is_never(first)
        return jax.tree.map(lambda v: jnp.where(never, jnp.zeros((), v.dtype), v), values)

    return lax.platform_dependent(lax.stop_gradient(first), values, cpu=wait, default=lambda _, values: values)


@jax.custom_batching.custom_vmap
def is_never(first: Array) -> Array:
    """False, which XLA does not know; one for a whole batch, so that what waits is not batched."""
    row = lax.dynamic_slice(first, (0,) * first.ndim, (*[1] * (first.ndim - 1), *first.shape[-1:]))
    return jnp.max(row) > jnp.inf  # a maximum is computed once, where a single value would be for each that waits


@is_never.def_vmap
def _(_: int, __: list[bool], first: Array) -> tuple[Array, bool]:
    return is_never(first[0]), False
