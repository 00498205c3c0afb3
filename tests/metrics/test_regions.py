"""Regions above a threshold and the boxes around them: by hand, by scikit-image, and what must not matter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import measure

from jaxplain import metrics
from jaxplain.metrics._localisation import dilated
from jaxplain.metrics._regions import above, parts

RNG = np.random.default_rng(0)
MAPS = jnp.asarray(RNG.normal(size=(3, 13, 17)) + 2 * (RNG.random((3, 13, 17)) > 0.7))
BOXES = jnp.array([[2, 1, 9, 8], [0, 0, 17, 13], [5, 5, 6, 12]])
close = functools.partial(np.testing.assert_allclose, rtol=1e-12)

SNAKE = np.array([[1, 1, 1, 1, 1], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
SPIRAL = np.array(
    [
        [1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 1],
        [1, 1, 1, 1, 1, 0, 1],
        [1, 0, 0, 0, 1, 0, 1],
        [1, 0, 1, 1, 1, 0, 1],
        [1, 0, 0, 0, 0, 0, 1],
        [1, 1, 1, 1, 1, 1, 1],
    ]
)


# ------------------------------------------------------------------------------------------------------- pointing game


def test_the_pointing_game_with_tolerance():
    a = jnp.zeros((1, 9, 9)).at[0, 4, 4].set(1.0)
    for row, column in ((4, 4), (4, 7), (6, 6), (7, 7), (0, 0)):
        mask = jnp.zeros((1, 9, 9), bool).at[0, row, column].set(True)
        distance = np.hypot(row - 4, column - 4)
        assert metrics.pointing_game(a, mask, tolerance=distance) == 1
        assert metrics.pointing_game(a, mask, tolerance=max(0, distance - 1e-6)) == (distance == 0)
    corner = jnp.zeros((1, 9, 9), bool).at[0, 0, 0].set(True)
    assert metrics.pointing_game(a.at[0, 8, 8].set(2.0), corner, tolerance=11.0) == 0
    assert metrics.pointing_game(a.at[0, 8, 8].set(2.0), corner, tolerance=11.4) == 1  # farther than the image is wide
    assert np.isnan(metrics.pointing_game(a, 0 * a, tolerance=20))


@pytest.mark.parametrize("radius", [0.0, 0.9, 1.0, 2.3, 5.0, 40.0])
def test_what_is_near_a_mask(radius):
    inside = RNG.random((2, 13, 17)) < 0.02
    inside[0, 3, 4] = inside[1, 12, 16] = True
    rows, columns = np.mgrid[:13, :17]
    for mask, near in zip(inside, dilated(jnp.asarray(inside), radius), strict=True):
        distances = np.hypot(rows[..., None] - rows[mask], columns[..., None] - columns[mask])
        np.testing.assert_array_equal(near, distances.min(axis=-1) <= radius)


# ------------------------------------------------------------------------------------------------------------- regions


def test_iou_by_hand():
    a = jnp.array([[[0.0, 0.2], [0.6, 1.0]]])
    mask = jnp.array([[[1, 0], [0, 1]]])
    for threshold, expected in ((0.0, 2 / 4), (0.1, 1 / 4), (0.5, 1 / 3), (1.0, 1 / 2)):
        close(metrics.iou(a, mask, threshold=threshold), expected)
    assert metrics.iou(a, a > 0.1) == 1
    assert metrics.iou(jnp.ones((1, 2, 2)), mask) == 0  # a constant map has no region
    assert np.isnan(metrics.iou(a, 0 * mask))


@pytest.mark.parametrize("change", [lambda a: 1e-30 * a, lambda a: 3e30 * a, lambda a: a + 5, lambda a: a[..., None]])
def test_units_and_offsets_do_not_matter(change):
    a = MAPS.astype(jnp.float32)
    close(metrics.iou(change(a), a > 1), metrics.iou(a, a > 1))
    close(metrics.box_iou(change(a), BOXES, threshold=0.6), metrics.box_iou(a, BOXES, threshold=0.6))


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8])
def test_parts_are_those_of_skimage(share):
    regions = [RNG.random((31, 23)) < share for _ in range(3)]
    regions += [SNAKE, SPIRAL, SPIRAL.T, np.zeros((4, 5)), np.ones((4, 5)), np.eye(6)]
    for region in regions:
        ours, theirs = np.asarray(parts(jnp.asarray(region) != 0)), measure.label(region, connectivity=2)
        np.testing.assert_array_equal(ours >= 0, theirs > 0)
        pairs = set(zip(ours.ravel().tolist(), theirs.ravel().tolist(), strict=True))
        assert len(pairs) == len(np.unique(theirs)) == len(np.unique(ours))  # one of ours for one of theirs
        assert all(ours.ravel()[number] == number for number in np.unique(ours) if number >= 0)


def naive_iou(box, other):
    """Of two boxes of left, top, right, bottom, as sets of pixels."""
    pixels = [{(x, y) for x in range(b[0], b[2]) for y in range(b[1], b[3])} for b in (box, other)]
    return len(pixels[0] & pixels[1]) / len(pixels[0] | pixels[1])


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.6, 0.8, 1.0])
def test_boxes_are_those_of_skimage(threshold, largest):
    ours = metrics.box_iou(MAPS, BOXES, threshold=threshold, largest=largest)
    regions = np.asarray(above(MAPS, threshold))
    for region, box, value in zip(regions, BOXES.tolist(), ours, strict=True):
        found = measure.regionprops(measure.label(region, connectivity=2))
        best = max(part.area for part in found)
        chosen = [part.bbox for part in found if part.area == best or not largest]
        overlaps = [naive_iou((left, top, right, bottom), box) for top, left, bottom, right in chosen]
        assert any(value == pytest.approx(overlap) for overlap in overlaps)
        assert largest or value == pytest.approx(max(overlaps))


def test_a_box_known_exactly():
    a = jnp.zeros((1, 6, 8)).at[0, 1:4, 2:7].set(1.0).at[0, 5, 0].set(1.0)
    run = lambda box, **options: metrics.box_iou(a, jnp.array([box]), **options)
    close(run([2, 1, 7, 4]), 1)
    close(run([2, 1, 7, 5]), 15 / 20)
    close(run([0, 5, 1, 6]), 0)
    close(run([0, 5, 1, 6], largest=False), 1)
    close(run([[0, 5, 1, 6], [2, 1, 7, 5], [0, 0, 0, 0]]), 15 / 20)  # the best of two objects
    close(run([2.0, 1.0, 7.0, 2.5]), 7.5 / 15)  # boxes may end within pixels
    assert np.isnan(run([3, 3, 3, 6]))
    assert np.isnan(run([[0, 0, 0, 0], [5, 5, 4, 9]]))
    assert metrics.box_iou(jnp.ones((1, 6, 8)), jnp.array([[0, 0, 8, 6]])) == 0  # a constant map has no region


# ---------------------------------------------------------------------------------------------------------- MaxBoxAcc


def test_max_box_accuracy_takes_one_threshold_for_all():
    """One object needs a threshold up to 0.3, the other one from 0.5 on; two of them the first."""
    steps = jnp.array([1.0, 0.4, 0.2, 0.0])
    a = jnp.stack([steps, steps, steps])[:, None]
    boxes = jnp.array([[0, 0, 2, 1], [0, 0, 2, 1], [0, 0, 1, 1]])
    run = functools.partial(metrics.max_box_accuracy, iou=0.9, steps=10)
    np.testing.assert_array_equal(run(a, boxes), [1, 1, 0])
    np.testing.assert_array_equal(run(a[1:], boxes[1:]).mean(), 0.5)
    np.testing.assert_array_equal(run(a[2:], boxes[2:]), [1])  # alone it is found
    curve = run(a, boxes, curve=True)
    np.testing.assert_array_equal(curve[0], [0, 0, 0, 1, 1, 0, 0, 0, 0, 0])  # above 0.2, up to 0.4
    np.testing.assert_array_equal(curve[2], [0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    without = boxes.at[0].set(0)
    np.testing.assert_array_equal(run(a, without), [np.nan, 1, 0])
    np.testing.assert_array_equal(run(a, jnp.stack([boxes, without], axis=1)), [1, 1, 0])


def test_accuracies_are_those_of_the_overlaps():
    thresholds = np.arange(8) / 8
    overlaps = np.stack([metrics.box_iou(MAPS, BOXES, threshold=t) for t in thresholds], axis=1)
    for iou in (0.3, 0.5):
        for chunk in (None, 3):
            curve = metrics.max_box_accuracy(MAPS, BOXES, iou=iou, steps=8, curve=True, chunk=chunk)
            np.testing.assert_array_equal(curve, overlaps >= iou)
        value = metrics.max_box_accuracy(MAPS, BOXES, iou=iou, steps=8)
        assert value.mean() == (overlaps >= iou).mean(axis=0).max()


METRICS = {
    "pointing_game": lambda a, boxes: metrics.pointing_game(a, MAPS > 1, tolerance=1.5),
    "iou": lambda a, boxes: metrics.iou(a, MAPS > 1),
    "box_iou": lambda a, boxes: metrics.box_iou(a, boxes),
    "every_box_iou": lambda a, boxes: metrics.box_iou(a, boxes, largest=False, threshold=0.7),
    "max_box_accuracy": lambda a, boxes: metrics.max_box_accuracy(a, boxes, steps=5, curve=True),
}


@pytest.mark.parametrize("name", METRICS)
def test_jit_vmap_and_batches(name):
    metric, box = METRICS[name], BOXES.astype(jnp.float32)
    values = metric(MAPS, box)
    np.testing.assert_array_equal(jax.jit(metric)(MAPS, box), values)
    mapped = jax.vmap(metric)(jnp.stack([MAPS, -MAPS]), jnp.stack([box, box]))
    np.testing.assert_array_equal(mapped[0], values)
    np.testing.assert_array_equal(mapped[1], metric(-MAPS, box))
    assert np.isnan(jax.jit(metric)(MAPS.at[1, 2, 3].set(jnp.nan), box)).reshape(3, -1).any(axis=1).tolist()[1]
    if "box" in name:
        np.testing.assert_array_equal(metric(MAPS[1:2], box[1:2])[0], values[1])
        (n,) = jax.export.symbolic_shape("n")
        shapes = [jax.ShapeDtypeStruct((n, *v.shape[1:]), v.dtype) for v in (MAPS, box)]
        assert jax.export.export(jax.jit(metric))(*shapes).out_avals[0].shape[0] == n


def test_misuse():
    cases = [
        (lambda: metrics.pointing_game(MAPS, MAPS > 1, tolerance=-1.0), "tolerance=-1.0 must be a number of pixels"),
        (lambda: metrics.iou(MAPS, MAPS > 1, threshold=20), "threshold=20 must be a share of the map's range"),
        (lambda: metrics.iou(MAPS, MAPS[:2] > 1), "pass one of"),
        (lambda: metrics.box_iou(MAPS, BOXES, threshold=-0.1), "between 0 and 1"),
        (lambda: metrics.box_iou(MAPS, BOXES[:2]), r"pass left, top, right and bottom for each map, \(3, 4\)"),
        (lambda: metrics.box_iou(MAPS, MAPS > 1), "boxes have shape"),
        (lambda: metrics.box_iou(MAPS * jnp.nan, BOXES), "NaN"),
        (lambda: metrics.max_box_accuracy(MAPS, BOXES, iou=0), "iou=0 must be a share"),
        (lambda: metrics.max_box_accuracy(MAPS, BOXES, steps=0), "positive integer"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
