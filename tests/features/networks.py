"""A small network in four frameworks, and what the tests of features share."""

import jax
import jax.numpy as jnp

from tests.frameworks import TWINS

X = jax.random.normal(jax.random.key(0), (2, 8, 8, 3), jnp.float64)
W1, W2, W3 = (
    0.3 * jax.random.normal(jax.random.key(i), shape, jnp.float64)
    for i, shape in enumerate([(3, 3, 3, 4), (3, 3, 4, 6), (6, 5)])
)
VARIABLES = {"params": {"conv1": {"kernel": W1}, "conv2": {"kernel": W2}, "head": {"kernel": W3}}}
NET_IN = {name: TWINS[name]("averaged", VARIABLES) for name in ("linen", "nnx", "equinox", "plain")}
