"""RISE: its expectation on a linear score in closed form, and what is explained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain.perturbation import rise

KEY = jax.random.key(2)
SHAPE, GRID, PROBABILITY = (9, 7), (3, 2), 0.4  # cells of 3 x 4 pixels


def along(size, count):
    """Mean over the shifts of ``E[row of the enlarged mask] = Σ_k R[u, k] R[v, k]``, interpolated by NumPy."""
    cell = -(-size // count)
    total = np.zeros((size, size))
    for shift in range(cell):
        pixels = (np.arange(size) + shift + 0.5) * count / ((count + 1) * cell) - 0.5
        r = np.stack([np.interp(pixels, np.arange(count), row) for row in np.eye(count)], axis=1)
        np.testing.assert_allclose(r.sum(axis=1), 1)
        total += r @ r.T / cell
    return total


def test_expectation_on_a_linear_score():
    """``E A_v = 1/p Σ_u c_u x_u E[m_u m_v]`` with ``E[m_u m_v] = p² + p (1 - p) Σ_k R_uk R_vk``, rows times columns."""
    rng = np.random.default_rng(0)
    c, x = rng.normal(size=(2, *SHAPE))
    rows, columns = (along(size, count) for size, count in zip(SHAPE, GRID, strict=True))
    p = PROBABILITY
    expected = (p**2 * (c * x).sum() + p * (1 - p) * rows @ (c * x) @ columns.T) / p

    explain = rise(lambda x: (x[..., 0] * c[None]).sum(axis=(1, 2)), masks=300, grid=GRID, probability=p, chunk=100)
    runs = 100  # copies of the image, each with a key of its own
    maps = np.asarray(jax.jit(explain)(jnp.tile(x[None, ..., None], (runs, 1, 1, 1)), key=KEY))
    error = maps.std(axis=0, ddof=1) / np.sqrt(runs)
    assert error.max() < 0.05 * np.ptp(expected)  # the test would see a map that is 5 standard errors off
    z = (maps.mean(axis=0) - expected) / error
    assert np.abs(z).max() < 4.5
    assert (z**2).mean() < 3


def test_only_differences_tell():
    """A score that sees nothing is spread evenly: ``1 / (n p) Σ m_i`` is 1 at every pixel, up to the error."""
    maps = rise(lambda x: jnp.ones_like(x[:, 0, 0, 0]), masks=2000, chunk=200)(jnp.ones((1, 14, 14, 1)), key=KEY)
    np.testing.assert_allclose(maps, 1, atol=0.06)


def test_what_is_explained():
    x = jax.random.normal(KEY, (2, 8, 8, 1), jnp.float64)
    w = jax.random.normal(KEY, (64, 3), jnp.float64) * 0.3
    logits = lambda x: x.reshape(len(x), -1) @ w
    options = {"masks": 20, "grid": (2, 2)}
    probabilities = rise(lambda x: jax.nn.softmax(logits(x)), of="output", **options)(x, target=1, key=KEY)
    np.testing.assert_allclose(rise(logits, **options)(x, target=1, key=KEY), probabilities, rtol=1e-12)
    scores = rise(lambda x: logits(x)[:, 1], **options)(x, key=KEY)  # no classes, no probabilities
    np.testing.assert_allclose(rise(logits, of="output", **options)(x, target=1, key=KEY), scores, rtol=1e-12)


def test_the_baseline_is_what_is_not_shown():
    maps = rise(lambda x: x.sum(axis=(1, 2, 3)), masks=50, baseline=2.0)(jnp.full((1, 14, 14, 1), 2.0), key=KEY)
    seen = rise(lambda x: jnp.full_like(x[:, 0, 0, 0], 2.0 * 14 * 14), masks=50)(jnp.ones((1, 14, 14, 1)), key=KEY)
    np.testing.assert_allclose(maps, seen, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"masks": 0}, "masks=0 must be a positive integer"),
        ({"grid": (7,)}, r"grid=\(7,\) must be two positive integers"),
        ({"probability": 0.0}, r"probability=0.0 must be in \(0, 1\]"),
        ({"of": "logit"}, "unknown of='logit': choose probability or output"),
        ({"key": None}, r"rise draws random numbers: pass key=jax.random.key\(0\)"),
    ],
)
def test_errors(options, sentence):
    key = options.pop("key", KEY)
    with pytest.raises(ValueError, match=sentence):
        rise(lambda x: x.sum(axis=(1, 2, 3)), **options)(jnp.ones((1, 8, 8, 1)), key=key)
