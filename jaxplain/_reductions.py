"""Maxima, norms, deviations and quotients that hold at every scale of the values, and have a derivative.

Values are squared as shares of the largest one, as the squares of small ones would be 0 and those of large ones
infinite. A maximum is the element at an index: the derivative of `jnp.max` looks for the values that are equal to it,
and where the compiler has computed them twice, in another order, it finds none and is NaN.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ._convention import Array

Axes = int | tuple[int, ...]


@jax.custom_jvp
def largest(a: Array) -> Array:
    """The largest value along the last axis, which stays with size 1; of equal ones the first has the derivative."""
    return a.max(axis=-1, keepdims=True)


@largest.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (a,), (change,) = primals, tangents
    places = jax.lax.broadcasted_iota(jnp.int32, a.shape, a.ndim - 1)
    winner = places == a.argmax(axis=-1, keepdims=True)
    return largest(a), jnp.where(winner, change, 0).sum(axis=-1, keepdims=True)


def at_least_float32(a: ArrayLike) -> Array:
    """The same values in at least float32: products and sums of small ones would be 0 in 16 bits."""
    a = jnp.asarray(a)
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))


def divide(a: Any, b: Array) -> Array:
    """``a / b``, and 0 where b is 0."""
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


def or_one(size: Array) -> Array:
    """A size that something is divided by, 1 where it is 0 (or NaN)."""
    return jnp.where(size > 0, size, 1)


def largest_of_each(a: Array) -> Array:
    """The largest value of each example, ``(N, ...) -> (N, 1, ...)``."""
    return largest(a.reshape(a.shape[0], -1)).reshape(-1, *(1,) * (a.ndim - 1))


def over_largest(a: Array) -> Array:
    """Each example divided by its largest absolute value; one of zeros stays as it is."""
    size = largest_of_each(jnp.abs(a))
    return a / or_one(size)


def norm(a: Array, axis: Axes = -1, *, keepdims: bool = False) -> Array:
    """The Euclidean norm along axes; where it is 0, so is its derivative."""
    scale = scale_of(a, axis)
    squares = ((a / scale) ** 2).sum(axis=axis, keepdims=True)
    root = jnp.where(squares == 0, 0, scale * jnp.sqrt(jnp.where(squares == 0, 1, squares)))
    return root if keepdims else root.squeeze(axis)


def root_mean_square(a: Array, axis: Axes = -1, *, keepdims: bool = False) -> Array:
    """The root of the mean of the squares along axes."""
    axes = (axis,) if isinstance(axis, int) else axis
    count = jnp.asarray(math.prod(a.shape[i] for i in axes), a.dtype)  # which may be a symbol of an export
    return norm(a, axis, keepdims=keepdims) / jnp.sqrt(count)


def deviation(a: Array, axis: Axes = -1, *, keepdims: bool = False) -> Array:
    """The (population) standard deviation along axes."""
    return root_mean_square(a - a.mean(axis=axis, keepdims=True), axis, keepdims=keepdims)


def scale_of(a: Array, axis: Axes) -> Array:
    """The largest absolute value along axes, which stay with size 1; 1 where it is 0 or not finite.

    A constant to the derivative: that of something homogeneous does not depend on the scale it is computed at.
    """
    size = jnp.abs(jax.lax.stop_gradient(a)).max(axis=axis, keepdims=True)
    return jnp.where((size > 0) & jnp.isfinite(size), size, 1)
