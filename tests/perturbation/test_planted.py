"""Planted evidence: what the methods mark, and how many masks they can take at the same memory."""

import jax
import numpy as np
import pytest

import jaxplain
from jaxplain import perturbation
from tests import planted

FEW = planted.images(4, jax.random.key(2))
SEGMENTS = perturbation.grid_segments((planted.SIZE, planted.SIZE), (8, 8))  # half as wide as the patch
LENGTHS = {"step": 2, "sigma": 4.0, "max_blur": 5.0}

# method: (options for images of 32 pixels, what else makes it quick)
METHODS = {
    "occlusion": ({"window": (4, 4), "stride": (2, 2)}, {}),
    "feature_ablation": ({"segments": SEGMENTS}, {}),
    "xrai": ({"segments": SEGMENTS, "dilation": 0, "smallest": 1}, {"steps": 10}),
    "rise": ({}, {"masks": 400}),
    "lime": ({"segments": SEGMENTS}, {"samples": 300}),
    "kernel_shap": ({"segments": SEGMENTS}, {"samples": 300}),
    "sobol": ({"segments": SEGMENTS}, {"samples": 8}),
    "hsic": ({"segments": SEGMENTS}, {"samples": 256}),
    "meaningful_perturbation": ({"factor": 2, "mask_blur": 1.0, "image_blur": 5.0, "jitter": 1}, {"steps": 30}),
    "extremal_perturbation": ({"areas": (0.05,), **LENGTHS}, {"steps": 40}),
    "fgvis": ({}, {"steps": 30}),
    "adversarial_gradient_integration": ({}, {"steps": 5}),
    "perceptual_ball": ({"blur": 0.3, "gamma": 1.0}, {"steps": 20}),
    "similar_adversarial": ({}, {"steps": 15}),
    "deepfool": ({}, {}),
}


def found(name, data, **options):
    explain = jaxplain.heatmap(getattr(perturbation, name)(planted.network, **options), "norm")
    maps = jax.jit(explain)(data.images, target=data.labels, key=jax.random.key(1))
    return int(planted.inside(maps, data.boxes).sum())


@pytest.mark.parametrize("name", METHODS)
def test_the_maximum_is_in_the_patch(name):
    options, quick = METHODS[name]
    assert found(name, FEW, **options, **quick) >= 3


@pytest.mark.parametrize("name", METHODS)
def test_of_a_hundred_images(name):
    assert found(name, planted.images(100, jax.random.key(0)), **METHODS[name][0]) >= 95


@pytest.mark.parametrize(
    ("name", "few", "many"),
    [
        ("rise", {"masks": 512}, {"masks": 8192}),
        ("lime", {"segments": SEGMENTS, "samples": 512}, {"segments": SEGMENTS, "samples": 8192}),
        ("kernel_shap", {"segments": SEGMENTS, "samples": 512}, {"segments": SEGMENTS, "samples": 8192}),
        (
            "occlusion",
            {"window": (2, 2), "stride": (1, 2), "chunk": 8},
            {"window": (1, 1), "stride": (1, 1), "chunk": 8},
        ),
    ],
)
def test_memory_does_not_depend_on_the_number_of_masks(name, few, many):
    def peak(options):
        explain = jax.jit(getattr(perturbation, name)(planted.network, **options))
        compiled = explain.lower(FEW.images, target=FEW.labels, key=jax.random.key(0)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    np.testing.assert_allclose(peak(many), peak(few), rtol=0.1)
