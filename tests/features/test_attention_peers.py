"""Parity of two maps of attentions with their authors' code; `benchmarks/peers/attention_maps.py` made the numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jaxplain
from jaxplain.models import load_state_dict
from jaxplain.models._vit import VisionTransformer
from tests.close import within
from tests.networks import DATA

PEER = dict(np.load(DATA / "attention_maps.npz"))
X, TARGETS = jnp.asarray(PEER["images"]), jnp.asarray(PEER["targets"])
BLOCKS, HEADS = 3, 2
close = within(1e-9)


def state(name):
    return {key.removeprefix(f"{name}/state/"): value for key, value in PEER.items() if key.startswith(f"{name}/state")}


def test_relevance_of_attention_is_that_of_the_notebook():
    module = VisionTransformer(patch=4, width=8, depth=BLOCKS, heads=HEADS, hidden=12, num_classes=4)
    template = jax.eval_shape(module.init, jax.random.key(0), X)
    in_double = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, np.float64), template)
    variables = load_state_dict(in_double, state("chefer"))
    close(jax.jit(module.apply)(variables, X), PEER["chefer/outputs"])
    maps = jax.jit(jaxplain.attention_relevance(module.apply, upsample=False))(variables, X, target=TARGETS)
    assert np.ptp(PEER["chefer/relevance"]) > 0.01
    close(maps.reshape(2, 16), PEER["chefer/relevance"])


def normalised(w, x, name):
    scale, shift = (w[f"{name}.{leaf}"].reshape(1, 1, -1) for leaf in ("weight", "bias"))
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * scale + shift


def affine(w, x, name):
    return x @ w[f"{name}weight"].T + w[f"{name}bias"].reshape(1, 1, -1)


def block(w, x):
    split = lambda a: a.reshape(*a.shape[:2], HEADS, -1).swapaxes(1, 2)
    q, k, v = map(split, jnp.split(affine(w, normalised(w, x, "ln_1"), "attn.in_proj_"), 3, axis=-1))
    weights = jax.nn.softmax(q @ k.swapaxes(2, 3) / q.shape[-1] ** 0.5)
    x = x + affine(w, (weights @ v).swapaxes(1, 2).reshape(x.shape), "attn.out_proj.")
    hidden = jax.nn.gelu(affine(w, normalised(w, x, "ln_2"), "mlp.c_fc."), approximate=False)
    return x + affine(w, hidden, "mlp.c_proj.")


def similarities(w, x):
    """The cosines of two texts and of the mean of all tokens behind the last block of a CLIP."""
    patches = x.reshape(len(x), 4, 4, 4, 4, 3).transpose(0, 1, 3, 5, 2, 4).reshape(len(x), 16, -1)
    tokens = patches @ w["conv1.weight"].reshape(8, -1).T
    first = jnp.broadcast_to(w["class_embedding"].reshape(1, 1, 8), (len(x), 1, 8))
    x = jnp.concatenate([first, tokens], axis=1) + w["positional_embedding"][None]
    x = normalised(w, x, "ln_pre")
    for i in range(BLOCKS):
        start = f"transformer.resblocks.{i}."
        x = block({key.removeprefix(start): value for key, value in w.items() if key.startswith(start)}, x)
    feature = normalised(w, x.mean(axis=1, keepdims=True), "ln_post")[:, 0] @ w["proj"]
    return feature / jnp.linalg.norm(feature, axis=1, keepdims=True) @ PEER["legrad/text"].T


def test_legrad_is_that_of_its_authors():
    weights = jax.tree.map(jnp.asarray, state("legrad"))
    explain = jax.jit(functools.partial(jaxplain.legrad(similarities), weights))
    for text in range(2):
        maps = explain(X, target=jnp.full(2, text))
        low, high = (bound(maps, axis=(1, 2), keepdims=True) for bound in (jnp.min, jnp.max))
        close((maps - low) / (high - low), PEER["legrad/maps"][:, text])
