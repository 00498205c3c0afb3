"""One network, many non-linearities, each written the way that users write it."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tests.zoo.layers import norm

CLASSES = 5


@jax.custom_jvp
def bent_identity(x):
    return (jnp.sqrt(x * x + 1) - 1) / 2 + x


@bent_identity.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    return bent_identity(x), t * (x / (2 * jnp.sqrt(x * x + 1)) + 1)


@jax.custom_vjp
def memory_saving_swish(x):
    return x * jax.nn.sigmoid(x)


def _swish_backward(x, g):
    s = jax.nn.sigmoid(x)
    return (g * s * (1 + x * (1 - s)),)


memory_saving_swish.defvjp(lambda x: (memory_saving_swish(x), x), _swish_backward)

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "relu_by_maximum": lambda x: jnp.maximum(x, 0),
    "relu_by_maximum_swapped": lambda x: jnp.maximum(0, x),
    "relu_by_where": lambda x: jnp.where(x > 0, x, 0),
    "relu_by_mask": lambda x: x * (x > 0),
    "relu_by_abs": lambda x: (x + jnp.abs(x)) / 2,
    "relu6_by_clip": lambda x: jnp.clip(x, 0, 6),
    "relu6_by_minimum": lambda x: jnp.minimum(jnp.maximum(x, 0), 6),
    "squared_relu": lambda x: jax.nn.relu(x) ** 2,
    "leaky_relu": lambda x: jax.nn.leaky_relu(x, 0.2),
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "hard_swish": jax.nn.hard_swish,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "gelu_exact": lambda x: jax.nn.gelu(x, approximate=False),
    "softplus": jax.nn.softplus,
    "mish": jax.nn.mish,
    "tanh": jnp.tanh,
    "absolute": jnp.abs,
    "custom_jvp": bent_identity,
    "custom_vjp": memory_saving_swish,
}


class Activated(nn.Module):
    act: object

    @nn.compact
    def __call__(self, x):
        x = self.act(norm()(nn.Conv(4, (3, 3), (2, 2))(x)))
        return nn.Dense(CLASSES)(self.act(nn.Conv(4, (3, 3), (2, 2))(x)).mean(axis=(1, 2)))


class Gated(nn.Module):
    """Gated linear unit: the product of two values that both depend on the input."""

    @nn.compact
    def __call__(self, x):
        x = nn.glu(nn.Conv(8, (3, 3), (2, 2))(x))
        return nn.Dense(CLASSES)(nn.relu(nn.Conv(4, (3, 3), (2, 2))(x)).mean(axis=(1, 2)))


class Maxout(nn.Module):
    """The larger of two values that both depend on the input."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), (2, 2))(x)
        x = jnp.maximum(x[..., :4], x[..., 4:])
        return nn.Dense(CLASSES)(x.reshape(*x.shape[:3], 2, 2).max(axis=-1).mean(axis=(1, 2)))


class Normalised(nn.Module):
    """Normalisations whose statistics depend on the input."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.GroupNorm(2)(nn.Conv(4, (3, 3), (2, 2))(x)))
        x = nn.relu(nn.InstanceNorm()(nn.Conv(4, (3, 3), (2, 2))(x)))
        return nn.Dense(CLASSES)(nn.RMSNorm()(x.mean(axis=(1, 2))))


class LearnedSlope(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.PReLU()(norm()(nn.Conv(4, (3, 3), (2, 2))(x)))
        return nn.Dense(CLASSES)(x.mean(axis=(1, 2)))


NETWORKS = {f"act_{name}": Activated(act) for name, act in ACTIVATIONS.items()} | {
    "gated": Gated(),
    "maxout": Maxout(),
    "normalised": Normalised(),
    "learned_slope": LearnedSlope(),
}
