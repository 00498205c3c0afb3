"""Products of zeros are not computed: in front of a ReLU no relevance reaches the second side of the γ rule."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import composites, rules
from jaxplain.fast import _accelerate
from jaxplain.fast._known_zeros import known_zeros

draw = np.random.default_rng(0).normal
X, V, W, HEAD = (jnp.asarray(draw(size=shape)) for shape in ((3, 6), (6, 6), (6, 6), (6, 4)))
GAMMA = composites.uniform(rules.gamma())


def through(activation, behind=lambda h: h @ W):
    return lambda x: jax.nn.relu(behind(activation(x @ V))) @ HEAD


def pooled(h):
    return h.reshape(3, 3, 2).max(axis=2).repeat(2, axis=1) @ W


def scanned(h):
    return jax.lax.scan(lambda h, w: (jax.nn.relu(h @ w), None), h, jnp.stack([W, V]))[0]


FOUND = {  # a network, and how many products are left out: two of a layer whose input has both signs, one of others
    "relu": (through(jax.nn.relu), 3),
    "relu6": (through(jax.nn.relu6), 3),
    "spelled": (through(lambda x: jnp.maximum(0, x)), 3),
    "clipped": (through(lambda x: jnp.clip(x, 0, 4)), 1),
    "clipped above zero": (through(lambda x: jnp.clip(x, 0.1, 4)), 1),
    "leaky": (through(jax.nn.leaky_relu), 2),
    "silu": (through(jax.nn.silu), 2),
    "softplus": (through(jax.nn.softplus), 2),
    "pooled": (through(jax.nn.relu, pooled), 1),
    "residual": (through(jax.nn.relu, lambda h: h @ W + h), 2),
    "exp of zero": (through(jax.nn.relu, lambda h: jnp.exp(h) @ W), 1),
    "loop": (through(jax.nn.relu, scanned), 0),  # inside of it nothing is known of what comes from outside
    "read twice": (lambda x: (lambda h: h @ HEAD + jnp.exp(h) @ HEAD)(jax.nn.relu(x @ V)), 0),
    "returned": (lambda x: jax.nn.relu(x @ V), 2),
}


def products(f, composite=GAMMA):
    return str(jax.make_jaxpr(jaxplain.lrp(f, composite))(X)).count("dot_general")


def saved(monkeypatch, f, composite=GAMMA):
    """How many products are left out."""
    count = products(f, composite)
    monkeypatch.setattr(_accelerate, "known_zeros", lambda jaxpr: set())
    return products(f, composite) - count


def plain(f):
    return jaxplain.accelerate(f, False)


@pytest.mark.parametrize("name", FOUND)
def test_what_is_in_front_of_a_relu(name, monkeypatch):
    f, expected = FOUND[name]
    assert saved(monkeypatch, f) == expected


@pytest.mark.parametrize("name", FOUND)
def test_relevance_is_that_of_both_sides(name):
    f, _ = FOUND[name]
    one, other = (jaxplain.lrp(g, GAMMA)(X, target=1) for g in (f, plain(f)))
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "second", [rules.flat(), rules.w_square(), rules.z_box(-1.0, 1.0), lambda call, x, y, r: jnp.ones_like(x)]
)
def test_rules_that_give_zeros_a_share_need_both_sides(second, monkeypatch):
    f, middle = through(jax.nn.relu), lambda unit: unit.layer == 1
    composite = composites.first_match((middle, second), ("dense", rules.gamma()))
    assert saved(monkeypatch, f, composite) == 0


@pytest.mark.parametrize("bias", [True, False])
def test_biases(bias, monkeypatch):
    f = lambda x: jax.nn.relu(jax.nn.relu(x @ V + 2.0) @ W - 1.0) @ HEAD
    composite = composites.uniform(rules.gamma(bias=bias))
    one, other = (jaxplain.lrp(g, composite)(X, target=1) for g in (f, plain(f)))
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    assert saved(monkeypatch, f, composite) == (3 if bias else 0)


WRAPPED = {  # user rules around γ in front of a ReLU: it is called with other relevance than what arrives
    "even relevance": lambda rule: lambda call, x, y, r: rule(call, x, y, jnp.full_like(r, r.mean())),
    "noise": lambda rule: lambda call, x, y, r: rule(call, x + 0.5, call.forward(x + 0.5), r),
    "negated": lambda rule: lambda call, x, y, r: rule(call.negated(), x, -y, r),
    "decorated": lambda rule: functools.wraps(rule)(lambda call, x, y, r: rule(call, -x, call.forward(-x), r)),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_rules_of_users_around_it(name):
    first, f = (lambda unit: unit.layer == 0, WRAPPED[name](rules.gamma())), through(jax.nn.relu)
    composite = composites.first_match(first, ("dense", rules.gamma()))
    one, other = (jaxplain.lrp(g, composite)(X, target=1) for g in (f, plain(f)))
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_a_negated_last_layer_in_front_of_a_relu():
    f = lambda x: (
        jax.nn.relu(x @ jnp.array([[1.0, 2.0, -1.0, 3.0], [2.0, -1.0, 1.0, 1.0]])).reshape(-1, 2, 2).mean(axis=2)
    )
    explain = lambda f: jaxplain.contrastive_lrp(f, GAMMA, dual="weights")(jnp.array([[1.0, 2.0]]), target=0)
    np.testing.assert_allclose(explain(f), explain(plain(f)), rtol=1e-12, atol=1e-12)


def test_a_function_that_is_called_twice_is_told_apart():
    clear = jax.jit(lambda z, r: jnp.where(z < 0, r, 0.0))
    f = lambda x: clear(x, jax.nn.relu(x)) @ V + clear(-x, jax.nn.relu(x)) @ W
    jaxpr = jax.make_jaxpr(f)(X).jaxpr
    zeros = known_zeros(jaxpr)
    assert [eqn.outvars[0] in zeros for eqn in jaxpr.eqns if eqn.primitive.name == "dot_general"] == [True, False]
    np.testing.assert_allclose(jax.jit(jaxplain.accelerate(f))(X), f(X), rtol=1e-12)


@pytest.mark.parametrize("size", [1, 3])
def test_another_pooling_of_the_same_shape_tells_nothing(size):
    pool = lambda x, n: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, n), (1, 1), "SAME")

    def f(z):  # what a pooling by 1 or 3 answers with, led back through another one, by 1
        x = jax.nn.relu(z)
        (r,) = jax.vjp(lambda x: pool(x, 1), x)[1](pool(x, size) * 2.0)
        return jnp.where(z < 0, r, 0.0) @ V

    z = jnp.asarray(draw(size=(3, 6)))
    jaxpr = jax.make_jaxpr(f)(z).jaxpr
    assert (jaxpr.outvars[0] in known_zeros(jaxpr)) == (size == 1)
    np.testing.assert_allclose(jax.jit(jaxplain.accelerate(f))(z), f(z), rtol=1e-12)
