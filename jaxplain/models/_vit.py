"""The vision transformer: patches of an image as tokens that read each other."""

from __future__ import annotations

import os
import re

import flax.linen as nn
import jax
import jax.numpy as jnp

from ._preprocess import TORCHVISION
from ._pretrained import Pretrained, pretrained

__all__ = ["vit_b_16"]


class SelfAttention(nn.Module):
    """Attention of several heads between tokens, its three projections in one as in PyTorch."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Tokens of the same shape ``(N, tokens, width)``."""
        projected = nn.Dense(3 * x.shape[-1], name="in_proj")(x)
        by_head = projected.reshape(*x.shape[:2], 3, self.heads, x.shape[-1] // self.heads)
        query, key, value = jnp.moveaxis(by_head, 2, 0)
        mixed = nn.dot_product_attention(query, key, value)
        return nn.Dense(x.shape[-1], name="out_proj")(mixed.reshape(x.shape))


class EncoderBlock(nn.Module):
    """Attention between the tokens and two dense layers at each of them, both behind a LayerNorm, beside a shortcut."""

    heads: int
    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Tokens of the same shape ``(N, tokens, width)``."""
        x = x + SelfAttention(self.heads, name="self_attention")(nn.LayerNorm(epsilon=1e-6, name="ln_1")(x))
        y = nn.LayerNorm(epsilon=1e-6, name="ln_2")(x)
        y = nn.gelu(nn.Dense(self.hidden, name="mlp.0")(y), approximate=False)
        return x + nn.Dense(x.shape[-1], name="mlp.3")(y)


class Encoder(nn.Module):
    """The blocks, behind what tells each token its position."""

    depth: int
    heads: int
    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Tokens of the same shape ``(N, tokens, width)``."""
        x = x + self.param("pos_embedding", nn.initializers.normal(0.02), (1, *x.shape[1:]), jnp.float32)
        for index in range(self.depth):
            x = EncoderBlock(self.heads, self.hidden, name=f"layers.encoder_layer_{index}")(x)
        return nn.LayerNorm(epsilon=1e-6, name="ln")(x)


class VisionTransformer(nn.Module):
    """A vision transformer with torchvision's names: `encoder`, in it `layers.encoder_layer_11`, and `heads.head`.

    Attributes:
      patch: the side of a patch in pixels.
      width: the length of a token.
      depth: the number of blocks.
      heads: those of each attention.
      hidden: the width between the two dense layers of a block.
      num_classes: how many there are.
    """

    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    num_classes: int = 1000

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits ``(N, num_classes)`` of images ``(N, H, W, 3)``, all of one size; `train` changes nothing."""
        x = nn.Conv(self.width, (self.patch, self.patch), self.patch, padding="VALID", name="conv_proj")(x)
        x = x.reshape(x.shape[0], -1, self.width)
        token = self.param("class_token", nn.initializers.zeros, (1, 1, self.width), jnp.float32)
        x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, self.width)), x], axis=1)
        x = Encoder(self.depth, self.heads, self.hidden, name="encoder")(x)
        return nn.Dense(self.num_classes, name="heads.head")(x[:, 0])


def vit_b_16(
    checkpoint: str | os.PathLike[str] | None = None, *, num_classes: int = 1000, key: jax.Array | None = None
) -> Pretrained:
    """ViT-B/16 for images of 224 x 224; arguments as `vgg16`. Checkpoints of its first release load too.

    Reference:
      Dosovitskiy, Beyer, Kolesnikov, Weissenborn, Zhai, Unterthiner, Dehghani, Minderer, Heigold, Gelly, Uszkoreit,
      Houlsby: An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale. ICLR 2021, arXiv:2010.11929.
    """
    return pretrained(VisionTransformer(num_classes=num_classes), TORCHVISION, checkpoint, key, rename=_current_name)


def _current_name(name: str) -> str:
    return re.sub(r"mlp\.linear_([12])\.", lambda match: f"mlp.{3 * int(match[1]) - 3}.", name)
