"""In front of a ReLU the γ rule computes one side only, where no relevance can reach the other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import composites, rules
from jaxplain.propagation._engine import replay
from jaxplain.propagation._lrp import complete_composite
from jaxplain.propagation._rectified import answer_of, rectified
from jaxplain.propagation._units import Unit

draw = np.random.default_rng(0).normal
X, V, W, HEAD = (jnp.asarray(draw(size=shape)) for shape in ((3, 6), (6, 6), (6, 6), (6, 4)))
GAMMA = composites.uniform(rules.gamma())


def through(activation, behind=lambda h: h @ W):
    return lambda x: jax.nn.relu(behind(activation(x @ V))) @ HEAD


def pooled(h):
    return h.reshape(3, 3, 2).max(axis=2).repeat(2, axis=1) @ W


def scanned(h):
    return jax.lax.scan(lambda h, w: (jax.nn.relu(h @ w), None), h, jnp.stack([W, V]))[0]


FOUND = {  # a network, and which of its dense layers are rectified
    "relu": (through(jax.nn.relu), [True, True, False]),
    "relu6": (through(jax.nn.relu6), [True, True, False]),
    "spelled": (through(lambda x: jnp.maximum(0, x)), [True, True, False]),
    "clipped": (through(lambda x: jnp.clip(x, 0, 4)), [False, True, False]),  # whose bounds are computed: not seen
    "clipped above zero": (through(lambda x: jnp.clip(x, 0.1, 4)), [False, True, False]),
    "leaky": (through(jax.nn.leaky_relu), [False, True, False]),
    "silu": (through(jax.nn.silu), [False, True, False]),
    "softplus": (through(jax.nn.softplus), [False, True, False]),
    "pooled": (through(jax.nn.relu, pooled), [True, True, False]),
    "residual": (through(jax.nn.relu, lambda h: h @ W + h), [True, False, False]),
    "exp of zero": (through(jax.nn.relu, lambda h: jnp.exp(h) @ W), [False, True, False]),
    "loop": (through(jax.nn.relu, scanned), [False, False]),  # and what is inside is not asked
    "read twice": (lambda x: (lambda h: h @ HEAD + jnp.exp(h) @ HEAD)(jax.nn.relu(x @ V)), [False, False, False]),
    "returned": (lambda x: jax.nn.relu(x @ V), [False]),
}


def outer_units(f, composite=GAMMA):
    network, rule_of = replay(f, X), complete_composite(composite)
    rules_of = {unit: rule_of(unit) for unit in network.plan.steps if isinstance(unit, Unit)}
    found = rectified(network.plan, rules_of)
    return [unit in found for unit in rules_of if unit.kind == "dense"]


@pytest.mark.parametrize("name", FOUND)
def test_what_is_in_front_of_a_relu(name):
    f, expected = FOUND[name]
    assert outer_units(f) == expected


@pytest.mark.parametrize("name", FOUND)
def test_relevance_is_that_of_both_sides(name):
    f, _ = FOUND[name]
    silent = lambda rule: rule and (lambda *args: rule(*args))  # which does not say what it answers with
    both = lambda unit: silent(complete_composite(GAMMA)(unit))
    assert not any(outer_units(f, both))
    one, other = (jaxplain.lrp(f, composite)(X, target=1) for composite in (GAMMA, both))
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "second", [rules.flat(), rules.w_square(), rules.z_box(-1.0, 1.0), lambda unit, x, y, r: jnp.ones_like(x)]
)
def test_rules_that_give_zeros_a_share_need_both_sides(second):
    middle = lambda unit: unit.layer == 1
    composite = composites.first_match((middle, second), ("dense", rules.gamma()))
    assert not any(outer_units(through(jax.nn.relu), composite))


@pytest.mark.parametrize("bias", [True, False])
def test_biases(bias):
    f = lambda x: jax.nn.relu(jax.nn.relu(x @ V + 2.0) @ W - 1.0) @ HEAD
    rule = rules.gamma(bias=bias)
    one = jaxplain.lrp(f, composites.uniform(rule))(X, target=1)
    other = jaxplain.lrp(f, composites.uniform(lambda *args: rule(*args)))(X, target=1)
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


WRAPPED = {  # user rules around γ in front of a ReLU: it is called with other relevance than what arrives
    "even relevance": lambda rule: lambda unit, x, y, r: rule(unit, x, y, jnp.full_like(r, r.mean())),
    "noise": lambda rule: lambda unit, x, y, r: rule(unit, x + 0.5, unit.forward(x + 0.5), r),
    "negated": lambda rule: lambda unit, x, y, r: rule(unit.negated(), x, -y, r),
    "decorated": lambda rule: functools.wraps(rule)(lambda unit, x, y, r: rule(unit, -x, unit.forward(-x), r)),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_rule_that_calls_another_gets_both_sides(name):
    silent = lambda rule: lambda *args: rule(*args)
    first = lambda rule: composites.first_match((lambda unit: unit.layer == 0, WRAPPED[name](rule)), ("dense", rule))
    f, rule = through(jax.nn.relu), rules.gamma()
    one, other = (jaxplain.lrp(f, first(r))(X, target=1) for r in (rule, silent(rule)))
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_a_negated_last_layer_in_front_of_a_relu():
    f = lambda x: (
        jax.nn.relu(x @ jnp.array([[1.0, 2.0, -1.0, 3.0], [2.0, -1.0, 1.0, 1.0]])).reshape(-1, 2, 2).mean(axis=2)
    )
    explain = lambda rule: jaxplain.contrastive_lrp(f, composites.uniform(rule), dual="weights")
    x, rule = jnp.array([[1.0, 2.0]]), rules.gamma()
    expected = explain(lambda *args: rule(*args))(x, target=0)
    np.testing.assert_allclose(explain(rule)(x, target=0), expected, rtol=1e-12, atol=1e-12)


def test_what_rules_may_say():
    with pytest.raises(ValueError, match="cannot answer with 'multipel': choose multiple, gradient, relevance"):
        rules.answers("multipel")
    soft = rules.pass_through()
    soft.forward = lambda unit, lanes: tuple(map(jax.nn.softplus, lanes))
    assert answer_of(rules.gamma()) == "multiple"
    assert answer_of(soft) is None  # it is another function


def test_one_product_less():
    products = lambda f: str(jax.make_jaxpr(jaxplain.lrp(f, GAMMA))(X)).count("dot_general")
    both, one = products(through(jax.nn.silu)), products(through(jax.nn.relu))
    # behind silu the second layer has inputs of both signs, joined to one product; its own ReLU is the same
    assert both - one == 1
