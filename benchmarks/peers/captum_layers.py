"""Make `tests/data/captum_layers.npz`: captum's conductance and internal influence in layers of the small networks.

    pip install '.[benchmark]' && python benchmarks/peers/captum_layers.py

Three numbers of each layer:

* `influence/{rule}`: internal influence.
* `neurons`: conductance of a few neurons, the sum over the input of captum's `NeuronConductance`, which takes the
  derivative of the neuron along the line as it is.
* `conductance`: of every neuron. Captum's `LayerConductance` takes differences between neighbouring points for that
  derivative, and leaves out the ends of the line but for the trapezoid's points. Of these it makes a left sum, which is
  the same where the layer is linear in the input, as it is in the networks' first layers; for the last layers of
  `smooth` the limit is stored, extrapolated from two numbers of steps.

Captum rounds the weights of a quadrature to float32, whatever the network's dtype. The tests read the numbers; only
this script needs PyTorch.
"""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from captum.attr import InternalInfluence, LayerConductance, NeuronConductance
from networks import TARGETS, build, images

OUT = Path(__file__).parents[2] / "tests" / "data" / "captum_layers.npz"
FIRST = {"chain": "conv1", "residual": "stem", "depthwise": "expand", "branches": "stem", "smooth": "conv1"}
MIDDLE = {"chain": "conv2", "residual": "conv1", "depthwise": "depthwise", "branches": "branch2", "smooth": "conv2"}
LIMITS, STEPS, MANY = ("conv2", "fc1"), 16, 4000
NEURONS = [(0, 0, 0), (1, 2, 3), (2, 2, 1)]  # row, column, channel


def channels_last(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


def conductance(network, layer, x, baseline, steps):
    explain = LayerConductance(network, getattr(network, layer))
    return explain.attribute(x, baseline, target=TARGETS, n_steps=steps, method="riemann_trapezoid")


def main():
    x = images()
    baseline = 0.5 * torch.randn(1, *x.shape[1:], dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    numbers = {
        "versions": np.array([f"{package} {version(package)}" for package in ("captum", "torch")]),
        "images": channels_last(x),
        "targets": np.array(TARGETS),
        "baseline": channels_last(baseline),
        "neurons": np.array(NEURONS),
        "steps": np.array(STEPS),
    }
    for name, first in FIRST.items():
        network = build(name)
        numbers |= {f"{name}/state/{key}": value.numpy() for key, value in network.state_dict().items()}
        numbers[f"{name}/conductance/{first}"] = channels_last(conductance(network, first, x, baseline, STEPS))
        middle = MIDDLE[name]
        for rule in ("gausslegendre", "riemann_middle"):
            influence = InternalInfluence(network, getattr(network, middle))
            maps = influence.attribute(x, baseline, target=TARGETS, n_steps=STEPS, method=rule)
            key = f"{name}/influence/{rule.replace('gausslegendre', 'gauss_legendre')}/{middle}"
            numbers[key] = channels_last(maps)
        neurons = NeuronConductance(network, getattr(network, middle))
        options = {"target": TARGETS, "n_steps": STEPS, "method": "gausslegendre"}
        values = [
            neurons.attribute(x, (channel, row, column), baseline, **options).sum(dim=(1, 2, 3))
            for row, column, channel in NEURONS
        ]
        numbers[f"{name}/neurons/{middle}"] = torch.stack(values, dim=1).detach().numpy()
    network = build("smooth")
    for layer in LIMITS:
        coarse, fine = (conductance(network, layer, x, baseline, steps) for steps in (MANY // 2, MANY))
        numbers[f"smooth/limit/{layer}"] = channels_last(2 * fine - coarse)
    np.savez_compressed(OUT, **numbers)


if __name__ == "__main__":
    main()
