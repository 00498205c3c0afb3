"""MobileNetV2: inverted residual blocks of depthwise convolutions."""

from __future__ import annotations

import os
from functools import partial

import flax.linen as nn
import jax

from ._layers import ConvNormActivation, batch_norm, conv
from ._preprocess import TORCHVISION
from ._pretrained import Pretrained, pretrained

__all__ = ["mobilenet_v2"]

_STAGES = (  # (expansion, channels, blocks, stride of the first block)
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)

_conv_relu6 = partial(ConvNormActivation, activation=nn.relu6)


class InvertedResidual(nn.Module):
    """Expands the channels, convolves each by itself, and projects to few; a shortcut where shapes allow."""

    features: int
    expansion: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Features ``(N, H / stride, W / stride, features)``."""
        y, index, hidden = x, 0, self.expansion * x.shape[-1]
        if self.expansion > 1:
            y, index = _conv_relu6(hidden, 1, name="conv.0")(y, train), 1
        y = _conv_relu6(hidden, 3, self.stride, groups=hidden, name=f"conv.{index}")(y, train)
        y = conv(self.features, 1, name=f"conv.{index + 1}")(y)
        y = batch_norm(train, name=f"conv.{index + 2}")(y)
        return x + y if x.shape == y.shape else y


class MobileNetV2(nn.Module):
    """MobileNetV2 with torchvision's names: `features.0` to `features.18`, `classifier.1`."""

    num_classes: int = 1000

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits ``(N, num_classes)`` of images ``(N, H, W, 3)``."""
        x = _conv_relu6(32, 3, 2, name="features.0")(x, train)
        index = 1
        for expansion, features, blocks, stride in _STAGES:
            for block in range(blocks):
                x = InvertedResidual(features, expansion, 1 if block else stride, name=f"features.{index}")(x, train)
                index += 1
        x = _conv_relu6(1280, 1, name=f"features.{index}")(x, train)
        x = nn.Dropout(0.2, deterministic=not train)(x.mean(axis=(1, 2)))
        return nn.Dense(self.num_classes, name="classifier.1")(x)


def mobilenet_v2(
    checkpoint: str | os.PathLike[str] | None = None, *, num_classes: int = 1000, key: jax.Array | None = None
) -> Pretrained:
    """MobileNetV2; arguments as `vgg16`.

    Reference:
      Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2: Inverted Residuals and Linear Bottlenecks. CVPR 2018,
      arXiv:1801.04381.
    """
    return pretrained(MobileNetV2(num_classes), TORCHVISION, checkpoint, key)
