"""The layers that the networks share, as PyTorch defines them."""

from __future__ import annotations

from collections.abc import Callable

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


class ConvNormActivation(nn.Module):
    """Convolution, batch normalisation, activation."""

    features: int
    size: int
    stride: int = 1
    groups: int = 1
    activation: Callable[[jax.Array], jax.Array] | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Features ``(N, ⌈H / stride⌉, ⌈W / stride⌉, features)``."""
        x = conv(self.features, self.size, self.stride, groups=self.groups, name="0")(x)
        x = batch_norm(train, name="1")(x)
        return x if self.activation is None else self.activation(x)


def max_pool(x: jax.Array, size: int, stride: int, padding: int = 0, *, ceil: bool = False) -> jax.Array:
    """Max-pooling over square windows; with `ceil` also over those that reach past the last row or column."""
    past = [-(length + 2 * padding - size) % stride if ceil else 0 for length in x.shape[1:3]]
    pads = [(padding, padding + more) for more in past]
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
