"""Parity of guided and blur integrated gradients with the authors' library.

`benchmarks/peers/saliency_paths.py` made the numbers.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from tests.close import within
from tests.networks import DATA

PEER = dict(np.load(DATA / "saliency_paths.npz"))
X, TARGETS = jnp.asarray(PEER["images"]), jnp.asarray(PEER["targets"])
close = within(1e-12)


def network(x):
    return jnp.tanh(x.reshape(len(x), -1) @ PEER["w1"] + PEER["b1"][None]) @ PEER["w2"]


@pytest.mark.parametrize("i", range(len(PEER["guided_cases"])))
def test_guided_integrated_gradients(i):
    """The same where ``fraction`` is a whole number of features; of other numbers the library rounds otherwise."""
    steps, fraction, distance = PEER["guided_cases"][i]
    options = {"steps": int(steps), "fraction": float(fraction), "max_distance": float(distance)}
    explain = jaxplain.guided_integrated_gradients(network, baseline=PEER["baselines"], **options)
    close(jax.jit(explain)(X, target=TARGETS), PEER["guided"][i])


def blurred(x, sigma):
    """The library's blur: black outside of the image, cut off at four sigma."""
    distance, radius = jnp.arange(-250, 251), jnp.floor(4 * sigma + 0.5)
    kernel = jnp.exp(-0.5 * (distance / jnp.maximum(sigma, 1e-2)) ** 2) * (abs(distance) <= radius)
    kernel /= kernel.sum()
    rows, columns = (kernel[250 + jnp.subtract.outer(jnp.arange(n), jnp.arange(n))] for n in x.shape[1:3])
    return jnp.einsum("hi,niwc,vw->nhvc", rows, x, columns)


@pytest.mark.parametrize("i", range(len(PEER["blur_cases"])))
def test_integrated_gradients_along_the_blur_of_the_library(i):
    """Which takes the speed of its path by a difference quotient."""
    largest, steps = PEER["blur_cases"][i]
    path = lambda x0, x, t: blurred(x, largest * (1 - t))
    explain = jaxplain.integrated_gradients(network, path=path, steps=int(steps), rule="riemann_right")
    close(jax.jit(explain)(X, target=TARGETS), PEER["blur"][i], 1e-6)


def test_blur_integrated_gradients():
    """Away from the border the blurs differ in that the library's is cut off at four sigma."""
    explain = jaxplain.blur_integrated_gradients(network, max_sigma=0.7, steps=100)
    close(jax.jit(explain)(jnp.asarray(PEER["centred"]), target=TARGETS), PEER["blur_centred"], 1e-3)
