"""A network of realistic shapes: a stem of stride 1 from 3 to 64 channels, depthwise, residual, pooled by a maximum."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.convolution import conv

SHAPE, CLASSES = (2, 32, 32, 3), 10


def parameters(dtype, seed=0):
    random = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(random.normal(size=shape) * np.prod(shape[:-1]) ** -0.5, dtype)
    near_one = lambda n: jnp.asarray(random.uniform(0.5, 1.5, n), dtype)
    return {
        "stem": draw(3, 3, 3, 64),
        "bias": draw(64) * 0.1,
        "depthwise": draw(3, 3, 1, 64) * 2,
        "scale": near_one(64),
        "shift": draw(64),
        "narrow": draw(3, 3, 64, 24),
        "branch": draw(1, 1, 24, 24),
        "head": draw(48, CLASSES),
    }


def apply(p, x):
    x = jax.nn.relu(conv(x, p["stem"]) + p["bias"])
    x = jax.nn.relu6(conv(x, p["depthwise"]) * p["scale"] + p["shift"])
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = conv(x, p["narrow"], stride=2)
    x = jax.nn.relu(x + jax.nn.gelu(conv(x, p["branch"])))
    return jnp.concatenate([x.mean(axis=(1, 2)), x.max(axis=(1, 2))], axis=-1) @ p["head"]


def images(dtype, seed=1, shape=SHAPE):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)
