"""LIME, kernel SHAP and ablation of segments, against least squares and Shapley values worked out by brute force."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain.perturbation import feature_ablation, grid_segments, hsic, kernel_shap, lime, slic, sobol
from tests.networks import peer_numbers

KEY = jax.random.key(4)
SEGMENTS = np.array([[0, 0, 1], [2, 3, 1], [2, 4, 4]])
SIZE = 5
X = jax.random.normal(jax.random.key(0), (2, 3, 3, 2), jnp.float64)
W = jax.random.normal(jax.random.key(1), (18, 4), jnp.float64)
BASELINE = np.array([0.3, -0.2])


def network(x):
    """Anything but additive."""
    hidden = jnp.tanh(x.reshape(x.shape[0], -1) @ W)
    return jnp.stack([hidden.sum(axis=1), (hidden[:, :2] * hidden[:, 2:]).sum(axis=1)], axis=1)


def value(coalition, target=1):
    """The score with the segments of a coalition shown, ``(N,)``."""
    shown = np.isin(SEGMENTS, list(coalition))[None, :, :, None]
    return np.asarray(network(jnp.where(shown, X, BASELINE))[:, target])


def shapley(value, size):
    """By definition: the mean over all orders of what a player adds to those before it."""
    total = 0
    for order in itertools.permutations(range(size)):
        added = [value(order[: i + 1]) - value(order[:i]) for i in range(size)]
        total = total + np.stack([added[order.index(s)] for s in range(size)], axis=-1)
    return total / math.factorial(size)


def test_kernel_shap_is_exact_where_all_coalitions_fit():
    explain = kernel_shap(network, segments=SEGMENTS, samples=2**SIZE - 2, baseline=BASELINE, upsample=False)
    values = jax.jit(explain)(X, target=1)
    table = {c: value(c) for k in range(SIZE + 1) for c in itertools.combinations(range(SIZE), k)}
    expected = shapley(lambda c: table[tuple(sorted(c))], SIZE)
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-14)
    low = jax.jit(explain)(X.astype(jnp.float32), target=1)
    np.testing.assert_allclose(low, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("samples", [10, 12, 29])
def test_sampled_values_sum_to_the_change_of_the_score(samples):
    explain = kernel_shap(network, segments=SEGMENTS, samples=samples, baseline=BASELINE, upsample=False)
    values = jax.jit(explain)(X, target=1, key=KEY)
    np.testing.assert_allclose(values.sum(axis=1), value(range(SIZE)) - value(()), rtol=1e-10)


def test_sampled_values_approach_the_exact_ones():
    """Twelve segments: 4094 coalitions, of which some are drawn; the error falls as 1/√samples."""
    labels = np.arange(12).reshape(3, 4)
    w = jax.random.normal(KEY, (12, 5), jnp.float64)
    f = lambda x: jax.nn.softplus(x.reshape(x.shape[0], -1) @ w).max(axis=1)
    x = jnp.tile(jax.random.normal(KEY, (1, 3, 4, 1), jnp.float64), (20, 1, 1, 1))
    explain = lambda samples: jax.jit(kernel_shap(f, segments=labels, samples=samples, upsample=False))(x, key=KEY)
    exact = explain(4094)[0]
    few, many = (np.sqrt(((explain(samples) - exact[None]) ** 2).mean()) for samples in (100, 1600))
    assert few < 0.3 * np.abs(exact).max()
    assert many < few / 2.5


def test_pairs_are_exact_for_products_of_two():
    """A coalition less its complement leaves no second order, so pairs of them are fitted without an error."""
    labels = np.arange(8).reshape(2, 4)
    a = jax.random.normal(KEY, (8, 8), jnp.float64)
    f = lambda x: ((x.reshape(x.shape[0], -1) @ a) * x.reshape(x.shape[0], -1)).sum(axis=1)
    x = jax.random.normal(jax.random.key(5), (2, 2, 4, 1), jnp.float64)
    sampled, exact = (
        jax.jit(kernel_shap(f, segments=labels, samples=samples, upsample=False))(x, key=KEY) for samples in (60, 254)
    )
    np.testing.assert_allclose(sampled, exact, rtol=1e-9, atol=1e-11)


def test_feature_ablation_is_the_score_less_the_score_without():
    explain = feature_ablation(network, segments=SEGMENTS, baseline=BASELINE, upsample=False, chunk=2)
    everything = set(range(SIZE))
    expected = np.stack([value(everything) - value(everything - {s}) for s in range(SIZE)], axis=1)
    np.testing.assert_allclose(jax.jit(explain)(X, target=1), expected, rtol=1e-10)


@pytest.mark.parametrize(("i", "grid"), [(0, (4, 4)), (7, (8, 8)), (9, (1, 1))])
def test_feature_ablation_of_a_grid_has_captums_numbers(i, grid):
    """Captum's occlusion is its feature ablation of windows, here of those that do not overlap."""
    numbers, shared = peer_numbers("captum_occlusion.npz")
    height, width, down, right = shared["windows"][i]
    assert (height, width) == (8 // grid[0], 8 // grid[1])
    assert (height, width) in ((down, right), (8, 8))
    x, targets, x0 = (jnp.asarray(shared[key]) for key in ("images", "targets", "baseline_colours"))
    for module, variables, peer in numbers.values():
        explain = feature_ablation(module.apply, segments=grid_segments((8, 8), grid), baseline=x0)
        maps = jax.jit(explain)(variables, x, target=targets)
        np.testing.assert_allclose(maps, peer[f"{i}/colours"], rtol=1e-7, atol=1e-14)


def test_feature_ablation_of_an_additive_score_has_its_shapley_values():
    f = lambda x: 5 + (x * jnp.arange(18.0).reshape(1, 3, 3, 2)).sum(axis=(1, 2, 3))
    options = {"segments": SEGMENTS, "baseline": BASELINE}
    np.testing.assert_allclose(feature_ablation(f, **options)(X), kernel_shap(f, **options)(X), rtol=1e-9)


def lime_masks(samples, size, n=2):
    """The masks that LIME documents: the image itself, then every segment shown with probability 1/2."""
    keys = jax.vmap(lambda i: jax.random.fold_in(KEY, i))(jnp.arange(n))
    draw = lambda key, i: jax.random.uniform(jax.random.fold_in(key, i), (size,), jnp.float32) < 0.5
    masks = jax.vmap(lambda i: jax.vmap(lambda key: draw(key, i))(keys))(jnp.arange(samples))
    return np.asarray(masks.at[0].set(True))


@pytest.mark.parametrize("distance", ["cosine", "l2"])
def test_lime_is_the_ridge_regression(distance):
    samples, width, ridge = 40, 0.4, 0.7
    masks = lime_masks(samples, SIZE)
    explain = lime(
        *(network,),
        segments=SEGMENTS,
        samples=samples,
        baseline=BASELINE,
        distance=distance,
        kernel_width=width,
        ridge=ridge,
        of="output",
        upsample=False,
    )
    weights = jax.jit(explain)(X, target=1, key=KEY)
    for n in range(2):
        z = masks[:, n].astype(float)
        y = np.array([value(np.flatnonzero(row))[n] for row in z])
        if distance == "cosine":
            norms = np.sqrt((z**2).sum(axis=1)) * np.sqrt(SIZE)
            squared = (1 - np.divide(z.sum(axis=1), norms, out=np.zeros(samples), where=norms > 0)) ** 2
        else:
            squared = ((1 - z) ** 2).sum(axis=1) / SIZE
        root = np.sqrt(np.exp(-squared / width**2))[:, None]
        design = np.concatenate([z, np.ones((samples, 1))], axis=1)
        penalty = np.sqrt(ridge) * np.eye(SIZE, SIZE + 1)
        left, right = np.concatenate([root * design, penalty]), np.concatenate([root[:, 0] * y, np.zeros(SIZE)])
        expected = np.linalg.lstsq(left, right, rcond=None)[0][:SIZE]
        np.testing.assert_allclose(weights[n], expected, rtol=1e-10)


def test_lime_finds_an_additive_score():
    f = lambda x: 5 + (x * jnp.arange(18.0).reshape(1, 3, 3, 2)).sum(axis=(1, 2, 3))
    weights = lime(f, segments=SEGMENTS, samples=60, ridge=1e-9, upsample=False)(X, key=KEY)
    terms = np.asarray(X * np.arange(18.0).reshape(1, 3, 3, 2)).sum(axis=3)
    expected = np.stack([terms[:, s == SEGMENTS].sum(axis=1) for s in range(SIZE)], axis=1)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


SAMPLES = {lime: {"samples": 20}, kernel_shap: {"samples": 20}, feature_ablation: {}, sobol: {"samples": 4}}
SAMPLES |= {hsic: {"samples": 20}}
every_method = pytest.mark.parametrize("method", SAMPLES, ids=lambda method: method.__name__)


@every_method
def test_segments_in_every_form(method):
    """For all images, for each, traced; and every pixel gets the value of its segment."""
    explain = lambda **options: method(network, **SAMPLES[method], **options)(X, target=0, key=KEY)
    values, maps = explain(segments=SEGMENTS, upsample=False), explain(segments=SEGMENTS)
    np.testing.assert_array_equal(maps, values[:, SEGMENTS])
    both = np.stack([SEGMENTS, SEGMENTS[::-1]])
    each = explain(segments=both)
    np.testing.assert_allclose(each[0], maps[0], rtol=1e-9)
    alone = explain(segments=SEGMENTS[::-1])
    np.testing.assert_allclose(each[1], alone[1], rtol=1e-9)
    traced = jax.jit(lambda s: explain(segments=s, count=SIZE))(both)
    np.testing.assert_allclose(traced, each, rtol=1e-9)


@pytest.mark.parametrize("method", [lime, kernel_shap])
def test_without_segments_a_grid_of_seven(method):
    x = jax.random.normal(KEY, (1, 15, 14, 1), jnp.float64)
    f = lambda x: jnp.tanh(x).sum(axis=(1, 2, 3))
    maps = method(f, samples=150)(x, key=KEY)
    labels = grid_segments((15, 14))
    assert labels.max() == 48
    np.testing.assert_array_equal(maps, method(f, samples=150, segments=labels)(x, key=KEY))


def test_grid_segments():
    labels = grid_segments((5, 7), (2, 3))
    assert labels.tolist() == [[0, 0, 0, 1, 1, 2, 2]] * 3 + [[3, 3, 3, 4, 4, 5, 5]] * 2


def test_slic_follows_edges():
    """Every segment has one of an image's two colours, whatever their range."""
    corner = np.add.outer(np.arange(24), np.arange(32)) < 28
    images = np.stack([np.where(corner, -3.0, 5.0), np.where(corner[:, ::-1], 0.1, 0.0)])[..., None]
    labels = slic(images * np.array([1.0, 0.5, -1.0]), segments=20)
    assert labels.shape == (2, 24, 32)
    assert labels.dtype == np.int32
    for image, segments in zip(images[..., 0], labels, strict=True):
        assert 8 <= segments.max() < 40
        assert all(len(np.unique(image[segments == s])) == 1 for s in range(segments.max() + 1))


@every_method
@pytest.mark.parametrize(
    ("segments", "count", "sentence"),
    [
        (np.ones((3, 3)), None, "segments have dtype float64: pass an integer label for every pixel"),
        (np.ones((3, 2), int), None, r"segments have shape \(3, 2\): pass \(3, 3\) for all images, or \(2, 3, 3\)"),
        (SEGMENTS - 1, None, "segments have labels -1 to 3: number them from 0"),
        (SEGMENTS, 4, "segments have labels 0 to 4: number them from 0 to count - 1 = 3"),
        (None, None, r"a grid of \(7, 7\) segments does not fit \(3, 3\) positions: pass segments="),
    ],
)
def test_errors_of_segments(method, segments, count, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        method(network, segments=segments, count=count)(X, key=KEY)


def test_traced_segments_need_a_count():
    with pytest.raises(ValueError, match="the segments are traced, so their number is unknown: pass count="):
        jax.jit(lambda s: lime(network, segments=s)(X, key=KEY))(SEGMENTS)
    with pytest.raises(ValueError, match=r"call it outside of jax.jit and pass its labels in"):
        jax.jit(slic)(X)


@pytest.mark.parametrize(
    ("method", "options", "sentence"),
    [
        (kernel_shap, {"samples": 9}, "samples=9 are too few for the values of 5 segments: take at least 10"),
        (kernel_shap, {"samples": 20, "key": None}, r"kernel_shap draws random numbers: pass key=jax.random.key\(0\)"),
        (kernel_shap, {"segments": SEGMENTS * 0}, "there is only one: pass two or more"),
        (lime, {"key": None}, r"lime draws random numbers: pass key=jax.random.key\(0\)"),
        (lime, {"distance": "l1"}, "unknown distance='l1': choose cosine or l2"),
        (lime, {"kernel_width": 0.0}, "kernel_width=0.0 must be positive and ridge=1.0 not negative"),
        (lime, {"of": "logit"}, "unknown of='logit'"),
    ],
)
def test_errors_of_options(method, options, sentence):
    key = options.pop("key", KEY)
    with pytest.raises(ValueError, match=sentence):
        method(network, **{"segments": SEGMENTS} | options)(X, key=key)


def test_lime_without_a_penalty_needs_as_many_samples_as_weights():
    labels = np.arange(6).reshape(2, 3)
    explain = lime(lambda x: x.sum(axis=(1, 2)), segments=labels, samples=3, ridge=0.0, of="output")
    with pytest.raises(ValueError, match="too few for the weights of 6 segments without a penalty: take at least 7"):
        explain(jnp.ones((1, 2, 3, 1)), key=jax.random.key(0))
