"""Parity of conductance and internal influence with captum's; `benchmarks/peers/captum_layers.py` made the numbers."""

import jax
import jax.numpy as jnp
import pytest

import jaxplain
from tests.close import within
from tests.networks import peer_numbers

PEERS, SHARED = peer_numbers("captum_layers.npz")
X, TARGETS, BASELINE = (jnp.asarray(SHARED[key]) for key in ("images", "targets", "baseline"))
STEPS = int(SHARED["steps"])
close = within(1e-7)  # captum rounds the weights of a quadrature to float32


def stored(kind):
    """What is stored of a kind: the network, the rest of the key and the numbers."""
    return [
        pytest.param(name, key.split("/")[1:], values, id="-".join([name, *key.split("/")[1:]]))
        for name, (_, _, numbers) in PEERS.items()
        for key, values in numbers.items()
        if key.startswith(f"{kind}/")
    ]


def explained(method, name, layer, rule="gauss_legendre", steps=STEPS):
    module, variables, _ = PEERS[name]
    explain = method(module.apply, layer, baseline=BASELINE, steps=steps, rule=rule, upsample=False)
    return jax.jit(explain)(variables, X, target=TARGETS)


@pytest.mark.parametrize(("name", "key", "values"), stored("conductance"))
def test_conductance_of_a_linear_layer(name, key, values):
    """Captum multiplies by differences between points, which are the derivative here."""
    close(explained(jaxplain.conductance, name, key[0], "riemann_left"), values, 1e-12)


@pytest.mark.parametrize(("name", "key", "values"), stored("limit"))
def test_conductance_in_the_limit_of_many_steps(name, key, values):
    close(explained(jaxplain.conductance, name, key[0], steps=100), values, 1e-6)


@pytest.mark.parametrize(("name", "key", "values"), stored("neurons"))
def test_conductance_of_neurons(name, key, values):
    maps = explained(jaxplain.conductance, name, key[0])
    close(jnp.stack([maps[:, *neuron] for neuron in SHARED["neurons"]], axis=1), values)


@pytest.mark.parametrize(("name", "key", "values"), stored("influence"))
def test_internal_influence(name, key, values):
    close(explained(jaxplain.internal_influence, name, key[1], key[0]), values)
