"""The networks of torchvision that have gates, attention, concatenations: every kind of explanation, by their names."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import models
from jaxplain.models._convnext import ConvNeXt
from jaxplain.models._efficientnet_b0 import EfficientNet
from jaxplain.models._resnet import BasicBlock, ResNet
from jaxplain.models._vit import VisionTransformer
from tests.close import within
from tests.zoo.layers import draw

SHAPE, GRID, TARGET = (2, 32, 48, 3), (4, 6), np.array([1, 3])
BASELINE = np.random.default_rng(1).normal(size=SHAPE[1:]) * 0.5
X = jnp.asarray(np.random.default_rng(0).normal(size=SHAPE))
NETWORKS = {  # of the same modules, with fewer and narrower layers
    "squeezenet1_1": models.squeezenet1_1(num_classes=5).module,
    "convnext_tiny": ConvNeXt((1, 2), (6, 8), 5),
    "vit_b_16": VisionTransformer(patch=8, width=8, depth=2, heads=2, hidden=12, num_classes=5),
    "efficientnet_b0": EfficientNet(((1, 8, 1, 1, 3), (6, 12, 2, 2, 5)), 5),
    "resnet34": ResNet(BasicBlock, (1, 2, 1, 1), 5),
}
# A layer to look at, its shape, and what else has to be known by name.
LAYERS = {
    "squeezenet1_1": ("features.12", (2, 1, 2, 512), {"features.3/squeeze", "features.3/expand3x3", "classifier.1"}),
    "convnext_tiny": ("features.3.1", (2, 4, 6, 8), {"features.1.0/block.0", "features.2.1", "classifier.2"}),
    "vit_b_16": ("conv_proj", (2, 4, 6, 8), {"encoder/layers.encoder_layer_1/self_attention/out_proj", "heads.head"}),
    "efficientnet_b0": ("features.2.1", (2, 8, 12, 12), {"features.1.0/block.1/fc2", "features.3/0", "classifier.1"}),
    "resnet34": ("layer2.1", (2, 4, 6, 128), {"conv1", "layer2.1/conv2", "layer2.0/downsample.0", "fc"}),
}
close = within(1e-9)
every_network = pytest.mark.parametrize("name", NETWORKS)


@functools.cache
def drawn(name):
    with jax.ensure_compile_time_eval():  # they may first be asked for inside a trace
        return draw(NETWORKS[name], SHAPE)


def scores(name, x):
    return NETWORKS[name].apply(drawn(name), x)[jnp.arange(len(TARGET)), TARGET]


@every_network
def test_relevance_is_accounted_for_by_name(name):
    composite = "attn_lrp" if name == "vit_b_16" else "epsilon_plus"
    table = jaxplain.summary(NETWORKS[name].apply, composite)(drawn(name), X, target=TARGET)
    for row in table.rows:
        assert abs(row.ledger.gap) < 1e-9 * max(1, *map(abs, row.ledger)), (row.unit.place, row.ledger)
    assert table.start == pytest.approx(float(scores(name, X).sum()), rel=1e-9)
    assert abs(table.start) > 1e-3
    assert abs(table.gap) < 1e-9 * max(1, *(abs(row.ledger.relevance_out) for row in table.rows))
    paths = {row.unit.path.removeprefix(f"{type(NETWORKS[name]).__name__}/") for row in table.rows}
    assert LAYERS[name][2] <= paths, paths


@every_network
def test_deeplift_is_complete(name):
    maps = jax.jit(jaxplain.deeplift(NETWORKS[name].apply, baseline=BASELINE))(drawn(name), X, target=TARGET)
    change = scores(name, X) - scores(name, jnp.broadcast_to(BASELINE, SHAPE))
    close(maps.sum(axis=(1, 2, 3)), change)


def guided(f):
    """An activation whose derivative lets only positive values pass."""
    passes = jax.custom_vjp(f)
    passes.defvjp(lambda z: (f(z), z), lambda z, r: jax.vjp(f, z)[1](jnp.maximum(r, 0)))
    return passes


@every_network
def test_the_gradient_plain_and_guided(name, monkeypatch):
    explained = lambda make: jax.jit(make(NETWORKS[name].apply))(drawn(name), X, target=TARGET)
    derived = lambda: jax.jit(jax.grad(lambda x: scores(name, x).sum()))(X)
    gradient = derived()
    close(explained(jaxplain.gradient), gradient)
    maps = explained(jaxplain.guided_backprop)
    monkeypatch.setattr(nn, "relu", guided(lambda z: jnp.where(z > 0, z, 0)))
    monkeypatch.setattr(nn, "gelu", lambda z, approximate: guided(functools.partial(jax.nn.gelu, approximate=False))(z))
    for activation in ("silu", "sigmoid"):
        monkeypatch.setattr(nn, activation, guided(getattr(jax.nn, activation)))
    close(maps, derived())
    assert np.abs(maps - gradient).max() > 0.01 * np.abs(gradient).max()


@every_network
def test_grad_cam_at_a_layer_of_torchvision(name):
    layer, shape, _ = LAYERS[name]
    explain = jaxplain.grad_cam(NETWORKS[name].apply, layer, upsample=False)
    maps = jax.jit(explain)(drawn(name), X, target=TARGET)
    features = []

    def with_change(change, x):
        def changed(layers, args, kwargs, context):
            features.append(layers(*args, **kwargs) + change)
            return features[-1]

        def at_layer(layers, args, kwargs, context):
            is_it = context.module.path == (layer,) and context.method_name == "__call__"
            return (changed if is_it else lambda f, args, kwargs, _: f(*args, **kwargs))(layers, args, kwargs, context)

        with nn.intercept_methods(at_layer):
            return scores(name, x).sum(), features.pop()

    g, A = jax.jit(jax.grad(with_change, has_aux=True))(jnp.zeros(shape), X)
    close(maps, (g.mean(axis=(1, 2), keepdims=True) * A).sum(axis=-1))


def test_the_attention_of_the_transformer():
    module, variables = NETWORKS["vit_b_16"], drawn("vit_b_16")
    _, state = jax.jit(lambda x: module.apply(variables, x, capture_intermediates=True))(X)
    tokens, steps = 1 + np.prod(GRID), []
    weights = jax.jit(lambda x: jaxplain.attentions(module.apply)(variables, x).weights)(X)
    for i, A in enumerate(weights):
        attention = state["intermediates"]["encoder"][f"layers.encoder_layer_{i}"]["self_attention"]
        q, k, _ = attention["in_proj"]["__call__"][0].reshape(2, tokens, 3, 2, 4).transpose(2, 0, 3, 1, 4)
        close(A, jax.nn.softmax(q @ k.swapaxes(2, 3) / 2))
        steps.append((A.mean(axis=1) + np.eye(tokens)[None]) / 2)
    assert len(weights) == 2
    rollout = jaxplain.attention_rollout(module.apply, upsample=False)
    close(jax.jit(rollout)(variables, X), (steps[1] @ steps[0])[:, 0, 1:].reshape(2, *GRID))
    for method in (jaxplain.attention_relevance, jaxplain.legrad, jaxplain.rfem):
        maps = jax.jit(method(module.apply, upsample=False))(variables, X, target=TARGET)
        assert maps.shape == (2, *GRID)
        assert (maps >= 0).all()
        assert (maps > 0).any()
