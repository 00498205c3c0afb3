"""Agreement with Quantus 0.6, on the numbers that `benchmarks/peers/quantus_metrics.py` stored."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import metrics
from jaxplain.metrics._similarity import structural_similarity
from jaxplain.metrics.faithfulness._road import impute
from tests.networks import peer_numbers, variables_from

PEERS, SHARED = peer_numbers("quantus_metrics.npz")
COLOUR, GREY, TARGETS, MASKS, MAPS = (jnp.asarray(SHARED[k]) for k in ("images", "grey", "targets", "masks", "maps"))
BASELINE = SHARED["baseline"].item()

close = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6)
LAYERS = {"smooth": ["conv1", "conv2", "fc1"], "residual": ["relu1", "relu2", "head"]}
both_networks = pytest.mark.parametrize("name", PEERS)


def snake_case(name):
    """The name of a class as that of a function: ``SmoothMPRT`` is ``smooth_mprt``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?=[A-Z][a-z])(?<!^)", "_", name).lower()


def test_every_metric_of_quantus_is_here_by_its_name():
    names = {snake_case(name) for name in SHARED["classes"].tolist()}
    assert len(names) == 37
    assert names <= set(metrics.__all__)


def on_grey(name):
    """The network as a function of its variables and images of one channel, which it gets as three."""
    module = PEERS[name][0]
    return lambda variables, x: module.apply(variables, x * SHARED["colours"].reshape(1, 1, 1, 3))


def measured(name, make, **options):
    """A metric of the network on grey images and the stored attribution."""
    _, variables, own = PEERS[name]
    metric = make(on_grey(name), **options)
    run = jax.jit(lambda v, x, a: metric(v, x, attribution=a, target=TARGETS))
    return run(variables, GREY, jnp.asarray(own["attribution"]))


@both_networks
@pytest.mark.parametrize("features", [1, 4])
def test_pixel_flipping(name, features):
    own = PEERS[name][2]
    make = functools.partial(measured, name, metrics.pixel_flipping, features_in_step=features, baseline=BASELINE)
    close(make(curve=True), own[f"pixel_flipping/{features}/curve"])
    close(make(), own[f"pixel_flipping/{features}/area"])


@both_networks
@pytest.mark.parametrize("size", [2, 3])
def test_regions(name, size):
    own, options = PEERS[name][2], {"patch_size": size, "baseline": BASELINE, "curve": True}
    for order in ("morf", "lerf"):
        drops = measured(name, metrics.region_perturbation, order=order, regions_evaluation=7, **options)
        close(drops, own[f"region_perturbation/{size}/{order}"])
    close(measured(name, metrics.selectivity, **options), own[f"selectivity/{size}"])


@both_networks
def test_irof(name):
    """Quantus leaves the intact image out of the area."""
    own = PEERS[name][2]
    make = functools.partial(measured, name, metrics.irof, segments=own["irof_segments"], baseline=BASELINE)
    first = make(curve=True)[:, 0]
    close(make() + (1 + first) / 2, own["irof"])


@both_networks
@pytest.mark.parametrize("features", [1, 4])
def test_effects(name, features):
    own, options = PEERS[name][2], {"features_in_step": features, "baseline": BASELINE}
    close(measured(name, metrics.faithfulness_estimate, **options), own[f"faithfulness_estimate/{features}"])
    close(measured(name, metrics.monotonicity_correlation, **options), own[f"monotonicity_correlation/{features}"])


@both_networks
def test_faithfulness_correlation(name):
    own = PEERS[name][2]
    masks = own["faithfulness_correlation_masks"]
    close(
        measured(name, metrics.faithfulness_correlation, masks=masks, baseline=BASELINE),
        own["faithfulness_correlation"],
    )


@both_networks
def test_infidelity(name):
    """Quantus removes one patch after the other and puts none back."""
    patches = np.kron(np.eye(4).reshape(4, 2, 2), np.ones((1, 4, 4)))
    close(
        measured(name, metrics.infidelity, masks=patches.cumsum(axis=0), baseline=BASELINE),
        PEERS[name][2]["infidelity"],
    )


@both_networks
def test_non_sensitivity_and_sufficiency(name):
    own = PEERS[name][2]
    close(measured(name, metrics.non_sensitivity, eps=1e-2, baseline=BASELINE), own["non_sensitivity"])
    close(measured(name, metrics.sufficiency), own["sufficiency"])


@pytest.mark.parametrize("rule", ["top_n_sign", "sign", "rank"])
def test_consistency(rule):
    """Quantus' signs of the top values are those of the first values, and by default it sees no map at all."""
    module, variables, own = PEERS["residual"]
    x = jnp.asarray(SHARED["neighbours_within_3"].reshape(12, *COLOUR.shape[1:]), float)
    a = jnp.asarray(own["attribution"])[jnp.arange(12) % 4] * jnp.arange(1.0, 13.0).reshape(-1, 1, 1)
    discretise = (lambda a: jnp.sign(a)[:, :5]) if rule == "top_n_sign" else rule
    metric = jax.jit(metrics.consistency(module.apply, discretise=discretise))
    ours = metric(variables, x, attribution=a)
    close(ours, own[f"consistency/{rule}"])
    blind = metrics.consistency(module.apply, discretise=jnp.zeros_like)(variables, x, attribution=a)
    close(own["consistency/default"], np.tile(blind, (3, 1)))
    assert (ours != blind).any()


@both_networks
def test_road(name):
    own = PEERS[name][2]
    survived = measured(name, metrics.road, percentages=SHARED["percentages"].tolist(), noise=0.0, curve=True)
    close(survived.mean(axis=0), own["road"])
    places = (-own["attribution"].reshape(4, 64)).argsort(axis=1).argsort(axis=1).reshape(4, 8, 8)
    for i, percentage in enumerate(SHARED["percentages"]):
        close(impute(GREY, jnp.asarray(places < 64 * percentage // 100))[..., 0], own["imputed"][:, i])


@both_networks
@pytest.mark.parametrize("metric", ["max_sensitivity", "avg_sensitivity", "local_lipschitz_estimate"])
def test_robustness(name, metric):
    module, variables, own = PEERS[name]
    make = getattr(metrics, metric)(jaxplain.gradient(module.apply), noise=own["noise"], chunk=2)
    close(jax.jit(make)(variables, COLOUR, target=TARGETS), own[metric])


@both_networks
@pytest.mark.parametrize("absolute", [True, False])
def test_continuity(name, absolute):
    module, variables, own = PEERS[name]
    darkest = COLOUR.min(axis=(1, 2, 3), keepdims=True)
    metric = metrics.continuity(jaxplain.gradient(module.apply), steps=5, baseline=darkest, absolute=absolute)
    close(jax.jit(metric)(variables, COLOUR, target=TARGETS), own[f"continuity/{'absolute' if absolute else 'signed'}"])


@both_networks
@pytest.mark.parametrize("kind", ["Input", "Output", "Representation"])
def test_relative_stability(name, kind):
    """Near the input, and so far away that predictions change; divided by zeros, these are large numbers."""
    module, variables, own = PEERS[name]
    make, layers = getattr(metrics, f"relative_{kind.lower()}_stability"), LAYERS[name]
    make = functools.partial(make, layers=layers) if kind == "Representation" else make
    explain, gone = jaxplain.input_x_gradient(module.apply), 0
    for changes in ("nan", "keep"):

        @jax.jit
        def measure(noise, changes=changes):
            return make(explain, noise=noise, if_prediction_changes=changes)(variables, COLOUR, target=TARGETS)

        for distance in ("within_0.1", "within_3"):
            ours = measure(SHARED[f"neighbours_{distance}"].astype(float) - np.asarray(COLOUR))
            theirs = own[f"Relative{kind}Stability/{distance}/{changes}"]
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)
            gone += np.isnan(theirs).sum()
    assert gone == {"residual": 3, "smooth": 0}[name]


def test_random_logit():
    """With the maps as one row of pixels after the other, as Quantus compares them."""
    module, variables, own = PEERS["smooth"]
    in_a_row = lambda a, b: structural_similarity(a.reshape(4, -1), b.reshape(4, -1), 7)
    metric = metrics.random_logit(
        jaxplain.gradient(module.apply), other=own["random_logit_classes"], similarity=in_a_row
    )
    close(jax.jit(metric)(variables, COLOUR, target=TARGETS), own["random_logit"])


def stored(key, path, value):
    """The weights that Quantus drew."""
    own, prefix = PEERS["smooth"][2], "mprt_state/"
    state = {key.removeprefix(prefix): a for key, a in own.items() if key.startswith(prefix)}
    layer, leaf = path.split("/")
    return variables_from(state)["params"][layer][leaf]


@pytest.mark.parametrize("order", ["top_down", "bottom_up", "independent"])
def test_mprt(order):
    module, variables, own = PEERS["smooth"]
    explain = jaxplain.gradient(module.apply)
    layers = metrics.parameter_layers(module.apply)(variables, COLOUR)
    assert (layers if order != "top_down" else layers[::-1]) == own[f"mprt_layers/{order}"].tolist()
    metric = metrics.mprt(explain, order=order, randomise=stored, curve=True)
    scores = jax.jit(metric)(variables, COLOUR, target=TARGETS, key=jax.random.key(0))
    close(scores, own[f"mprt/{order}"])


def test_the_revised_mprts():
    module, variables, own = PEERS["smooth"]
    explain = jaxplain.gradient(module.apply)
    spread = 0.1 * np.ptp(COLOUR, axis=(1, 2, 3), keepdims=True)
    noise = own["smooth_mprt_noise"].astype(float) * spread
    smooth = metrics.smooth_mprt(explain, noise=noise, randomise=stored, curve=True)
    efficient = metrics.efficient_mprt(explain, randomise=stored)
    for metric, theirs in ((smooth, own["smooth_mprt"]), (efficient, own["efficient_mprt"])):
        close(jax.jit(metric)(variables, COLOUR, target=TARGETS, key=jax.random.key(0)), theirs)


@pytest.mark.parametrize(
    ("key", "metric"),
    [
        ("PointingGame", metrics.pointing_game),
        ("RelevanceMassAccuracy", metrics.relevance_mass_accuracy),
        ("RelevanceRankAccuracy", metrics.relevance_rank_accuracy),
        ("AUC", metrics.auc),
        ("TopKIntersection", functools.partial(metrics.top_k_intersection, k=10)),
        ("TopKIntersection_concept", functools.partial(metrics.top_k_intersection, k=10, concept_influence=True)),
        ("AttributionLocalisation", metrics.attribution_localisation),
        (
            "AttributionLocalisation_positive",
            functools.partial(metrics.attribution_localisation, positive_attributions=True),
        ),
    ],
)
def test_localisation(key, metric):
    close(jax.jit(metric)(MAPS, MASKS), SHARED[f"of_maps_{key}"])


def test_focus():
    close(jax.jit(metrics.focus)(MAPS, SHARED["of_maps_focus_positions"]), SHARED["of_maps_Focus"])


@pytest.mark.parametrize("metric", [metrics.sparseness, metrics.complexity, metrics.effective_complexity])
def test_complexity(metric):
    name = "".join(word.capitalize() for word in metric.__name__.split("_"))
    close(jax.jit(metric)(MAPS), SHARED[f"of_maps_{name}"])
