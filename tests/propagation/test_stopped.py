"""What is behind `stop_gradient` is a constant to relevance: the maximum in a sum of exponentials, a rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain
from tests.close import within

KEYS = jax.random.split(jax.random.key(0), 6)
WEIGHTS = [jax.random.normal(key, (4, 4)) for key in KEYS[:5]]
TOKENS = jax.random.normal(KEYS[5], (2, 3, 4))
close = within(1e-9, scale=1.0)


def late(z, v):
    power = jnp.exp(z - lax.stop_gradient(z.max(-1, keepdims=True)))
    return (power @ v) / power.sum(-1, keepdims=True)


SOFTMAX = {
    "softmax": lambda z, v: jax.nn.softmax(z, -1) @ v,
    "by hand": lambda z, v: ((e := jnp.exp(z - z.max(-1, keepdims=True))) / e.sum(-1, keepdims=True)) @ v,
    "exp of log_softmax": lambda z, v: jnp.exp(jax.nn.log_softmax(z, -1)) @ v,
    "less logsumexp": lambda z, v: jnp.exp(z - jax.nn.logsumexp(z, -1, keepdims=True)) @ v,
    "by 1 / sum": lambda z, v: ((e := jnp.exp(z)) * (1 / e.sum(-1, keepdims=True))) @ v,
    "by 1 / sum, axis put back": lambda z, v: ((e := jnp.exp(z)) * (1 / e.sum(-1))[..., None]) @ v,
    "exp2": lambda z, v: ((e := jnp.exp2(z / np.log(2))) / e.sum(-1, keepdims=True)) @ v,
    "less log sum exp": lambda z, v: jnp.exp(z - jnp.log(jnp.exp(z).sum(-1, keepdims=True))) @ v,
}


def attention(attend):
    query, key, value, out, _ = WEIGHTS
    return lambda x: attend((x @ query) @ jnp.swapaxes(x @ key, -1, -2), x @ value).mean(axis=1) @ out


def test_logsumexp_conserves():
    z = jnp.array([[1.0, 2.0, 3.0]])
    score = jax.nn.logsumexp(z, axis=1)
    by_hand = jaxplain.lrp(lambda z: jnp.log(jnp.exp(z).sum(axis=1)))(z)
    np.testing.assert_allclose(jaxplain.lrp(lambda z: jax.nn.logsumexp(z, axis=1))(z), by_hand, rtol=1e-5)
    np.testing.assert_allclose(by_hand, score[0] * jax.nn.softmax(z), rtol=1e-5)


@pytest.mark.parametrize("composite", ["epsilon", "cp_lrp", "attn_lrp"])
def test_the_energy_of_a_network_conserves(composite):
    energy = lambda x: jax.nn.logsumexp(jnp.tanh(x @ WEIGHTS[0]) @ WEIGHTS[1], axis=1)
    x = TOKENS[:, 0]
    np.testing.assert_allclose(jaxplain.lrp(energy, composite)(x).sum(axis=1), energy(x), rtol=1e-4)


@pytest.mark.parametrize("composite", ["epsilon", "cp_lrp", "attn_lrp"])
@pytest.mark.parametrize("spelling", list(SOFTMAX)[1:])
def test_a_softmax_has_one_map_however_it_is_spelled(spelling, composite):
    expected = jaxplain.lrp(attention(SOFTMAX["softmax"]), composite)(TOKENS, target=1)
    near = within(1e-6, scale=1.0) if spelling == "exp2" else close  # the factor is a unit, with a stabiliser
    near(jaxplain.lrp(attention(SOFTMAX[spelling]), composite)(TOKENS, target=1), expected)


BEHIND = {
    "relu": lambda p: jax.nn.relu(p - 0.1),
    "clip": lambda p: jnp.clip(p, 1e-7, 1),
    "log": lambda p: jnp.log(p + 1e-6),
    "square": jnp.square,
}


@pytest.mark.parametrize("name", BEHIND)
def test_an_activation_behind_a_softmax_takes_none_of_its_operations(name):
    f = lambda softmax: lambda x: BEHIND[name](softmax(x @ WEIGHTS[0])) @ WEIGHTS[1]
    x = TOKENS[:, 0]
    expected = jaxplain.lrp(f(jax.nn.softmax), "epsilon")(x, target=1)
    close(jaxplain.lrp(f(lambda z: jnp.exp(jax.nn.log_softmax(z))), "epsilon")(x, target=1), expected)


@pytest.mark.parametrize("spelling", list(SOFTMAX)[1:])
def test_attentions_are_found_however_a_softmax_is_spelled(spelling):
    expected = jaxplain.attentions(attention(SOFTMAX["softmax"]))(TOKENS).weights
    close(jaxplain.attentions(attention(SOFTMAX[spelling]))(TOKENS).weights, expected)


def test_an_attention_that_divides_late_conserves():
    f = attention(late)
    np.testing.assert_allclose(jaxplain.lrp(f)(TOKENS, target=1).sum(axis=(1, 2)), f(TOKENS)[:, 1], rtol=1e-4)


def test_a_straight_through_estimator_passes_all_relevance():
    rounded = lambda x: x + lax.stop_gradient(jnp.round(x) - x)
    f = lambda x: rounded(x @ WEIGHTS[0]) @ WEIGHTS[1]
    x = TOKENS[:, 0]
    np.testing.assert_allclose(jaxplain.lrp(f, "epsilon")(x, target=1).sum(axis=1), f(x)[:, 1], rtol=1e-4)


def test_a_stopped_gate_is_a_factor():
    f = lambda x: (x @ WEIGHTS[0] * lax.stop_gradient(jax.nn.sigmoid(x @ WEIGHTS[2]))) @ WEIGHTS[1]
    x = TOKENS[:, 0]
    np.testing.assert_allclose(jaxplain.lrp(f, "epsilon")(x, target=1).sum(axis=1), f(x)[:, 1], rtol=1e-4)


def test_what_is_stopped_needs_no_rule():
    shifted = lambda x: x - lax.stop_gradient(jnp.sort(jnp.cumprod(x, axis=1), axis=1))
    x = TOKENS[:, 0]
    score = shifted(x @ WEIGHTS[0])
    np.testing.assert_allclose(
        jaxplain.lrp(lambda x: shifted(x @ WEIGHTS[0]), "epsilon")(x, target=1).sum(axis=1), score[:, 1], rtol=1e-4
    )


def test_a_value_that_a_layer_and_a_constant_read():
    f = lambda x: (h := jnp.tanh(x @ WEIGHTS[0])) @ WEIGHTS[1] * lax.stop_gradient(h.max(axis=1, keepdims=True))
    x = TOKENS[:, 0]
    np.testing.assert_allclose(jaxplain.lrp(f, "epsilon")(x, target=1).sum(axis=1), f(x)[:, 1], rtol=1e-4)


@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
def test_deeplift_is_complete_and_its_derivative_that_of_its_values(rule):
    loss = lambda w: (
        jaxplain.deeplift(lambda w, x: jax.nn.softmax(x @ w) @ WEIGHTS[1], rule=rule)(w, TOKENS[:, 0], target=1) ** 2
    ).sum()
    w = WEIGHTS[0]
    step = jnp.zeros_like(w).at[0, 1].set(1e-6)
    np.testing.assert_allclose(jax.grad(loss)(w)[0, 1], (loss(w + step) - loss(w - step)) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize("composite", ["epsilon", "attn_lrp", "cp_lrp"])
def test_the_derivative_of_relevance_is_that_of_its_values(composite):
    loss = lambda w: (jaxplain.lrp(lambda w, x: attention(late)(x @ w), composite)(w, TOKENS, target=1) ** 2).sum()
    w = jnp.eye(4) + 0.1 * WEIGHTS[4]
    step = jnp.zeros_like(w).at[0, 1].set(1e-6)
    np.testing.assert_allclose(jax.grad(loss)(w)[0, 1], (loss(w + step) - loss(w - step)) / 2e-6, rtol=1e-6)
