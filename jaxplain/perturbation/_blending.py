"""What the perturbation methods share: the checks of their options, and images blended with a baseline."""

from __future__ import annotations

import numpy as np

from .._convention import Array, Function


def require_images(x: Array | np.ndarray, method: str) -> None:
    """Check that there are pixels to put a mask on."""
    if x.ndim != 4:
        raise ValueError(f"{method} explains images (N, H, W, C), got shape {x.shape}")


def require_positions(x: Array, method: str, *, tables: bool = True) -> None:
    """Check that there are positions to put a mask on."""
    if not (2 if tables else 3) <= x.ndim <= 5:
        kinds = "images (N, H, W, C), signals (N, T, C) and volumes (N, D, H, W, C)" + ", or tables (N, F)" * tables
        raise ValueError(f"{method} explains {kinds}, got shape {x.shape}")


def with_positions(score: Function, x: Array, x0: Array) -> tuple[Function, Array, Array]:
    """A score, its input and a baseline, the columns of a table ``(N, F)`` as positions of one channel."""
    return (score, x, x0) if x.ndim > 2 else (lambda x: score(x[..., 0]), x[..., None], x0[..., None])


def require_sizes(axes: int, **sizes: tuple[int, ...]) -> None:
    """Check options that count along each axis of positions."""
    what = {1: "a tuple of one positive integer", 2: "two positive integers: along the rows, along the columns"}
    for name, size in sizes.items():
        counts = isinstance(size, tuple | list) and all(isinstance(n, int | np.integer) and n > 0 for n in size)
        if not counts or len(size) != axes:
            raise ValueError(f"{name}={size!r} must be {what.get(axes, f'{axes} positive integers: along each axis')}")


def blend(mask: Array, x: Array, x0: Array) -> Array:
    """``m x + (1 - m) x0`` for masks ``(N, ...)`` of the positions of ``x (N, ..., C)``, in its dtype."""
    m = mask[..., None].astype(x.dtype)
    return m * x + (1 - m) * x0
