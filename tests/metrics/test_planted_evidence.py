"""Metrics rank perfect, good and random attributions rightly where the evidence is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import metrics
from tests import planted

KEY = jax.random.key(5)
with jax.enable_x64(False):
    DATA = planted.images(8, jax.random.key(8))
MASKS = planted.masks(DATA.boxes)
NOISE = jax.random.normal(jax.random.key(6), MASKS.shape)
MAPS = {
    "perfect": MASKS + 1e-3 * jax.random.uniform(KEY, MASKS.shape),
    "gradient": jaxplain.heatmap(jaxplain.input_x_gradient(planted.network))(DATA.images, target=DATA.labels),
    "noisy": MASKS + 0.5 * NOISE,
    "random": NOISE,
    "wrong": jnp.roll(MASKS, 16, axis=2) + 1e-3 * jax.random.uniform(KEY, MASKS.shape),
}
MAPS = {name: a.astype(jnp.float32) for name, a in MAPS.items()}
HIGHER, LOWER = 1, -1
OF_NETWORKS = {
    "deletion": (metrics.deletion, {"steps": 16}, LOWER),
    "insertion": (metrics.insertion, {"steps": 16, "baseline": "mean"}, HIGHER),
    "pixel_flipping": (metrics.pixel_flipping, {"features_in_step": 32}, LOWER),
    "pixel_flipping_lerf": (metrics.pixel_flipping, {"features_in_step": 32, "order": "lerf"}, HIGHER),
    "region_perturbation": (metrics.region_perturbation, {"patch_size": 4, "regions_evaluation": 20}, HIGHER),
    "selectivity": (metrics.selectivity, {"patch_size": 4}, LOWER),
    "irof": (metrics.irof, {"segments": np.kron(np.arange(64).reshape(8, 8), np.ones((4, 4), int))}, HIGHER),
    "road": (metrics.road, {"percentages": (3, 7, 12, 20)}, LOWER),
    "road_lerf": (metrics.road, {"percentages": (80, 90, 93), "order": "lerf"}, HIGHER),
    "road_combined": (metrics.road_combined, {"percentages": (7, 20, 93)}, HIGHER),
    "faithfulness_correlation": (metrics.faithfulness_correlation, {"subset_size": 300}, HIGHER),
    "sensitivity_n": (metrics.sensitivity_n, {"sizes": (64, 300), "samples": 40}, HIGHER),
    "average_drop": (metrics.average_drop, {}, LOWER),
}
OF_MAPS = {
    "pointing_game": (metrics.pointing_game, HIGHER),
    "relevance_mass_accuracy": (lambda a, m: metrics.relevance_mass_accuracy(jnp.maximum(a, 0), m), HIGHER),
    "relevance_rank_accuracy": (metrics.relevance_rank_accuracy, HIGHER),
    "top_k_intersection": (functools.partial(metrics.top_k_intersection, k=64), HIGHER),
    "attribution_localisation": (metrics.attribution_localisation, HIGHER),
    "auc": (metrics.auc, HIGHER),
    "pointing_game_near": (functools.partial(metrics.pointing_game, tolerance=1.5), HIGHER),
    "iou": (metrics.iou, HIGHER),
    "box_iou": (lambda a, m: metrics.box_iou(a, DATA.boxes[:, [1, 0, 3, 2]], threshold=0.6), HIGHER),
    "max_box_accuracy": (lambda a, m: metrics.max_box_accuracy(a, DATA.boxes[:, [1, 0, 3, 2]], steps=10), HIGHER),
    "auc_judd": (metrics.auc_judd, HIGHER),
    "nss": (metrics.nss, HIGHER),
    "sim": (metrics.sim, HIGHER),
    "kl": (metrics.kl, LOWER),
    "pcc": (metrics.pcc, HIGHER),
    "rank_correlation": (metrics.rank_correlation, HIGHER),
    "ssim": (metrics.ssim, HIGHER),
}


@pytest.mark.parametrize("name", OF_NETWORKS)
def test_metrics_of_networks(name):
    make, options, direction = OF_NETWORKS[name]
    metric = make(planted.network, **options)
    run = jax.jit(lambda a: metric(DATA.images, attribution=a, target=DATA.labels, key=KEY).mean())
    perfect, good, random = (direction * run(MAPS[key]) for key in ("perfect", "gradient", "random"))
    assert perfect > random
    assert good > random


@pytest.mark.parametrize("name", OF_MAPS)
def test_metrics_of_maps(name):
    metric, direction = OF_MAPS[name]
    run = jax.jit(lambda a: metric(a, MASKS).mean())
    scores = {key: direction * run(a) for key, a in MAPS.items()}
    assert scores["perfect"] >= scores["noisy"] > scores["random"]
    assert min(scores["perfect"], scores["gradient"]) > max(scores["random"], scores["wrong"])


def test_complexity():
    for metric, direction in ((metrics.sparseness, HIGHER), (metrics.complexity, LOWER)):
        perfect, random = (direction * metric(MAPS[key]) for key in ("perfect", "random"))
        assert (perfect > random).all()


def test_the_grid_pointing_game_on_mosaics():
    grids = metrics.grid_images(DATA.images, DATA.labels, KEY, grids=5)
    explain = jax.jit(jaxplain.input_x_gradient(planted.network))
    shares = []
    for cell in range(4):
        maps = explain(grids.images, target=grids.labels[:, cell])
        shares.append(metrics.grid_pointing_game(maps, cell))
        others = metrics.grid_pointing_game(maps, (cell + 1) % 4)
        assert (others < 0.1).all()
    assert np.min(shares) > 0.9
