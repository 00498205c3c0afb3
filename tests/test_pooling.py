"""`accelerate` changes the form of max-pooling and of its derivative, not their values."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain
from jaxplain.fast._accelerate import form_of
from jaxplain.fast._convolution import MANY_CHANNELS
from tests.convolution import conv

POOLS = {
    "windows side by side": ((1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
    "overlapping": ((1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0))),
    "gaps and an uneven padding": ((1, 2, 1, 1), (1, 3, 2, 1), ((0, 0), (0, 2), (1, 0), (0, 0))),
    "over channels": ((1, 1, 1, 2), (1, 1, 1, 1), "SAME"),
}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", POOLS)
def test_values_and_derivatives(name, ties):
    window, strides, padding = POOLS[name]
    f = lambda x: lax.reduce_window(x, -jnp.inf, lax.max, window, strides, padding)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (2, 7, 6, 4)) * 1.0 if ties else rng.normal(size=(2, 7, 6, 4))
    weights = rng.normal(size=f(x).shape)
    loss = lambda f: lambda x: (f(x) * weights).sum()
    fast = jaxplain.accelerate(f)
    np.testing.assert_array_equal(jax.jit(fast)(x), f(x))
    wanted = jax.grad(loss(f))(x)
    np.testing.assert_allclose(jax.jit(jaxplain.accelerate(jax.grad(loss(f))))(x), wanted, atol=1e-12)
    np.testing.assert_allclose(jax.jit(jax.grad(loss(fast)))(x), wanted, atol=1e-12)


def test_in_half_precision_under_vmap_and_twice_differentiated():
    f = lambda x: nn.max_pool(x**2, (2, 2), (2, 2))
    x = jax.random.normal(jax.random.key(0), (3, 2, 4, 4, 5), jnp.float32)
    grad = lambda x: jax.grad(lambda x: (f(x) ** 2).sum())(x)
    fast = jaxplain.accelerate(grad)
    np.testing.assert_allclose(jax.jit(jax.vmap(fast))(x), jax.vmap(grad)(x), rtol=1e-6)
    twice = lambda g: jax.grad(lambda x: (g(x) ** 2).sum())
    np.testing.assert_allclose(jax.jit(twice(fast))(x[0]), twice(grad)(x[0]), rtol=1e-5)
    assert fast(x[0].astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_relevance_of_an_accelerated_network_is_that_of_the_network():
    def apply(w, x):
        x = nn.relu(conv(x, w))
        return nn.max_pool(x, (2, 2), (2, 2)).sum(axis=(1, 2))

    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(3, 3, 1, 4)), rng.normal(size=(2, 4, 4, 4))
    for composite in (
        jaxplain.composites.epsilon_plus(),
        lambda unit: jaxplain.rules.gamma(0.5) if unit.kind == "conv" else None,
    ):
        explain = lambda apply, composite=composite: jax.jit(jaxplain.lrp(apply, composite))(w, x, target=1)
        np.testing.assert_allclose(explain(lambda *args: jaxplain.accelerate(apply)(*args)), explain(apply), atol=1e-12)


LAYOUT = ("NHWC", "HWIO", "NHWC")


def test_which_have_another_form():
    pool = lambda **options: lambda x: lax.reduce_window_max_p.bind(x, **OPTIONS | options)
    has_form = lambda f, x: form_of(jax.make_jaxpr(f)(x).eqns[-1]) is not None
    x = jnp.ones((1, 12, 12, 3))
    assert has_form(pool(), x)
    assert not has_form(pool(window_dimensions=(1, 5, 5, 1)), x)
    assert not has_form(pool(window_dilation=(1, 2, 2, 1)), x)
    assert not has_form(pool(), jnp.ones((1, 12, 12, 3), int))


OPTIONS = {
    "window_dimensions": (1, 2, 2, 1),
    "window_strides": (1, 1, 1, 1),
    "padding": ((0, 0),) * 4,
    "base_dilation": (1, 1, 1, 1),
    "window_dilation": (1, 1, 1, 1),
}


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_derivatives_of_large_kernels_over_small_features(stride, dilation):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1, 5, 6, 8)), rng.normal(size=(3, 3, 8, MANY_CHANNELS))
    f = lambda x: conv(x, w, stride, rhs_dilation=(dilation, dilation))
    gradient = jax.grad(lambda x: (f(x) ** 2).sum())
    fast = jax.jit(jaxplain.accelerate(gradient))
    assert fast.lower(x).as_text().count("dot_general") == 1
    np.testing.assert_allclose(fast(x), gradient(x), atol=1e-9)


def test_the_derivative_of_nan_is_not_lost():
    f = lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = jnp.full((1, 2, 4, 1), jnp.nan).at[0, 0, 0, 0].set(1.0)
    gradient = jax.jit(jaxplain.accelerate(lambda x: jax.vjp(f, x)[1](jnp.ones((1, 1, 2, 1)))[0]))(x)
    assert float(gradient.sum()) == 2


def test_the_derivative_of_patches_is_not_written_out():
    x, w = jnp.ones((1, 32, 32, 3)), jnp.ones((8, 8, 3, 4))
    f = lambda x: conv(x, w, 8, padding="VALID")
    gradient = lambda x: jax.grad(lambda x: (f(x) ** 2).sum())(x)
    fast = jax.jit(jaxplain.accelerate(gradient))
    assert fast.lower(x).as_text().count("stablehlo.pad") < 8
    np.testing.assert_allclose(fast(x), gradient(x), rtol=1e-6)
