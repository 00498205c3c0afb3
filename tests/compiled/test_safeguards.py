"""What XLA misreads in plain JAX, and that an explanation, or `accelerate`, does not meet it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain
from jaxplain import composites
from tests.convolution import conv


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def off(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.abs(a - b).max() / np.abs(b).max()


ROWS, NHWC, NCHW = draw(0, 4096, 64), draw(1, 2, 32, 32, 64), draw(2, 2, 64, 32, 32)
NEGATIVE = -jnp.abs(draw(3, 64, 5))
channels_first = lambda x, w: lax.conv(x, w, (1, 1), "SAME")
PRODUCTS = {  # by a smaller array, repeated, in some way that XLA sees
    "ones": (lambda x: x @ jnp.ones((64, 5)), ROWS),
    "one number": (lambda x: x @ jnp.full((64, 5), x.mean()), ROWS),
    "a choice of two": (lambda x: x @ jnp.where(x.mean() > 0, jnp.ones((64, 5)), 0.5), ROWS),
    "an einsum": (lambda x: jnp.einsum("ij,kj->ik", x, jnp.ones((5, 64))), ROWS),
    "of a function": (lambda x: x @ jax.jit(jnp.ones_like)(x[:64, :5]), ROWS),
    "evaluated by the compiler": (lambda x: x @ jnp.sign(NEGATIVE), ROWS),
    "in a branch": (lambda x: lax.cond(x.mean() > 0, lambda w: x @ w, lambda w: -x @ w, jnp.ones((64, 5))), ROWS),
    "recomputed": (jax.checkpoint(lambda x: x @ jnp.ones((64, 5))), ROWS),
    "a convolution": (lambda x: conv(x, jnp.ones((3, 3, 64, 3))), NHWC),
    "NumPy's": (lambda x: conv(x, np.ones((3, 3, 64, 3), np.float32)), NHWC),
    "the same in every channel": (lambda x: conv(x, jnp.broadcast_to(draw(4, 3)[:, None, None], (3, 3, 64, 3))), NHWC),
    "a view of a smaller one": (lambda x: conv(x, np.broadcast_to(np.float32(0.5), (1, 3, 64, 3))), NHWC),
    "channels first": (lambda x: channels_first(x, jnp.ones((3, 64, 3, 3))).transpose(0, 2, 3, 1), NCHW),
    "channels first, of one position": (
        lambda x: channels_first(x, jnp.ones((3, 64, 1, 1))).transpose(0, 2, 3, 1),
        NCHW,
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_by_repeated_arrays_with_a_reduction_behind_them(name):
    f, x = PRODUCTS[name]
    for g in (jaxplain.accelerate(f), lambda x: as_it_is(f)(x)):
        wanted = jax.jit(g)(x).sum(axis=-1)
        assert off(jax.jit(lambda x: g(x).sum(axis=-1))(x), wanted) < 1e-5  # noqa: B023


def as_it_is(f):
    """``f`` as explainers call it that are made from ``accelerate(f, False)``."""
    from jaxplain._graph.rewrite import with_rewritten_equations
    from jaxplain.fast._safeguards import safeguards

    return with_rewritten_equations(f, safeguards)


@pytest.mark.skipif(jax.__version_info__ < (0, 10, 2), reason="the XLA of JAX 0.10.0 does not")
def test_xla_still_misreads_them_in_plain_jax():
    """When this fails, XLA has mended it; once no JAX that is supported has it, `safeguards.spread_operands` may go."""
    f = lambda x: x @ jnp.ones((64, 5))
    assert not off(jax.jit(lambda x: f(x).sum(axis=-1))(ROWS), jax.jit(f)(ROWS).sum(axis=-1)) < 1e-5


def test_the_heat_map_of_the_flat_rule_in_one_program():
    w, v = draw(5, 3, 3, 3, 64), draw(6, 3, 3, 64, 8) * 0.05
    f = lambda x: jax.nn.relu(conv(jax.nn.relu(conv(x, w)), v)).mean(axis=(1, 2))
    x = draw(7, 2, 64, 64, 3)
    for network in (f, jaxplain.accelerate(f, False)):
        explain = jaxplain.lrp(network, composites.epsilon_plus_flat())
        wanted = jax.jit(explain)(x, target=3).sum(axis=-1)
        assert off(jax.jit(jaxplain.heatmap(explain))(x, target=3), wanted) < 1e-5
    table = jaxplain.summary(f, composites.epsilon_plus_flat())(x, target=3)
    assert abs(table.gap) < 1e-4 * abs(table.start)


# ----------------------------------------------------------------------------- maxima of values that are computed twice

KERNEL, HEAD, IMAGES = draw(8, 5, 5, 1, 6), draw(9, 6, 3), draw(10, 2, 8, 8, 3)
MAXIMA = {
    "a maximum": lambda h: h.max(axis=(1, 2)),
    "a minimum": lambda h: h.min(axis=(1, 2)),
    "of rows": lambda h: h.max(axis=1).mean(axis=1),
    "kept": lambda h: h.max(axis=(1, 2), keepdims=True)[:, 0, 0],
    "of absolute values": lambda h: jnp.abs(h).max(axis=(1, 2)),
    "so far": lambda h: lax.cummax(h, axis=1)[:, -1, 2],
    "of two": lambda h: jnp.maximum(h, h[:, ::-1]).mean(axis=(1, 2)),
    "of a number": lambda h: jnp.maximum(h, 0.1).mean(axis=(1, 2)),
    "a norm": lambda h: jnp.linalg.norm(h.reshape(len(h), -1, 6), ord=jnp.inf, axis=1),
    "sorted": lambda h: jnp.sort(h, axis=1)[:, -1].max(axis=1),
}


@pytest.mark.parametrize("name", MAXIMA)
def test_the_winner_is_found_behind_a_depthwise_convolution(name):
    f = lambda x: MAXIMA[name](conv(x, KERNEL)) @ HEAD
    maps = lambda f: lambda x: jaxplain.input_x_gradient(f)(x, target=0)
    wanted = maps(jaxplain.accelerate(f, False))(IMAGES)
    for explain in (maps(f), maps(jaxplain.accelerate(f, False)), jax.vmap(lambda x: maps(f)(x[None])[0])):
        assert off(jax.jit(explain)(IMAGES), wanted) < 1e-5
    lrp = lambda f: lambda x: jaxplain.lrp(f, jaxplain.composites.uniform(jaxplain.rules.zero()))(x, target=0)
    assert off(jax.jit(lrp(f))(IMAGES), lrp(jaxplain.accelerate(f, False))(IMAGES)) < 1e-4


def test_behind_a_normalisation():
    scale, x = draw(11, 64), draw(12, 4, 200, 64)
    f = lambda x: (jax.nn.standardize(x) * scale).max(axis=1)
    wanted = jaxplain.gradient(f)(x, target=2)
    for network in (f, jaxplain.accelerate(f, False)):
        assert off(jax.jit(lambda x: jaxplain.gradient(network)(x, target=2))(x), wanted) < 1e-5  # noqa: B023


def test_equal_values_share_as_in_jax_itself():
    x = jnp.ones((2, 3, 4, 5))
    for f in (
        lambda x: x.max(axis=(1, 2)),
        lambda x: jnp.maximum(x, 1.0).sum(axis=(1, 2)),
        lambda x: x.min(axis=2)[:, 0],
    ):
        wanted = jax.grad(lambda x: f(x).sum())(x)  # noqa: B023
        np.testing.assert_allclose(jax.jit(jaxplain.accelerate(jax.grad(lambda x: f(x).sum())))(x), wanted)  # noqa: B023


def test_other_comparisons_stay_as_they_are():
    x = jnp.arange(9.0).reshape(3, 3) % 4
    for f in (
        lambda x: x == x.max(axis=1),  # without keepdims: another axis than that of the maximum
        lambda x: x == x.max(axis=1, keepdims=True),
        lambda x: x == jnp.maximum(x, x.T),
        lambda x: x.max(axis=0)[:, None] == x.T,
        lambda x: jnp.where(x > 5, jnp.nan, x) == jnp.where(x > 5, jnp.nan, x).max(),
    ):
        np.testing.assert_array_equal(jax.jit(jaxplain.accelerate(f))(x), f(x))
