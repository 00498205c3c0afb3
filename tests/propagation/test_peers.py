"""Parity with zennit's LRP and with captum's guided backprop, deconvolution, DeepLIFT and its mean, where right.

`benchmarks/peers/zennit_lrp.py` and `captum_propagation.py` made the numbers and say what was left out.
"""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import composites, rules
from tests.networks import peer_numbers

ZENNIT, SHARED = peer_numbers("zennit_lrp.npz")
CAPTUM, CAPTUM_SHARED = peer_numbers("captum_propagation.npz")
X, TARGETS = jnp.asarray(SHARED["images"]), jnp.asarray(SHARED["targets"])
LOW, HIGH = float(SHARED["low"]), float(SHARED["high"])


def first(rule):
    """A rule for the first layer, LRP's defaults for the others."""
    return composites.first_match((composites.first_layer, rule))


COMPOSITES = {
    "epsilon": composites.uniform(rules.epsilon(1e-6)),
    "epsilon_0.25": composites.uniform(rules.epsilon(0.25)),
    "gamma": composites.uniform(rules.gamma(0.25)),
    "z_plus": composites.uniform(rules.z_plus()),
    "alpha2_beta1": composites.uniform(rules.alpha_beta(2.0, 1.0)),
    "alpha1_beta0": composites.uniform(rules.alpha_beta(1.0, 0.0)),
    "z_box": first(rules.z_box(LOW, HIGH)),
    "w_square": first(rules.w_square()),
    "w_square_no_bias": first(rules.w_square(bias=False)),
    "flat": first(rules.flat()),
    "epsilon_plus": composites.epsilon_plus(),
    "epsilon_plus_flat": composites.epsilon_plus_flat(),
    "epsilon_alpha2_beta1": composites.epsilon_alpha2_beta1(),
    "epsilon_alpha2_beta1_flat": composites.epsilon_alpha2_beta1_flat(),
    "epsilon_gamma_box": composites.epsilon_gamma_box(low=LOW, high=HIGH),
    "guided_backprop": composites.guided_backprop(),
    "deconvnet": composites.deconvnet(),
    "excitation_backprop": composites.uniform(rules.z_plus()),  # zennit's keeps the biases
    "excitation_backprop_no_bias": composites.uniform(rules.z_plus(bias=False)),  # and divides signed sums as such
    "beta_smooth": composites.beta_smooth(),
}


def relative_error(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


def test_every_stored_rule_is_compared():
    for *_, numbers in ZENNIT.values():
        assert {key for key in numbers if "/" not in key} == {*COMPOSITES, "outputs"}


@pytest.mark.parametrize("network", ZENNIT)
@pytest.mark.parametrize("name", COMPOSITES)
def test_zennit(network, name):
    module, variables, numbers = ZENNIT[network]
    maps = jaxplain.lrp(module.apply, COMPOSITES[name])(variables, X, target=TARGETS)
    assert relative_error(maps, numbers[name]) < 1e-12


@pytest.mark.parametrize("network", CAPTUM)
@pytest.mark.parametrize("method", [jaxplain.guided_backprop, jaxplain.deconvnet])
def test_captum_relu_rules(network, method):
    module, variables, numbers = CAPTUM[network]
    if method.__name__ not in numbers:
        pytest.skip("captum acts on ReLU modules only, and there is none")
    maps = method(module.apply)(variables, X, target=TARGETS)
    assert relative_error(maps, numbers[method.__name__]) < 1e-12


@pytest.mark.parametrize("network", CAPTUM)
@pytest.mark.parametrize("baseline", ["zero", "noise"])
def test_captum_deeplift(network, baseline):
    module, variables, numbers = CAPTUM[network]
    x0 = jnp.asarray(CAPTUM_SHARED[f"baseline_{baseline}"])
    maps = jaxplain.deeplift(module.apply, baseline=x0, rule="rescale")(variables, X, target=TARGETS)
    logits = [module.apply(variables, x)[jnp.arange(2), TARGETS] for x in (X, jnp.broadcast_to(x0, X.shape))]
    np.testing.assert_allclose(maps.sum(axis=(1, 2, 3)), logits[0] - logits[1], rtol=1e-12)
    if network != "chain":  # captum is wrong in max-pooling
        assert relative_error(maps, numbers[f"deeplift/{baseline}"]) < 1e-12


@pytest.mark.parametrize("network", CAPTUM)
def test_captum_deep_shap(network):
    module, variables, numbers = CAPTUM[network]
    x0 = jnp.asarray(CAPTUM_SHARED["baseline_set"])
    maps = jaxplain.deep_shap(module.apply, baselines=x0)(variables, X, target=TARGETS)
    logits, mean = module.apply(variables, X)[jnp.arange(2), TARGETS], module.apply(variables, x0).mean(axis=0)
    np.testing.assert_allclose(maps.sum(axis=(1, 2, 3)), logits - mean[TARGETS], rtol=1e-12)
    if network != "chain":  # captum is wrong in max-pooling
        assert relative_error(maps, numbers["deep_shap"]) < 1e-12
