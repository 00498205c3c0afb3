"""Make `benchmarks/results/peers_conservation.json`: do the peers' explanations add up, on which networks, unaided?

    pip install '.[benchmark]' && python benchmarks/peers/conservation.py

Untrained torchvision networks in float64, their biases drawn at random, BatchNorm statistics taken from noise, one
noise image. Every ReLU is made out of place, as the peers ask. Columns:

* `captum LRP`, `zennit epsilon`, `zennit epsilon_plus`: the pixels' relevance over the predicted class's logit.
  Captum has its default rules; zennit its canonisers for VGG and ResNet, and `SequentialMergeBatchNorm` elsewhere.
* `zennit's canoniser`: the largest change of a logit by canonisation, over the largest logit. It should be rounding.
* `captum DeepLIFT`: the sum over z_c(x) - z_c(baseline), the baseline another noise image, c the class for which the
  two differ most.

Each on the network with its biases, and without (those of BatchNorm, its running means and position embeddings
included). Only the second tells right from wrong for LRP: there nothing but the stabiliser may absorb relevance, and
for `epsilon_plus` outputs that nothing positive reaches. With biases any sum is possible, and a sum of 1 proves
nothing; nor does it say anything of where the relevance lies. DeepLIFT's sum has to be 1 in both. An entry in words is
the error that was raised.
"""

import json
import warnings
from importlib.metadata import version
from pathlib import Path

import torch
from captum.attr import LRP, DeepLift
from torch import nn
from torchvision import models
from zennit.attribution import Gradient
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import EpsilonPlus, LayerMapComposite, layer_map_base
from zennit.rules import Epsilon
from zennit.torchvision import ResNetCanonizer, VGGCanonizer
from zennit.types import BatchNorm, Linear

OUT = Path(__file__).parents[1] / "results" / "peers_conservation.json"
SIZE = {"inception_v3": 96}  # 64 elsewhere
VIT = {"image_size": 64, "patch_size": 16, "num_layers": 4, "num_heads": 4, "hidden_dim": 64, "mlp_dim": 128}
NETWORKS = {
    "vgg11": models.vgg11,
    "vgg11_bn": models.vgg11_bn,
    "resnet18": models.resnet18,
    "resnet50": models.resnet50,
    "densenet121": models.densenet121,
    "googlenet": lambda **options: models.googlenet(aux_logits=False, init_weights=True, **options),
    "inception_v3": lambda **options: models.inception_v3(aux_logits=False, init_weights=True, **options),
    "mobilenet_v2": models.mobilenet_v2,
    "efficientnet_b0": models.efficientnet_b0,
    "regnet_y_400mf": models.regnet_y_400mf,
    "convnext_tiny": lambda **options: models.convnext_tiny(layer_scale=0.5, **options),
    "shufflenet_v2_x0_5": models.shufflenet_v2_x0_5,
    "vision_transformer": lambda **options: models.VisionTransformer(**VIT, **options),
}
CANONIZERS = {"vgg11": VGGCanonizer, "vgg11_bn": VGGCanonizer, "resnet18": ResNetCanonizer, "resnet50": ResNetCanonizer}


SHIFTS = ("bias", "pos_embedding", "class_token")


def build(name, biases):
    torch.manual_seed(0)
    network = NETWORKS[name](num_classes=10).double()
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    shifts = [parameter.data for key, parameter in network.named_parameters() if key.endswith(SHIFTS)]
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)  # the transformer's head is zero
        elif isinstance(module, nn.ReLU):
            module.inplace = False
    for shift in shifts:
        nn.init.normal_(shift, std=0.1)
    for norm in norms:
        norm.momentum = None  # the plain average over what it sees
    with torch.no_grad():
        network.train()(torch.randn(8, 3, size(name), size(name), dtype=torch.float64))
    if not biases:
        for shift in (*shifts, *(norm.running_mean for norm in norms)):
            shift.zero_()
    return network.eval()


def size(name):
    return SIZE.get(name, 64)


def noise(name, seed):
    shape = (1, 3, size(name), size(name))
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def captum_lrp(name, network, x, target):
    return LRP(network).attribute(x, target=target).sum() / network(x)[0, target]


def captum_deeplift(name, network, x, _):
    baseline = noise(name, 2)
    difference = (network(x) - network(baseline))[0]
    target = difference.abs().argmax().item()
    return DeepLift(network).attribute(x, baseline, target=target).sum() / difference[target]


def canonizers(name):
    return [CANONIZERS.get(name, SequentialMergeBatchNorm)()]


def zennit_epsilon(name, network, x, target):
    layers = [*layer_map_base(1e-9), (Linear, Epsilon(1e-9))]
    return zennit(network, LayerMapComposite(layers, canonizers=canonizers(name)), x, target)


def zennit_epsilon_plus(name, network, x, target):
    return zennit(network, EpsilonPlus(1e-9, 1e-9, canonizers=canonizers(name)), x, target)


def zennit(network, composite, x, target):
    logit = network(x)[0, target].detach()
    with Gradient(network, composite) as attributor:
        return attributor(x, logit * nn.functional.one_hot(torch.tensor([target]), 10))[1].sum() / logit


def zennit_canoniser(name, network, x, target):
    before = network(x)
    for canonizer in canonizers(name):
        canonizer.apply(network)
    return (network(x) - before).abs().max() / before.abs().max()


COLUMNS = {
    "captum LRP": captum_lrp,
    "captum DeepLIFT": captum_deeplift,
    "zennit epsilon": zennit_epsilon,
    "zennit epsilon_plus": zennit_epsilon_plus,
    "zennit's canoniser": zennit_canoniser,
}


def outcome(name, column, biases):
    network, x = build(name, biases), noise(name, 1)
    target = network(x).argmax().item()
    try:
        return float(f"{COLUMNS[column](name, network, x.requires_grad_(), target).item():.9g}")
    except Exception as error:  # whatever a user would meet
        return f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"


def main():
    warnings.simplefilter("ignore")
    table = {}
    for name in NETWORKS:
        table[name] = {
            column: {kind: outcome(name, column, kind == "biases") for kind in ("biases", "no biases")}
            for column in COLUMNS
        }
        print(name, *(f"  {column}: {entry}" for column, entry in table[name].items()), sep="\n")
    versions = {package: version(package) for package in ("captum", "zennit", "torch", "torchvision")}
    OUT.write_text(json.dumps({"versions": versions, "networks": table}, indent=2) + "\n")


if __name__ == "__main__":
    main()
