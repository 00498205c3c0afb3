"""The layers that the networks share, as PyTorch defines them."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def conv(features: int, size: int, stride: int = 1, *, groups: int = 1, name: str) -> nn.Conv:
    """A square convolution without bias, zero-padded by half its size on each side."""
    return nn.Conv(
        features,
        kernel_size=(size, size),
        strides=stride,
        padding=size // 2,
        feature_group_count=groups,
        use_bias=False,
        name=name,
    )


def batch_norm(train: bool, *, name: str) -> nn.BatchNorm:
    """Batch normalisation with PyTorch's momentum and epsilon."""
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, name=name)


def max_pool(x: jax.Array, size: int, stride: int, padding: int = 0) -> jax.Array:
    """Max-pooling over square windows."""
    pads = ((padding, padding), (padding, padding))
    return nn.max_pool(x, (size, size), (stride, stride), pads)  # pyright: ignore[reportArgumentType]


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """Average ``(N, H, W, C)`` over a grid of `size` × `size` cells, for any H and W.

    Cell i covers the rows from ⌊iH / size⌋ up to ⌈(i + 1)H / size⌉, so neighbours overlap
    where H is no multiple of `size`.
    """
    _, height, width, _ = x.shape
    if height == width == size:
        return x
    rows, columns = _cells(height, size), _cells(width, size)
    return jnp.einsum("nhwc,ih,jw->nijc", x, rows.astype(x.dtype), columns.astype(x.dtype))


def _cells(length: int, size: int) -> np.ndarray:
    """The averaging matrix ``(size, length)`` of one axis."""
    start, position = np.arange(size)[:, None] * length, np.arange(length)
    inside = (start // size <= position) & (position < -(-(start + length) // size))
    return inside / inside.sum(axis=1, keepdims=True)
