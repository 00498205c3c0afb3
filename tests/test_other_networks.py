"""Whole networks of Haiku and Keras, as their libraries make them; `benchmarks/networks.py` has all that were tried."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import composites, metrics
from tests.close import within

X = jax.random.normal(jax.random.key(0), (2, 64, 64, 3), jnp.float64)
TARGET = np.array([3, 7])


def stirred(tree):
    """Weights of 64 bits, with noise, so that no bias is 0 and no scale 1."""
    draw = np.random.default_rng(0)
    noise = lambda a: jnp.asarray(a + draw.uniform(-0.05, 0.05, a.shape), jnp.float64)
    return jax.tree.map(lambda a: noise(a) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def haiku_mobilenet():
    hk = pytest.importorskip("haiku")
    network = hk.transform_with_state(lambda x, training: hk.nets.MobileNetV1(num_classes=10)(x, training))
    training = jax.jit(lambda params, state: network.apply(params, state, None, X, True)[1])
    params, state = jax.jit(lambda key: network.init(key, X, True))(jax.random.key(0))
    state = training(params, state)  # before, the averages of BatchNorm are 0, the variance's as well
    apply = lambda variables, x: network.apply(variables["params"], variables["state"], None, x, False)[0]
    return apply, {"params": stirred(params), "state": state}


def keras_mobilenet():
    os.environ["KERAS_BACKEND"] = "jax"
    keras = pytest.importorskip("keras")
    keras.config.set_floatx("float64")
    options = {"classes": 10, "classifier_activation": None, "include_preprocessing": False}
    model = keras.applications.MobileNetV3Small(input_shape=X.shape[1:], weights=None, **options)

    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # the averages become those of the next batch; with 0 and 1, signals fade

    def call(variables, x, training):
        with jax.numpy_rank_promotion("allow"):
            return model.stateless_call(*variables, x, training=training)

    weights, state = ([v.value for v in each] for each in (model.trainable_variables, model.non_trainable_variables))
    weights = stirred(weights)
    _, state = jax.jit(lambda state: call((weights, state), X, True))(state)
    return lambda variables, x: call(variables, x, False)[0], (weights, state)


MAKERS = {"haiku": (haiku_mobilenet, 1e-9), "keras": (keras_mobilenet, 1e-4)}  # Keras' BatchNorm computes in float32


@functools.cache
def network(library):
    make, tolerance = MAKERS[library]
    apply, variables = make()
    return apply, variables, np.asarray(jax.jit(apply)(variables, X)), within(tolerance)


def explained(explain, variables):
    return np.asarray(jax.jit(explain)(variables, X, target=TARGET))


libraries = pytest.mark.parametrize("library", MAKERS)


@libraries
def test_the_gradient_is_that_of_jax(library):
    apply, variables, _, close = network(library)
    score = lambda x: apply(variables, x)[jnp.arange(2), TARGET].sum()
    close(explained(jaxplain.gradient(apply), variables), jax.jit(jax.grad(score))(X))


@libraries
def test_deeplift_is_complete(library):
    apply, variables, outputs, close = network(library)
    difference = outputs - jax.jit(apply)(variables, jnp.zeros_like(X))
    sums = explained(jaxplain.deeplift(apply), variables).sum(axis=(1, 2, 3))
    close(sums, difference[np.arange(2), TARGET])


@libraries
def test_no_relevance_is_lost_unseen(library):
    apply, variables, *_ = network(library)
    gap = metrics.ledger(apply, composites.epsilon_plus())(variables, X, target=TARGET)
    assert gap < MAKERS[library][1]


@libraries
def test_grad_cam_is_what_tap_says(library):
    apply, variables, _, close = network(library)

    def by_hand(variables):
        outputs, features, pullback = jaxplain.tap(apply)(variables, X)
        weights = pullback(jax.nn.one_hot(TARGET, outputs.shape[1], dtype=outputs.dtype)).mean(axis=(1, 2))
        return jnp.einsum("nhwc,nc->nhw", features, weights)

    close(explained(jaxplain.grad_cam(apply, upsample=False), variables), jax.jit(by_hand)(variables))
