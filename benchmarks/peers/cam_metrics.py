"""Make `tests/data/cam_metrics.npz`: pytorch-grad-cam's metrics on one of the small networks.

    pip install '.[benchmark]' && python benchmarks/peers/cam_metrics.py

ROAD is that of random maps, whose values all differ, without noise; the library's percentile is what stays, and
`percentages` is what it removed. `complexity`, `coherency` and `drop`, as a share of the score, are the three parts of
ADCC, of Grad-CAM at a layer as large as the image. Everything is in float64.
"""

import functools
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import numpy as np
import pytorch_grad_cam as cams
import torch
from captum_propagation import nhwc
from networks import TARGETS, build, images
from pytorch_grad_cam.metrics import arcc, cam_mult_image, road
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget, ClassifierOutputTarget

OUT = Path(__file__).parents[2] / "tests" / "data" / "cam_metrics.npz"
NAME, LAYER = "residual", "relu1"
STAYING = [20, 40, 75]
OF = {"output": ClassifierOutputTarget, "probability": ClassifierOutputSoftmaxTarget}
ROADS = {
    "morf": road.ROADMostRelevantFirstAverage,
    "lerf": road.ROADLeastRelevantFirstAverage,
    "combined": road.ROADCombined,
}


def main():
    network, x = build(NAME), images()
    maps = np.random.default_rng(0).permuted(np.linspace(0, 1, 2 * 64).reshape(2, 64), axis=1).reshape(2, 8, 8)
    removed = [(a >= np.percentile(a, p)).sum() for p in STAYING for a in maps]
    assert removed[::2] == removed[1::2]
    numbers = {
        "versions": np.array([f"{package} {version(package)}" for package in ("grad-cam", "torch")]),
        "images": nhwc(x),
        "targets": np.array(TARGETS),
        "maps": maps,
        "percentages": 100 * np.array(removed[::2]) / 64,
    }
    numbers |= {f"{NAME}/state/{key}": value.numpy() for key, value in network.state_dict().items()}
    targets = {of: [target(c) for c in TARGETS] for of, target in OF.items()}
    silent = functools.partial(road.NoisyLinearImputer, noise=0.0)
    with mock.patch("numpy.float32", np.float64), mock.patch("torch.float", torch.float64):
        with mock.patch.object(road, "NoisyLinearImputer", silent):
            silent.setup_sparse_system = silent.func.setup_sparse_system
            silent.add_offset_to_indices = silent.func.add_offset_to_indices
            for (order, metric), of in ((pair, of) for pair in ROADS.items() for of in OF):
                numbers[f"{NAME}/road/{order}/{of}"] = metric(STAYING)(x, maps, targets[of], network)
        cam = cams.GradCAM(network, [network.get_submodule(LAYER)])
        shown = cam(x, targets["output"])
        numbers[f"{NAME}/complexity"] = arcc.Complexity()(shown)
        numbers[f"{NAME}/coherency"] = arcc.Coherency()(x, shown, targets["output"], network, cam)
        drop = cam_mult_image.DropInConfidence()(x, shown, targets["probability"], network)
    numbers[f"{NAME}/drop"] = drop / network(x).softmax(dim=1)[range(2), TARGETS].detach().numpy()
    np.savez_compressed(OUT, **numbers)
    for key in ("complexity", "coherency", "drop", "road/combined/probability"):
        print(key, numbers[f"{NAME}/{key}"])
    print(f"{OUT.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
