"""What one of eight devices computes and sends when the batch is sharded over them: `python -m tests.flops_per_device`.

A process of its own, since the number of simulated devices is fixed when JAX starts, and under XLA's default flags. For
every method, or those named as arguments, it prints a line of JSON: ``share`` of one device in the operations, ``sent``
the largest exchange between devices, over the pixels of the batch, ``turns`` whether the loops of both programs take as
many, since XLA counts their bodies once. ``bulk.METHOD`` is a step of a job of `jaxplain.bulk`, of which one device's
program and that of eight are compared.
"""

import json
import math
import os
import re
import sys
from functools import partial

if __name__ == "__main__":  # not where tests import it
    os.environ.update(JAX_PLATFORMS="cpu", XLA_FLAGS="--xla_force_host_platform_device_count=8")

import jax
import jax.numpy as jnp
import numpy as np

import jaxplain
from jaxplain._taxonomy import METHODS
from tests.attending import maker

IMAGES, SIZE = 64, 12  # eight a device, which computes one row of a reference besides, as one device alone does
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(IMAGES, SIZE, SIZE, 3)), jnp.float32)
SHAPES = {"first": (3, 3, 3, 8), "second": (3, 3, 8, 16), "head": (16, 5)}
WEIGHTS = {name: jnp.asarray(RNG.normal(size=shape), jnp.float32) * 0.2 for name, shape in SHAPES.items()}


def network(weights, x):
    convolve = lambda x, w: jax.lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = jax.nn.relu(convolve(x, weights["first"]))
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return jax.nn.relu(convolve(x, weights["second"])).mean(axis=(1, 2)) @ weights["head"]


PATTERNS = lambda: {"patterns": jaxplain.fit_patterns(network, WEIGHTS, batches=[X])}
NEEDED = {  # options that have no default, or one for larger images
    "expected_gradients": lambda: {"baselines": X[:4]},
    "deep_shap": lambda: {"baselines": X[:4]},
    "lrp": lambda: {"composite": jaxplain.composites.epsilon_plus_flat()},
    "multilayer_fem": lambda: {"layer": [None]},
    "occlusion": lambda: {"window": (4, 4)},
    "extremal_perturbation": lambda: {"sigma": 3.0, "step": 2},
    "pattern_net": PATTERNS,
    "pattern_attribution": PATTERNS,
}
TRANSFORMS = {
    "chunked": lambda f: jaxplain.chunked(jaxplain.gradient(f), 8),
    "smooth_of_lrp": lambda f: jaxplain.smooth(jaxplain.lrp(f, jaxplain.composites.epsilon_plus())),
    "smooth_of_smooth": lambda f: jaxplain.smooth(jaxplain.smoothgrad(f, samples=4), samples=6, chunk=3),
}


def explainer(name):
    return (TRANSFORMS.get(name) or maker(METHODS[name], **NEEDED.get(name, dict)()))(network)


def compiled(explain, place_all, place_batch):
    targets = None if explain.__name__ == "neuron_attribution" else place_batch(jnp.arange(IMAGES) % 5)
    weights, key = place_all((WEIGHTS, jax.random.key(0)))
    call = lambda weights, x, targets, key: explain(weights, x, target=targets, key=key)
    return jax.jit(call).lower(weights, place_batch(X), targets, key).compile()


def compiled_step(explain, devices):
    """What a job runs at each step on so many devices, for the same images in all."""
    from jaxplain.bulk import _devices, _explain

    mesh = jax.make_mesh((devices,), ("data",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:devices])
    job = _devices.devices_of(mesh, IMAGES // devices)
    part = partial(_explain.part_of, explain, None, 0, "float32")
    numbers = np.arange(IMAGES)
    batch = {"image": np.asarray(X), "label": np.int32(numbers % 5), "index": np.uint32(numbers)}
    placed = {name: job.batch(values) for name, values in batch.items()}
    return job.program(part, (WEIGHTS,)).lower(job.place((WEIGHTS,)), placed).compile()


def largest_exchange(text):
    exchange = r"= (.*?) (?:all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
    shapes = (shape for result in re.findall(exchange, text) for shape in re.findall(r"\w\[([\d,]*)\]", result))
    return max((math.prod(int(n) for n in shape.split(",") if n) for shape in shapes), default=0)


def turns(text):
    return sorted(re.findall(r'known_trip_count":\{"n":"(\d+)"', text))


def main(names):
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    place = lambda *spec: lambda values: jax.device_put(values, jax.NamedSharding(mesh, jax.P(*spec)))
    for name in names:
        explain = explainer(name.removeprefix("bulk."))
        if name.startswith("bulk."):
            whole, part = compiled_step(explain, 1), compiled_step(explain, 8)
        else:
            whole, part = compiled(explain, lambda v: v, lambda v: v), compiled(explain, place(), place("batch"))
        share = part.cost_analysis()["flops"] / whole.cost_analysis()["flops"]
        exchanged = largest_exchange(part.as_text()) / (IMAGES * SIZE**2)
        same_turns = turns(whole.as_text()) == turns(part.as_text())
        sys.stdout.write(json.dumps({"name": name, "share": share, "sent": exchanged, "turns": same_turns}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:] or (*METHODS, *TRANSFORMS))
