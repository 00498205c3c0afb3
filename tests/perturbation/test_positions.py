"""Signals, volumes and tables are explained as the images that they could be."""

import functools
import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain.perturbation import feature_ablation, grid_segments, hsic, kernel_shap, lime, occlusion, rise, sobol

KEY = jax.random.key(3)
X = jax.random.normal(jax.random.key(0), (2, 4, 6, 3), jnp.float64)
W = jax.random.normal(jax.random.key(1), (4 * 6 * 3, 5), jnp.float64) * 0.3
LABELS = np.add.outer(np.arange(4) // 2 * 3, np.arange(6) // 2)
BASELINE = np.array([0.3, -0.2, 0.1])
OF_SEGMENTS = {
    "feature_ablation": functools.partial(feature_ablation, chunk=4),
    "lime": functools.partial(lime, samples=20),
    "kernel_shap": functools.partial(kernel_shap, samples=30),
    "sobol": functools.partial(sobol, samples=4),
    "hsic": functools.partial(hsic, samples=20),
}
SHAPES = {"signals": (24, 3), "volumes": (2, 2, 6, 3)}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def network(x):
    return jnp.tanh(x.reshape(len(x), -1) @ W)


@every_shape
@pytest.mark.parametrize("name", OF_SEGMENTS)
def test_segments_of_signals_and_volumes(name, shape):
    """The same values in another shape."""
    make, x = OF_SEGMENTS[name], X.reshape(2, *shape)
    expected = jax.jit(make(network, segments=LABELS, baseline=BASELINE))(X, target=1, key=KEY)
    segments = LABELS.reshape(shape[:-1])
    for labels in (segments, np.stack([segments, segments])):
        maps = jax.jit(make(network, segments=labels, baseline=BASELINE))(x, target=1, key=KEY)
        assert maps.shape == x.shape[:-1]
        np.testing.assert_allclose(maps.reshape(expected.shape), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", OF_SEGMENTS)
def test_columns_of_a_table(name):
    """Each a segment by itself, or together with others; a baseline has a value for each."""
    make = OF_SEGMENTS[name]
    table, x0 = X[:, 0, :, 0], np.linspace(-0.3, 0.3, 6)
    f = lambda x: jnp.tanh(x @ W[:6])
    image = lambda x: f(x[:, 0, :, 0])
    for labels in (None, np.array([0, 1, 1, 2, 0, 3])):
        maps = jax.jit(make(f, segments=labels, baseline=x0))(table, target=1, key=KEY)
        labels = np.arange(6) if labels is None else labels
        of_image = make(image, segments=labels[None], baseline=x0[None, :, None])
        expected = jax.jit(of_image)(table[:, None, :, None], target=1, key=KEY)
        np.testing.assert_allclose(maps, expected[:, 0], rtol=1e-9, atol=1e-12)


def test_shapley_values_of_a_table_by_definition():
    w = np.random.default_rng(0).normal(size=(4, 3))
    f = lambda x: jnp.tanh(x @ w).prod(axis=1)
    table, x0 = np.random.default_rng(1).normal(size=(3, 4)), np.array([0.1, 0.0, -0.2, 0.4])
    value = functools.cache(lambda shown: np.asarray(f(jnp.where(np.isin(np.arange(4), shown)[None], table, x0[None]))))
    expected = np.zeros((3, 4))
    for order in itertools.permutations(range(4)):
        for i, column in enumerate(order):
            before, after = (tuple(sorted(order[:k])) for k in (i, i + 1))
            expected[:, column] += (value(after) - value(before)) / math.factorial(4)
    np.testing.assert_allclose(jax.jit(kernel_shap(f, baseline=x0))(table), expected, rtol=1e-9)


def test_channels_first_signals():
    layer = eqx.nn.Conv1d(3, 4, 3, key=jax.random.key(0))
    first = jax.vmap(lambda x: jnp.tanh(layer(x)).sum(axis=1))
    x, labels = X.reshape(2, 24, 3), np.arange(24) // 4
    turned = lambda x: first(x.swapaxes(1, 2))
    for make in (
        functools.partial(kernel_shap, segments=labels),
        functools.partial(occlusion, window=(3,), stride=(2,)),
    ):
        expected = jax.jit(make(turned))(x, target=1, key=KEY)
        maps = jax.jit(make(first))(x.swapaxes(1, 2), target=1, key=KEY)
        assert maps.shape == (2, 24)
        np.testing.assert_allclose(maps, expected, rtol=1e-6)


def test_without_segments_seven_along_each_axis():
    x = jnp.ones((1, 15, 2))
    maps = feature_ablation(lambda x: (x * jnp.arange(15.0).reshape(1, 15, 1)).sum(axis=(1, 2)))(x)
    labels = grid_segments((15,))
    assert labels.tolist() == sorted(labels.tolist())
    assert labels.max() == 6
    np.testing.assert_allclose(maps[0], [2 * np.arange(15)[labels == s].sum() for s in labels])
    assert grid_segments((7, 8, 9)).max() == 342
    np.testing.assert_array_equal(grid_segments((2, 4, 2), (1, 2, 2))[1], [[0, 1], [0, 1], [2, 3], [2, 3]])


@pytest.mark.parametrize("window", [(1, 2), (3, 4), (4, 6)])
def test_occlusion_of_signals_volumes_and_tables(window):
    """As images of one row, and as volumes of one slice."""
    make = functools.partial(occlusion, baseline=BASELINE)
    expected = jax.jit(make(network, window=window, stride=(1, 2)))(X, target=1)
    volumes = jax.jit(make(network, window=(1, *window), stride=(1, 1, 2)))(X[:, None], target=1)
    np.testing.assert_allclose(volumes[:, 0], expected, rtol=1e-9)
    f, row = lambda x: jnp.tanh(x.reshape(len(x), -1) @ W[:18]), X[:, :1]
    expected = jax.jit(make(f, window=(1, window[1]), stride=(1, 2)))(row, target=1)
    signals = jax.jit(make(f, window=window[1:], stride=(2,)))(row[:, 0], target=1)
    np.testing.assert_allclose(signals, expected[:, 0], rtol=1e-9)
    f = lambda x: jnp.tanh(x.reshape(len(x), -1) @ W[:6])
    expected = jax.jit(occlusion(f, window=(1, window[1]), stride=(1, 2)))(row[..., :1], target=1)
    tables = jax.jit(occlusion(f, window=window[1:], stride=(2,)))(row[:, 0, :, 0], target=1)
    np.testing.assert_allclose(tables, expected[:, 0], rtol=1e-9)


@every_shape
def test_rise_of_signals_and_volumes(shape):
    """Shown where the score is; the map of a score that sees nothing is 1 up to the error."""
    x, options = jnp.ones((1, *shape)), {"grid": (4,) if len(shape) == 2 else (1, 1, 4), "masks": 2000, "chunk": 200}
    seen = lambda x: x[..., :3, 0].reshape(len(x), -1).mean(axis=1)
    maps = jax.jit(rise(seen, **options))(x, key=KEY)
    assert maps.shape == x.shape[:-1]
    assert maps[..., :3].mean() > maps[..., -3:].mean() + 0.1
    np.testing.assert_allclose(rise(lambda x: jnp.ones(len(x)), **options)(x, key=KEY), 1, atol=0.1)


@pytest.mark.parametrize(
    ("make", "shape", "sentence"),
    [
        (occlusion, (2, 4), r"window=\(8, 8\) must be a tuple of one positive integer"),
        (
            functools.partial(occlusion, window=(2, 2, 2)),
            (2, 4, 4, 4, 1),
            r"stride=\(4, 4\) must be 3 positive integers",
        ),
        (occlusion, (2,), r"occlusion explains images \(N, H, W, C\), signals .* or tables \(N, F\), got shape \(2,\)"),
        (rise, (2, 4), r"rise explains images .* and volumes \(N, D, H, W, C\), got shape \(2, 4\)"),
        (rise, (2, 9, 1), r"grid=\(7, 7\) must be a tuple of one positive integer"),
        (lime, (2, 2, 2, 2, 2, 2), r"lime explains images \(N, H, W, C\), signals"),
        (
            functools.partial(lime, segments=np.zeros(3, int)),
            (2, 4),
            r"segments have shape \(3,\): pass \(4,\) for all",
        ),
        (sobol, (2, 5, 1), r"a grid of \(7,\) segments does not fit \(5,\) positions: pass segments="),
    ],
)
def test_errors(make, shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(lambda x: x.reshape(len(x), -1).sum(axis=1))(jnp.ones(shape), key=KEY)
