"""Parity of excitation backprop with TorchRay's; `benchmarks/peers/torchray_excitation.py` made the numbers."""

import jax
import jax.numpy as jnp
import pytest

import jaxplain
from tests.close import within
from tests.networks import peer_numbers

PEER, SHARED = peer_numbers("torchray_excitation.npz")
X = jnp.asarray(SHARED["images"])
close = within(1e-9)
AT_LAYERS = [(network, key) for network, (*_, numbers) in PEER.items() for key in numbers if key.count("/") == 1]
AT_LAYERS = [(network, key.removeprefix("contrastive/")) for network, key in AT_LAYERS if key.startswith("contrastive")]


def explained(network, layer=None, **options):
    module, variables, numbers = PEER[network]
    explain = jaxplain.excitation_backprop(module.apply, layer, upsample=False, **options)
    return jax.jit(explain)(variables, X, target=jnp.asarray(numbers["targets"]))


@pytest.mark.parametrize("network", PEER)
def test_torchray_at_the_input(network):
    module, variables, numbers = PEER[network]
    close(module.apply(variables, X), numbers["outputs"])
    assert numbers["sum"] < 1e-9  # a probability, or nothing would be stored
    close(explained(network), numbers["input"])


@pytest.mark.parametrize(("network", "layer"), AT_LAYERS)
def test_torchray_at_a_layer(network, layer):
    *_, numbers = PEER[network]
    close(explained(network, layer), numbers[layer])
    contrastive = numbers[f"contrastive/{layer}"]
    assert (contrastive == 0).any()
    assert (contrastive > 0).any()
    close(explained(network, layer, contrastive=True), contrastive)
