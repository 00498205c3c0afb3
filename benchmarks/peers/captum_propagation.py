"""Make `tests/data/captum_propagation.npz`: captum's guided backprop, deconvolution, DeepLIFT and `DeepLiftShap`.

    pip install '.[benchmark]' && python benchmarks/peers/captum_propagation.py

Guided backprop and deconvolution start from 1 at the target and act on `nn.ReLU` modules only, so `smooth`, which has
none, is left out. DeepLIFT (rescale) has to be complete, sum = z_c(x) - z_c(baseline), to 1e-9 to be stored, and
`{network}/deeplift_error/{baseline}` says how far it is off: the worst image's ``sum / (z_c(x) - z_c(baseline)) - 1``.

Nothing is stored of networks with max-pooling, here `chain`: captum passes everything to the input's winner with the
multiplier 1, as the gradient does. That is off by 85 % with the baseline that varies. With the constant one all values
of a reference window tie, so that the sum is right by accident.

`{network}/deep_shap`, of `DeepLiftShap` with three baselines that vary, has to add up in the same way.
"""

import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from captum.attr import Deconvolution, DeepLift, DeepLiftShap, GuidedBackprop
from networks import NETWORKS, TARGETS, build, images
from torch import nn

OUT = Path(__file__).parents[2] / "tests" / "data" / "captum_propagation.npz"


def nhwc(x):
    return x.detach().numpy().transpose(0, 2, 3, 1)


def baselines():
    """A constant one and one that varies, ``{name: (1, 3, 8, 8)}``."""
    zero = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    noise = torch.randn(zero.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return {"zero": zero, "noise": 0.5 * noise}


def baseline_set():
    """Three for the mean, ``(3, 3, 8, 8)``."""
    return 0.5 * torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def main():
    warnings.filterwarnings("ignore", "Setting (forward, )?backward hooks")
    x = images().requires_grad_()
    numbers = {
        "versions": np.array([f"{package} {version(package)}" for package in ("captum", "torch")]),
        "images": nhwc(x),
        "targets": np.array(TARGETS),
        **{f"baseline_{key}": nhwc(baseline) for key, baseline in baselines().items()},
        "baseline_set": nhwc(baseline_set()),
    }
    for name in NETWORKS:
        network = build(name)
        has_max_pooling = any(isinstance(module, nn.MaxPool2d) for module in network.modules())
        numbers |= {f"{name}/state/{key}": value.numpy() for key, value in network.state_dict().items()}
        numbers[f"{name}/outputs"] = network(x).detach().numpy()
        if any(isinstance(module, nn.ReLU) for module in network.modules()):
            numbers[f"{name}/guided_backprop"] = nhwc(GuidedBackprop(network).attribute(x, target=TARGETS))
            numbers[f"{name}/deconvnet"] = nhwc(Deconvolution(network).attribute(x, target=TARGETS))
        for key, baseline in baselines().items():
            maps = DeepLift(network).attribute(x, baseline, target=TARGETS)
            difference = (network(x) - network(baseline))[range(len(x)), TARGETS]
            error = (maps.sum(dim=(1, 2, 3)) / difference - 1).abs().max().item()
            numbers[f"{name}/deeplift_error/{key}"] = np.array(error)
            print(f"{name} {key}: DeepLIFT complete to {error:.1e}")
            if error < 1e-9 and not has_max_pooling:
                numbers[f"{name}/deeplift/{key}"] = nhwc(maps)
        maps = DeepLiftShap(network).attribute(x, baseline_set(), target=TARGETS)
        difference = network(x)[range(len(x)), TARGETS] - network(baseline_set())[:, TARGETS].mean(dim=0)
        error = (maps.sum(dim=(1, 2, 3)) / difference - 1).abs().max().item()
        print(f"{name}: DeepLiftShap complete to {error:.1e}")
        if error < 1e-9 and not has_max_pooling:
            numbers[f"{name}/deep_shap"] = nhwc(maps)
    np.savez_compressed(OUT, **numbers)


if __name__ == "__main__":
    main()
