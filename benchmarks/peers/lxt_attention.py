"""Make `tests/data/lxt_attention.npz`: LXT's attention-aware LRP of a small transformer, in float64.

    pip install '.[benchmark]' && pip install --no-deps lxt==2.1 && python benchmarks/peers/lxt_attention.py

Tokens ``(N, 6, 8)``, two blocks of attention with two heads and a GELU network, the logits of the first token, made of
`lxt.explicit`, whose backward pass is the relevance itself. Every kind of attention with every kind of normalisation:

* `attn`: the softmax by its first order, both products divided in half. `cp`: the attention's weights held fixed.
* `none`: no normalisation. `epsilon`: LayerNorm with its standard deviation held fixed, its bias taking a share.
  `identity`: LayerNorm without a bias, by the identity.

LXT adds its stabiliser whatever the sign of the denominator; it is 1e-12 here, so that this makes no difference. Its
RMSNorm is left out, which computes in float32 whatever the network's dtype. The tests read the numbers; only this
script needs PyTorch.
"""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from lxt.explicit import functional, rules
from torch import nn

OUT = Path(__file__).parents[2] / "tests" / "data" / "lxt_attention.npz"
WIDTH, HEADS, HIDDEN, BLOCKS, CLASSES = 8, 2, 12, 2, 4
TARGETS, STABILIZER, VARIANCE_EPSILON = [2, 1], 1e-12, 1e-5
SHAPES = {"q": (WIDTH, WIDTH), "k": (WIDTH, WIDTH), "v": (WIDTH, WIDTH), "out": (WIDTH, WIDTH)}
SHAPES |= {"up": (HIDDEN, WIDTH), "down": (WIDTH, HIDDEN)}


def draw():
    """The weights by name, far from their initial values, and two examples."""
    generator = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator)
    weights = {}
    for i in range(BLOCKS):
        for name, shape in SHAPES.items():
            weights[f"{i}.{name}.weight"] = 1.5 * normal(*shape) / shape[1] ** 0.5
            weights[f"{i}.{name}.bias"] = 0.2 * normal(shape[0])
        for name in ("norm1", "norm2"):
            weights[f"{i}.{name}.weight"], weights[f"{i}.{name}.bias"] = 1 + 0.3 * normal(WIDTH), 0.3 * normal(WIDTH)
    weights["head.weight"], weights["head.bias"] = normal(CLASSES, WIDTH), 0.2 * normal(CLASSES)
    return weights, normal(len(TARGETS), 6, WIDTH)


class Network:
    """The transformer with a rule for each of its operations."""

    def __init__(self, weights, attention, norm):
        self.weights, self.attention, self.norm_kind = weights, attention, norm

    def dense(self, x, name):
        return functional.linear_epsilon(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], STABILIZER)

    def norm(self, x, name):
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        if self.norm_kind == "epsilon":
            return functional.layer_norm_grad_fn.apply(x, weight, bias, VARIANCE_EPSILON, STABILIZER)
        plain = lambda x: nn.functional.layer_norm(x, (WIDTH,), weight, None, VARIANCE_EPSILON)
        return rules.identity(plain, x) if self.norm_kind == "identity" else x

    def attend(self, x, i):
        split = lambda a: a.reshape(*a.shape[:-1], HEADS, -1).transpose(1, 2)
        q, k, v = (split(self.dense(x, f"{i}.{name}")) for name in "qkv")
        logits = functional.matmul(q, k.transpose(-1, -2), epsilon=STABILIZER)
        weights = functional.softmax(logits, -1, temperature=(WIDTH / HEADS) ** 0.5)
        if self.attention == "cp":
            mixed = rules.epsilon_lrp(torch.matmul, STABILIZER, weights.detach(), v)
        else:
            mixed = functional.matmul(weights, v, epsilon=STABILIZER)
        return self.dense(mixed.transpose(1, 2).reshape(x.shape), f"{i}.out")

    def __call__(self, x):
        add = lambda a, b: functional.add2(a, b, epsilon=STABILIZER)
        for i in range(BLOCKS):
            x = add(x, self.attend(self.norm(x, f"{i}.norm1"), i))
            hidden = rules.identity(nn.functional.gelu, self.dense(self.norm(x, f"{i}.norm2"), f"{i}.up"))
            x = add(x, self.dense(hidden, f"{i}.down"))
        return self.dense(x[:, 0], "head")


def main():
    weights, x = draw()
    numbers = {f"state/{key}": value.numpy() for key, value in weights.items()}
    for norm in ("none", "epsilon", "identity"):
        for attention in ("attn", "cp"):
            tokens = x.clone().requires_grad_()
            logits = Network(weights, attention, norm)(tokens)
            start = logits.detach() * nn.functional.one_hot(torch.tensor(TARGETS), CLASSES)
            (relevance,) = torch.autograd.grad(logits, tokens, start)
            numbers[f"{norm}/outputs"] = logits.detach().numpy()
            numbers[f"{norm}/{attention}"] = relevance.numpy()
    versions = np.array([f"{package} {version(package)}" for package in ("lxt", "torch")])
    np.savez_compressed(OUT, versions=versions, tokens=x.numpy(), targets=np.array(TARGETS), **numbers)


if __name__ == "__main__":
    main()
