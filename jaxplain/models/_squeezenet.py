"""SqueezeNet 1.1: few channels squeezed out of many, and no dense layer."""

from __future__ import annotations

import os

import flax.linen as nn
import jax
import jax.numpy as jnp

from ._layers import max_pool
from ._preprocess import TORCHVISION
from ._pretrained import Pretrained, pretrained

__all__ = ["squeezenet1_1"]

_LAYERS = ("pool", 16, 16, "pool", 32, 32, "pool", 48, 48, 64, 64)


class Fire(nn.Module):
    """Squeezes the channels by a 1 × 1 convolution and expands them by two, of 1 × 1 and 3 × 3, side by side."""

    squeezed: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features ``(N, H, W, 8 squeezed)``."""
        x = nn.relu(nn.Conv(self.squeezed, (1, 1), name="squeeze")(x))
        narrow = nn.relu(nn.Conv(4 * self.squeezed, (1, 1), name="expand1x1")(x))
        wide = nn.relu(nn.Conv(4 * self.squeezed, (3, 3), padding=1, name="expand3x3")(x))
        return jnp.concatenate([narrow, wide], axis=-1)


class SqueezeNet(nn.Module):
    """SqueezeNet 1.1 with torchvision's names: `features.0`, `features.3` to `features.12`, `classifier.1`.

    Its logits are averages of rectified maps, and so never negative.
    """

    num_classes: int = 1000

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits ``(N, num_classes)`` of images ``(N, H, W, 3)``."""
        x = nn.relu(nn.Conv(64, (3, 3), 2, padding="VALID", name="features.0")(x))
        for index, squeezed in enumerate(_LAYERS, start=2):
            if isinstance(squeezed, int):
                x = Fire(squeezed, name=f"features.{index}")(x)
            else:
                x = max_pool(x, size=3, stride=2, ceil=True)
        x = nn.Dropout(0.5, deterministic=not train)(x)
        x = nn.relu(nn.Conv(self.num_classes, (1, 1), name="classifier.1")(x))
        return x.mean(axis=(1, 2))


def squeezenet1_1(
    checkpoint: str | os.PathLike[str] | None = None, *, num_classes: int = 1000, key: jax.Array | None = None
) -> Pretrained:
    """SqueezeNet 1.1; arguments as `vgg16`.

    Reference:
      Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer: SqueezeNet: AlexNet-level Accuracy with 50x Fewer Parameters and
      <0.5MB Model Size. 2016, arXiv:1602.07360.
    """
    return pretrained(SqueezeNet(num_classes), TORCHVISION, checkpoint, key)
