"""Make `tests/data/torchray_excitation.npz`: TorchRay's excitation backprop, plain and contrastive, in float64.

    pip install '.[benchmark]' && pip install --no-deps torchray==1.0.0.2
    python benchmarks/peers/torchray_excitation.py

TorchRay, which may be used for research only, is run here; the repository holds none of its code.

It takes what enters a layer to be positive, as the paper does, so that the images lie in [0, 1], and convolutions that
are added to others or whose outputs are not rectified have positive weights. At BatchNorm it hands on what arrives,
whatever scale and shift there are; they are 1 and 0 here. Of what is left the walk has to be a probability, sum = 1, to
be stored: `{network}/sum` says how far it is off. Targets are the predicted classes.

* `{network}/input`: at the input, all channels. `{network}/{layer}`: at the output of a layer, channels summed.
* `{network}/contrastive/{layer}`: the walk with the last layer's weights negated subtracted one layer later.
"""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from networks import build
from torch import nn
from torchray.attribution import excitation_backprop as torchray

OUT = Path(__file__).parents[2] / "tests" / "data" / "torchray_excitation.npz"
POSITIVE = {"residual": ("conv1", "conv2", "skip"), "depthwise": ("project",)}
LAYERS = {  # where the walk ends, and where the dual one is subtracted
    "chain": [("relu1", "relu2")],
    "residual": [("relu1", "relu2")],
    "depthwise": [("bn3", "relu3")],
    "branches": [],
}


class Sum(nn.Module):
    """TorchRay's sum of what `networks` stacks."""

    def __init__(self):
        super().__init__()
        self.sum = torchray.EltwiseSum()

    def forward(self, stacked):
        return self.sum(*stacked.unbind(dim=-1))


def positive(name):
    """One of the networks, with BatchNorm that changes nothing."""
    network = build(name)
    with torch.no_grad():
        for key, module in list(network.named_children()):
            if isinstance(module, nn.BatchNorm2d):
                module.weight.fill_(1)
                module.bias.zero_()
                module.running_mean.zero_()
                module.running_var.fill_(1 - module.eps)
            elif key in POSITIVE.get(name, ()):
                module.weight.abs_()
            elif key.startswith("sum"):
                setattr(network, key, Sum())
    return network


def images():
    """Two 8x8 colour images with values in [0, 1], ``(N, C, H, W)``."""
    return torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def main():
    x, nhwc = images(), lambda a: a.detach().numpy().transpose(0, 2, 3, 1)
    packages = ("torchray", "torch")
    numbers = {"versions": np.array([f"{package} {version(package)}" for package in packages])}
    numbers["images"] = nhwc(x)
    for name, layers in LAYERS.items():
        network = positive(name)
        outputs = network(x).detach()
        targets = outputs.argmax(dim=1)
        numbers |= {f"{name}/state/{key}": value.numpy() for key, value in network.state_dict().items()}
        numbers |= {f"{name}/outputs": outputs.numpy(), f"{name}/targets": targets.numpy()}
        every = {"gradient_to_saliency": lambda x: x.grad.clone()}
        at_input = torchray.excitation_backprop(network, x.clone().requires_grad_(), targets, **every)
        error = (at_input.sum(dim=(1, 2, 3)) - 1).abs().max().item()
        numbers[f"{name}/sum"] = np.array(error)
        print(f"{name}: a probability but for {error:.1e}")
        if error > 1e-9:
            continue
        numbers[f"{name}/input"] = nhwc(at_input)
        for layer, later in layers:
            maps = torchray.excitation_backprop(network, x.clone().requires_grad_(), targets, layer)
            contrastive = torchray.contrastive_excitation_backprop(network, x.clone(), targets, layer, later)
            numbers[f"{name}/{layer}"] = nhwc(maps)[..., 0]
            numbers[f"{name}/contrastive/{layer}"] = nhwc(contrastive)[..., 0]
    np.savez_compressed(OUT, **numbers)


if __name__ == "__main__":
    main()
