"""A small network in four frameworks, and what the tests of features share."""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

X = jax.random.normal(jax.random.key(0), (2, 8, 8, 3), jnp.float64)
W1, W2, W3 = (
    0.3 * jax.random.normal(jax.random.key(i), shape, jnp.float64)
    for i, shape in enumerate([(3, 3, 3, 4), (3, 3, 4, 6), (6, 5)])
)


def close(a, b, tolerance=1e-9):
    np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max())


def conv(features, name, **options):
    return nn.Conv(features, (3, 3), name=name, param_dtype=jnp.float64, **options)


def dense(features, name):
    return nn.Dense(features, name=name, param_dtype=jnp.float64)


@functools.cache
def twins():
    """Two convolutions, a global average and a dense layer, in each framework, with the same weights."""

    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(conv(6, "conv2", strides=2, use_bias=False)(nn.relu(conv(4, "conv1", use_bias=False)(x))))
            return nn.Dense(5, name="head", use_bias=False, param_dtype=jnp.float64)(x.mean(axis=(1, 2)))

    variables = {"params": {"conv1": {"kernel": W1}, "conv2": {"kernel": W2}, "head": {"kernel": W3}}}

    class Nnx(nnx.Module):
        def __init__(self, rngs):
            options = {"rngs": rngs, "use_bias": False, "param_dtype": jnp.float64}
            self.conv1, self.conv2 = nnx.Conv(3, 4, (3, 3), **options), nnx.Conv(4, 6, (3, 3), strides=2, **options)
            self.head = nnx.Linear(6, 5, **options)

        def __call__(self, x):
            return self.head(nnx.relu(self.conv2(nnx.relu(self.conv1(x)))).mean(axis=(1, 2)))

    net = Nnx(nnx.Rngs(0))
    net.conv1.kernel[...], net.conv2.kernel[...], net.head.kernel[...] = W1, W2, W3

    key = jax.random.key(0)
    convs = [
        eqx.tree_at(
            lambda c: c.weight,
            eqx.nn.Conv2d(i, o, 3, stride, padding, use_bias=False, key=key),
            w.transpose(3, 2, 0, 1),
        )
        for i, o, stride, padding, w in [(3, 4, 1, 1, W1), (4, 6, 2, ((0, 1), (0, 1)), W2)]
    ]

    def equinox(x):  # one image, channels in front
        x = jax.nn.relu(convs[1](jax.nn.relu(convs[0](x.transpose(2, 0, 1)))))
        return x.mean(axis=(1, 2)) @ W3

    def plain(x):
        same = lambda x, w, stride: jax.lax.conv_general_dilated(
            x, w, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.nn.relu(same(jax.nn.relu(same(x, W1, 1)), W2, 2)).mean(axis=(1, 2)) @ W3

    return {
        "linen": lambda x: Linen().apply(variables, x),
        "nnx": lambda x: net(x),
        "equinox": jax.vmap(equinox),
        "plain": plain,
    }
