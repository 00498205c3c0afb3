"""Whole networks of Haiku and Keras, as their libraries make them; `benchmarks/networks.py` has all that were tried."""

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


def assert_equations_hold(apply, variables, tolerance):
    """The gradient is JAX's, DeepLIFT complete, no relevance lost unseen, and Grad-CAM made of what `tap` returns."""
    close, at_target = within(tolerance), lambda outputs: outputs[jnp.arange(2), TARGET]
    explained = lambda explain: np.asarray(jax.jit(explain)(variables, X, target=TARGET))

    gradient = jax.jit(jax.grad(lambda x: at_target(apply(variables, x)).sum()))(X)
    close(explained(jaxplain.gradient(apply)), gradient)

    scores = [at_target(jax.jit(apply)(variables, x)) for x in (X, jnp.zeros_like(X))]
    close(explained(jaxplain.deeplift(apply)).sum(axis=(1, 2, 3)), scores[0] - scores[1])

    assert metrics.ledger(apply, composites.epsilon_plus())(variables, X, target=TARGET) < tolerance

    def by_hand(variables):
        outputs, features, pullback = jaxplain.tap(apply)(variables, X)
        weights = pullback(jax.nn.one_hot(TARGET, outputs.shape[1], dtype=outputs.dtype)).mean(axis=(1, 2))
        return jnp.einsum("nhwc,nc->nhw", features, weights)

    close(explained(jaxplain.grad_cam(apply, upsample=False)), jax.jit(by_hand)(variables))


def test_a_network_of_haiku():
    assert_equations_hold(*haiku_mobilenet(), 1e-9)


def test_a_network_of_keras():
    assert_equations_hold(*keras_mobilenet(), 1e-4)  # its BatchNorm computes in float32, whatever it is given
