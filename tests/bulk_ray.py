"""Explain images with two actors of Ray Data, and write the maps to the standard output: `python -m tests.bulk_ray`."""

import os
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np

from jaxplain import bulk
from tests.bulk_job import METHODS, WEIGHTS, network

IMAGES = np.float32(np.random.default_rng(1).random((7, 16, 16, 3)))


def main():
    import ray  # which the tests may have to do without

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        dataset = ray.data.from_items([{"image": x, "index": i} for i, x in enumerate(IMAGES)], override_num_blocks=4)
        made = {"explain": METHODS["smoothgrad"](network), "args": (WEIGHTS,), "batch_size": 2}
        strategy = ray.data.ActorPoolStrategy(size=2)
        mapped = dataset.map_batches(bulk.BatchFunction, fn_constructor_kwargs=made, batch_size=2, compute=strategy)
        rows = sorted(mapped.take_all(), key=lambda row: row["index"])
    finally:
        ray.shutdown()
    sys.stdout.buffer.write(np.stack([row["maps"] for row in rows]).astype(np.float32).tobytes())


if __name__ == "__main__":
    main()
