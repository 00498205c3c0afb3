"""Images as arrays: enlarged, blurred, interpolated; values of examples that broadcast against them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ._convention import Array


def like_examples(values: Array, x: Array) -> Array:
    """Give one value per example, ``(N,)``, the rank of ``x``."""
    return values.reshape(-1, *(1,) * (x.ndim - 1))


def gaussian_blur(x: Array, sigma: ArrayLike) -> Array:
    """Blur images ``(N, H, W, C)`` by a Gaussian of ``sigma`` pixels, renormalised at the border.

    Two matrix products, one along each axis, so that ``sigma`` may be traced and differentiated, and may be large.
    """
    sigma = jnp.maximum(jnp.asarray(sigma, jnp.promote_types(x.dtype, jnp.float32)), 1e-2)

    def along(size: int) -> Array:
        distance = jnp.arange(size)[:, None] - jnp.arange(size)[None, :]
        return jax.nn.softmax(-0.5 * (distance / sigma) ** 2, axis=1).astype(x.dtype)

    return jnp.einsum("hi,niwc,vw->nhvc", along(x.shape[1]), x, along(x.shape[2]))


def enlarge(maps: Array, x: Array) -> Array:
    """Bring maps ``(..., N, h, w)`` to the input's height and width, bilinearly, and to its dtype."""
    space = x.shape[1:-1]
    return jax.image.resize(maps, (*maps.shape[: maps.ndim - len(space)], *space), "bilinear").astype(x.dtype)


def interpolation(positions: Array, count: int) -> Array:
    """Weights ``(len(positions), count)`` of linear interpolation between samples at 0 to count - 1, held outside."""
    inside = jnp.clip(positions, 0, count - 1)
    return jnp.maximum(0, 1 - jnp.abs(inside[:, None] - jnp.arange(count, dtype=positions.dtype)[None]))
