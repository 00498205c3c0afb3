"""Images a second on a CPU: by batch, by processes, in bfloat16, and with XLA's flags.

    pip install '.[demo]' && python -m benchmarks.throughput

writes `benchmarks/results/throughput.md`. Every number is the median of the calls of a new process, after one that is
not counted, with the least and the most; there are at least three, and as many as `SECONDS` have room for. Two
processes are started at once, each bound to a core of its own, and their images a second are added; one process has
both cores.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

OUT = Path(__file__).parent / "results" / "throughput.md"
SECONDS, BATCHES = 3.0, (1, 4, 16, 64)
NETWORKS = ("resnet50", "efficientnet_lite0")
ROWS = ("gradient", "LRP epsilon_plus_flat", "Grad-CAM")
FLAGS = (
    "--xla_cpu_multi_thread_eigen=false",
    "--xla_cpu_enable_fast_math=true",
    "--xla_cpu_prefer_vector_width=512",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_enable_concurrency_optimized_scheduler=false",
    "--xla_cpu_use_onednn=true",
)


class Cell(NamedTuple):
    """One number: an explanation of a network, its batch, the type of its numbers, XLA's flags, and processes."""

    row: str
    network: str
    batch: int = 16
    dtype: str = "float32"
    flags: str = ""
    processes: int = 1


def cells():
    """What is measured: the first of a batch of 16 is what the others differ from in one thing."""
    for row, network in itertools.product(ROWS, NETWORKS):
        yield from (Cell(row, network, batch) for batch in BATCHES)
        yield Cell(row, network, processes=2)
        yield Cell(row, network, dtype="bfloat16")
    yield from (Cell("gradient", network, flags=flags) for network, flags in itertools.product(NETWORKS, FLAGS))


def images_per_second(cell):
    """Of all processes of a cell together: the median, the least and the most.

    None where one of them ends with an error, such as an unknown flag.
    """
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "benchmarks.throughput", "--one", json.dumps(cell)]
    environment = os.environ | {"XLA_FLAGS": cell.flags, "JAX_PLATFORMS": "cpu"}
    bound = [cores] if cell.processes == 1 else [[core] for core in cores[: cell.processes]]
    started = [
        subprocess.Popen([*command, json.dumps(own)], env=environment, stdout=subprocess.PIPE, text=True)
        for own in bound
    ]
    answers = [(process.communicate()[0], process.returncode) for process in started]
    if any(code for _, code in answers):
        return None
    return [sum(numbers) for numbers in zip(*(map(float, text.split()[-3:]) for text, _ in answers), strict=True)]


def one(cell, cores):
    """In a new process: the images a second of the cores that it has."""
    os.sched_setaffinity(0, cores)  # before XLA counts them
    import jax
    import jax.numpy as jnp
    import numpy as np

    import jaxplain
    from jaxplain import composites, models

    makes = {
        "gradient": jaxplain.gradient,
        "LRP epsilon_plus_flat": lambda f: jaxplain.lrp(f, composites.epsilon_plus_flat()),
        "Grad-CAM": jaxplain.grad_cam,
    }
    module, variables, _ = getattr(models, cell.network)()
    variables = jax.tree.map(lambda a: jnp.asarray(a, cell.dtype), variables)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(cell.batch, 224, 224, 3)), cell.dtype)
    explain = jax.jit(makes[cell.row](module.apply))
    call = lambda: jax.block_until_ready(explain(variables, x, target=jnp.arange(cell.batch)))
    call()
    times, end = [], time.perf_counter() + SECONDS
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    print(*(cell.batch / seconds for seconds in (statistics.median(times), max(times), min(times))))


def shown(numbers):
    """The median, with the least and the most."""
    return "does not run" if numbers is None else "**{:.1f}** ({:.1f} to {:.1f})".format(*numbers)


def tables(found):
    """The tables as Markdown."""
    cores = len(os.sched_getaffinity(0))
    yield f"jaxplain {version('jaxplain')} with jax {version('jax')}, on a CPU ({platform.machine()}, {cores} cores)."
    yield "Images of 224 x 224 a second: the median of the calls, with the least and the most."
    yield from ("", "## By batch", "", f"| explanation | network | {' | '.join(map(str, BATCHES))} |")
    yield f"|{'---|' * (2 + len(BATCHES))}"
    for row, network in itertools.product(ROWS, NETWORKS):
        numbers = (shown(found[Cell(row, network, batch)]) for batch in BATCHES)
        yield f"| {row} | {network} | {' | '.join(numbers)} |"
    yield from ("", "## Processes and numbers", "", "With a batch of 16.", "")
    yield "| explanation | network | one process, two cores | two processes, a core each | bfloat16 |"
    yield "|---|---|---|---|---|"
    for row, network in itertools.product(ROWS, NETWORKS):
        cell = Cell(row, network)
        kinds = (cell, cell._replace(processes=2), cell._replace(dtype="bfloat16"))
        yield f"| {row} | {network} | {' | '.join(shown(found[kind]) for kind in kinds)} |"
    yield from ("", "## `XLA_FLAGS`", "", "The gradient, with a batch of 16.", "")
    yield f"| flags | {' | '.join(NETWORKS)} |"
    yield f"|{'---|' * (1 + len(NETWORKS))}"
    for flags in ("", *FLAGS):
        numbers = (shown(found[Cell("gradient", network, flags=flags)]) for network in NETWORKS)
        yield f"| {f'`{flags}`' if flags else 'none'} | {' | '.join(numbers)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        cell, cores = map(json.loads, options.one)
        one(Cell(*cell), cores)
        return
    found = {}
    for cell in cells():
        found[cell] = images_per_second(cell)
        print(*cell, shown(found[cell]), flush=True)
    OUT.write_text("\n".join(tables(found)) + "\n")


if __name__ == "__main__":
    main()
