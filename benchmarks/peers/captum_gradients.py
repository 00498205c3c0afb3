"""Make `tests/data/captum_gradients.npz`: the gradient family of captum on the small networks.

    pip install '.[benchmark]' && python benchmarks/peers/captum_gradients.py

The tests read the numbers; only this script needs PyTorch.
"""

from pathlib import Path

import captum
import numpy as np
import torch
from captum.attr import InputXGradient, IntegratedGradients, Saliency
from networks import NETWORKS, TARGETS, build, images

OUT = Path(__file__).parents[2] / "tests" / "data" / "captum_gradients.npz"


def nhwc(x):
    return x.detach().numpy().transpose(0, 2, 3, 1)


def main():
    x = images()
    baseline = torch.linspace(-0.5, 0.5, 3, dtype=torch.float64).reshape(1, 3, 1, 1).expand(1, 3, 8, 8)
    numbers = {
        "versions": np.array([f"captum {captum.__version__}", f"torch {torch.__version__}"]),
        "images": nhwc(x),
        "targets": np.array(TARGETS),
        "baseline": nhwc(baseline),
    }
    for name in NETWORKS:
        network = build(name)
        numbers |= {f"{name}/state/{key}": value.numpy() for key, value in network.state_dict().items()}
        numbers[f"{name}/outputs"] = network(x).detach().numpy()
        numbers[f"{name}/gradient"] = nhwc(Saliency(network).attribute(x, target=TARGETS, abs=False))
        numbers[f"{name}/input_x_gradient"] = nhwc(InputXGradient(network).attribute(x, target=TARGETS))
        for rule in ("gausslegendre", "riemann_left", "riemann_right", "riemann_middle"):
            maps = IntegratedGradients(network).attribute(x, baseline, target=TARGETS, n_steps=64, method=rule)
            numbers[f"{name}/integrated_gradients/{rule.replace('gausslegendre', 'gauss_legendre')}"] = nhwc(maps)
    np.savez_compressed(OUT, **numbers)


if __name__ == "__main__":
    main()
