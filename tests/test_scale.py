"""What a definition says at one scale it says at every scale: no square is 0 or infinite on the way.

Float32, as users compute; the scale is an argument of the compiled function, so that nothing is known of it beforehand.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import jaxplain
from jaxplain import metrics
from jaxplain._reductions import deviation, largest, norm, over_largest, root_mean_square
from jaxplain._taxonomy import METHODS
from jaxplain.features._cam import first_component
from jaxplain.metrics.faithfulness._road import impute
from jaxplain.perturbation import pgd
from tests.attending import maker
from tests.convolution import conv


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


X, MAPS = draw(0, 2, 6, 6, 3), draw(1, 3, 6, 6)
FIRST, LAST = draw(2, 3, 3, 3, 5), draw(3, 5, 4)
SEGMENTS = np.arange(36).reshape(6, 6) // 9
SCALES = (1e-18, 1e-30, 1e18)


def network(x):
    return jax.nn.relu(conv(x, FIRST)).mean(axis=(1, 2)) @ LAST


DEGREE = {
    "deepfool": 0,
    "ablation_cam": 0,
    "eigen_cam": 0,
    "fem": 0,
    "multilayer_fem": 0,
    "attention_rollout": 0,
    "rfem": 0,
    "sobol": 0,
    "hsic": 0,
}
OPTIONS = {
    "expected_gradients": {"baselines": X * 0.1, "samples": 4},
    "deep_shap": {"baselines": X * 0.1},
    "integrated_gradients": {"steps": 4},
    "blur_integrated_gradients": {"steps": 4, "max_sigma": 3.0},
    "guided_integrated_gradients": {"steps": 4},
    "smoothgrad": {"samples": 4},
    "full_grad": {"rescale": False},
    "conductance": {"steps": 4},
    "internal_influence": {"steps": 4},
    "multilayer_fem": {"layer": [None]},
    "occlusion": {"window": (3, 3), "stride": (3, 3)},
    "xrai": {"segments": SEGMENTS, "steps": 4, "dilation": 1, "smallest": 3},
    "feature_ablation": {"segments": SEGMENTS},
    "sobol": {"segments": SEGMENTS, "samples": 8},
    "hsic": {"segments": SEGMENTS, "samples": 16, "of": "output"},
    "rise": {"masks": 8, "grid": (2, 2), "of": "output"},
    "lime": {"samples": 20, "of": "output", "segments": SEGMENTS},
    "kernel_shap": {"segments": SEGMENTS},
    "deepfool": {"steps": 3},
}
OTHER_DEFINITIONS = (  # not homogeneous in the score
    # An absolute stabiliser.
    *("lrp", "concept_relevance", "deep_taylor", "excitation_backprop", "contrastive_lrp", "softmax_gradient_lrp"),
    *("score_cam", "fgvis", "adversarial_gradient_integration", "meaningful_perturbation"),  # of a probability
    *("extremal_perturbation", "perceptual_ball", "similar_adversarial"),  # the score weighed with something else
    *("guided_grad_cam", "vargrad"),  # of the second degree: there is no such number as 1e-60
    *("grad_cam_plus_plus",),  # α = 1 / (2 + ...)
    *("attention_relevance",),  # I + ...
    *("pattern_net", "pattern_attribution", "neuron_attribution"),  # of a fitted network; of a neuron
)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in OTHER_DEFINITIONS])
def test_maps_scale_with_the_score(name):
    def explain(scale):
        make = maker(METHODS[name], **OPTIONS.get(name, {}))(lambda x: network(x) * scale)
        return make(X, target=jnp.array([1, 3]), key=jax.random.key(0))

    explain = jax.jit(explain)
    wanted = np.asarray(explain(jnp.float32(1)), np.float64)
    for scale in SCALES:
        found = np.asarray(explain(jnp.float32(scale)), np.float64) / scale ** DEGREE.get(name, 1)
        np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max(), err_msg=f"{scale}")


@pytest.mark.parametrize("method", [jaxplain.eigen_cam, jaxplain.eigen_grad_cam, jaxplain.fem, jaxplain.ablation_cam])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_maps_scale_with_the_features(method, dtype):
    """Features of 1e-22 have no squares in these types, and those of 1e22 have infinite ones."""

    def explain(scale):
        f = lambda x: checkpoint_name(jax.nn.relu(x) * scale, "features").mean(axis=(1, 2))
        options = {"top": 2} if method is jaxplain.ablation_cam else {}
        made = method(lambda x: f(x) / scale, "features", upsample=False, **options)
        return made(X.astype(dtype), target=1).astype(jnp.float32)

    degree = {jaxplain.eigen_cam: 1, jaxplain.ablation_cam: 1}.get(method, 0)
    wanted = np.asarray(explain(jnp.asarray(1, dtype)), np.float64)
    assert np.abs(wanted).max() > 0
    for exponent in (-73, 73):  # powers of two, which no type rounds
        scale = 2.0**exponent
        found = np.asarray(explain(jnp.asarray(scale, dtype)), np.float64) / scale**degree
        np.testing.assert_allclose(found, wanted, atol=1e-3 * np.abs(wanted).max())


def test_the_first_component_of_small_features_is_that_of_large_ones():
    features = draw(4, 1, 3, 4, 5)
    component = lambda a: np.asarray(first_component(a))
    centred = np.asarray(features, np.float64).reshape(12, 5)
    centred -= centred.mean(axis=0)
    u, s, _ = np.linalg.svd(centred)
    np.testing.assert_allclose(np.abs(component(features)).ravel(), np.abs(u[:, 0] * s[0]), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(component(features * 1e-30) / 1e-30, component(features), rtol=1e-3, atol=1e-4)
    assert (component(features * 0) == 0).all()


def test_maps_of_nothing_have_a_derivative():
    loss = lambda a: first_component(a).sum()
    assert jnp.isfinite(jax.grad(loss)(jnp.zeros((2, 3, 3, 4)))).all()
    assert jnp.isfinite(jax.grad(lambda a: jaxplain.heatmap(a, "norm").sum())(jnp.zeros((1, 2, 2, 3)))).all()
    assert jnp.isfinite(jax.grad(lambda a: jaxplain.heatmap(a, "max_abs").sum())(jnp.zeros((1, 2, 2, 3)))).all()


MASK, OTHER = np.asarray(draw(5, 3, 6, 6)) > 0.5, draw(6, 3, 6, 6)
OF_MAPS = {
    "sparseness": metrics.sparseness,
    "complexity": metrics.complexity,
    "effective_complexity": metrics.effective_complexity,
    "pcc": lambda a: metrics.pcc(a, OTHER),
    "rank_correlation": lambda a: metrics.rank_correlation(a, OTHER),
    "sim": lambda a: metrics.sim(a, jnp.abs(OTHER)),
    "kl": lambda a: metrics.kl(a, jnp.abs(OTHER)),
    "nss": lambda a: metrics.nss(a, MASK),
    "auc_judd": lambda a: metrics.auc_judd(a, MASK),
    "pointing_game": lambda a: metrics.pointing_game(a, MASK),
    "relevance_mass_accuracy": lambda a: metrics.relevance_mass_accuracy(jnp.abs(a), MASK),
    "relevance_rank_accuracy": lambda a: metrics.relevance_rank_accuracy(a, MASK),
    "attribution_localisation": lambda a: metrics.attribution_localisation(a, MASK),
    "top_k_intersection": lambda a: metrics.top_k_intersection(a, MASK, k=9),
    "auc": lambda a: metrics.auc(a, MASK),
}
IMAGES = draw(7, 3, 6, 6, 3)
OF_NETWORKS = {
    "sufficiency": lambda a: metrics.sufficiency(network, threshold=0.9)(IMAGES, attribution=a),
    "average_drop": lambda a: metrics.average_drop(network)(IMAGES, attribution=a),
    "deletion": lambda a: metrics.deletion(network, steps=4)(IMAGES, attribution=a),
    "faithfulness_estimate": lambda a: metrics.faithfulness_estimate(network, features_in_step=9)(
        IMAGES, attribution=a
    ),
    "non_sensitivity": lambda a: metrics.non_sensitivity(network, chunk=36)(IMAGES, attribution=a),
}


@pytest.mark.parametrize("measure", [pytest.param(m, id=name) for name, m in (OF_MAPS | OF_NETWORKS).items()])
def test_metrics_do_not_depend_on_the_scale_of_the_map(measure):
    wanted = measure(MAPS)
    for scale in (1e-18, 1e-30, 1e18):
        np.testing.assert_allclose(measure(MAPS * jnp.float32(scale)), wanted, rtol=1e-4, atol=1e-6)


def test_the_structural_similarity_does_not_depend_on_the_scale_of_both_maps():
    wanted = metrics.ssim(MAPS, OTHER, window=3)
    for scale in (1e-18, 1e18):
        np.testing.assert_allclose(metrics.ssim(MAPS * scale, OTHER * scale, window=3), wanted, rtol=1e-4)


def test_metrics_of_small_scores_rank_them():
    measure = lambda scale: metrics.monotonicity_correlation(
        lambda x: network(x) * scale, baseline=0.0, features_in_step=6, of="output"
    )(IMAGES, attribution=MAPS, target=1)
    np.testing.assert_allclose(measure(1e-25), measure(1.0), atol=1e-6)


def test_imputation_is_linear():
    for scale in (1e-30, 1e-18, 1e18):
        small = impute(IMAGES * jnp.float32(scale), MASK)
        np.testing.assert_allclose(small / scale, impute(IMAGES, MASK), rtol=1e-4, atol=1e-5)


def test_a_step_of_an_attack_is_as_long_as_it_says():
    """Where the class is as good as certain, the slope of its logarithm has no squares."""
    attack = pgd(lambda x: x @ jnp.eye(2), epsilon=1.0, step=0.5, steps=1, norm="2", random_start=False)
    x = jnp.array([[60.0, 0.0], [1.0, 0.0]], jnp.float32)
    np.testing.assert_allclose(jnp.linalg.norm(attack(x, target=0) - x, axis=1), 0.5, rtol=1e-5)


# --------------------------------------------------------------------------------------------------- the reductions


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_reductions_against_numpy(scale):
    a = np.asarray(draw(8, 4, 3, 5)) * np.float32(scale)
    exact = a.astype(np.float64)
    np.testing.assert_allclose(norm(a, (1, 2)), np.sqrt((exact**2).sum(axis=(1, 2))), rtol=1e-6)
    np.testing.assert_allclose(norm(a, keepdims=True), np.sqrt((exact**2).sum(axis=2, keepdims=True)), rtol=1e-6)
    np.testing.assert_allclose(root_mean_square(a, 1), np.sqrt((exact**2).mean(axis=1)), rtol=1e-6)
    np.testing.assert_allclose(deviation(a, (0, 2)), exact.std(axis=(0, 2)), rtol=1e-5)
    np.testing.assert_allclose(over_largest(a), exact / np.abs(exact).max(axis=(1, 2), keepdims=True), rtol=1e-6)


def test_the_norm_has_the_derivative_of_a_norm():
    a = jnp.array([3.0, -4.0, 0.0])
    np.testing.assert_allclose(jax.grad(norm)(a), [0.6, -0.8, 0], rtol=1e-6)
    np.testing.assert_allclose(
        jax.hessian(norm)(a), (np.eye(3) - np.outer([0.6, -0.8, 0], [0.6, -0.8, 0])) / 5, atol=1e-6
    )
    np.testing.assert_array_equal(jax.grad(norm)(0 * a), 0)
    assert norm(jnp.array([jnp.inf, 1.0])) == jnp.inf


def test_one_of_equal_maxima_has_the_derivative():
    slope = jax.vmap(jax.grad(lambda a: largest(a)[0]))
    np.testing.assert_array_equal(
        slope(jnp.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [-jnp.inf, 0.0, -1.0]])), [[0, 1, 0], [1, 0, 0], [0, 1, 0]]
    )
