"""VGG-16: thirteen 3 × 3 convolutions and three dense layers."""

from __future__ import annotations

import os

import flax.linen as nn
import jax
import jax.numpy as jnp

from ._layers import adaptive_average_pool, max_pool
from ._preprocess import TORCHVISION
from ._pretrained import Pretrained, pretrained

__all__ = ["vgg16"]

_LAYERS = (64, 64, "pool", 128, 128, "pool", *(256,) * 3, "pool", *(512,) * 3, "pool", *(512,) * 3, "pool")


class VGG16(nn.Module):
    """VGG-16 with torchvision's names: `features.0` to `features.28`, `classifier.0` to `classifier.6`."""

    num_classes: int = 1000

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits ``(N, num_classes)`` of images ``(N, H, W, 3)``."""
        index = 0
        for features in _LAYERS:
            if isinstance(features, int):
                x = nn.relu(nn.Conv(features, (3, 3), padding=1, name=f"features.{index}")(x))
                index += 2
            else:
                x = max_pool(x, size=2, stride=2)
                index += 1
        x = adaptive_average_pool(x, size=7)
        x = jnp.moveaxis(x, -1, 1).reshape(len(x), -1)  # flattened channel by channel, as the dense weights expect
        for index in (0, 3):
            x = nn.relu(nn.Dense(4096, name=f"classifier.{index}")(x))
            x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(self.num_classes, name="classifier.6")(x)


def vgg16(
    checkpoint: str | os.PathLike[str] | None = None, *, num_classes: int = 1000, key: jax.Array | None = None
) -> Pretrained:
    """VGG-16 with the weights of a torchvision checkpoint.

    Args:
      checkpoint: a ``.pth`` or ``.safetensors`` file of torchvision's `vgg16`; None draws random weights.
      num_classes: the number of logits.
      key: the random key of the random weights, ``jax.random.key(0)`` by default.

    Returns:
      The module, its variables and its preprocessing.

    Raises:
      ValueError: if the checkpoint cannot be read, or is another network's.

    Reference:
      Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition. ICLR 2015,
      arXiv:1409.1556.
    """
    return pretrained(VGG16(num_classes), TORCHVISION, checkpoint, key)
