"""One process of a job: `python -m tests.bulk_job FOLDER STORE [METHOD] [OPTION=VALUE ...]`, a line of JSON at the end.

Several of them make one job where `processes`, `index` and `port` say so. A small network explains the photographs;
`wait` is how many seconds the preparation of an image takes, so that there is time to stop the job, `size` how many
pixels its sides have then; `sharded`, that every device has a part of the weights. Of several methods,
``gradient,lrp``, each has a store in the folder STORE; ``metrics`` measures two of them.
"""

import functools
import json
import os
import resource
import signal
import sys
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np

import jaxplain
from jaxplain import bulk
from tests.attending import attending

RNG = np.random.default_rng(0)
WEIGHTS = {
    "first": np.float32(RNG.normal(size=(3, 3, 3, 8)) * 0.3),
    "second": np.float32(RNG.normal(size=(3, 3, 8, 16)) * 0.2),
    "head": np.float32(RNG.normal(size=(16, 5))),
}  # of NumPy: no array of JAX may be there before its processes know each other


def network(weights, x):
    kinds = ("NHWC", "HWIO", "NHWC")
    x = jax.nn.relu(jax.lax.conv_general_dilated(x, weights["first"], (1, 1), "SAME", dimension_numbers=kinds))
    x = jax.nn.relu(jax.lax.conv_general_dilated(x, weights["second"], (2, 2), "SAME", dimension_numbers=kinds))
    return x.mean(axis=(1, 2)) @ weights["head"]


METHODS = {  # of every family, and of every mechanism
    "gradient": jaxplain.gradient,
    "smoothgrad": lambda f: jaxplain.smoothgrad(f, samples=5),
    "integrated_gradients": lambda f: jaxplain.integrated_gradients(f, steps=5),
    "guided_backprop": jaxplain.guided_backprop,
    "lrp": lambda f: jaxplain.lrp(f, jaxplain.composites.epsilon_plus_flat()),
    "deeplift": jaxplain.deeplift,
    "grad_cam": jaxplain.grad_cam,
    "score_cam": lambda f: jaxplain.score_cam(f, top=4),
    "fem": jaxplain.fem,
    "attention_relevance": lambda f: jaxplain.attention_relevance(attending(f)),
    "deepfool": lambda f: jaxplain.deepfool(f, steps=3),
    "rise": lambda f: jaxplain.rise(f, masks=20),
    "occlusion": lambda f: jaxplain.occlusion(f, window=(4, 4)),
    "meaningful_perturbation": lambda f: jaxplain.meaningful_perturbation(f, steps=5),
}
MEASURED = {name: METHODS[name](network) for name in ("gradient", "smoothgrad")}
METRICS = {"deletion": functools.partial(jaxplain.metrics.deletion, steps=4), "sparseness": "sparseness"}


class Preprocess:
    def __init__(self, wait, size):
        self.wait, self.size = wait, size

    def __call__(self, images):
        time.sleep(self.wait)
        return np.stack([np.asarray(image.resize((self.size, self.size)), np.float32) / 255 for image in images])


def over_all_devices(values):
    """An array of which each device, of whatever process, has a part."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",), (jax.sharding.AxisType.Auto,))
    axis = next(axis for axis, length in enumerate(values.shape) if length % jax.device_count() == 0)
    sharding = jax.NamedSharding(mesh, jax.P(*[None] * axis, "data"))
    return jax.make_array_from_callback(values.shape, sharding, values.__getitem__)


def main(folder, store, methods="smoothgrad", *words):
    options = {name: json.loads(value) for name, value in (word.split("=") for word in words)}
    if largest := options.pop("largest_file", None):  # as on a full disk: no file grows beyond so many bytes
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    processes, index, port = (options.pop(name, None) for name in ("processes", "index", "port"))
    if processes:
        jax.distributed.initialize(
            f"127.0.0.1:{port}", processes, index, heartbeat_timeout_seconds=10, shutdown_timeout_seconds=10
        )
    scale = np.float32(options.pop("scale", 1))
    weights = {name: w * scale for name, w in WEIGHTS.items()}
    if options.pop("sharded", False):
        weights = {name: over_all_devices(w) for name, w in weights.items()}
    preprocess = Preprocess(options.pop("wait", 0), options.pop("size", 16))
    options = {"args": (weights,), "preprocess": preprocess, "batch_size": 2, "every": 0.0, "threads": 1, **options}
    for method in methods.split(","):
        place = store if method == methods else f"{store}/{method}.zarr"
        if method == "metrics":
            outcome = bulk.evaluate(network, MEASURED, METRICS, folder, place, **options)
        else:
            outcome = bulk.explain(METHODS[method](network), folder, place, **options)
        print(json.dumps(vars(outcome)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
