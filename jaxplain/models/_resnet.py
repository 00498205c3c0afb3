"""Residual networks with 18, 34 and 50 layers."""

from __future__ import annotations

import os

import flax.linen as nn
import jax

from ._layers import batch_norm, conv, max_pool
from ._preprocess import TORCHVISION
from ._pretrained import Pretrained, pretrained

__all__ = ["resnet18", "resnet34", "resnet50"]


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut."""

    width: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Features ``(N, H / stride, W / stride, width)``."""
        y = conv(self.width, 3, self.stride, name="conv1")(x)
        y = nn.relu(batch_norm(train, name="bn1")(y))
        y = conv(self.width, 3, name="conv2")(y)
        y = batch_norm(train, name="bn2")(y)
        return nn.relu(y + _shortcut(x, y, self.stride, train))


class Bottleneck(nn.Module):
    """A 3 × 3 convolution between two of 1 × 1 that narrow and widen the features, beside a shortcut."""

    width: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Features ``(N, H / stride, W / stride, 4 width)``."""
        y = conv(self.width, 1, name="conv1")(x)
        y = nn.relu(batch_norm(train, name="bn1")(y))
        y = conv(self.width, 3, self.stride, name="conv2")(y)
        y = nn.relu(batch_norm(train, name="bn2")(y))
        y = conv(4 * self.width, 1, name="conv3")(y)
        y = batch_norm(train, name="bn3")(y)
        return nn.relu(y + _shortcut(x, y, self.stride, train))


def _shortcut(x: jax.Array, y: jax.Array, stride: int, train: bool) -> jax.Array:
    """The block's input, projected where its shape differs from the output's."""
    if x.shape == y.shape:
        return x
    x = conv(y.shape[-1], 1, stride, name="downsample.0")(x)
    return batch_norm(train, name="downsample.1")(x)


class ResNet(nn.Module):
    """A residual network with torchvision's names: `layer4.1` is the second block of the last stage."""

    block: type[BasicBlock] | type[Bottleneck]
    depths: tuple[int, int, int, int]
    num_classes: int = 1000

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits ``(N, num_classes)`` of images ``(N, H, W, 3)``."""
        x = conv(64, 7, 2, name="conv1")(x)
        x = nn.relu(batch_norm(train, name="bn1")(x))
        x = max_pool(x, size=3, stride=2, padding=1)
        for stage, depth in enumerate(self.depths):
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                x = self.block(64 * 2**stage, stride, name=f"layer{stage + 1}.{index}")(x, train)
        return nn.Dense(self.num_classes, name="fc")(x.mean(axis=(1, 2)))


def resnet18(
    checkpoint: str | os.PathLike[str] | None = None, *, num_classes: int = 1000, key: jax.Array | None = None
) -> Pretrained:
    """ResNet-18; arguments as `vgg16`.

    Example:
      >>> from jaxplain.models import resnet18
      >>> module, variables, preprocess = resnet18(num_classes=10)  # random weights
      >>> variables["params"]["layer4.1"]["conv2"]["kernel"].shape
      (3, 3, 512, 512)

    Reference:
      He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition. CVPR 2016, arXiv:1512.03385.
    """
    return pretrained(ResNet(BasicBlock, (2, 2, 2, 2), num_classes), TORCHVISION, checkpoint, key)


def resnet34(
    checkpoint: str | os.PathLike[str] | None = None, *, num_classes: int = 1000, key: jax.Array | None = None
) -> Pretrained:
    """ResNet-34; arguments as `vgg16`.

    Reference:
      He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition. CVPR 2016, arXiv:1512.03385.
    """
    return pretrained(ResNet(BasicBlock, (3, 4, 6, 3), num_classes), TORCHVISION, checkpoint, key)


def resnet50(
    checkpoint: str | os.PathLike[str] | None = None, *, num_classes: int = 1000, key: jax.Array | None = None
) -> Pretrained:
    """ResNet-50 with the stride in the 3 × 3 convolutions, as torchvision has it; arguments as `vgg16`.

    Reference:
      He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition. CVPR 2016, arXiv:1512.03385.
    """
    return pretrained(ResNet(Bottleneck, (3, 4, 6, 3), num_classes), TORCHVISION, checkpoint, key)
