"""What the perturbation methods share: the checks of their options, and images blended with a baseline."""

from __future__ import annotations

import numpy as np

from .._convention import Array


def require_images(x: Array | np.ndarray, method: str) -> None:
    """Check that there are pixels to put a mask on."""
    if x.ndim != 4:
        raise ValueError(f"{method} explains images (N, H, W, C), got shape {x.shape}")


def require_pair(**sizes: tuple[int, int]) -> None:
    """Check options that count along the rows and the columns of an image."""
    for name, pair in sizes.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
            raise ValueError(f"{name}={pair!r} must be two positive integers: along the rows, along the columns")


def blend(mask: Array, x: Array, x0: Array) -> Array:
    """``m x + (1 - m) x0`` for masks ``(N, H, W)`` and images ``(N, H, W, C)``, in the images' dtype."""
    m = mask[..., None].astype(x.dtype)
    return m * x + (1 - m) * x0
