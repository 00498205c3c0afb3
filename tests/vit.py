"""One small vision transformer with the same weights in plain JAX, as a loop, in Linen, NNX and Equinox.

Images ``(N, 12, 8, 3)``, patches of 4 x 4: a grid of 3 x 2 tokens behind a class token, two blocks of two heads.
"""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from tests.convolution import conv

WIDTH, HEADS, BLOCKS, CLASSES, GRID = 8, 2, 2, 5, (3, 2)
BLOCK = {"norm1": (2, WIDTH), "q": (WIDTH, WIDTH), "k": (WIDTH, WIDTH), "v": (WIDTH, WIDTH), "out": (WIDTH, WIDTH)}
BLOCK |= {"norm2": (2, WIDTH), "up": (WIDTH, 12), "down": (12, WIDTH)}
SHAPES = {"patches": (4, 4, 3, WIDTH), "cls": (1, 1, WIDTH), "position": (1, 7, WIDTH), "norm": (2, WIDTH)}
SHAPES |= {"head": (WIDTH, CLASSES)}


def drawn(shapes, seed, *front):
    keys = dict(zip(shapes, jax.random.split(jax.random.key(seed), len(shapes)), strict=True))
    scale = lambda shape: 2.0 if shape == (WIDTH, WIDTH) else 1.0  # attention that is not uniform
    return {
        name: scale(shape) * jax.random.normal(keys[name], (*front, *shape), jnp.float64) / max(shape[0], 2) ** 0.5
        for name, shape in shapes.items()
    }


WEIGHTS = drawn(SHAPES, 0) | {"blocks": drawn(BLOCK, 1, BLOCKS)}
X = jax.random.normal(jax.random.key(2), (3, 12, 8, 3), jnp.float64)


def norm(x, w):
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    scale, shift = w.reshape(2, 1, 1, -1)
    return (x - mean) / jnp.sqrt(variance + 1e-6) * (1 + scale) + shift


def attend(w, x):
    """The weights ``(N, heads, tokens, tokens)`` and values of an attention."""
    split = lambda a: a.reshape(*a.shape[:-1], HEADS, -1).swapaxes(1, 2)
    q, k, v = (split(x @ w[name]) for name in "qkv")
    return jax.nn.softmax(q @ k.swapaxes(2, 3) / (WIDTH // HEADS) ** 0.5), v


def block(w, x, change=None):
    """A block; ``change`` is added to its attention's weights."""
    weights, v = attend(w, norm(x, w["norm1"]))
    mixed = ((weights if change is None else weights + change) @ v).swapaxes(1, 2)
    x = x + mixed.reshape(x.shape) @ w["out"]
    return x + jax.nn.gelu(norm(x, w["norm2"]) @ w["up"], approximate=False) @ w["down"]


def embed(w, x):
    tokens = conv(x, w["patches"], 4, "VALID").reshape(len(x), -1, WIDTH)
    cls = jnp.broadcast_to(w["cls"], (len(x), 1, WIDTH))
    return jnp.concatenate([cls, tokens], axis=1) + w["position"]


def head(w, x):
    return norm(x, w["norm"])[:, 0] @ w["head"]


def nth(w, i):
    return jax.tree.map(lambda a: a[i], w["blocks"])


def unrolled(w, x):
    x = embed(w, x)
    for i in range(BLOCKS):
        x = block(nth(w, i), x)
    return head(w, x)


def looped(w, x):
    return head(w, lax.scan(lambda x, w: (block(w, x), None), embed(w, x), w["blocks"])[0])


def backwards(w, x):
    """The loop again, from the last turn's weights to the first's."""
    turned = jax.tree.map(lambda a: a[::-1], w["blocks"])
    return head(w, lax.scan(lambda x, w: (block(w, x), None), embed(w, x), turned, reverse=True)[0])


def channels_first(w, x):
    kernel = w["patches"].transpose(3, 2, 0, 1)
    y = lax.conv_general_dilated(x, kernel, (4, 4), "VALID")
    back = lambda _, x: y.reshape(len(x), WIDTH, -1).swapaxes(1, 2)
    cls = jnp.broadcast_to(w["cls"], (len(x), 1, WIDTH))
    tokens = jnp.concatenate([cls, back(w, x)], axis=1) + w["position"]
    return head(w, block(nth(w, 1), block(nth(w, 0), tokens)))


def cut_by_reshaping(w, x):
    """The patches without a convolution."""
    rows, columns = GRID
    patches = x.reshape(len(x), rows, 4, columns, 4, 3).swapaxes(2, 3).reshape(len(x), rows * columns, -1)
    cls = jnp.broadcast_to(w["cls"], (len(x), 1, WIDTH))
    tokens = jnp.concatenate([cls, patches @ w["patches"].reshape(-1, WIDTH)], axis=1) + w["position"]
    return head(w, block(nth(w, 1), block(nth(w, 0), tokens)))


# -------------------------------------------------------------------------------------------------------- frameworks


def scaled(w):
    return {"scale": 1 + w[0], "bias": w[1]}


def heads_of(w):
    kernels = {
        name: w[short].reshape(WIDTH, HEADS, -1) for name, short in zip(("query", "key", "value"), "qkv", strict=True)
    }
    return kernels | {"out": w["out"].reshape(HEADS, -1, WIDTH)}


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        attention = nn.MultiHeadDotProductAttention(HEADS, use_bias=False, param_dtype=jnp.float64, name="attention")
        x = x + attention(nn.LayerNorm(param_dtype=jnp.float64, name="norm1")(x))
        y = nn.LayerNorm(param_dtype=jnp.float64, name="norm2")(x)
        y = nn.Dense(12, use_bias=False, param_dtype=jnp.float64, name="up")(y)
        y = nn.Dense(WIDTH, use_bias=False, param_dtype=jnp.float64, name="down")(nn.gelu(y, approximate=False))
        return x + y


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(WIDTH, (4, 4), (4, 4), "VALID", use_bias=False, param_dtype=jnp.float64, name="patches")(x)
        x = x.reshape(len(x), -1, WIDTH)
        zeros = nn.initializers.zeros
        cls = jnp.broadcast_to(self.param("cls", zeros, SHAPES["cls"], jnp.float64), (len(x), 1, WIDTH))
        x = jnp.concatenate([cls, x], axis=1) + self.param("position", zeros, SHAPES["position"], jnp.float64)
        for i in range(BLOCKS):
            x = LinenBlock(name=f"block{i}")(x)
        x = nn.LayerNorm(param_dtype=jnp.float64, name="norm")(x)
        return nn.Dense(CLASSES, use_bias=False, param_dtype=jnp.float64, name="head")(x[:, 0])


def linen_variables(w):
    of_block = lambda w: {
        "attention": {name: {"kernel": kernel} for name, kernel in heads_of(w).items()},
        "norm1": scaled(w["norm1"]),
        "norm2": scaled(w["norm2"]),
        "up": {"kernel": w["up"]},
        "down": {"kernel": w["down"]},
    }
    params = {"patches": {"kernel": w["patches"]}, "cls": w["cls"], "position": w["position"]}
    params |= {"norm": scaled(w["norm"]), "head": {"kernel": w["head"]}}
    return {"params": params | {f"block{i}": of_block(nth(w, i)) for i in range(BLOCKS)}}


class NNX(nnx.Module):
    def __init__(self, w, rngs):
        options = {"rngs": rngs, "param_dtype": jnp.float64}
        self.patches = nnx.Conv(3, WIDTH, (4, 4), (4, 4), padding="VALID", use_bias=False, **options)
        self.patches.kernel[...] = w["patches"]
        self.cls, self.position = nnx.Param(w["cls"]), nnx.Param(w["position"])
        self.blocks = nnx.List([NNXBlock(nth(w, i), options) for i in range(BLOCKS)])
        self.norm, self.head = nnx.LayerNorm(WIDTH, **options), nnx.Linear(WIDTH, CLASSES, use_bias=False, **options)
        set_norm(self.norm, w["norm"])
        self.head.kernel[...] = w["head"]

    def __call__(self, x):
        x = self.patches(x).reshape(len(x), -1, WIDTH)
        x = jnp.concatenate([jnp.broadcast_to(self.cls[...], (len(x), 1, WIDTH)), x], axis=1) + self.position[...]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class NNXBlock(nnx.Module):
    def __init__(self, w, options):
        self.norm1, self.norm2 = nnx.LayerNorm(WIDTH, **options), nnx.LayerNorm(WIDTH, **options)
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, use_bias=False, decode=False, **options)
        self.up = nnx.Linear(WIDTH, 12, use_bias=False, **options)
        self.down = nnx.Linear(12, WIDTH, use_bias=False, **options)
        for name, kernel in heads_of(w).items():
            getattr(self.attention, name).kernel[...] = kernel
        for name in ("norm1", "norm2"):
            set_norm(getattr(self, name), w[name])
        self.up.kernel[...], self.down.kernel[...] = w["up"], w["down"]

    def __call__(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(nnx.gelu(self.up(self.norm2(x)), approximate=False))


def set_norm(layer, w):
    layer.scale[...], layer.bias[...] = 1 + w[0], w[1]


class Equinox(eqx.Module):
    """Single images with their channels in front, as Equinox has them."""

    patches: eqx.nn.Conv2d
    cls: jax.Array
    position: jax.Array
    blocks: list
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __init__(self, w):
        key = jax.random.key(0)
        patches = eqx.nn.Conv2d(3, WIDTH, 4, 4, use_bias=False, key=key)
        self.patches = eqx.tree_at(lambda m: m.weight, patches, w["patches"].transpose(3, 2, 0, 1))
        self.cls, self.position = w["cls"][0], w["position"][0]
        self.blocks = [EquinoxBlock(nth(w, i)) for i in range(BLOCKS)]
        self.norm, self.head = equinox_norm(w["norm"]), equinox_linear(w["head"])

    def __call__(self, x):
        x = self.patches(x).reshape(WIDTH, -1).T
        x = jnp.concatenate([self.cls, x]) + self.position
        for one in self.blocks:
            x = one(x)
        return self.head(self.norm(x[0]))


class EquinoxBlock(eqx.Module):
    norm1: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    norm2: eqx.nn.LayerNorm
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, w):
        attention = eqx.nn.MultiheadAttention(HEADS, WIDTH, key=jax.random.key(0))
        layers = lambda m: (m.query_proj.weight, m.key_proj.weight, m.value_proj.weight, m.output_proj.weight)
        self.attention = eqx.tree_at(layers, attention, tuple(w[name].T for name in ("q", "k", "v", "out")))
        self.norm1, self.norm2 = equinox_norm(w["norm1"]), equinox_norm(w["norm2"])
        self.up, self.down = equinox_linear(w["up"]), equinox_linear(w["down"])

    def __call__(self, x):
        y = jax.vmap(self.norm1)(x)
        x = x + self.attention(y, y, y)
        hidden = jax.nn.gelu(jax.vmap(self.up)(jax.vmap(self.norm2)(x)), approximate=False)
        return x + jax.vmap(self.down)(hidden)


def equinox_norm(w):
    layer = eqx.nn.LayerNorm(WIDTH, eps=1e-6)
    return eqx.tree_at(lambda m: (m.weight, m.bias), layer, (1 + w[0], w[1]))


def equinox_linear(w):
    layer = eqx.nn.Linear(*w.shape, use_bias=False, key=jax.random.key(0))
    return eqx.tree_at(lambda m: m.weight, layer, w.T)


IN_FRAMEWORKS = {
    "linen": functools.partial(Linen().apply, linen_variables(WEIGHTS)),
    "nnx": NNX(WEIGHTS, nnx.Rngs(0)),
    "equinox": lambda x: jax.vmap(Equinox(WEIGHTS))(x.transpose(0, 3, 1, 2)),
    "a loop": functools.partial(looped, WEIGHTS),
    "a loop backwards": functools.partial(backwards, WEIGHTS),
}
