"""Faithfulness by hand, against naive versions, and with every option."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import metrics
from jaxplain._images import gaussian_blur
from jaxplain.metrics.faithfulness._road import impute
from tests.networks import peer_numbers

PEERS, SHARED = peer_numbers("quantus_metrics.npz")
MODULE, VARIABLES, _ = PEERS["residual"]
COLOUR, TARGETS = (jnp.asarray(SHARED[key]) for key in ("images", "targets"))
ATTRIBUTION = jaxplain.input_x_gradient(MODULE.apply)(VARIABLES, COLOUR, target=TARGETS)
X = jnp.array([4.0, 3.0, 2.0, 1.0]).reshape(1, 2, 2, 1)
total = lambda x: x.sum(axis=(1, 2, 3))
close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)


network = jax.jit(MODULE.apply)


def probability(x):
    logits = network(VARIABLES, x)
    return np.asarray(jax.nn.softmax(logits, axis=1))[np.arange(len(x)), TARGETS]


def naive_curve(start, end, steps):
    """Pixels go from one image to the other, one example and one step at a time."""
    order = np.argsort(-np.asarray(ATTRIBUTION.sum(axis=-1)).reshape(4, -1), axis=1, kind="stable")
    curve = []
    for step in range(steps + 1):
        images = np.array(start).reshape(4, 64, 3)
        for image, final, pixels in zip(images, np.asarray(end).reshape(4, 64, 3), order, strict=True):
            gone = pixels[: step * 64 // steps]
            image[gone] = final[gone]
        curve.append(probability(jnp.asarray(images.reshape(4, 8, 8, 3))))
    return np.array(curve).T


@pytest.mark.parametrize("metric", [metrics.deletion, metrics.insertion])
@pytest.mark.parametrize("baseline", ["zero", "mean", "blur", "colour"])
def test_insertion_and_deletion_against_a_naive_version(metric, baseline):
    substrate = {
        "zero": jnp.zeros_like(COLOUR),
        "mean": jnp.broadcast_to(COLOUR.mean(axis=(1, 2), keepdims=True), COLOUR.shape),
        "blur": gaussian_blur(COLOUR, 5.0),
        "colour": jnp.broadcast_to(jnp.array([0.1, -0.2, 0.3]), COLOUR.shape),
    }[baseline]
    option = jnp.array([0.1, -0.2, 0.3]) if baseline == "colour" else baseline
    make = functools.partial(metric, MODULE.apply, steps=9, baseline=option)
    run = lambda curve, x: make(curve=curve)(VARIABLES, x, attribution=ATTRIBUTION, target=TARGETS)
    curve, area = jax.jit(lambda x: (run(True, x), run(False, x)))(COLOUR)
    ends = (COLOUR, substrate) if metric is metrics.deletion else (substrate, COLOUR)
    close(curve, naive_curve(*ends, 9))
    close(area, ((curve[:, 1:] + curve[:, :-1]) / 2).mean(axis=1))


def test_removal_by_hand():
    close(metrics.deletion(total, steps=2, of="output", curve=True)(X, attribution=X), [[10, 3, 0]])
    close(metrics.pixel_flipping(total, of="output", order="lerf", curve=True)(X, attribution=X), [[9, 7, 4, 0]])
    close(metrics.pixel_flipping(total, of="output", features_in_step=3, curve=True)(X, attribution=X), [[1, 0]])
    close(metrics.region_perturbation(total, patch_size=1, of="output", order="lerf")(X, attribution=X), 20 / 5)
    first_two = metrics.region_perturbation(total, patch_size=1, of="output", regions_evaluation=2)
    close(first_two(X, attribution=X), (4 + 7) / 3)


def test_equal_attributions_go_in_the_order_of_the_rows():
    for even in (jnp.zeros((1, 2, 2)), -jnp.zeros((1, 2, 2)), jnp.array([[[0.0, -0.0], [0.0, -0.0]]])):
        for order in ("morf", "lerf"):
            curve = metrics.pixel_flipping(total, of="output", order=order, curve=True)(X, attribution=even)
            close(curve, [[6, 3, 1, 0]])


def test_monotonicity():
    metric = metrics.monotonicity(total, of="output")
    x = jnp.array([4.0, -3.0, 2.0, 1.0]).reshape(1, 2, 2, 1)
    assert metric(X, attribution=X) == 1
    assert metric(x, attribution=x) == 0  # 1, 3, 0, 4
    assert metric(-X, attribution=X) == 0
    pairs = metrics.monotonicity(total, of="output", features_in_step=3)
    assert pairs(x, attribution=x) == 1  # 0, 4


def test_zeros_of_both_signs_are_equal_also_where_the_map_is_a_constant_of_the_program():
    maps = np.array([[[-0.0, 0.0, -0.0, 0.0, 1.0, -1.0]]], np.float32)
    x = np.arange(1.0, 7.0, dtype=np.float32).reshape(1, 1, 6, 1)
    metric = metrics.pixel_flipping(total, order="lerf", of="output", curve=True)
    close(jax.jit(lambda x: metric(x, attribution=maps))(x), [[15, 14, 12, 9, 5, 0]])


def test_images_of_few_rows_and_many_channels():
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 8, 5))
    layout = ("NHWC", "HWIO", "NHWC")
    conv = lambda x: jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout).mean((1, 2))
    x = jax.random.normal(jax.random.key(1), (2, 4, 16, 8))  # (N, H, W, C), and not (N, C, H, W)
    metric = metrics.deletion(conv, steps=5)
    close(metric(x, attribution=x), metric(x, attribution=x.sum(axis=3)))


def test_labels_of_segments_begin_with_0():
    with pytest.raises(ValueError, match="labels -1 to 0: number them from 0"):
        metrics.irof(total, segments=np.array([[-1, 0], [0, 0]]))


def test_irof_with_as_many_segments_as_each_image_has():
    halves, whole = jnp.array([[0, 0], [2, 2]]), jnp.zeros((2, 2), int)  # nothing has the number 1
    x = jnp.concatenate([X, X])
    options = {"segments": jnp.stack([halves, whole]), "baseline": 0.0, "of": "output"}
    close(metrics.irof(total, **options, curve=True)(x, attribution=x), [[0.3, 0, 0], [0, 0, 0]])
    close(metrics.irof(total, **options)(x, attribution=x), [(1 - 1.3 / 2) + (1 - 0.3 / 2), 1 / 2])


def test_road_imputes_what_neighbours_say():
    """A hidden pixel in a linear image keeps its value, and one among known ones is their weighted mean."""
    ramp = jnp.broadcast_to(jnp.arange(7.0).reshape(1, 1, 7, 1), (1, 6, 7, 2)) * jnp.array([1.0, -2.0]).reshape(
        1, 1, 1, 2
    )
    hidden = jnp.zeros((1, 6, 7), bool).at[0, 1:4, 2:5].set(True)
    close(impute(ramp, hidden), ramp, atol=1e-8)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(1, 3, 3, 1)))
    centre, corner = (jnp.zeros((1, 3, 3), bool).at[0, i, i].set(True) for i in (1, 0))
    v = x[0, :, :, 0]
    close(impute(x, centre)[0, 1, 1, 0], (v[0, 1] + v[1, 0] + v[1, 2] + v[2, 1]) / 6 + (v[::2, ::2]).sum() / 12)
    close(impute(x, corner)[0, 0, 0, 0], (2 * v[0, 1] + 2 * v[1, 0] + v[1, 1]) / 5)
    close(impute(x, ~corner)[0, :, :, 0], v[0, 0] * jnp.ones((3, 3)), atol=1e-8)


def test_road_removes_with_noise():
    brightest = lambda x: jnp.stack([jnp.abs(x).max(axis=(1, 2, 3)), 0.5 + 0 * x[:, 0, 0, 0]], axis=1)
    x = jnp.zeros((2, 5, 5, 1)).at[:, 2, 2].set(1.0)
    make = functools.partial(metrics.road, brightest, percentages=[0, 5, 60], curve=True)
    key = jax.random.key(0)
    close(make()(x, attribution=x, target=0, key=key), [[1, 0, 0]] * 2)
    close(make(order="lerf")(x, attribution=x, target=0, key=key), [[1, 1, 1]] * 2)
    close(make(noise=5.0)(x, attribution=x, target=0, key=key)[:, 2], [1, 1])  # the noise is what is brightest
    close(make(noise=0.0)(x, attribution=x), [[1, 0, 0]] * 2)


def test_effects_of_a_linear_network_are_its_attribution():
    """The gradient times the input says exactly what removing pixels does, whatever the sets."""
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(8, 8, 3)))
    f = lambda x: jnp.einsum("nhwc,hwc->n", x, weights)
    a = jaxplain.input_x_gradient(f)(COLOUR)
    key = jax.random.key(0)
    one, zero = np.ones(4), np.zeros(4)
    close(metrics.faithfulness_correlation(f, subset_size=9)(COLOUR, attribution=a, key=key), one)
    close(
        metrics.sensitivity_n(f, sizes=(1, 30), samples=9, curve=True)(COLOUR, attribution=a, key=key), np.ones((4, 2))
    )
    close(metrics.faithfulness_estimate(f)(COLOUR, attribution=a), one)
    positive = lambda x: jnp.einsum("nhwc,hwc->n", x, jnp.abs(weights))
    bright = jnp.abs(COLOUR)
    claims = jaxplain.input_x_gradient(positive)(bright)
    metric = metrics.monotonicity_correlation(positive, of="output", baseline=0.0)
    close(metric(bright, attribution=claims), one)
    gradient = jaxplain.gradient(f)(COLOUR)
    for options in ({}, {"patch_size": 3}, {"noise": 0.3}, {"masks": np.eye(64).reshape(64, 8, 8)[:5]}):
        metric = metrics.infidelity(f, **options, baseline="mean")
        close(metric(COLOUR, attribution=gradient, key=key), zero, atol=1e-20)
        assert (metric(COLOUR, attribution=-gradient, key=key) > 1e-3).all()


def test_infidelity_of_noise_by_its_expectation():
    """For a linear network and the attribution 0: E[(noise · w)²] = σ² Σ w²."""
    weights = jnp.arange(1.0, 4.0)
    f = lambda x: x.sum(axis=(1, 2)) @ weights
    metric = metrics.infidelity(f, noise=0.5, samples=4000, chunk=500)
    error = jax.jit(lambda x: metric(x, attribution=0 * x, key=jax.random.key(0)))(COLOUR[:1, :2, :2])
    np.testing.assert_allclose(error, 0.25 * 4 * 14, rtol=0.1)


def test_sets_are_drawn_without_replacement_and_for_each_example():
    ones = jnp.ones((3, 5, 5, 1))
    metric = metrics.faithfulness_correlation(lambda x: x[:, 0, 0, 0], samples=200, subset_size=10)
    seen = []
    f = lambda x: (jax.debug.callback(lambda x: seen.append(x), x), x[:, 0, 0, 0])[1]
    metric = metrics.faithfulness_correlation(f, samples=30, subset_size=10, chunk=1)
    metric(ones, attribution=ones, key=jax.random.key(0))
    jax.effects_barrier()
    removed = np.array([x == 0 for x in seen if (x == 0).any()]).reshape(-1, 3, 25)
    assert len(removed) == 30
    assert (removed.sum(axis=2) == 10).all()
    assert (removed[:, 0] != removed[:, 1]).any()
    assert (removed.mean(axis=(0, 1)) > 0.2).all()  # every pixel comes, 0.4 on average


def test_confidence_by_hand():
    shown = jnp.array([[[8.0, 8.0], [4.0, -8.0]]])  # 1, 1, 1/2, 0
    close(metrics.average_drop(total, of="output")(X, attribution=shown), 0.2)
    close(metrics.average_drop(total, of="output", baseline=1.0)(X, attribution=shown), (10 - 9.5) / 10)
    close(metrics.average_drop(total, of="output")(X, attribution=-X), 1)  # nothing is shown
    close(metrics.average_drop(total, of="output")(X, attribution=jnp.ones_like(X)), 0)
    up = X * jnp.array([1.0, 1.0, 1.0, -1.0]).reshape(1, 2, 2, 1)
    assert metrics.increase_in_confidence(total, of="output")(up, attribution=up > 0) == 1
    assert metrics.increase_in_confidence(total, of="output")(X, attribution=X) == 0


def test_average_gain_is_what_average_drop_is_not():
    tenth = lambda x: 0.05 * total(x)
    up = X * jnp.array([1.0, 1.0, 1.0, -1.0]).reshape(1, 2, 2, 1)  # 0.4, and 0.45 without what is negative
    gain, drop = metrics.average_gain(tenth, of="output"), metrics.average_drop(tenth, of="output")
    close(gain(up, attribution=up > 0), 0.05 / 0.6)
    close(drop(up, attribution=up > 0), 0)
    close(gain(up, attribution=up > 3), 0)
    close(drop(up, attribution=up > 3), 0.2 / 0.4)
    certain = metrics.average_gain(lambda x: 1 + 0 * total(x), of="output")
    close(certain(X, attribution=X), 0)  # there is no doubt
    shown = jnp.asarray(np.random.default_rng(2).uniform(size=(4, 8, 8)))
    gains, drops = (
        jax.jit(metric(MODULE.apply))(VARIABLES, COLOUR, attribution=shown, target=TARGETS)
        for metric in (metrics.average_gain, metrics.average_drop)
    )
    visible = shown / shown.max(axis=(1, 2), keepdims=True)
    before, after = probability(COLOUR), probability(COLOUR * visible[..., None])
    close(gains * (1 - before) - drops * before, after - before)
    assert ((gains == 0) == (after <= before)).all()


# ------------------------------------------------------------------------------------------ examples with the same map


FOUR = jnp.array([[4.0, 3.0], [5.0, 1.0], [2.0, 9.0], [1.0, 8.0]]).reshape(4, 1, 2, 1)  # classes 0, 0, 1, 1
first_row = lambda x: x[:, 0, :, 0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"discretise": "sign"}, [1 / 2, 1 / 2, 0, 0]),
        ({"discretise": "rank"}, [1, 1, 1, 1]),
        ({"n": 1}, [1, 1, 0, 0]),
        ({"discretise": lambda a: 0 * a}, [1 / 3] * 4),
        ({"discretise": lambda a: a[:, None] > 0}, [1 / 2, 1 / 2, 0, 0]),
    ],
)
def test_consistency_by_hand(options, expected):
    a = jnp.array([[1.0, 0.5], [1.0, 0.2], [-2.0, 1.0], [0.1, 3.0]]).reshape(4, 1, 2)
    close(jax.jit(metrics.consistency(first_row, **options))(FOUR, attribution=a), expected)


def test_consistency_of_maps_that_tell_the_class_is_1():
    """Of which only the largest values count, wherever they are in the image."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(12, 8, 8, 1)))
    network = lambda x: x.reshape(-1, 64)[:, :2]
    told = jax.nn.one_hot(network(x).argmax(axis=1) + 40, 64) + 0.01 * jnp.asarray(rng.normal(size=(12, 64)))
    measure = lambda a, **options: metrics.consistency(network, n=1, **options)(x, attribution=a.reshape(12, 8, 8))
    close(measure(told), 1)
    close(measure(1e-30 * told), 1)
    assert (measure(told[::-1]) < 1).any()
    close(measure(told, discretise="sign"), 0)  # no two are the same


# ----------------------------------------------------------------------------------------------------- ROAD of a score


def test_road_of_scores():
    """A pixel among zeros: what is imputed for it is 0, and its own value where it stays."""
    x = jnp.zeros((1, 4, 4, 1)).at[0, 2, 2].set(32.0)
    two = lambda x: jnp.stack([x.mean(axis=(1, 2, 3)), 0 * x[:, 0, 0, 0]], axis=1)
    run = lambda metric, **options: metric(two, percentages=[0, 10], noise=0.0, curve=True, **options)(
        x, attribution=x, target=0
    )
    sure = 1 / (1 + np.exp(-2))
    close(run(metrics.road, of="output"), [[2, 0]])
    close(run(metrics.road, of="probability"), [[sure, 0.5]])
    close(run(metrics.road, of="output", order="lerf"), [[2, 2]])
    close(run(metrics.road_combined, of="output"), [[0, 1]])
    close(run(metrics.road_combined), [[0, (sure - 0.5) / 2]])
    close(run(metrics.road_combined, of="prediction"), [[0, 0]])  # of equal outputs, the first is predicted
    margin = lambda z: z[:, 0] - z[:, 1]
    close(metrics.road(two, percentages=[10], noise=0.0, of="output")(x, attribution=x, target=margin), 0)


def test_road_combined_is_made_of_both_orders():
    x, a, key = COLOUR, ATTRIBUTION, jax.random.key(1)
    make = {"percentages": (20, 70), "noise": 0.3}
    run = lambda metric, **how: jax.jit(metric(MODULE.apply, **make, **how))(
        VARIABLES, x, attribution=a, target=TARGETS, key=key
    )
    for of in ("prediction", "output"):
        morf, lerf = (run(metrics.road, of=of, order=order) for order in ("morf", "lerf"))
        close(run(metrics.road_combined, of=of), (lerf - morf) / 2)


def test_targets_in_every_form():
    margin = lambda p: p[:, 1] - p[:, 0]
    run = lambda target, apply=MODULE.apply, **options: metrics.deletion(apply, steps=5, **options)(
        VARIABLES, COLOUR, attribution=ATTRIBUTION, target=target
    )
    close(run(jnp.full(4, 1)), run(1))
    close(run(jax.nn.one_hot(jnp.full(4, 1), 4)), run(1))
    close(run(margin), run(1) - run(0))
    close(run(None, lambda v, x: MODULE.apply(v, x)[:, 1], of="output"), run(1, of="output"))
    close(run(None, lambda v, x: MODULE.apply(v, x)[:, 1]), run(1, of="output"))  # which has no classes


def test_misuse():
    measure = lambda metric, x=X, **call: metric(x, **{"attribution": x, **call})
    cases = [
        (metrics.deletion(total, steps=5, of="output"), {}, "more than the image has pixels"),
        (metrics.deletion(total, baseline="black", steps=2, of="output"), {}, "choose zero, mean or blur"),
        (metrics.deletion(total, steps=2, of="output"), {"attribution": X[:, :1]}, "does not belong"),
        (metrics.deletion(total, steps=2, of="output"), {"attribution": X * jnp.nan}, "NaN"),
        (metrics.deletion(total, steps=2, of="output"), {"x": X[0]}, r"images \(N, H, W, C\)"),
        (metrics.irof(total, segments=np.zeros((3, 3), int), of="output"), {}, "do not belong"),
        (metrics.road(lambda x: x[:, 0, :, 0], noise=0), {"target": lambda y: y[:, 0]}, "road needs a class"),
        (metrics.road(total, noise=0), {"target": 1}, "road needs outputs"),
        (metrics.road_combined(total), {}, "road_combined draws random numbers"),
        (metrics.consistency(total), {}, "consistency needs outputs"),
        (metrics.faithfulness_correlation(total), {"key": jax.random.key(0)}, "224 pixels is no part"),
        (metrics.faithfulness_correlation(total, masks=np.ones((2, 3, 3))), {}, "stack sets of pixels"),
    ]
    for metric, call, message in cases:
        with pytest.raises(ValueError, match=message):
            measure(metric, **call)
    makers = [
        (lambda: metrics.pixel_flipping(total, order="random"), "choose morf"),
        (lambda: metrics.road(total, percentages=[100]), r"\[0, 100\)"),
        (lambda: metrics.road_combined(total, percentages=[]), r"\[0, 100\)"),
        (lambda: metrics.road(total, of="accuracy"), "choose prediction, output, probability"),
        (lambda: metrics.consistency(total, discretise="round"), "choose top_n_sign, sign, rank"),
        (lambda: metrics.consistency(total, n=0), "positive integer"),
        (lambda: metrics.infidelity(total, masks=np.ones((1, 2, 2)), noise=1.0), "one of them"),
        (lambda: metrics.irof(total, segments=np.zeros((2, 2))), "known integers"),
        (lambda: metrics.deletion(total, steps=0), "positive integer"),
        (lambda: metrics.region_perturbation(total, regions_evaluation=0), "positive integer"),
    ]
    for make, message in makers:
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(TypeError, match="attribution"):
        metrics.deletion(total)(X)
    with pytest.raises(TypeError, match=r"pass `model\.apply`"):
        metrics.deletion(MODULE)
    with pytest.raises(TypeError, match="no explainer"):
        metrics.max_sensitivity(MODULE.bind(VARIABLES).variables)
