"""Random numbers that the outputs depend on are dropout; those that nothing uses are not."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain

W = jnp.linspace(-1, 1, 12).reshape(4, 3)
X = jnp.array([[1.0, -2.0, 3.0, 0.5], [0.3, 0.2, -0.1, 1.0]])
KEY = jax.random.key(7)
net = lambda x: jax.nn.relu(x @ W)


def unused_split(x):
    jax.random.split(KEY, 2)
    return net(x)


def zeros_of_the_shape_of_noise(x):
    return net(x + jnp.zeros_like(jax.random.normal(KEY, x.shape)))


def loop_over_keys(x):
    return net(jax.lax.scan(lambda c, key: (c * 0.5, jax.random.normal(key)), x, jax.random.split(KEY, 2))[0]) * 4


def branch_with_an_unused_key(x):
    return jax.lax.cond(jnp.array(True), lambda x, key: net(x), lambda x, key: x @ W, x, jax.random.split(KEY)[0])


def carried_noise(x):
    return net(jax.lax.fori_loop(0, 2, lambda i, c: (c[0], c[1] + jax.random.normal(KEY)), (x, 0.0))[0])


@pytest.mark.parametrize(
    "f",
    [unused_split, zeros_of_the_shape_of_noise, loop_over_keys, branch_with_an_unused_key, carried_noise],
    ids=lambda f: f.__name__,
)
def test_random_numbers_that_nothing_uses_are_no_dropout(f):
    for method in (jaxplain.lrp, jaxplain.deeplift):
        np.testing.assert_allclose(method(f)(X, target=1), method(net)(X, target=1), rtol=1e-4)


def dropout(x):
    return net(jnp.where(jax.random.bernoulli(KEY, 0.5, x.shape), x, 0))


def noise_in_a_loop(x):
    return net(jax.lax.scan(lambda c, key: (c + jax.random.normal(key), None), x, jax.random.split(KEY, 2))[0])


def noise_by_rejection(x):  # drawn in a `while` loop
    return net(x + jax.random.gamma(KEY, 2.0, x.shape))


@pytest.mark.parametrize("f", [dropout, noise_in_a_loop, noise_by_rejection], ids=lambda f: f.__name__)
def test_random_numbers_that_reach_the_outputs_are_refused_with_the_remedy_of_every_framework(f):
    with pytest.raises(
        ValueError, match=r"draws random numbers at .*train=False.*\.eval\(\).*inference_mode.*key=None"
    ):
        jaxplain.lrp(f)(X, target=1)


def test_a_recurrent_network_starts_from_zeros_that_a_split_key_does_not_change():
    module, s = nn.RNN(nn.LSTMCell(5)), jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3)), jnp.float32)
    variables = module.init(KEY, s)
    f = lambda s: module.apply(variables, s)[:, -1]
    a = jaxplain.deeplift(f)(s, target=1)
    np.testing.assert_allclose(a.sum(axis=(1, 2)), (f(s) - f(0 * s))[:, 1], rtol=1e-5, atol=1e-6)


def test_layers_of_equinox_in_inference_split_a_key_for_nothing():
    k1, k2 = jax.random.split(KEY)
    layers = [eqx.nn.Linear(4, 5, key=k1), eqx.nn.Lambda(jax.nn.relu), eqx.nn.Dropout(0.5), eqx.nn.Linear(5, 3, key=k2)]
    training = eqx.nn.Sequential(layers)
    calm = eqx.nn.inference_mode(training)
    keyed = jax.vmap(lambda x: calm(x, key=KEY))
    np.testing.assert_allclose(
        jaxplain.lrp(keyed)(X, target=1), jaxplain.lrp(jax.vmap(calm))(X, target=1), rtol=1e-5, atol=1e-7
    )
    with pytest.raises(ValueError, match="draws random numbers"):
        jaxplain.lrp(jax.vmap(lambda x: training(x, key=KEY)))(X, target=1)
