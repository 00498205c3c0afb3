"""Masks that outlive a matrix product are kept as bits: the same values, at less memory."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain
from jaxplain._graph.equations import without_dead_equations
from jaxplain.fast._bit_masks import long_lived_masks, packed_roundtrip, packing_axis

X = jax.random.normal(jax.random.key(0), (4, 64, 64, 16), jnp.float32)
W = jax.random.normal(jax.random.key(1), (6, 16, 16), jnp.float32) / 4
RECTIFIERS = {"relu": nn.relu, "relu6": nn.relu6, "leaky": nn.leaky_relu, "where": lambda x: jnp.where(x > 0, x, 0)}


def network(rectifier):
    def apply(x):
        for w in W:
            x = rectifier(x @ w)
        return x.mean(axis=(1, 2))

    return apply


def masks(f, *args):
    return long_lived_masks(without_dead_equations(jax.make_jaxpr(f)(*args).jaxpr))


@pytest.mark.parametrize("shape", [(2, 8, 3), (1, 7, 5), (3, 2, 16), (2, 3, 12, 3), (2, 12, 1, 1), (4, 30)])
def test_the_same_mask(shape):
    mask = jnp.asarray(np.random.default_rng(0).random(shape) > 0.5)
    _, bits = packing_axis(jax.typeof(mask))
    assert bits > 1
    np.testing.assert_array_equal(jax.jit(packed_roundtrip)(mask), mask)


@pytest.mark.parametrize("shape", [(2, 8, 3), (1, 7, 4), (2, 3, 5, 3)])
def test_values_of_several_bits(shape):
    values = jnp.asarray(np.random.default_rng(0).integers(0, 16, shape), jnp.int32)
    kept = jax.jit(lambda values: packed_roundtrip(values, 4))(values)
    assert kept.dtype == values.dtype
    np.testing.assert_array_equal(kept, values)


@pytest.mark.parametrize("name", RECTIFIERS)
def test_gradients_are_the_same_at_less_memory(name):
    apply = network(RECTIFIERS[name])
    plain, fast = (
        jax.jit(jaxplain.gradient(jaxplain.accelerate(apply, enable)), static_argnames="target").lower(X, target=3)
        for enable in (False, True)
    )
    plain, fast = plain.compile(), fast.compile()
    np.testing.assert_array_equal(fast(X), plain(X))
    memory = lambda compiled: compiled.memory_analysis().temp_size_in_bytes
    assert memory(fast) < 0.6 * memory(plain)


def test_which_masks_are_kept():
    apply = network(nn.relu)
    assert not masks(apply, X)
    assert len(masks(jax.grad(lambda x: apply(x).sum()), X)) == len(W) - 1  # not the last one: no product follows
    assert not masks(jax.grad(lambda x: apply(x).sum()), X[:1, :4, :4])  # small
    guided = jaxplain.guided_backprop(jaxplain.accelerate(apply, False))
    assert len(masks(guided, X)) == len(W) - 1  # whose rule compares later
    both = lambda x: jnp.where((h := x @ W[0]) > 0, h @ W[1], 0) + h
    assert not masks(both, X)  # what is compared is needed as well
    causal = lambda x: jnp.where(lax.broadcasted_iota(jnp.int32, x.shape, 1) > 3, x @ W[0], 0) @ W[1]
    assert not masks(causal, X)  # a constant


def test_inside_loops_and_calls_under_vmap_and_twice_differentiated():
    apply = network(jax.jit(nn.relu))
    gradient = jaxplain.gradient(apply)
    plain = jaxplain.gradient(jaxplain.accelerate(apply, False))
    same = lambda f: np.testing.assert_allclose(jax.jit(f(gradient))(X), jax.jit(f(plain))(X), rtol=1e-5, atol=1e-7)
    same(lambda explain: lambda x: lax.map(lambda t: explain(t * x, target=1), jnp.arange(1.0, 3.0)))
    same(lambda explain: jax.vmap(lambda x: explain(x[None], target=1)[0]))
    same(lambda explain: jax.grad(lambda x: (explain(x**2, target=1) ** 2).sum()))


def test_a_sharded_batch_stays_where_it_is():
    for kind in (jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit):
        mesh = jax.make_mesh((1,), ("batch",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            x = jax.device_put(X, jax.NamedSharding(mesh, jax.P("batch")))
            explain = jax.jit(jaxplain.accelerate(jax.grad(lambda x: network(nn.relu)(x).sum())))
            text = explain.lower(x).compile().as_text()
            assert not any(word in text for word in ("all-reduce", "all-gather", "all-to-all"))
            np.testing.assert_array_equal(explain(x), jax.jit(jax.grad(lambda x: network(nn.relu)(x).sum()))(x))


def test_what_is_sharded_by_its_type_is_never_split():
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Explicit,))
    laid_out = lambda a, *spec: jax.device_put(a, jax.NamedSharding(mesh, jax.P(*spec)))
    ways = [functools.partial(jaxplain.integrated_gradients, steps=16, chunk=16), jaxplain.gradient]
    with jax.set_mesh(mesh):
        for make, spec in itertools.product(ways, [("batch",), (None, "batch")]):  # the steps come in front
            x = laid_out(jnp.concatenate([X, X]), *spec)
            fast, plain = (make(jaxplain.accelerate(network(nn.relu), enable)) for enable in (True, False))
            explain = lambda f, x: jax.jit(functools.partial(f, target=1))(x)
            np.testing.assert_allclose(explain(fast, x), explain(plain, x), rtol=1e-5, atol=1e-8)
    mask = np.ones((16, 128, 64), bool)
    assert packing_axis(jax.typeof(laid_out(mask, "batch"))) == (1, 8)
    assert packing_axis(jax.typeof(laid_out(mask, None, "batch"))) == (2, 8)
