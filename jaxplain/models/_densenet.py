"""DenseNet-121: every layer sees the features of all earlier ones in its block."""

from __future__ import annotations

import os
import re

import flax.linen as nn
import jax
import jax.numpy as jnp

from ._layers import batch_norm, conv, max_pool
from ._preprocess import TORCHVISION
from ._pretrained import Pretrained, pretrained

__all__ = ["densenet121"]


class DenseLayer(nn.Module):
    """Normalise, activate, convolve: 1 × 1 to four times the growth, then 3 × 3 to the growth."""

    growth: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """The new features ``(N, H, W, growth)``."""
        x = nn.relu(batch_norm(train, name="norm1")(x))
        x = conv(4 * self.growth, 1, name="conv1")(x)
        x = nn.relu(batch_norm(train, name="norm2")(x))
        return conv(self.growth, 3, name="conv2")(x)


class DenseBlock(nn.Module):
    """Layers that each append their features to those of the layers before."""

    depth: int
    growth: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Features ``(N, H, W, C + depth · growth)``."""
        for index in range(self.depth):
            new = DenseLayer(self.growth, name=f"denselayer{index + 1}")(x, train)
            x = jnp.concatenate([x, new], axis=-1)
        return x


class Transition(nn.Module):
    """Halves the channels and the resolution between two blocks."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Features ``(N, H / 2, W / 2, C / 2)``."""
        x = nn.relu(batch_norm(train, name="norm")(x))
        x = conv(x.shape[-1] // 2, 1, name="conv")(x)
        return nn.avg_pool(x, (2, 2), (2, 2))


class DenseNet121(nn.Module):
    """DenseNet-121 with torchvision's names: `features.denseblock4`, `features.norm5`, `classifier`."""

    num_classes: int = 1000
    depths: tuple[int, ...] = (6, 12, 24, 16)
    growth: int = 32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits ``(N, num_classes)`` of images ``(N, H, W, 3)``."""
        x = conv(2 * self.growth, 7, 2, name="features.conv0")(x)
        x = nn.relu(batch_norm(train, name="features.norm0")(x))
        x = max_pool(x, size=3, stride=2, padding=1)
        for index, depth in enumerate(self.depths, start=1):
            x = DenseBlock(depth, self.growth, name=f"features.denseblock{index}")(x, train)
            if index < len(self.depths):
                x = Transition(name=f"features.transition{index}")(x, train)
        x = nn.relu(batch_norm(train, name="features.norm5")(x))
        return nn.Dense(self.num_classes, name="classifier")(x.mean(axis=(1, 2)))


def densenet121(
    checkpoint: str | os.PathLike[str] | None = None, *, num_classes: int = 1000, key: jax.Array | None = None
) -> Pretrained:
    """DenseNet-121; arguments as `vgg16`. torchvision's older checkpoints (`norm.1` for `norm1`) load too.

    Reference:
      Huang, Liu, van der Maaten, Weinberger: Densely Connected Convolutional Networks. CVPR 2017, arXiv:1608.06993.
    """
    return pretrained(DenseNet121(num_classes), TORCHVISION, checkpoint, key, rename=_current_name)


def _current_name(name: str) -> str:
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)
