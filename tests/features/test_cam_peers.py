"""Class activation maps and attributions of layers against pytorch-grad-cam and captum, number by number."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from tests.close import within
from tests.networks import peer_numbers

PEERS, SHARED = peer_numbers("cams.npz")
X, TARGETS = SHARED["images"], SHARED["targets"]
LAYERS = [
    (network, layer)
    for network, layers in {
        "chain": ("relu1", "bn2", "relu2"),
        "residual": ("relu1", "relu2"),
        "depthwise": ("bn3", "relu3"),
        "branches": ("concat",),
    }.items()
    for layer in layers
]
WITH_PATHS = [("chain", "relu1"), ("chain", "relu2"), ("residual", "relu2"), ("depthwise", "bn3")]
every_layer = pytest.mark.parametrize(("network", "layer"), LAYERS)
layers_with_paths = pytest.mark.parametrize(("network", "layer"), WITH_PATHS)

MAPS = {
    "grad_cam": jaxplain.grad_cam,
    "layer_grad_cam": jaxplain.grad_cam,  # captum's
    "grad_cam_plus_plus": jaxplain.grad_cam_plus_plus,
    "xgrad_cam": jaxplain.xgrad_cam,
    "hires_cam": jaxplain.hires_cam,
    "layer_cam": jaxplain.layer_cam,
    "grad_cam_elementwise": jaxplain.grad_cam_elementwise,
    "ablation_cam": functools.partial(jaxplain.ablation_cam, chunk=3),
}
raw = lambda make: functools.partial(make, upsample=False)


def explained(make, network, layer, **call):
    module, variables, _ = PEERS[network]
    return jax.jit(make(module.apply, layer))(variables, X, **{"target": TARGETS} | call)


@functools.cache
def maps(network, layer):
    """All maps of a layer, compiled as one program."""
    module, variables, _ = PEERS[network]
    call = lambda make: make(module.apply, layer, upsample=False)(variables, X, target=TARGETS)
    return jax.jit(lambda: {name: call(make) for name, make in MAPS.items()})()


def for_baselines(make, network, layer, target=TARGETS):
    """The explanations for both baselines, of which ``make`` makes an explainer, compiled once."""
    module, variables, _ = PEERS[network]
    explain = jax.jit(lambda x0: make(x0)(module.apply, layer)(variables, X, target=target))
    return {key: explain(jnp.asarray(SHARED[f"baseline_{key}"])) for key in ("zero", "noise")}


def stored(network, layer, key):
    return PEERS[network][2][f"{layer}/{key}"]


close = within(1e-9)


@every_layer
def test_features_and_gradient(network, layer):
    module, variables, numbers = PEERS[network]
    outputs, features, pullback = jaxplain.tap(module.apply, layer)(variables, X)
    close(outputs, numbers["outputs"])
    close(features, stored(network, layer, "activations"))
    close(pullback(jax.nn.one_hot(TARGETS, 4, dtype=outputs.dtype)), stored(network, layer, "gradients"))


@pytest.mark.parametrize("name", MAPS)
@every_layer
def test_maps(name, network, layer):
    close(maps(network, layer)[name], stored(network, layer, name))


@every_layer
def test_eigen_maps_up_to_their_sign(network, layer):
    for name, make in {"eigen_cam": jaxplain.eigen_cam, "eigen_grad_cam": jaxplain.eigen_grad_cam}.items():
        ours, theirs = explained(raw(make), network, layer), stored(network, layer, name)
        sign = np.sign((ours * theirs).sum(axis=(1, 2), keepdims=True))
        close(ours, sign * theirs)


@every_layer
def test_the_weights_of_score_cam(network, layer):
    """A map is the features' mean with these weights."""
    features = stored(network, layer, "activations")
    for key, of in {"logit": "output", "probability": "probability"}.items():
        make = raw(functools.partial(jaxplain.score_cam, chunk=5, of=of))
        weights = stored(network, layer, f"score_cam/{key}_weights")
        close(explained(make, network, layer), np.einsum("nhwk,nk->nhw", features, weights))


@every_layer
def test_guided_grad_cam(network, layer):
    close(explained(jaxplain.guided_grad_cam, network, layer), stored(network, layer, "guided_grad_cam"))


@every_layer
def test_the_fem_of_pytorch_grad_cam_is_another_formula(network, layer):
    ours = explained(raw(functools.partial(jaxplain.fem, k=1.0)), network, layer)
    theirs = stored(network, layer, "fem")
    assert np.abs(ours - theirs / np.abs(theirs).max(axis=(1, 2), keepdims=True)).max() > 0.1


@pytest.mark.parametrize("network", ["residual", "depthwise", "branches"])
def test_full_grad(network):
    """Where no normalised convolution has a bias: ours is that of a convolution and its BatchNorm in one."""
    module, variables, numbers = PEERS[network]
    ours = jax.jit(jaxplain.full_grad(module.apply, rescale=False))(variables, X, target=TARGETS)
    close(ours, numbers["full_grad_not_rescaled"])


@layers_with_paths
def test_attributions_of_a_layer(network, layer):
    module, variables, _ = PEERS[network]
    attribute = functools.partial(jaxplain.layer_attribution, upsample=False)
    close(explained(attribute, network, layer), stored(network, layer, "layer_gradient_x_activation"))

    def integrated(x0):
        features = jaxplain.tap(module.apply, layer)(variables, x0).features
        integrate = functools.partial(jaxplain.integrated_gradients, baseline=features, steps=50)
        return functools.partial(attribute, method=integrate)

    for key, ours in for_baselines(integrated, network, layer).items():
        close(ours, stored(network, layer, f"layer_integrated_gradients/{key}"))
    for name in ("conductance", "internal_influence"):
        make = functools.partial(getattr(jaxplain, name), steps=50, upsample=False)
        by_baseline = lambda x0, make=make: functools.partial(make, baseline=x0)
        for key, ours in for_baselines(by_baseline, network, layer).items():
            close(ours, stored(network, layer, f"{name}/{key}"))


@layers_with_paths
def test_attributions_of_a_neuron(network, layer):
    neuron = tuple(stored(network, layer, "neuron").tolist())
    attribute = functools.partial(jaxplain.neuron_attribution, neuron=neuron)
    close(explained(attribute, network, layer, target=None), stored(network, layer, "neuron_gradient"))
    integrate = functools.partial(jaxplain.integrated_gradients, steps=50)
    integrated = lambda x0: functools.partial(attribute, method=functools.partial(integrate, baseline=x0))
    for key, ours in for_baselines(integrated, network, layer, target=None).items():
        close(ours, stored(network, layer, f"neuron_integrated_gradients/{key}"))


def test_the_last_feature_map_is_found():
    for network, layer in {"chain": "relu2", "residual": "relu2", "depthwise": "relu3", "branches": "concat"}.items():
        features = jaxplain.tap(PEERS[network][0].apply)(PEERS[network][1], jnp.asarray(X)).features
        close(features, stored(network, layer, "activations"))
