"""One residual network written through each of JAX's control-flow primitives and function transforms.

They share their variables and, except where the name says otherwise, compute the same as `unrolled`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.convolution import conv

CLASSES, FEATURES, DEPTH = 5, 4, 3


def variables():
    random = np.random.default_rng(5)
    shapes = {
        "stem": (4, 4, 3, FEATURES),
        "kernels": (DEPTH, 3, 3, FEATURES, FEATURES),
        "biases": (DEPTH, FEATURES),
        "head": (FEATURES, CLASSES),
    }
    drawn = {name: random.normal(0, np.prod(shape[-4:-1]) ** -0.5, shape) for name, shape in shapes.items()}
    return jax.tree.map(jnp.asarray, drawn | {"flag": 1, "count": DEPTH})


def stem(v, x):
    return conv(x, v["stem"], 4)


def block(x, kernel, bias):
    return x + jax.nn.relu(conv(x, kernel) + bias.reshape(1, 1, 1, -1))


def head(v, x):
    return x.mean(axis=(1, 2)) @ v["head"]


def through(blocks):
    """The whole network, given how it goes through its blocks."""
    return lambda v, x: head(v, blocks(v, stem(v, x)))


def loop(block):
    def blocks(v, x):
        for kernel, bias in zip(v["kernels"], v["biases"], strict=True):
            x = block(x, kernel, bias)
        return x

    return blocks


def scan(block, **options):
    def blocks(v, x):
        step = lambda x, layer: (block(x, *layer), None)
        return lax.scan(step, x, (v["kernels"], v["biases"]), **options)[0]

    return blocks


def scan_with_outputs(v, x):
    """The head sees the sum of all blocks' outputs, which the scan stacks."""

    def step(x, layer):
        x = block(x, *layer)
        return x, x

    return lax.scan(step, x, (v["kernels"], v["biases"]), reverse=True)[1].sum(axis=0)


def scan_over_pixels(v, x):
    """The input is what the scan runs over: rows, one after the other, in a small recurrent network."""
    rows = x.transpose(1, 0, 2, 3)
    state, kernel = jnp.zeros(rows.shape[1:], x.dtype), v["head"][:, :FEATURES]
    return lax.scan(lambda h, row: (jnp.tanh(row + h @ kernel), None), state, rows)[0][:, None]


def fori(count):
    def blocks(v, x):
        return lax.fori_loop(0, count(v), lambda i, x: block(x, v["kernels"][i], v["biases"][i]), x)

    return blocks


def cond(predicate):
    def blocks(v, x):
        other = lambda x, kernel, bias: jnp.tanh(conv(x, kernel)) - bias.reshape(1, 1, 1, -1)
        choose = lambda x, kernel, bias: lax.cond(predicate(v, x), block, other, x, kernel, bias)
        return loop(choose)(v, x)

    return blocks


def switch(v, x):
    branches = [lambda x, *_: x, block, lambda x, kernel, _: x + conv(x, kernel)]
    return loop(lambda *args: lax.switch(v["flag"], branches, *args))(v, x)


def closing_over_weights(v, x):
    """Weights reach the branch as constants, not as operands."""
    return loop(lambda x, w, b: lax.cond(v["flag"] > 0, lambda x: block(x, w, b), lambda x: -x, x))(v, x)


def single(v, x):
    return through(loop(block))(v, x[None])[0]


def map_over_patches(v, x):
    """The stem, patch by patch."""
    n, size = len(x), x.shape[1] // 4
    patches = x.reshape(n, size, 4, size, 4, 3).transpose(1, 3, 0, 2, 4, 5).reshape(-1, n, 4, 4, 3)
    features = lax.map(lambda patch: jnp.tensordot(patch, v["stem"], axes=3), patches)
    return head(v, loop(block)(v, features.reshape(size, size, n, -1).transpose(2, 0, 1, 3)))


NETWORKS = {
    "unrolled": through(loop(block)),
    "jit": jax.jit(through(loop(block))),
    "nested_jit": jax.jit(through(jax.jit(loop(jax.jit(block))))),
    "jit_inline": through(loop(jax.jit(block, inline=True))),
    "remat": jax.checkpoint(through(loop(jax.checkpoint(block)))),
    "scan": through(scan(block)),
    "scan_remat": through(scan(jax.checkpoint(block))),
    "scan_unroll": through(scan(block, unroll=2)),
    "fori_loop": through(fori(lambda v: DEPTH)),
    "cond_on_flag": through(cond(lambda v, x: v["flag"] > 0)),
    "cond_on_input": through(cond(lambda v, x: x.sum() < 1e6)),
    "cond_closure": through(closing_over_weights),
    "switch": through(switch),
    "vmap": jax.vmap(single, in_axes=(None, 0)),
    "vmap_jit": jax.vmap(jax.jit(single), in_axes=(None, 0)),
    "map_over_patches": map_over_patches,
}
"""All compute the same function of the same variables."""

OTHERS = {"scan_with_outputs": through(scan_with_outputs), "scan_over_pixels": through(scan_over_pixels)}

WHILE = jax.jit(through(fori(lambda v: v["count"])))
"""The trip count is traced, so this is a `while`, which JAX differentiates forward only."""


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        y = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(FEATURES, (3, 3))(x)))
        return x + nn.Conv(FEATURES, (3, 3))(y), None


class LinenStack(nn.Module):
    """Blocks one after the other, or `nn.scan(nn.remat(...))` over stacked variables."""

    scanned: bool

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(FEATURES, (4, 4), (4, 4), name="stem")(x))
        if self.scanned:
            axes = {"params": 0, "batch_stats": 0}
            Stack = nn.scan(nn.remat(LinenBlock), variable_axes=axes, split_rngs={"params": True}, length=DEPTH)
            x, _ = Stack(name="blocks")(x, None)
        else:
            for i in range(DEPTH):
                x, _ = LinenBlock(name=f"block{i}")(x)
        return nn.Dense(CLASSES, name="head")(x.mean(axis=(1, 2)))

    @staticmethod
    def stack(variables):
        """The variables of the scanned network that computes the same as the unrolled one."""

        def stack(tree):
            blocks = [tree[f"block{i}"] for i in range(DEPTH)]
            rest = {name: tree[name] for name in tree if not name.startswith("block")}
            return rest | {"blocks": jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)}

        return {collection: stack(tree) for collection, tree in variables.items()}
