"""XRAI against the numbers of the authors' library, and what its regions are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.perturbation import felzenszwalb, xrai
from tests.networks import DATA

PEER = np.load(DATA / "saliency_xrai.npz")
CASES = [tuple(map(int, row)) for row in PEER["cases"]]
LABELS = [*PEER["labels"]]
X = jax.random.normal(jax.random.key(0), (2, 12, 14, 3), jnp.float64)
W = jax.random.normal(jax.random.key(1), (12 * 14 * 3, 4), jnp.float64) * 0.05
SCALES = [np.arange(168).reshape(12, 14) // 21, np.arange(168).reshape(12, 14) % 14 // 5]
SMALL = {"segments": SCALES, "dilation": 1, "smallest": 4}


def network(x):
    return jnp.tanh(x.reshape(x.shape[0], -1) @ W)


def given(attribution):
    """A method that returns this attribution."""
    return lambda f: lambda x, *, target, key: jnp.asarray(attribution)


@pytest.mark.parametrize("i", range(len(CASES)), ids=lambda i: "dilation{}-smallest{}".format(*CASES[i]))
def test_the_authors_library(i):
    """The same attributions and segments of three scales, dilated: the same maps, ties and what is left included."""
    (dilation, smallest), a = CASES[i], PEER["attributions"]
    options = {"method": given(a), "dilation": dilation, "smallest": smallest}
    maps = jax.jit(lambda x: xrai(lambda x: x.sum(axis=(1, 2, 3)), segments=LABELS, **options)(x))(jnp.asarray(a))
    np.testing.assert_allclose(maps, PEER["maps"][i], rtol=1e-12)


def test_of_single_pixels_it_is_the_largest_of_integrated_gradients_from_black_and_white():
    pixels = np.arange(168).reshape(12, 14)
    maps = jax.jit(xrai(network, segments=pixels, dilation=0, smallest=1))(X, target=1)
    low, high = (np.array([e(x) for x in X]).reshape(2, 1, 1, 1) for e in (np.min, np.max))
    of = lambda x0: jaxplain.integrated_gradients(network, baseline=x0)(X, target=1)
    np.testing.assert_allclose(maps, ((of(low) + of(high)) / 2).max(axis=-1), rtol=1e-9)


def test_the_order_of_the_regions_does_not_depend_on_the_scale_and_the_sum_is_kept():
    a = jax.random.normal(jax.random.key(2), X.shape[:3], jnp.float64)
    maps, larger = (jax.jit(xrai(network, method=given(a * s), **SMALL))(X) for s in (1.0, 1e7))
    np.testing.assert_allclose(larger, 1e7 * maps, rtol=1e-12)
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), a.sum(axis=(1, 2)), rtol=1e-12)
    assert all(len(np.unique(m)) <= 12 for m in np.asarray(maps).round(10))


def test_segments_for_each_image_and_traced():
    make = lambda segments, **options: xrai(network, steps=3, **SMALL | {"segments": segments} | options)
    explain = lambda *given, **options: make(*given, **options)(X, target=0)
    shared = explain(SCALES)
    each = [np.stack([labels, labels[::-1]]) for labels in SCALES]
    maps = explain(each)
    np.testing.assert_allclose(maps[0], shared[0], rtol=1e-9)
    turned = explain([labels[::-1] for labels in SCALES])
    np.testing.assert_allclose(maps[1], turned[1], rtol=1e-9)
    np.testing.assert_allclose(explain([SCALES[0], each[1]])[0], shared[0], rtol=1e-9)
    traced = jax.jit(lambda segments: explain(segments, count=8))(each)
    np.testing.assert_allclose(traced, maps, rtol=1e-9)


def test_other_attributions_with_a_key_and_without_channels():
    noisy = lambda f: jaxplain.heatmap(jaxplain.smoothgrad(f, samples=2))
    key = jax.random.key(5)
    maps = jax.jit(xrai(network, method=noisy, **SMALL))(X, target=2, key=key)
    a = noisy(network)(X, target=2, key=key)
    np.testing.assert_allclose(maps, xrai(network, method=given(a), **SMALL)(X), rtol=1e-9)


def test_felzenszwalb_follows_edges():
    """Segments away from an edge have one colour, whatever the range, and larger scales make no more of them."""
    corner = np.add.outer(np.arange(24), np.arange(32)) < 28
    images = np.stack([np.where(corner, -3.0, 5.0), np.where(corner[:, ::-1], 0.1, 0.0)])[..., None]
    images = images * np.array([1.0, 0.5, -1.0])
    labels = felzenszwalb(images, smallest=30)
    assert labels.shape == (2, 24, 32)
    assert labels.dtype == np.int32
    for inside, segments in zip((corner, corner[:, ::-1]), labels, strict=True):
        assert segments[inside][0] != segments[~inside][-1]
        assert np.mean(segments[inside] == np.bincount(segments[inside]).argmax()) > 0.8
    np.testing.assert_array_equal(felzenszwalb(np.moveaxis(images, -1, 1), smallest=30, channels="first"), labels)
    noise = np.random.default_rng(0).normal(size=(1, 40, 40, 3))
    counts = [felzenszwalb(noise, scale=s, sigma=0.5, smallest=5).max() + 1 for s in (5, 50, 500)]
    assert counts[0] > counts[1] > counts[2] >= 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dilation": -1}, "dilation=-1 must be a number of pixels from 0"),
        ({"dilation": 1.5}, "dilation=1.5 must be a number of pixels from 0"),
        ({"smallest": 0}, "smallest=0 must be a positive integer"),
        ({"steps": 0}, "steps=0 must be a positive integer"),
        ({"segments": [SCALES[0], SCALES[1] * 0.5]}, "segments have dtype float64: pass an integer label"),
        ({"segments": []}, "segments is an empty list: pass the labels of one scale or more"),
        ({"segments": np.ones((3, 12, 14), int)}, r"segments have shape \(3, 12, 14\): pass \(12, 14\) for all images"),
        ({"method": given(np.ones((2, 6, 7)))}, r"method returned maps of shape \(2, 6, 7\): xrai takes \(2, 12, 14"),
    ],
)
def test_errors(options, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        xrai(network, **SMALL | options)(X)


def test_errors_of_images():
    with pytest.raises(ValueError, match=r"xrai explains images \(N, H, W, C\), got shape \(2, 4\)"):
        xrai(lambda x: x)(jnp.ones((2, 4)))
    with pytest.raises(ValueError, match=r"felzenszwalb needs the values of the images: call it outside of jax.jit"):
        jax.jit(felzenszwalb)(X)
    with pytest.raises(ValueError, match=r"scale=0 must be positive and sigma=0.8 not negative"):
        felzenszwalb(X, scale=0)
