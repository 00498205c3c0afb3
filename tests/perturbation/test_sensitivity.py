"""Sobol indices and HSIC of segments: against definitions written out, and in closed form where there is one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain.perturbation import hsic, sobol
from jaxplain.perturbation._hsic import half_shown
from jaxplain.perturbation._sobol import sobol_points

KEY = jax.random.key(4)
SEGMENTS = np.array([[0, 0, 1], [2, 3, 1], [2, 4, 4]])
SIZE = 5
X = jax.random.normal(jax.random.key(0), (2, 3, 3, 2), jnp.float64)
W = jax.random.normal(jax.random.key(1), (18, 4), jnp.float64)
BASELINE = np.array([0.3, -0.2])
ROW = np.arange(3)[None]  # three pixels, each a segment


def network(x):
    """Anything but additive."""
    hidden = jnp.tanh(x.reshape(x.shape[0], -1) @ W)
    return jnp.stack([hidden.sum(axis=1), (hidden[:, :2] * hidden[:, 2:]).sum(axis=1)], axis=1)


def score(mask, n):
    """That of image n behind a mask of the segments, ``(S,)``."""
    m = np.asarray(mask, float)[SEGMENTS][..., None]
    return float(network((m * X[n] + (1 - m) * BASELINE)[None])[0, 1])


def of_masks(f):
    """A function of three masks as a network of images of ones, with a black baseline."""
    return lambda x: f(*x[:, 0, :, 0].T)


# -------------------------------------------------------------------------------------------------------------- sobol


def test_sobol_is_jansens_estimate():
    n = 8
    explain = sobol(network, segments=SEGMENTS, samples=n, baseline=BASELINE, upsample=False)
    values = jax.jit(explain)(X, target=1)
    points = sobol_points(n, 2 * SIZE)
    a, b = points[:, :SIZE], points[:, SIZE:]
    for i in range(2):
        y = np.array([score(m, i) for m in a])
        for s in range(SIZE):
            mixed = a.copy()
            mixed[:, s] = b[:, s]
            changed = np.array([score(m, i) for m in mixed])
            np.testing.assert_allclose(values[i, s], ((y - changed) ** 2).sum() / (2 * n) / y.var(ddof=1), rtol=1e-9)


CLOSED = {  # the variance that each mask has a part in, over all of the variance
    "linear": (lambda a, b, c: 5 + 3 * a - 2 * b + 0 * c, np.array([9, 4, 0]) / 13),
    "a product": (lambda a, b, c: a * b + 0 * c, np.array([4, 4, 0]) / 7),  # (1/36) / (1/9 - 1/16)
    "squares": (lambda a, b, c: a**2 + c, np.array([16, 0, 15]) / 31),  # variances 4/45 and 1/12
}


@pytest.mark.parametrize("name", CLOSED)
def test_sobol_in_closed_form(name):
    f, expected = CLOSED[name]
    values = jax.jit(sobol(of_masks(f), segments=ROW, samples=2048, upsample=False))(jnp.ones((1, 1, 3, 1)))
    np.testing.assert_allclose(values[0], expected, atol=2e-3)


def test_sobol_of_the_function_of_ishigami_and_homma():
    """sin u + 7 sin² v + w⁴ sin u / 10 of angles between -π and π, for which textbooks have the indices."""
    p, q = np.pi**4, np.pi**8
    of_u, of_v, of_both = (1 + p / 50) ** 2 / 2, 49 / 8, q * (1 / 18 - 1 / 50) / 100
    expected = np.array([of_u + of_both, of_v, of_both]) / (of_u + of_v + of_both)

    def f(*masks):
        u, v, w = (np.pi * (2 * m - 1) for m in masks)
        return jnp.sin(u) * (1 + w**4 / 10) + 7 * jnp.sin(v) ** 2

    explain = jax.jit(sobol(of_masks(f), segments=ROW, samples=4096, upsample=False, chunk=None))
    np.testing.assert_allclose(explain(jnp.ones((1, 1, 3, 1), jnp.float64))[0], expected, atol=3e-3)
    np.testing.assert_allclose(expected, [0.5576, 0.4424, 0.2437], atol=1e-4)


def test_sobol_of_a_constant_is_zero():
    explain = jax.jit(sobol(lambda x: 0 * x.sum(axis=(1, 2, 3)) + 3, segments=SEGMENTS, samples=4))
    np.testing.assert_array_equal(explain(X), jnp.zeros((2, 3, 3)))


# --------------------------------------------------------------------------------------------------------------- hsic


@pytest.mark.parametrize("samples", [30, 31])
def test_hsic_is_the_trace_of_centred_kernels(samples):
    explain = hsic(network, segments=SEGMENTS, samples=samples, baseline=BASELINE, of="output", upsample=False)
    values = jax.jit(explain)(X, target=1, key=KEY)
    H = np.eye(samples) - 1 / samples
    for i in range(2):
        masks = np.asarray(half_shown(jax.random.fold_in(KEY, i), samples, SIZE))
        y = np.array([score(m, i) for m in masks])
        distance = np.abs(y[:, None] - y)
        L = np.exp(-(distance**2) / (2 * np.median(distance[distance > 0]) ** 2))
        for s in range(SIZE):
            K = (masks[:, None, s] == masks[None, :, s]) - 0.5
            np.testing.assert_allclose(values[i, s], np.trace(K @ H @ L @ H) / (samples - 1) ** 2, rtol=1e-9)
            anova = np.trace((1 + K) @ H @ L @ H) / (samples - 1) ** 2
            np.testing.assert_allclose(values[i, s], anova, rtol=1e-9)


def test_masks_of_hsic_show_every_segment_in_half():
    masks = half_shown(KEY, 64, 9)
    np.testing.assert_array_equal(masks.sum(axis=0), 32)
    assert np.abs(np.corrcoef(masks.T) - np.eye(9)).max() < 0.5


def test_hsic_in_closed_form():
    """Of a score that is one of two, by whether one pixel is shown: L is 1 or exp(-½), as K is ½ or -½."""
    n, f = 400, of_masks(lambda a, b, c: 3 + 2 * b + 0 * a * c)
    values = jax.jit(hsic(f, segments=ROW, samples=n, upsample=False))(jnp.ones((1, 1, 3, 1), jnp.float64), key=KEY)
    expected = (1 - np.exp(-0.5)) / 4 * (n / (n - 1)) ** 2
    np.testing.assert_allclose(values[0, 1], expected, rtol=1e-9)
    correlation = np.corrcoef(half_shown(jax.random.fold_in(KEY, 0), n, 3).T)[1]
    np.testing.assert_allclose(values[0], expected * correlation**2, rtol=1e-9)  # by chance, of the others


def test_hsic_of_independent_segments_falls_with_the_samples():
    f = of_masks(lambda a, b, c: 2 * a + b + 0 * c)
    x = jnp.ones((30, 1, 3, 1))
    of = lambda n: jax.jit(hsic(f, segments=ROW, samples=n, upsample=False))(x, key=KEY).mean(axis=0)
    few, many = of(32), of(512)
    assert many[2] < few[2] / 8
    np.testing.assert_allclose(many[:2], few[:2], rtol=0.2)
    assert many[0] > many[1] > 20 * many[2]


def test_hsic_knows_no_unit_and_no_offset():
    of = lambda f: jax.jit(hsic(f, segments=SEGMENTS, samples=40, of="output"))(X, target=0, key=KEY)
    np.testing.assert_allclose(of(lambda x: 7 - 3e-9 * network(x)), of(network), rtol=1e-5)


@pytest.mark.parametrize(
    ("method", "options", "sentence"),
    [
        (sobol, {"samples": 1}, "samples=1 must be a power of two from 2"),
        (sobol, {"samples": 24}, "samples=24 must be a power of two from 2"),
        (sobol, {"samples": 0}, "samples=0 must be a positive integer"),
        (sobol, {"of": "logit"}, "unknown of='logit'"),
        (sobol, {"segments": SEGMENTS * 1.0}, "segments have dtype float64"),
        (hsic, {"samples": 1}, "samples=1 are too few to tell a dependence: take at least 2"),
        (hsic, {"key": None}, r"hsic draws random numbers: pass key=jax.random.key\(0\)"),
        (hsic, {"segments": SEGMENTS - 1}, "segments have labels -1 to 3: number them from 0"),
    ],
)
def test_errors(method, options, sentence):
    key = options.pop("key", KEY)
    with pytest.raises((ValueError, TypeError), match=sentence):
        method(network, **{"segments": SEGMENTS} | options)(X, key=key)


@pytest.mark.parametrize("unit", [1e-6, 1e3])
def test_hsic_of_two_segments_together_has_no_unit(unit):
    """Most scores of a product are equal: the median of all distances is 0."""
    both = lambda scale: lambda x: scale * x[:, 0, 0, 0] * x[:, 0, 1, 0]
    maps = [
        hsic(both(s), segments=jnp.array([[0, 1, 2]]), of="output")(jnp.ones((1, 1, 3, 1)), key=KEY) for s in (1, unit)
    ]
    np.testing.assert_allclose(maps[1], maps[0], rtol=1e-9)
    assert maps[0][0, 0, 0] > 0.02
