"""EfficientNet-B0: inverted residual blocks whose channels are gated by what all positions show."""

from __future__ import annotations

import dataclasses
import os

import flax.linen as nn
import jax
from PIL import Image

from ._efficientnet import STAGES
from ._layers import ConvNormActivation
from ._preprocess import TORCHVISION
from ._pretrained import Pretrained, pretrained

__all__ = ["efficientnet_b0"]

_GAIN = 2.0  # with 1, what random weights make would fade behind gates that are half open


class SqueezeExcitation(nn.Module):
    """Multiplies each channel by a number in (0, 1) that the means of all channels decide."""

    squeezed: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features of the same shape ``(N, H, W, C)``."""
        gate = x.mean(axis=(1, 2), keepdims=True)
        gate = nn.silu(nn.Conv(self.squeezed, (1, 1), name="fc1")(gate))
        return x * nn.sigmoid(nn.Conv(x.shape[-1], (1, 1), name="fc2")(gate))


class MBConv(nn.Module):
    """Expands the channels, convolves each by itself, gates and projects them; a shortcut where shapes allow."""

    features: int
    expansion: int
    size: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Features ``(N, ⌈H / stride⌉, ⌈W / stride⌉, features)``."""
        y, index, hidden = x, 0, self.expansion * x.shape[-1]
        if self.expansion > 1:
            y, index = ConvNormActivation(hidden, 1, activation=nn.silu, name="block.0")(y, train), 1
        depthwise = ConvNormActivation(hidden, self.size, self.stride, hidden, nn.silu, name=f"block.{index}")
        y = depthwise(y, train)
        y = SqueezeExcitation(max(1, x.shape[-1] // 4), name=f"block.{index + 1}")(y)
        y = ConvNormActivation(self.features, 1, name=f"block.{index + 2}")(y, train)
        return x + y if x.shape == y.shape else y


class EfficientNet(nn.Module):
    """EfficientNet with torchvision's names: `features.7.0` is the only block of the last of seven stages.

    With ``train=True``, dropout and batch statistics are on; stochastic depth is not implemented.

    Attributes:
      stages: expansion, channels, blocks, stride of the first block and kernel size of each stage.
      num_classes: how many there are.
    """

    stages: tuple[tuple[int, ...], ...] = STAGES
    num_classes: int = 1000

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits ``(N, num_classes)`` of images ``(N, H, W, 3)``."""
        x = ConvNormActivation(32, 3, 2, activation=nn.silu, name="features.0")(x, train)
        for stage, (expansion, features, blocks, stride, size) in enumerate(self.stages, start=1):
            for block in range(blocks):
                step = 1 if block else stride
                x = MBConv(features, expansion, size, step, name=f"features.{stage}.{block}")(x, train)
        x = ConvNormActivation(1280, 1, activation=nn.silu, name=f"features.{len(self.stages) + 1}")(x, train)
        x = nn.Dropout(0.2, deterministic=not train)(x.mean(axis=(1, 2)))
        return nn.Dense(self.num_classes, name="classifier.1")(x)


def efficientnet_b0(
    checkpoint: str | os.PathLike[str] | None = None, *, num_classes: int = 1000, key: jax.Array | None = None
) -> Pretrained:
    """EfficientNet-B0; arguments as `vgg16`.

    Reference:
      Tan, Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks. ICML 2019, arXiv:1905.11946.
    """
    preprocess = dataclasses.replace(TORCHVISION, interpolation=Image.Resampling.BICUBIC)
    return pretrained(EfficientNet(num_classes=num_classes), preprocess, checkpoint, key, gain=_GAIN)
