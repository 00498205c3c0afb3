"""Max-pooling and its derivative in forms that XLA runs fast on a CPU: over shifted slices, as one loop each."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.export import is_symbolic_dim

from .convolution import Array

MOST_SLICES = 16  # of a window


def max_pool(params: dict[str, Any], shape: tuple[int, ...]) -> Callable[[Array], Array] | None:
    """``x -> the maximum of each window``, where another form is known; for floats ``x`` of this shape."""
    ones = (1,) * len(shape)
    dilated = (*params.get("base_dilation", ones), *params.get("window_dilation", ones)) != (*ones, *ones)
    symbolic = any(is_symbolic_dim(n) and size > 1 for n, size in zip(shape, params["window_dimensions"], strict=True))
    if dilated or symbolic or not 1 < math.prod(params["window_dimensions"]) <= MOST_SLICES:
        return None

    @jax.custom_jvp
    def pooled(x: Array) -> Array:
        return functools.reduce(jnp.maximum, windows(x, params, -jnp.inf))

    @pooled.defjvp
    def _(x: tuple[Array], tangent: tuple[Array]) -> tuple[Array, Array]:  # the winner's, not shared among equals
        seen = windows(*tangent, params, 0)
        moved = (jnp.where(wins, t, 0) for wins, t in zip(winning(*x, params), seen, strict=True))
        return pooled(*x), functools.reduce(jnp.add, moved)

    return pooled


def winners(params: dict[str, Any], shape: tuple[int, ...]) -> Callable[[Array, Array], Array] | None:
    """``(R, x) -> R of each window at the place of its maximum``, the first one of several."""
    if params["select_prim"] is not lax.ge_p or max_pool(params, shape) is None:
        return None
    window, strides, padding = (params[name] for name in ("window_dimensions", "window_strides", "padding"))
    padded = [n + low + high for n, (low, high) in zip(shape, padding, strict=True)]

    def scatter(r: Array, x: Array) -> Array:
        total = jnp.zeros(padded, r.dtype)
        for start, wins in zip(np.ndindex(*window), winning(x, params), strict=True):
            gaps = zip(start, padded, r.shape, strides, strict=True)
            back = [(i, n - i - (count - 1) * step - 1, step - 1) for i, n, count, step in gaps]
            total += lax.pad(jnp.where(wins, r, 0), jnp.zeros((), r.dtype), back)
        start = [low for low, _ in padding]
        return lax.slice(total, start, [low + n for low, n in zip(start, shape, strict=True)])

    return scatter


def winning(x: Array, params: dict[str, Any]) -> Iterator[Array]:
    """For each position of the window, in the order of the rows, where it holds the first of the largest values."""
    highest, *others = windows(x, params, -jnp.inf)
    winner = jnp.zeros(highest.shape, jnp.int32)  # and not where x is the maximum: the compiler may evaluate x twice,
    for i, a in enumerate(others, start=1):  # in different orders, and then it is nowhere
        stays = highest >= a  # NaN never does, as in the native operation
        highest, winner = jnp.where(stays, highest, a), jnp.where(stays, winner, i)
    return (winner == i for i in range(1 + len(others)))


def windows(x: Array, params: dict[str, Any], outside: float) -> list[Array]:
    """For each position of the window, in the order of the rows, what it sees."""
    window, strides = params["window_dimensions"], params["window_strides"]
    x = lax.pad(x, jnp.array(outside, x.dtype), [(low, high, 0) for low, high in params["padding"]])
    ends = [n - size + 1 for n, size in zip(x.shape, window, strict=True)]
    shifted = lambda start: [end + i for i, end in zip(start, ends, strict=True)]
    return [lax.slice(x, start, shifted(start), strides) for start in np.ndindex(*window)]
