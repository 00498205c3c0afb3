"""Make `tests/data/zennit_lrp.npz`: zennit's rules and composites on the small networks, in float64.

    pip install '.[benchmark]' && python benchmarks/peers/zennit_lrp.py

What zennit 1.0.0 does, and 0.5.1 to the last digit (1.0.0 asks for Python 3.11.11), and this file therefore holds:

* Relevance starts from the target's logit, 0 elsewhere, for every composite (zennit itself leaves the start open).
* The stabiliser is ``z + 1e-6 sign(z)``, ``sign(0) = +1``, inside every rule; `Epsilon` uses its epsilon there.
* Max-pooling and concatenation have no rule, so autograd's gradient applies: the winner takes all, the first one in
  row-major order where several tie.
* Composites for LRP: activations pass, sums (`zennit.layer.Sum`) and average pools are proportional, padding included.
  `guided_backprop`, `deconvnet` and `beta_smooth` replace the gradient of ReLUs alone. `excitation_backprop` leaves
  activations to their gradient, so a ReLU cuts what `Pass` would let through, and keeps the biases, which the paper
  drops; `excitation_backprop_no_bias` is `ExcitationBackprop(zero_params="bias")`.
* Biases take part in every denominator (`z_box` cancels them). `WSquare` adds the *squared bias* to its denominator,
  `Flat` drops it; `w_square_no_bias` is `WSquare(zero_params="bias")`.
* Only the first layer by declaration is "first", which in these networks is the first one of the data flow too.

BatchNorms are folded by PyTorch's own fusion, whose outputs are checked below to 1e-12. The `NamedMergeBatchNorm` of
zennit 1.0.0 gives the same maps to 1e-13; that of 0.5.1 keeps the BatchNorm's epsilon in the module it leaves behind,
so every merged pair is too small by the factor 1 / sqrt(1 + 1e-5), and the outputs change by 4e-6 to 2e-5.

Rules whose denominators cannot vanish are checked against their axiom on copies of the networks without biases, where
the relevance of the pixels adds up to the logit. Those that split by sign lose (or with beta, gain) what they send to
outputs that no input of the sign reaches, here 14 % of `epsilon_plus` on `residual`; guided backprop and its like
promise no sum.
"""

import copy
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from networks import TARGETS, build, images
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from zennit import composites, rules
from zennit.attribution import Gradient
from zennit.types import Convolution, Linear

OUT = Path(__file__).parents[2] / "tests" / "data" / "zennit_lrp.npz"

# BatchNorm -> the convolution whose output it takes, by name in every network.
NORMS = {
    "chain": {"bn1": "conv1", "bn2": "conv2"},
    "residual": {"stem_bn": "stem", "bn1": "conv1", "bn2": "conv2", "skip_bn": "skip"},
    "depthwise": {"bn1": "expand", "bn2": "depthwise", "bn3": "project"},
    "branches": {"bn1": "branch1", "bn2": "branch2", "bn3": "branch3"},
}
LOW, HIGH = -3.0, 3.0


def uniform(rule):
    return composites.LayerMapComposite([*composites.layer_map_base(), (Linear, rule)])


def first(rule):
    """A rule for the first layer, epsilon for the others."""
    layers = [*composites.layer_map_base(), (Linear, rules.Epsilon(1e-6))]
    return composites.SpecialFirstLayerMapComposite(layers, first_map=[(Convolution, rule)])


COMPOSITES = {
    "epsilon": lambda: uniform(rules.Epsilon(1e-6)),
    "epsilon_0.25": lambda: uniform(rules.Epsilon(0.25)),
    "gamma": lambda: uniform(rules.Gamma(0.25)),
    "z_plus": lambda: uniform(rules.ZPlus()),
    "alpha2_beta1": lambda: uniform(rules.AlphaBeta(2.0, 1.0)),
    "alpha1_beta0": lambda: uniform(rules.AlphaBeta(1.0, 0.0)),
    "z_box": lambda: first(rules.ZBox(LOW, HIGH)),
    "w_square": lambda: first(rules.WSquare()),
    "w_square_no_bias": lambda: first(rules.WSquare(zero_params="bias")),
    "flat": lambda: first(rules.Flat()),
    "epsilon_plus": composites.EpsilonPlus,
    "epsilon_plus_flat": composites.EpsilonPlusFlat,
    "epsilon_alpha2_beta1": composites.EpsilonAlpha2Beta1,
    "epsilon_alpha2_beta1_flat": composites.EpsilonAlpha2Beta1Flat,
    "epsilon_gamma_box": lambda: composites.EpsilonGammaBox(LOW, HIGH),
    "guided_backprop": composites.GuidedBackprop,
    "deconvnet": composites.DeconvNet,
    "excitation_backprop": composites.ExcitationBackprop,
    "excitation_backprop_no_bias": lambda: composites.ExcitationBackprop(zero_params="bias"),
    "beta_smooth": composites.BetaSmooth,
}
CONSERVING = ("epsilon", "gamma", "z_box", "w_square", "w_square_no_bias", "flat", "epsilon_gamma_box")


def merged(name):
    """The network with its BatchNorms folded into the convolutions before them."""
    network = build(name)
    for norm, convolution in NORMS[name].items():
        setattr(network, convolution, fuse_conv_bn_eval(getattr(network, convolution), getattr(network, norm)))
        setattr(network, norm, nn.Identity())
    error = (network(images()) - build(name)(images())).abs().max()
    assert error < 1e-12, f"{name}: folding changed the outputs by {error:.1e}"
    return network


def without_biases(network):
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, Linear) and module.bias is not None:
            module.bias.data.zero_()
    return network


def relevance(network, composite, x):
    start = network(x).detach() * nn.functional.one_hot(torch.tensor(TARGETS), 4)
    with Gradient(network, composite) as attributor:
        return attributor(x, start)[1]


def check_conservation(network, rule, x):
    network = without_biases(network)
    logits = network(x)[range(len(x)), TARGETS]
    error = (relevance(network, COMPOSITES[rule](), x).sum(dim=(1, 2, 3)) / logits - 1).abs().max()
    assert error < 1e-4, f"{rule}: the relevance adds up to the logit but for {error:.1e}"


def main():
    x = images()
    numbers = {
        "versions": np.array([f"{package} {version(package)}" for package in ("zennit", "torch")]),
        "images": x.numpy().transpose(0, 2, 3, 1),
        "targets": np.array(TARGETS),
        "low": np.array(LOW),
        "high": np.array(HIGH),
    }
    for name in NORMS:
        network, original = merged(name), build(name)
        numbers |= {f"{name}/state/{key}": value.numpy() for key, value in original.state_dict().items()}
        numbers[f"{name}/outputs"] = original(x).detach().numpy()
        for rule in CONSERVING:
            check_conservation(network, rule, x)
        for rule, composite in COMPOSITES.items():
            numbers[f"{name}/{rule}"] = relevance(network, composite(), x).numpy().transpose(0, 2, 3, 1)
    np.savez_compressed(OUT, **numbers)


if __name__ == "__main__":
    main()
