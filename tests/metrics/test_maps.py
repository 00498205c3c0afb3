"""Metrics of maps alone: cases computed by hand, and other people's implementations of the same definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import metrics

A = jnp.array([[[4.0, 1.0, 1.0], [0.0, -2.0, 3.0]]])
MASK = jnp.array([[[0, 1, 0], [0, 1, 1]]])
RNG = np.random.default_rng(0)
MAPS, OTHERS = RNG.normal(size=(2, 3, 16, 12))
OTHERS = OTHERS + 0.5 * MAPS
LOOKS = RNG.random((3, 16, 12)) < 0.1
close = functools.partial(np.testing.assert_allclose, rtol=1e-10)


def test_localisation_by_hand():
    assert metrics.pointing_game(A, MASK) == 0  # the 4 is outside
    assert metrics.pointing_game(A, A == 4) == 1
    close(metrics.relevance_mass_accuracy(A, MASK), 2 / 7)
    close(metrics.relevance_rank_accuracy(A, MASK), 2 / 3)  # of 4, 3 and the first 1, two are inside
    close(metrics.top_k_intersection(A, MASK, k=2), 1 / 2)
    close(metrics.top_k_intersection(A, MASK, k=2, concept_influence=True), 1)
    close(metrics.attribution_localisation(A, MASK), 6 / 11)
    close(metrics.attribution_localisation(A, MASK, positive_attributions=True), 4 / 9)
    close(metrics.attribution_localisation(A, MASK, weighted=True), 3 / 11)
    close(metrics.auc(A, MASK), 3.5 / 9)  # 3 beats 1 and 0, 1 beats 0 and ties with 1


def test_equal_attributions_count_in_the_order_of_the_rows():
    even = jnp.zeros((1, 2, 2))
    first, last = jnp.array([[[1, 0], [0, 0]]]), jnp.array([[[0, 0], [0, 1]]])
    assert metrics.relevance_rank_accuracy(even, first) == 1
    assert metrics.relevance_rank_accuracy(even, last) == 0
    assert metrics.top_k_intersection(-even, first, k=1) == 1  # -0 is 0
    assert metrics.auc(even, first) == metrics.auc(even, last) == 0.5
    assert metrics.pointing_game(even, last) == 1


@pytest.mark.parametrize(
    "metric",
    [
        metrics.pointing_game,
        metrics.relevance_mass_accuracy,
        metrics.relevance_rank_accuracy,
        functools.partial(metrics.top_k_intersection, k=2),
        metrics.attribution_localisation,
        metrics.auc,
        metrics.nss,
        metrics.auc_judd,
    ],
)
def test_an_empty_mask_has_no_answer(metric):
    both = metric(jnp.concatenate([A, A]), jnp.concatenate([MASK, 0 * MASK]))
    assert np.isfinite(both[0])
    assert np.isnan(both[1])


def test_grid_pointing_game():
    a = jnp.zeros((2, 4, 4)).at[:, 0, 3].set(3.0).at[:, 3, 3].set(1.0).at[:, 2, 0].set(-5.0)
    close(metrics.grid_pointing_game(a, jnp.array([1, 3])), [3 / 4, 1 / 4])
    close(metrics.grid_pointing_game(a, 2), [0, 0])  # what is negative does not count
    close(metrics.grid_pointing_game(a, 3, side=4), [3 / 4, 3 / 4])
    assert np.isnan(jax.jit(metrics.grid_pointing_game)(a, 4)).all()


def test_grids_show_the_images_of_their_labels_and_no_class_twice():
    labels = jnp.array([5, 5, 7, 8, 9, 9, 3])
    images = jnp.broadcast_to((10.0 * labels + jnp.arange(7)).reshape(7, 1, 1, 1), (7, 2, 3, 2))
    make = jax.jit(functools.partial(metrics.grid_images, grids=20))
    grids = make(images, labels, jax.random.key(0))
    assert grids.images.shape == (20, 4, 6, 2)
    cells = grids.images.reshape(20, 2, 2, 2, 3, 2).transpose(0, 1, 3, 2, 4, 5).reshape(20, 4, -1)
    assert (cells == cells[..., :1]).all()
    np.testing.assert_array_equal(cells[..., 0] // 10, grids.labels)
    assert all(len(set(row)) == 4 for row in grids.labels.tolist())
    assert set(grids.labels.ravel().tolist()) == {3, 5, 7, 8, 9}
    assert {50, 51} <= set(cells[..., 0].ravel().tolist())  # both images of a class


def test_complexity_by_hand():
    a = jnp.array([[[0.0, 1.0], [-2.0, 1.0]]])
    close(metrics.sparseness(a), (-3 * 0 - 1 * 1 + 1 * 1 + 3 * 2) / (4 * 4))
    close(metrics.complexity(a), 1.5 * np.log(2))  # 1/4, 1/2, 1/4
    assert metrics.effective_complexity(a, eps=0.5) == 1
    assert metrics.effective_complexity(a) == 3
    assert metrics.sparseness(0 * a) == 0


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
@pytest.mark.parametrize(
    "metric",
    [metrics.sparseness, metrics.complexity, metrics.effective_complexity]
    + [functools.partial(m, reference=OTHERS.astype(np.float32)) for m in (metrics.pcc, metrics.rank_correlation)]
    + [
        lambda a: metrics.ssim(a, a * np.float32(0.9)),
        lambda a: metrics.nss(a, LOOKS),
        lambda a: metrics.sim(a, OTHERS),
    ],
)
def test_small_and_large_attributions_in_float32(metric, scale):
    a = MAPS.astype(np.float32)
    np.testing.assert_allclose(metric(a * np.float32(scale)), metric(a), rtol=1e-3)


@pytest.mark.parametrize("value", [0.1, 0.3])
def test_a_constant_map_has_no_correlation(value):
    """Whose mean, in float32, is not its value."""
    a = jnp.full((1, 7, 7), value)
    b = jnp.arange(49.0).reshape(1, 7, 7)
    for number in (metrics.pcc(a, a), metrics.pcc(a, b), metrics.rank_correlation(a, a), metrics.nss(a, b > 9)):
        assert np.isnan(number).all()


def test_a_traced_map_that_is_infinite_outside_of_the_cell_has_no_answer():
    a = jnp.array([[[1.0, jnp.inf], [0.0, 0.0]]])
    assert np.isnan(jax.jit(lambda a: metrics.grid_pointing_game(a, 0))(a)).all()


def test_correlations_against_scipy():
    from scipy import stats

    ties = MAPS.round()
    for i in range(3):
        a, b, c = (v[i].ravel() for v in (MAPS, OTHERS, ties))
        close(metrics.pcc(MAPS, OTHERS)[i], stats.pearsonr(a, b).statistic)
        close(metrics.rank_correlation(MAPS, OTHERS)[i], stats.spearmanr(a, b).statistic)
        close(metrics.rank_correlation(ties, OTHERS)[i], stats.spearmanr(c, b).statistic)
    assert np.isnan(metrics.pcc(MAPS, np.ones_like(MAPS))).all()


@pytest.mark.parametrize("window", [3, 7])
def test_ssim_against_skimage(window):
    from skimage.metrics import structural_similarity

    for i, data_range in enumerate((None, 2.0, 5.0)):
        spread = max(MAPS[i].max(), OTHERS[i].max()) - min(MAPS[i].min(), OTHERS[i].min())
        theirs = structural_similarity(MAPS[i], OTHERS[i], win_size=window, data_range=data_range or spread)
        close(metrics.ssim(MAPS, OTHERS, window=window, data_range=data_range)[i], theirs)


def test_ssim_keeps_its_digits_beside_an_offset():
    for offset in (1.0, 1000.0):
        a, b = (jnp.asarray(offset + 1e-3 * offset * m, jnp.float32) for m in (MAPS, OTHERS))
        np.testing.assert_allclose(metrics.ssim(a, b), metrics.ssim(*(np.asarray(m, float) for m in (a, b))), atol=1e-4)


def test_auc_of_one_pixel_outside():
    a = jnp.asarray(np.random.default_rng(2).normal(size=(1, 224, 224)), jnp.float32)
    inside = jnp.ones(a.shape, bool).at[0, 3, 5].set(False)
    close(metrics.auc(a, inside), (a > a[0, 3, 5]).sum() / (224 * 224 - 1), rtol=1e-6)


def test_cells_are_counted():
    with pytest.raises(ValueError, match="no number of a cell"):
        metrics.grid_pointing_game(MAPS, 1.5)
    with pytest.raises(ValueError, match="side=0"):
        metrics.focus(MAPS, jnp.ones((3, 0)), side=0)


def test_saliency_metrics_by_hand():
    p, q = jnp.array([[[1.0, 3.0], [0.0, -9.0]]]), jnp.array([[[1.0, 1.0], [2.0, 0.0]]])
    close(metrics.sim(p, q), 1 / 4 + 1 / 4)
    close(metrics.kl(p, p), 0, atol=1e-12)
    close(metrics.kl(jnp.ones((1, 2, 2)), q), 0.5 * np.log(2), rtol=1e-9)  # 2 · 1/4 log 1 + 1/2 log 2
    assert metrics.kl(p, q) > 10  # looked at, and no attribution
    a = jnp.array([[[3.0, 1.0], [1.0, -1.0]]])  # mean 1, standard deviation √2
    close(metrics.nss(a, a > 2), 2 / np.sqrt(2))
    close(metrics.nss(a, jnp.array([[[2, 0], [0, 1]]])), (2 * 2 - 2) / 3 / np.sqrt(2))


def naive_auc_judd(a, looked):
    """The curve point by point, as the authors describe it; no two values are equal."""
    fixations = np.sort(a[looked])[::-1]
    points = [(0.0, 0.0)]
    for i, threshold in enumerate(fixations, start=1):
        above = (a >= threshold).sum()
        points.append(((above - i) / (a.size - len(fixations)), i / len(fixations)))
    false, true = np.array([*points, (1.0, 1.0)]).T
    return np.trapezoid(true, false)


def test_auc_judd():
    for i in range(3):
        close(metrics.auc_judd(MAPS, LOOKS)[i], naive_auc_judd(MAPS[i], LOOKS[i]))
    perfect, even = LOOKS.astype(float), np.zeros(LOOKS.shape)
    close(metrics.auc_judd(perfect, LOOKS), 1)
    close(metrics.auc_judd(even, LOOKS), 0.5 + 0.5 / LOOKS.sum(axis=(1, 2)))


@pytest.mark.parametrize("metric", [metrics.pcc, metrics.rank_correlation, metrics.sim, metrics.kl, metrics.ssim])
def test_maps_of_colours_and_other_dtypes(metric):
    colours = np.stack([0.2 * MAPS, 0.8 * MAPS], axis=-1)
    close(metric(colours, OTHERS), metric(MAPS, OTHERS))
    low = metric(jnp.asarray(MAPS, jnp.bfloat16), jnp.asarray(OTHERS, jnp.float32))
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, metric(MAPS, OTHERS), rtol=0.05)


def test_one_mask_too_few():
    with pytest.raises(ValueError, match="pass one of"):
        metrics.auc(MAPS, LOOKS[:2])
    with pytest.raises(ValueError, match="NaN"):
        metrics.auc(A.at[0, 0, 0].set(jnp.nan), MASK)
    with pytest.raises(ValueError, match="resize"):
        metrics.pcc(MAPS, OTHERS[:, ::2])
    with pytest.raises(ValueError, match="more than the map has pixels"):
        metrics.top_k_intersection(A, MASK, k=7)
    with pytest.raises(ValueError, match="no cell"):
        metrics.grid_pointing_game(jnp.ones((1, 4, 4)), 4)
    with pytest.raises(ValueError, match="no mosaic"):
        metrics.grid_pointing_game(A, 1)
    with pytest.raises(ValueError, match="3 classes do not fill"):
        metrics.grid_images(jnp.ones((4, 2, 2, 1)), jnp.array([0, 1, 2, 2]), jax.random.key(0), grids=1)
    with pytest.raises(ValueError, match="fit into"):
        metrics.ssim(A, A)


def test_quantus_adapter():
    weights = jnp.asarray(RNG.normal(size=(4 * 4 * 3, 5)))
    images, classes = jnp.asarray(RNG.normal(size=(2, 4, 4, 3))), np.array([3, 1])
    f = lambda w, x: jnp.tanh(x.reshape(-1, 48) @ w)
    explain = jaxplain.gradient(f)
    adapted = metrics.quantus.explain_func(jax.jit(explain), weights)
    channels_first = np.asarray(images).transpose(0, 3, 1, 2)
    theirs = adapted(object(), channels_first, classes, device="cpu")
    assert isinstance(theirs, np.ndarray)
    close(theirs.transpose(0, 2, 3, 1), explain(weights, images, target=classes))
    maps = metrics.quantus.explain_func(jaxplain.heatmap(explain), weights)(None, channels_first, classes)
    close(maps, theirs.sum(axis=1, keepdims=True))
    noisy = metrics.quantus.explain_func(jaxplain.smooth(explain, samples=2), weights, key=jax.random.key(0))
    assert noisy(None, channels_first, classes).shape == channels_first.shape


def test_order_of_floats():
    """Sorted in two halves or by JAX, values come in the same order, ties and signed zeros and all."""
    from jaxplain.metrics._common import descending, ranks

    special = np.array([0.0, -0.0, 1.0, -1.0, 3e38, -3e38, 2e-38, -2e-38, 1.0000001, 1.0, 0.0, 2.5, -2.5], np.float32)
    values = np.concatenate([special[None].repeat(3, axis=0), RNG.normal(size=(3, 500)).round(2)], axis=1)
    values = RNG.permuted(values, axis=1).astype(np.float32)
    exact = np.argsort(-values.astype(np.float64), axis=1, kind="stable")
    np.testing.assert_array_equal(descending(jnp.asarray(values)), exact)
    np.testing.assert_array_equal(descending(jnp.asarray(values, jnp.float64)), exact)
    np.testing.assert_array_equal(
        np.take_along_axis(np.asarray(ranks(jnp.asarray(values))), exact, axis=1)[0], np.arange(513)
    )
    many = np.zeros((1, 2**16 + 1), np.float32)
    many[0, -1] = 1
    np.testing.assert_array_equal(descending(jnp.asarray(many))[0, :3], [2**16, 0, 1])


@pytest.mark.parametrize(
    "metric",
    [
        lambda a: metrics.pointing_game(a, MASK),
        lambda a: metrics.relevance_mass_accuracy(a, MASK),
        lambda a: metrics.relevance_rank_accuracy(a, MASK),
        lambda a: metrics.top_k_intersection(a, MASK, k=2),
        lambda a: metrics.attribution_localisation(a, MASK),
        lambda a: metrics.auc(a, MASK),
        lambda a: metrics.focus(a[:, :, :2], jnp.eye(4)[:1]),
        metrics.sparseness,
        metrics.complexity,
        metrics.effective_complexity,
        *(lambda a, m=m: m(a, MASK) for m in (metrics.pcc, metrics.rank_correlation, metrics.sim, metrics.kl)),
        *(lambda a, m=m: m(a, MASK) for m in (metrics.nss, metrics.auc_judd)),
        lambda a: metrics.deletion(lambda x: x.sum(axis=(1, 2)), steps=3, of="output")(A[..., None], attribution=a),
        lambda a: metrics.monotonicity(lambda x: x.sum(axis=(1, 2)), of="output")(A[..., None], attribution=a),
    ],
)
def test_a_traced_map_with_nan_has_no_answer(metric):
    broken = A.at[0, 0, 1].set(jnp.nan)
    assert np.isfinite(jax.jit(metric)(A)).all()
    assert np.isnan(jax.jit(metric)(broken)).all()
