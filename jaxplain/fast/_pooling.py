"""Max-pooling and its derivative in forms that XLA runs fast on a CPU: over shifted slices, as one loop each."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.export import is_symbolic_dim

from ._bit_masks import packed_roundtrip
from ._strided_scatter import Array, sum_of_shifted

MOST_SLICES, WIDTH = 16, 4  # of a window, and the bits that number them


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
        winner = winning(*x, params)
        moved = (jnp.where(winner == i, t, 0) for i, t in enumerate(seen))
        return pooled(*x), functools.reduce(jnp.add, moved)

    return pooled


def winners(params: dict[str, Any], shape: tuple[int, ...]) -> Callable[[Array, Array], Array] | None:
    """``(R, x) -> R of each window at the place of its maximum``, the first one of several."""
    if params["select_prim"] is not lax.ge_p or max_pool(params, shape) is None:
        return None
    window, strides, padding = (params[name] for name in ("window_dimensions", "window_strides", "padding"))

    def scatter(r: Array, x: Array) -> Array:
        winner, start = winning(x, params), [low for low, _ in padding]
        terms = [
            (np.subtract(start, position).tolist(), jnp.where(winner == i, r, 0))
            for i, position in enumerate(np.ndindex(*window))
        ]
        return sum_of_shifted(terms, strides, shape)

    return scatter


def winning(x: Array, params: dict[str, Any]) -> Array:
    """Which position of each window, in the order of the rows, holds the first of the largest values."""
    highest, *others = windows(x, params, -jnp.inf)
    winner = jnp.zeros(highest.shape, jnp.int32)  # and not where x is the maximum: the compiler may evaluate x twice,
    for i, a in enumerate(others, start=1):  # in different orders, and then it is nowhere
        stays = highest >= a  # NaN never does, as in the native operation
        highest, winner = jnp.where(stays, highest, a), jnp.where(stays, winner, i)
    overlap = any(size > step for size, step in zip(params["window_dimensions"], params["window_strides"], strict=True))
    return (
        packed_roundtrip(winner, WIDTH) if overlap else winner
    )  # where windows overlap, several terms read one winner


def windows(x: Array, params: dict[str, Any], outside: float) -> list[Array]:
    """For each position of the window, in the order of the rows, what it sees."""
    window, strides = params["window_dimensions"], params["window_strides"]
    x = lax.pad(x, jnp.array(outside, x.dtype), [(low, high, 0) for low, high in params["padding"]])
    ends = [n - size + 1 for n, size in zip(x.shape, window, strict=True)]
    shifted = lambda start: [end + i for i, end in zip(start, ends, strict=True)]
    return [lax.slice(x, start, shifted(start), strides) for start in np.ndindex(*window)]
