"""Parity of attention-aware LRP with LXT's; `benchmarks/peers/lxt_attention.py` made the numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import composites, rules
from tests.close import within
from tests.networks import DATA

PEER = dict(np.load(DATA / "lxt_attention.npz"))
WEIGHTS = {key.removeprefix("state/"): jnp.asarray(value) for key, value in PEER.items() if key.startswith("state/")}
X, TARGETS = jnp.asarray(PEER["tokens"]), jnp.asarray(PEER["targets"])
WIDTH, HEADS, BLOCKS, SMALL = 8, 2, 2, 1e-12
close = within(1e-9)


def affine(x, name):
    weight, bias = WEIGHTS[f"{name}.weight"], WEIGHTS[f"{name}.bias"]
    return x @ weight.T + bias.reshape((1,) * (x.ndim - 1) + (-1,))


def normalised(x, name, kind):
    if kind == "none":
        return x
    scale, shift = (WEIGHTS[f"{name}.{leaf}"].reshape(1, 1, -1) for leaf in ("weight", "bias"))
    deviation = jnp.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    y = (x - x.mean(axis=-1, keepdims=True)) / deviation * scale
    return y + shift if kind == "epsilon" else y


def network(kind):
    def apply(x):
        split = lambda a: a.reshape(*a.shape[:-1], HEADS, -1).swapaxes(1, 2)
        for i in range(BLOCKS):
            y = normalised(x, f"{i}.norm1", kind)
            q, k, v = (split(affine(y, f"{i}.{name}")) for name in "qkv")
            weights = jax.nn.softmax(q @ k.swapaxes(2, 3) / (WIDTH / HEADS) ** 0.5)
            x = x + affine((weights @ v).swapaxes(1, 2).reshape(x.shape), f"{i}.out")
            hidden = jax.nn.gelu(affine(normalised(x, f"{i}.norm2", kind), f"{i}.up"), approximate=False)
            x = x + affine(hidden, f"{i}.down")
        return affine(x[:, 0], "head")

    return apply


def by_rules(kind, attention):
    """The library's rules, with a stabiliser that makes no difference."""
    return composites.first_match(
        ("dense", rules.epsilon(SMALL)),
        ("scale", rules.epsilon(SMALL)),
        ("sum", rules.proportional(SMALL)),
        ("product", (rules.values if attention == "cp" else rules.half)(SMALL)),
        ("norm", rules.layer_norm(SMALL) if kind == "epsilon" else rules.pass_through()),
    )


@pytest.mark.parametrize("kind", ["none", "epsilon", "identity"])
@pytest.mark.parametrize("attention", ["attn", "cp"])
def test_lxt(kind, attention):
    close(network(kind)(X), PEER[f"{kind}/outputs"])
    relevance = jax.jit(jaxplain.lrp(network(kind), by_rules(kind, attention)))(X, target=TARGETS)
    close(relevance, PEER[f"{kind}/{attention}"])


@pytest.mark.parametrize(("name", "kind"), [("attn_lrp", "none"), ("attn_lrp", "identity"), ("cp_lrp", "epsilon")])
def test_lxt_by_name(name, kind):
    """AttnLRP's paper has normalisations by the identity, CP-LRP's their standard deviations held fixed."""
    composite = getattr(composites, name)(0.0)
    relevance = jax.jit(jaxplain.lrp(network(kind), composite))(X, target=TARGETS)
    close(relevance, PEER[f"{kind}/{name.removesuffix('_lrp')}"], 1e-3)  # each stabiliser is 1e-6
