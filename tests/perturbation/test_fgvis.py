"""FGVis: its gate and its games against their steps written out for a small network, and what they are for."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxplain.perturbation import fgvis
from jaxplain.perturbation._fgvis import gated, lane_of

rng = np.random.default_rng(0)
X = rng.normal(size=(3, 4, 3, 2))
W1, B1 = rng.normal(size=(24, 9)), rng.normal(size=9)
W2, B2 = rng.normal(size=(9, 7)), rng.normal(size=7)
W3 = rng.normal(size=(7, 3))
NONLINEAR = {"relu": jax.nn.relu, "tanh": jnp.tanh, "silu": jax.nn.silu}


def network(x, activation=jax.nn.relu):
    h = activation(x.reshape(x.shape[0], -1) @ W1 + B1[None])
    return activation(h @ W2 + B2[None]) @ W3


def gated_gradient(name, e, x, c, tolerance=0.0):
    """The derivative of p_c at one masked image, and its logits; each activation lets pass what the image supports."""
    h = NONLINEAR[name]
    derivative = jax.vmap(jax.grad(h))
    a1, b1 = e.ravel() @ W1 + B1, x.ravel() @ W1 + B1
    a2, b2 = np.asarray(h(a1)) @ W2 + B2, np.asarray(h(b1)) @ W2 + B2
    slack = lambda b: tolerance * np.abs(h(b))
    passes = lambda a, b: (np.minimum(0, h(b)) - slack(b) <= h(a)) & (h(a) <= np.maximum(0, h(b)) + slack(b))
    z = np.asarray(h(a2)) @ W3
    p = np.asarray(jax.nn.softmax(z))
    back = p[c] * (np.eye(3)[c] - p) @ W3.T
    back = (back * passes(a2, b2) * derivative(a2)) @ W2.T
    back = (back * passes(a1, b1) * derivative(a1)) @ W1.T
    return np.asarray(back).reshape(e.shape), z


@pytest.mark.parametrize("tolerance", [0.0, 0.5])
@pytest.mark.parametrize("name", NONLINEAR)
def test_the_gate(name, tolerance):
    """At masked images: gradients pass only where the activation stays between 0 and that of the image."""
    f = lambda x: network(x, NONLINEAR[name])
    gate = jax.jit(
        jax.grad(lambda e: jax.nn.softmax(lane_of(f, X, gated(tolerance))(e))[:, 1].sum())
    )  # X is a constant in it, which the compiler folds
    e = X * rng.uniform(size=X.shape)
    for n in range(3):
        np.testing.assert_allclose(gate(e)[n], gated_gradient(name, e[n], X[n], 1, tolerance)[0], rtol=1e-8, atol=1e-12)
    gradient = jax.jit(jax.grad(lambda x: jax.nn.softmax(f(x))[:, 1].sum()))
    assert np.abs(gate(e) - gradient(e)).max() > 1e-3
    np.testing.assert_allclose(gate(X), gradient(X), rtol=1e-10)


@pytest.mark.parametrize("game", ["deletion", "preservation"])
def test_the_games(game):
    """Each example in a loop until its class is gone, with the gate and a reference."""
    r, sparsity, rate, steps, target = np.array([0.2, -0.1]), 0.05, 0.05, 12, 1
    options = {"game": game, "baseline": r, "sparsity": sparsity, "steps": steps, "optimizer": optax.sgd(rate)}
    options["tolerance"] = 0.0
    maps = jax.jit(fgvis(network, **options))(X, target=target)
    for n in range(3):
        m = last = np.ones(X.shape[1:])
        for _ in range(steps):
            slope, z = gated_gradient("relu", m * X[n] + (1 - m) * r, X[n], target)
            if z.argmax() != target:
                break
            slope = slope * (X[n] - r)
            slope = slope / (np.abs(slope).max() or 1) - sparsity
            last, m = m, np.clip(m - rate * (slope if game == "deletion" else -slope), 0, 1)
        np.testing.assert_allclose(maps[n], 1 - m if game == "deletion" else last, atol=1e-9)


def test_deletion_takes_the_class_away_and_preservation_keeps_it():
    seen = network(X).argmax(axis=1)
    deleted = jax.jit(fgvis(network))(X)
    assert (network(X * (1 - deleted)).argmax(axis=1) != seen).all()
    assert deleted.mean() < 0.5
    kept = jax.jit(fgvis(network, game="preservation"))(X)
    np.testing.assert_array_equal(network(X * kept).argmax(axis=1), seen)
    assert 0.01 < kept.mean() < 0.7
    for maps in (deleted, kept):
        assert maps.min() >= 0
        assert maps.max() <= 1


def test_what_is_not_seen_has_nothing_to_delete():
    other = (network(X).argmax(axis=1) + 1) % 3
    np.testing.assert_array_equal(fgvis(network)(X, target=other), jnp.zeros_like(X))
    np.testing.assert_array_equal(fgvis(network, game="preservation")(X, target=other), jnp.ones_like(X))


def test_without_the_defence_it_is_the_gradient():
    f = lambda x: network(x, jnp.tanh)
    one = fgvis(f, steps=1, sparsity=0.0, tolerance=None)(X)
    slope = jax.grad(lambda x: jax.nn.log_softmax(f(x)).max(axis=1).sum())(X) * X
    slope = slope / np.abs(slope).max(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(one, 1 - np.clip(1 - 0.1 * slope, 0, 1), atol=1e-9)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"game": "generation"}, "unknown game 'generation': choose deletion or preservation"),
        ({"tolerance": -0.1}, "tolerance=-0.1 must be a number from 0, or None"),
        ({"steps": 0}, "steps=0 must be a positive integer"),
        ({"baseline": np.ones(5)}, r"a baseline of shape \(5,\) does not broadcast"),
        ({"optimizer": "sgd"}, r"optimizer is str: pass an optax transformation"),
        ({"target": lambda y: y[:, 0]}, "fgvis needs a class as its target"),
        ({"target": 3}, "target class 3 is out of range"),
    ],
)
def test_errors(options, sentence):
    target = options.pop("target", None)
    with pytest.raises((ValueError, TypeError), match=sentence):
        fgvis(network, **options)(X, target=target)
