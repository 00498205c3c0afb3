"""Parity of Sobol indices and HSIC with Xplique's; `benchmarks/peers/xplique_sensitivity.py` made the numbers."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import perturbation
from jaxplain.perturbation import _hsic
from tests.close import within
from tests.networks import DATA

PEER = dict(np.load(DATA / "xplique_sensitivity.npz"))
X, TARGETS = jnp.asarray(PEER["images"], jnp.float64), jnp.asarray(PEER["targets"])
SEGMENTS = jnp.arange(16).reshape(4, 4)
close = within(1e-5)  # Xplique computes in float32


def network(x):
    return jnp.tanh(x.reshape(len(x), -1) @ PEER["W"]) @ PEER["V"]


def test_sobol_on_the_same_design():
    close(network(X), PEER["outputs"])
    explain = perturbation.sobol(network, segments=SEGMENTS, samples=32)
    close(jax.jit(explain)(X, target=TARGETS), PEER["sobol"])


def test_hsic_on_the_same_masks(monkeypatch):
    masks = jnp.asarray(PEER["hsic_masks"])
    n = len(masks)
    assert (masks.sum(axis=0) == n // 2).all()  # as ours are
    monkeypatch.setattr(_hsic, "half_shown", lambda key, samples, count: masks)
    explain = perturbation.hsic(network, segments=SEGMENTS, samples=n, of="output")
    close(jax.jit(explain)(X, target=TARGETS, key=jax.random.key(0)), PEER["hsic"] * n / (n - 1) ** 2)
    assert np.abs(PEER["hsic"] - PEER["hsic_as_it_is"]).max() > 0.05 * PEER["hsic"].max()  # by an offset of the score
