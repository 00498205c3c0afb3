"""Samples, steps and masks a chunk at a time, so that memory stays constant however many there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

from ._batching import vmap_behind
from ._convention import Array, require_positive


def blocks(xs: Any, chunk: int | None) -> tuple[Any, Array]:
    """Cut the leading axis of every leaf into equal blocks of at most ``chunk``, the last one filled up by repetition.

    Returns:
      The leaves as ``(blocks, size, ...)``, and which entries are no repetition, ``(blocks, size)``.
    """
    n = jax.tree.leaves(xs)[0].shape[0]
    require_positive(chunk=n if chunk is None else chunk)
    count = -(-n // (chunk or n))
    size = -(-n // count)
    index = jnp.arange(count * size).reshape(count, size)
    return jax.tree.map(lambda a: a[jnp.minimum(index, n - 1)], xs), index < n


def chunked_map(fn: Callable[[Any], Any], xs: Any, chunk: int | None) -> Any:
    """``fn(x)`` for every entry of the leading axis of ``xs``, stacked, ``chunk`` at a time.

    Two turns of the loop are written out: a CPU runs them side by side, 14 % faster for forward passes of a small
    network. Memory may hold two chunks for it.
    """
    n = jax.tree.leaves(xs)[0].shape[0]
    cut, _ = blocks(xs, chunk)
    _, values = jax.lax.scan(lambda _, xs: (None, vmap_behind(fn)(xs)), None, cut, unroll=2)
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:n], values)


def chunked_sum(fn: Callable[[Any], Any], xs: Any, chunk: int | None) -> Any:
    """Σ fn(x) over the leading axis of ``xs``, ``chunk`` at a time, at constant memory and in at least float32."""
    cut, fn = blocks(xs, chunk), jax.jit(fn, inline=True)  # which is traced once, for its shape and for the loop

    def add(total: Any, block: tuple[Any, Array]) -> tuple[Any, None]:
        xs, valid = block
        values = vmap_behind(lambda x, ok: jax.tree.map(lambda a: jnp.where(ok, a, 0), fn(x)))(xs, valid)
        return jax.tree.map(lambda t, v: t + v.sum(axis=0, dtype=t.dtype), total, values), None

    one = jax.eval_shape(fn, jax.tree.map(lambda a: a[0], xs))
    zero = jax.tree.map(lambda a: jnp.zeros_like(a, jnp.promote_types(a.dtype, jnp.float32)), one)  # and its sharding
    return jax.lax.scan(add, zero, cut)[0]
