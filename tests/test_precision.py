"""Products that a TPU or GPU rounds: which explainers ask for more, whom they leave alone, and what it is good for."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend import core as jexc

import jaxplain
from jaxplain import composites, full_precision, metrics, rules
from jaxplain._graph.equations import unclose
from jaxplain._taxonomy import METHODS
from tests.attending import maker
from tests.convolution import conv
from tests.rounding import is_product, with_rounded_products

KEY = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(1).normal(size=(3, 8, 8, 3)), jnp.float32)
DATA = np.random.default_rng(2).normal(size=(2, 8, 8, 3)).astype(np.float32)
SEGMENTS = jaxplain.perturbation.grid_segments((8, 8), (3, 3))
TARGETS = jnp.array([1, 3, 0])


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1])), jnp.float32)


def network(bias, activation=jax.nn.relu, **options):
    """Two convolutions, a hidden layer and five classes; homogeneous without biases."""
    w, v, u, t = draw(0, 3, 3, 3, 8), draw(1, 3, 3, 8, 8), draw(2, 8, 12), draw(3, 12, 5)

    def apply(x):
        x = activation(conv(x, w, **options) + bias)
        x = activation(conv(x, v, **options) - bias)
        return jnp.matmul(activation(jnp.matmul(x.mean((1, 2)), u, **options) + bias), t, **options)

    return apply


HOMOGENEOUS, BIASED, SMOOTH = network(0.0), network(0.1), network(0.1, jnp.tanh)
OPTIONS = {
    "integrated_gradients": {"steps": 3},
    "expected_gradients": {"baselines": DATA, "samples": 2},
    "blur_integrated_gradients": {"steps": 3},
    "guided_integrated_gradients": {"steps": 3},
    "smoothgrad": {"samples": 2},
    "vargrad": {"samples": 2},
    "deep_shap": {"baselines": DATA},
    "conductance": {"steps": 3},
    "internal_influence": {"steps": 3},
    "adversarial_gradient_integration": {"steps": 2, "classes": 2},
    "fgvis": {"steps": 2},
    "perceptual_ball": {"steps": 2},
    "similar_adversarial": {"steps": 2},
    "deepfool": {"steps": 2},
    "multilayer_fem": {"layer": [None]},
    "lime": {"segments": SEGMENTS, "samples": 20},
    "kernel_shap": {"segments": SEGMENTS, "samples": 20},
    "rise": {"masks": 4},
    "xrai": {"segments": SEGMENTS, "steps": 2, "dilation": 1, "smallest": 3},
    "feature_ablation": {"segments": SEGMENTS},
    "sobol": {"segments": SEGMENTS, "samples": 2},
    "hsic": {"segments": SEGMENTS, "samples": 8},
    "meaningful_perturbation": {"steps": 2, "factor": 2, "jitter": 1},
    "extremal_perturbation": {"areas": (0.2,), "steps": 2, "step": 2, "sigma": 2.0, "max_blur": 2.0},
}
ASK = {name for name, method in METHODS.items() if method.total} - {"kernel_shap"} | {"contrastive_lrp", "xrai"}
ASK_THEMSELVES = (  # functions of JAX and Optax that these call: `solve`, `image.resize`, L-BFGS
    *("kernel_shap", "lime", "meaningful_perturbation", "perceptual_ball", "similar_adversarial"),
)


def explainer_of(name, apply):
    return maker(METHODS[name], **OPTIONS.get(name, {}))(apply)


def precisions(f, *args):
    """The precision of every product that a function makes, wherever it makes it."""

    def found(jaxpr):
        for eqn in unclose(jaxpr)[0].eqns:
            if is_product(eqn):
                both = eqn.params["precision"]
                yield from both if isinstance(both, tuple) else (both,)
            for inner in jexc.jaxprs_in_params(eqn.params):
                yield from found(inner)

    return set(found(jax.make_jaxpr(f)(*args)))


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"pattern_net", "pattern_attribution", "cam"}))
def test_methods_with_an_axiom_ask_for_full_precision_and_the_others_do_not(name):
    explain = explainer_of(name, BIASED)
    call = {"key": KEY} if name == "neuron_attribution" else {"key": KEY, "target": TARGETS}
    run = lambda x: explain(x, **call)
    of_others = {lax.Precision.HIGHEST} if name in ASK_THEMSELVES else set()
    assert precisions(run, X) == ({lax.Precision.HIGHEST} if name in ASK else {None, *of_others})
    for choice, precision in (("default", lax.Precision.DEFAULT), ("tensorfloat32", lax.Precision.HIGH)):
        with jax.default_matmul_precision(choice):
            assert precisions(run, X) == {precision, *of_others}


@pytest.mark.parametrize("name", ["lrp", "deeplift", "input_x_gradient", "integrated_gradients"])
def test_a_precision_that_the_network_names_is_kept(name):
    named = network(0.1, precision=lax.Precision.DEFAULT)

    def inside(x):
        with jax.default_matmul_precision("default"):
            return BIASED(x)

    run = lambda apply: precisions(lambda x: explainer_of(name, apply)(x, target=TARGETS), X)
    assert run(named) == {lax.Precision.DEFAULT}
    assert lax.Precision.DEFAULT in run(inside)


def test_jit_notices_the_choice():
    explain = jax.jit(jaxplain.input_x_gradient(HOMOGENEOUS))
    lowered = lambda: explain.lower(X, target=TARGETS).as_text()
    assert "HIGHEST" in lowered()
    with jax.default_matmul_precision("default"):
        assert "HIGHEST" not in lowered()
    assert "HIGHEST" in lowered()


def test_full_precision_of_a_network_keeps_what_it_is():
    apply = full_precision(jaxplain.accelerate(HOMOGENEOUS, False))
    assert apply.accelerated is False
    assert precisions(apply, X) == {lax.Precision.HIGHEST}
    np.testing.assert_array_equal(apply(X), HOMOGENEOUS(X))
    assert full_precision(nn.Dense(3).apply).__name__ == "apply"


# ------------------------------------------------------------------------------------------------- what it is good for


def gap(explain, apply, want, x):
    """How far the sums of maps are from what they should be, as a share of that."""
    wanted = jax.jit(lambda x: want(apply, x))(x)
    sums = jax.jit(lambda x: explain(x, target=TARGETS, key=KEY).reshape(len(x), -1).sum(1))(x)
    return float(jnp.abs(sums - wanted).max() / jnp.abs(wanted).max())


def chosen(apply, x):
    return apply(x)[jnp.arange(len(x)), TARGETS]


def difference(apply, x):
    return chosen(apply, x) - chosen(apply, 0 * x)


def one(apply, x):
    return jnp.ones(len(x))


def from_data(apply, x):
    return chosen(apply, x) - sum(chosen(apply, jnp.broadcast_to(d, x.shape)) for d in DATA) / len(DATA)


at_layer = functools.partial(jaxplain.hires_cam, upsample=False)
AXIOMS = {
    "input_x_gradient": (jaxplain.input_x_gradient, HOMOGENEOUS, chosen),
    "hires_cam": (at_layer, HOMOGENEOUS, chosen),
    "lrp of zero": (lambda f: jaxplain.lrp(f, composites.uniform(rules.zero())), HOMOGENEOUS, chosen),
    "lrp of epsilon and plus": (lambda f: jaxplain.lrp(f, composites.epsilon_plus()), HOMOGENEOUS, chosen),
    "excitation_backprop": (jaxplain.excitation_backprop, HOMOGENEOUS, one),
    "deeplift": (jaxplain.deeplift, BIASED, difference),
    "deeplift by parts": (functools.partial(jaxplain.deeplift, rule="reveal_cancel"), BIASED, difference),
    "deep_shap": (functools.partial(jaxplain.deep_shap, baselines=DATA), BIASED, from_data),
    "integrated_gradients": (functools.partial(jaxplain.integrated_gradients, steps=30), SMOOTH, difference),
    "conductance": (functools.partial(jaxplain.conductance, steps=30, upsample=False), SMOOTH, difference),
}


@pytest.mark.parametrize("name", AXIOMS)
def test_axioms_hold_where_products_are_rounded(name):
    make, apply, want = AXIOMS[name]
    apply = jaxplain.accelerate(apply, False)  # forms for a CPU are none that a TPU sees
    explain, exact = make(apply), full_precision(apply)
    rounding = lambda f: lambda x, **call: with_rounded_products(lambda x: f(x, **call))(x)
    assert gap(explain, apply, want, X) < 3e-5
    assert gap(rounding(explain), rounding(exact), want, X) < 3e-5
    with jax.default_matmul_precision("default"):
        assert gap(rounding(explain), rounding(apply), want, X) > 3e-4


def test_kernel_shap_sums_up_at_any_precision():
    explain = jaxplain.kernel_shap(BIASED, segments=SEGMENTS, samples=20, upsample=False)
    apply, run = with_rounded_products(BIASED), with_rounded_products(lambda x: explain(x, target=TARGETS, key=KEY))
    np.testing.assert_allclose(run(X).sum(1), difference(apply, X), atol=1e-5)
    assert jnp.abs(difference(apply, X) - difference(BIASED, X)).max() > 1e-4


@pytest.mark.parametrize("composite", [None, composites.epsilon_plus()])
def test_the_ledger_closes_where_products_are_rounded(composite, monkeypatch):
    apply = jaxplain.accelerate(BIASED, False)
    monkeypatch.setattr(jax, "jit", lambda f, **_: with_rounded_products(f))
    run = lambda: metrics.ledger(apply, composite)(X, target=TARGETS)
    assert run() < 1e-5
    with jax.default_matmul_precision("default"):
        assert run() > 1e-4


def test_the_metric_of_completeness_measures_the_map_and_not_the_rounding_of_the_score():
    apply = jaxplain.accelerate(BIASED, False)
    attribution = jax.jit(jaxplain.deeplift(apply))(X, target=TARGETS)
    measure = metrics.completeness(apply)
    rounding = jax.jit(with_rounded_products(lambda x: measure(x, attribution=attribution, target=TARGETS)))
    assert jnp.abs(rounding(X)).max() < 1e-5
    with jax.default_matmul_precision("default"):
        assert jnp.abs(rounding(X)).max() > 1e-4


def test_patterns_have_weight_one_where_products_are_rounded(monkeypatch):
    shifted = X + 30  # whose covariance is lost in the rounding of its mean
    w = jnp.abs(draw(5, 3, 4))  # so that every neuron is active
    f = lambda x: x.reshape(-1, 3) @ w
    pixels = shifted.reshape(-1, 3)
    exact = jaxplain.fit_patterns(f, batches=[pixels])["0"]
    monkeypatch.setattr(jax, "jit", lambda f, **_: with_rounded_products(f))
    asked = jaxplain.fit_patterns(f, batches=[pixels])["0"]
    with jax.default_matmul_precision("default"):
        declined = jaxplain.fit_patterns(f, batches=[pixels])["0"]
    for patterns in (exact, asked, declined):
        np.testing.assert_allclose((w * patterns).sum(0), 1, atol=1e-4)
    np.testing.assert_allclose(asked, exact, atol=1e-5)
    assert jnp.abs(declined - exact).max() > 0.1
