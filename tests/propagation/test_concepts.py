"""Relevance through channels of a layer: its parts, their sum, and what makes an error."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.ad_checkpoint import checkpoint_name

import jaxplain
from jaxplain import composites
from tests.close import within
from tests.convolution import conv
from tests.features.networks import NET_IN, W1, W2, W3, X

close = within(1e-12)
TARGET = jnp.array([1, 3])


def plain(w, x):
    y = jax.nn.relu(conv(x, w["conv1"]))
    return jax.nn.relu(conv(y, w["conv2"], 2)).mean(axis=(1, 2)) @ w["head"]


def residual(w, x):
    y = jax.nn.relu(conv(x, w["conv1"]))
    inside = jax.nn.relu(conv(y, w["inner"]))
    return (y + inside).mean(axis=(1, 2)) @ w["head"]


WEIGHTS = {"conv1": W1, "conv2": W2, "head": W3}
SKIPPED = {"conv1": W1, "inner": jnp.concatenate([W2[..., :2], W2[..., 4:]], axis=-1), "head": W3[:4]}


def parts(f, w, layer, count, composite="epsilon_plus"):
    explain = lambda c: jaxplain.concept_relevance(f, composite, layer=layer, channels=c)(w, X, target=TARGET)
    return jax.jit(jax.vmap(explain))(jnp.arange(count))


@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon", "epsilon_alpha2_beta1_flat"])
@pytest.mark.parametrize(("layer", "count"), [("conv1", 4), ("conv2", 6), ("head", 5)])
def test_channels_sum_to_the_whole(composite, layer, count):
    whole = jaxplain.lrp(plain, composite)(WEIGHTS, X, target=TARGET)
    each = parts(plain, WEIGHTS, layer, count, composite)
    close(each.sum(axis=0), whole)
    close(jaxplain.concept_relevance(plain, composite, layer=layer)(WEIGHTS, X, target=TARGET), whole)
    two = jaxplain.concept_relevance(plain, composite, layer=layer, channels=[3, 0, 3])(WEIGHTS, X, target=TARGET)
    close(two, each[0] + each[3])


def test_a_channel_by_a_rule_of_ones_own():
    """At a convolution with nothing around it: what arrives, cut to the channel."""
    ready = composites.epsilon_plus()

    def composite(unit):
        rule = ready(unit)
        if unit.path != "conv2":
            return rule
        return lambda call, x, y, r: rule(call, x, y, r * (jnp.arange(6) == 2).reshape(1, 1, 1, 6))

    close(parts(plain, WEIGHTS, "conv2", 6)[2], jaxplain.lrp(plain, composite)(WEIGHTS, X, target=TARGET))


def test_what_goes_around_the_layer_is_no_part():
    ready = composites.epsilon_plus()

    def around(unit):
        rule = ready(unit)
        return (lambda call, x, y, r: jnp.zeros_like(x)) if unit.path == "inner" else rule

    whole = jaxplain.lrp(residual)(SKIPPED, X, target=TARGET)
    close(
        parts(residual, SKIPPED, "inner", 4).sum(axis=0),
        whole - jaxplain.lrp(residual, around)(SKIPPED, X, target=TARGET),
    )


@pytest.mark.parametrize("framework", NET_IN)
def test_every_framework_and_layout(framework):
    explain = functools.partial(jaxplain.concept_relevance, channels=1)
    close(explain(NET_IN[framework])(X, target=TARGET), explain(NET_IN["plain"])(X, target=TARGET))
    first = lambda w, x: plain(w, x.transpose(0, 2, 3, 1))
    turned = explain(first, layer="conv2")(WEIGHTS, X.transpose(0, 3, 1, 2), target=TARGET)
    close(turned.transpose(0, 2, 3, 1), explain(plain)(WEIGHTS, X, target=TARGET))


def test_what_is_no_channel():
    explain = lambda channels: jaxplain.concept_relevance(plain, layer="conv1", channels=channels)(WEIGHTS, X)
    with pytest.raises(ValueError, match="channels=4: the layer has the channels 0 to 3"):
        explain(4)
    with pytest.raises(ValueError, match="channels=-1: the layer has the channels 0 to 3"):
        explain(-1)
    with pytest.raises(TypeError, match=r"channels of type float.*: pass their numbers"):
        explain(0.5)
    assert jnp.isnan(jax.jit(explain)(4)).all()


def test_a_layer_in_a_loop():
    def looped(w, x):
        turn = lambda y, w: (checkpoint_name(jax.nn.relu(conv(y, w)), "turn"), None)
        return jax.lax.scan(turn, x, w)[0].mean(axis=(1, 2))

    with pytest.raises(ValueError, match=r"layer 'turn\[0\]' lies in a loop"):
        jaxplain.concept_relevance(looped, layer="turn[0]")(jnp.stack([W1[..., :3], W1[..., 1:]]), X)
