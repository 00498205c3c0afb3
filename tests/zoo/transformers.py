"""Networks on patches: vision transformers with Flax's attention and with one written by hand, and the MLP-Mixer."""

import flax.linen as nn
import jax
import jax.numpy as jnp

CLASSES = 5


class HandWrittenAttention(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, x):
        n, tokens, features = x.shape
        qkv = nn.Dense(3 * features, name="qkv")(x).reshape(n, tokens, 3, self.heads, features // self.heads)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)
        weights = nn.softmax((q @ k.swapaxes(-1, -2)) / (features // self.heads) ** 0.5, axis=-1)
        return nn.Dense(features, name="out")((weights @ v).swapaxes(1, 2).reshape(n, tokens, features))


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(x.shape[-1])(nn.gelu(nn.Dense(2 * x.shape[-1])(x)))


class EncoderBlock(nn.Module):
    by_hand: bool

    @nn.compact
    def __call__(self, x):
        attention = HandWrittenAttention(2) if self.by_hand else nn.MultiHeadDotProductAttention(2)
        x = x + attention(nn.LayerNorm()(x))
        return x + MLP()(nn.LayerNorm()(x))


class ViT(nn.Module):
    by_hand: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (4, 4), (4, 4), name="patches")(x)
        x = x.reshape(len(x), -1, 8)
        cls = jnp.broadcast_to(self.param("cls", nn.initializers.zeros, (1, 1, 8)), (len(x), 1, 8))
        x = jnp.concatenate([cls, x], axis=1)
        x = x + self.param("position", nn.initializers.normal(), (1, *x.shape[1:]))
        for _ in range(2):
            x = EncoderBlock(self.by_hand)(x)
        return nn.Dense(CLASSES, name="head")(nn.LayerNorm()(x)[:, 0])


class Mixer(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(6, (4, 4), (4, 4))(x)
        x = x.reshape(len(x), -1, 6)
        for _ in range(2):
            x = x + MLP()(nn.LayerNorm()(x).swapaxes(1, 2)).swapaxes(1, 2)
            x = x + MLP()(nn.LayerNorm()(x))
        return nn.Dense(CLASSES)(nn.LayerNorm()(x).mean(axis=1))


def softmax_attention_by_library(variables, x):
    """One head of `jax.nn.dot_product_attention`, which is how plain JAX code writes it."""
    tokens = x.reshape(len(x), 16, -1)
    q, k, v = (tokens @ variables[name] for name in ("query", "key", "value"))
    mixed = jax.nn.dot_product_attention(q[:, :, None], k[:, :, None], v[:, :, None])[:, :, 0]
    return mixed.mean(axis=1) @ variables["head"]


NETWORKS = {"vit": ViT(), "vit_by_hand": ViT(by_hand=True), "mixer": Mixer()}
