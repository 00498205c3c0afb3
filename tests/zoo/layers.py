"""Layers that the networks share, and their variables drawn at random."""

import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def conv(features, size=3, stride=1, *, groups=1, bias=False, padding=None):
    """A square convolution, zero-padded by half its size unless told otherwise."""
    padding = size // 2 if padding is None else padding
    return nn.Conv(features, (size, size), stride, padding, feature_group_count=groups, use_bias=bias)


def norm():
    return nn.BatchNorm(use_running_average=True, epsilon=1e-3)


def max_pool(x, size, stride, padding=0):
    return nn.max_pool(x, (size, size), (stride, stride), ((padding, padding), (padding, padding)))


def avg_pool(x, size, stride, padding=0, *, count_include_pad=True):
    pads = ((padding, padding), (padding, padding))
    return nn.avg_pool(x, (size, size), (stride, stride), pads, count_include_pad=count_include_pad)


def flatten(x):
    return x.reshape(len(x), -1)


class ConvNormAct(nn.Module):
    features: int
    size: int = 3
    stride: int = 1
    groups: int = 1
    act: object = nn.relu

    @nn.compact
    def __call__(self, x):
        return self.act(norm()(conv(self.features, self.size, self.stride, groups=self.groups)(x)))


class SqueezeExcite(nn.Module):
    """Channels scaled by a gate that looks at the whole map; 1 × 1 convolutions, as every library has it."""

    reduced: int
    act: object = nn.relu
    gate: object = nn.sigmoid

    @nn.compact
    def __call__(self, x):
        s = x.mean(axis=(1, 2), keepdims=True)
        return x * self.gate(conv(x.shape[-1], 1, bias=True)(self.act(conv(self.reduced, 1, bias=True)(s))))


def draw(module, shape):
    """Float64 variables for a Linen module, all away from their initial values, activations of the order of one."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(shape))
    return jax.tree_util.tree_map_with_path(_draw, shapes)


def _draw(path, leaf):
    name = path[-1].key
    random = np.random.default_rng(zlib.crc32(jax.tree_util.keystr(path).encode()))
    if name == "kernel":
        projection = any(key.key in ("query", "key", "value") for key in path)
        fan_in = leaf.shape[0] if projection else np.prod(leaf.shape[:-1])
        return jnp.asarray(random.normal(0, (1.5 / fan_in) ** 0.5, leaf.shape))
    low, high = {"scale": (0.6, 1.4), "var": (0.5, 1.5)}.get(name, (-0.3, 0.3))
    return jnp.asarray(random.uniform(low, high, leaf.shape))
