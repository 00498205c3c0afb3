"""ConvNeXt: a convolutional network with the blocks of a transformer."""

from __future__ import annotations

import dataclasses
import os

import flax.linen as nn
import jax
import jax.numpy as jnp

from ._preprocess import TORCHVISION
from ._pretrained import Pretrained, pretrained

__all__ = ["convnext_tiny"]

_SMALL = nn.initializers.constant(1e-6)


class Block(nn.Module):
    """Each channel convolved by itself, and two dense layers at each position, beside a shortcut."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features of the same shape ``(N, H, W, C)``."""
        features = x.shape[-1]
        y = nn.Conv(features, (7, 7), padding=3, feature_group_count=features, name="block.0")(x)
        y = nn.LayerNorm(epsilon=1e-6, name="block.2")(y)
        y = nn.gelu(nn.Dense(4 * features, name="block.3")(y), approximate=False)
        y = nn.Dense(features, name="block.5")(y)
        scale = self.param("layer_scale", _SMALL, (features, 1, 1), jnp.float32)  # PyTorch's shape
        return x + scale.reshape(1, 1, 1, -1) * y


class ConvNeXt(nn.Module):
    """ConvNeXt with torchvision's names: `features.7.2` is the third block of the last stage.

    With ``train=True`` nothing changes; stochastic depth is not implemented.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    num_classes: int = 1000

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits ``(N, num_classes)`` of images ``(N, H, W, 3)``."""
        x = nn.Conv(self.widths[0], (4, 4), 4, padding="VALID", name="features.0.0")(x)
        x = nn.LayerNorm(epsilon=1e-6, name="features.0.1")(x)
        for stage, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            if stage > 0:
                x = nn.LayerNorm(epsilon=1e-6, name=f"features.{2 * stage}.0")(x)
                x = nn.Conv(width, (2, 2), 2, padding="VALID", name=f"features.{2 * stage}.1")(x)
            for index in range(depth):
                x = Block(name=f"features.{2 * stage + 1}.{index}")(x)
        x = nn.LayerNorm(epsilon=1e-6, name="classifier.0")(x.mean(axis=(1, 2)))
        return nn.Dense(self.num_classes, name="classifier.2")(x)


def convnext_tiny(
    checkpoint: str | os.PathLike[str] | None = None, *, num_classes: int = 1000, key: jax.Array | None = None
) -> Pretrained:
    """ConvNeXt-Tiny; arguments as `vgg16`.

    Reference:
      Liu, Mao, Wu, Feichtenhofer, Darrell, Xie: A ConvNet for the 2020s. CVPR 2022, arXiv:2201.03545.
    """
    module = ConvNeXt((3, 3, 9, 3), (96, 192, 384, 768), num_classes)
    return pretrained(module, dataclasses.replace(TORCHVISION, resize=236), checkpoint, key)
