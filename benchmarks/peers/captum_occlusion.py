"""Make `tests/data/captum_occlusion.npz`: captum's occlusion of the small networks.

    pip install '.[benchmark]' && python benchmarks/peers/captum_occlusion.py

The windows cover all channels, so captum's maps repeat themselves for every channel; one is stored. Captum rounds the
sum over windows to float32 before it takes the mean, whatever the network's dtype. The tests read the numbers; only
this script needs PyTorch.
"""

from pathlib import Path

import captum
import numpy as np
import torch
from captum.attr import Occlusion
from networks import TARGETS, build, images

OUT = Path(__file__).parents[2] / "tests" / "data" / "captum_occlusion.npz"
WINDOWS = [  # height, width, and strides; in most of them the last window is cut off at the border
    *((2, 2, 2, 2), (3, 3, 1, 1), (3, 3, 2, 2), (3, 3, 3, 3), (4, 3, 3, 2), (5, 2, 4, 1)),
    *((7, 7, 3, 5), (1, 1, 1, 1), (8, 3, 8, 2), (8, 8, 1, 1)),
]


def nhwc(x):
    return x.detach().numpy().transpose(0, 2, 3, 1)


def main():
    x = images()
    baselines = {"zero": torch.zeros(1, 3, 8, 8, dtype=torch.float64)}
    baselines["colours"] = torch.linspace(-0.5, 0.5, 3, dtype=torch.float64).reshape(1, 3, 1, 1).expand(1, 3, 8, 8)
    numbers = {
        "versions": np.array([f"captum {captum.__version__}", f"torch {torch.__version__}"]),
        "images": nhwc(x),
        "targets": np.array(TARGETS),
        "windows": np.array(WINDOWS),
    } | {f"baseline_{name}": nhwc(value) for name, value in baselines.items()}
    for name in ("chain", "smooth"):
        network = build(name)
        numbers |= {f"{name}/state/{key}": value.numpy() for key, value in network.state_dict().items()}
        for i, (height, width, down, right) in enumerate(WINDOWS):
            for baseline, value in baselines.items():
                with torch.no_grad():
                    maps = Occlusion(network).attribute(
                        x, (3, height, width), (3, down, right), value, target=TARGETS, perturbations_per_eval=1
                    )
                assert torch.equal(maps, maps[:, :1].expand_as(maps))
                numbers[f"{name}/{i}/{baseline}"] = maps[:, 0].numpy()
    np.savez_compressed(OUT, **numbers)


if __name__ == "__main__":
    main()
