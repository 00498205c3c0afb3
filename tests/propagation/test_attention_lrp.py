"""LRP of transformers: its rules, against the gradient of a network that has them built in.

Where every rule is LRP-0, the relevance of the input is the input times a gradient: that of a network whose derivative
is held fixed where a rule says so.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax.lax import stop_gradient as fixed

import jaxplain
from jaxplain import composites, rules
from tests import vit
from tests.close import within
from tests.vit import BLOCKS, WEIGHTS, X

close = within(1e-4)  # each stabiliser is 1e-6, and sums of products come near zero
TARGET = jnp.array([0, 3, 1])


def norm(x, w, fix):
    """LayerNorm by a rule: the identity, or the standard deviation held fixed."""
    scale, shift = w.reshape(2, 1, 1, -1)
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = jnp.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
    normal = x * fixed(centred / deviation / x) if fix == "all" else centred / fixed(deviation)
    return normal * (1 + scale) + shift


def halves(f, a, b):
    """A product of which each factor gets half."""
    return (f(a, fixed(b)) + f(fixed(a), b)) / 2


def surrogate(x, is_cp):
    norm_by_rule = functools.partial(norm, fix="deviation" if is_cp else "all")
    x = vit.embed(WEIGHTS, x)
    split = lambda a: a.reshape(*a.shape[:-1], vit.HEADS, -1).swapaxes(1, 2)
    for i in range(BLOCKS):
        w = vit.nth(WEIGHTS, i)
        y = norm_by_rule(x, w["norm1"])
        q, k, v = (split(y @ w[name]) for name in "qkv")
        logits = halves(lambda q, k: q @ k.swapaxes(2, 3), q, k) / (vit.WIDTH // vit.HEADS) ** 0.5
        weights = jax.nn.softmax(logits)
        mixed = fixed(weights) @ v if is_cp else halves(jnp.matmul, weights, v)
        x = x + mixed.swapaxes(1, 2).reshape(x.shape) @ w["out"]
        z = norm_by_rule(x, w["norm2"]) @ w["up"]
        x = x + (z * fixed(jax.nn.gelu(z, approximate=False) / z)) @ w["down"]
    return norm_by_rule(x, WEIGHTS["norm"])[:, 0] @ WEIGHTS["head"]


def score(x, is_cp):
    return surrogate(x, is_cp)[jnp.arange(3), TARGET].sum()


@pytest.mark.parametrize("name", ["attn_lrp", "cp_lrp"])
def test_without_gamma_it_is_input_times_the_gradient_of_the_surrogate(name):
    close(surrogate(X, name == "cp_lrp"), vit.unrolled(WEIGHTS, X), 1e-9)
    composite = getattr(composites, name)(0.0, conv_gamma=0.0)
    relevance = jax.jit(jaxplain.lrp(vit.unrolled, composite))(WEIGHTS, X, target=TARGET)
    close(relevance, X * jax.grad(score)(X, name == "cp_lrp"))


@pytest.mark.parametrize("framework", vit.IN_FRAMEWORKS)
@pytest.mark.parametrize("name", ["attn_lrp", "cp_lrp"])
def test_the_same_in_every_framework(name, framework):
    explain = lambda f: jaxplain.lrp(f, getattr(composites, name)(0.0, conv_gamma=0.0))
    ours = explain(vit.IN_FRAMEWORKS[framework])(X, target=TARGET)
    close(ours, explain(vit.unrolled)(WEIGHTS, X, target=TARGET))


NORMS = {  # the module, its groups of features, whether it subtracts their mean
    "LayerNorm": (nn.LayerNorm(param_dtype=jnp.float64), 1, True),
    "RMSNorm": (nn.RMSNorm(param_dtype=jnp.float64), 1, False),
    "GroupNorm": (nn.GroupNorm(2, param_dtype=jnp.float64), 2, True),
}


@pytest.mark.parametrize("name", NORMS)
def test_normalisations_with_a_fixed_deviation(name):
    module, groups, subtracts = NORMS[name]
    x = jax.random.normal(jax.random.key(3), (3, 8), jnp.float64) + 0.3
    head = jax.random.normal(jax.random.key(4), (8, 4), jnp.float64)
    variables = module.init(jax.random.key(0), x)
    by_rules = composites.first_match(("norm", rules.layer_norm()), ("dense", rules.zero()))
    relevance = jaxplain.lrp(lambda x: module.apply(variables, x) @ head, by_rules)(x, target=1)

    def with_fixed_deviation(x):
        parts = x.reshape(3, groups, -1)
        centred = parts - parts.mean(axis=-1, keepdims=True) if subtracts else parts
        deviation = jnp.sqrt((centred**2).mean(axis=-1, keepdims=True) + module.epsilon)
        return ((centred / fixed(deviation)).reshape(3, 8) @ head)[:, 1]

    close(relevance, x * jax.grad(lambda x: with_fixed_deviation(x).sum())(x))
    close(relevance.sum(axis=1), with_fixed_deviation(x))


SCALED = {  # a vector by a function of its statistics, which ``hold`` holds: not by an inverse root alone
    "squash of a capsule": lambda x, hold: x * hold(squares(x) / (1 + squares(x)) / jnp.sqrt(squares(x) + 1e-9)),
    "in another order": lambda x, hold: hold(squares(x)) / (1 + hold(squares(x))) * x / hold(jnp.sqrt(squares(x))),
    "with exp": lambda x, hold: hold(1 - 1 / jnp.exp(jnp.sqrt(squares(x)))) * x / hold(jnp.sqrt(squares(x))),
    "of the mean as well": lambda x, hold: x * hold(gain(x)) - x.mean(axis=1, keepdims=True) * hold(gain(x)),
    "of absolute values": lambda x, hold: x / hold(jnp.abs(x).sum(axis=1, keepdims=True)),
    "of the values": lambda x, hold: x / hold(x.sum(axis=1, keepdims=True) + 9),
    "between the least and the most": lambda x, hold: (x - least(x)) / hold(most(x) - least(x)),
    "below the most": lambda x, hold: (most(x) - x) / hold(jnp.sqrt(squares(x))),
    "beside the mean size": lambda x, hold: (x - jnp.abs(x).mean(axis=1, keepdims=True)) / hold(jnp.sqrt(squares(x))),
    "weighted": lambda x, hold: x / hold(jnp.sqrt((x**2 * jnp.arange(1.0, 9)[None]).sum(axis=1, keepdims=True))),
}
least, most = lambda x: x.min(axis=1, keepdims=True), lambda x: x.max(axis=1, keepdims=True)
squares = lambda x: (x**2).sum(axis=1, keepdims=True)
gain = lambda x: squares(x) / (1 + squares(x)) / jnp.sqrt(squares(x))


@pytest.mark.parametrize("name", SCALED)
def test_a_vector_scaled_by_its_statistics_keeps_its_relevance(name):
    x = jax.random.normal(jax.random.key(3), (3, 8), jnp.float64) + 0.3
    head = jax.random.normal(jax.random.key(4), (8, 4), jnp.float64)
    network = lambda x, hold=lambda v: v: SCALED[name](x, hold) @ head
    by_rules = composites.first_match(("norm", rules.layer_norm(0.0)), ("dense", rules.zero()))
    relevance = jaxplain.lrp(network, by_rules)(x, target=1)
    close(relevance, x * jax.grad(lambda x: network(x, fixed)[:, 1].sum())(x))
    close(relevance.sum(axis=1), network(x)[:, 1])


def test_the_weights_of_an_attention_are_told_from_its_values():
    rows = jaxplain.summary(vit.unrolled, composites.cp_lrp())(WEIGHTS, X, target=TARGET).rows
    products = [row.unit.attention for row in rows if row.unit.kind == "product"]
    assert products == [(False, False), (True, False)] * BLOCKS


@pytest.mark.parametrize("name", ["attn_lrp", "cp_lrp"])
def test_the_ledger_is_closed(name):
    summary = jaxplain.summary(vit.unrolled, getattr(composites, name)())(WEIGHTS, X, target=TARGET)
    assert abs(summary.gap) < 1e-9 * sum(abs(row.ledger.bias) for row in summary.rows)


def test_the_rule_of_a_normalisation_refuses_other_units():
    rule_of = lambda unit: rules.layer_norm() if unit.kind == "softmax" else None
    with pytest.raises(ValueError, match=r"the unit `softmax` at .* is not linear .*: give it another rule"):
        jaxplain.lrp(jax.nn.softmax, rule_of)(jnp.ones((1, 3)))
