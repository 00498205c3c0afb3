"""How time and memory of explanations grow with the batch, the steps and the samples, and what the first call takes.

    pip install '.[demo]' && python -m benchmarks.scaling

writes `benchmarks/results/scaling.md`: EfficientNet-Lite0, 224 x 224, float32, medians of 5 calls. Memory is what the
compiled function allocates beside its arguments and its result.
"""

import os
import platform
import statistics
import time
from pathlib import Path

import jax

import jaxplain
from jaxplain import composites, models

OUT = Path(__file__).parent / "results" / "scaling.md"
MODULE, VARIABLES, _ = models.efficientnet_lite0()


def measured(explain, n=1, repeats=5, **options):
    """Seconds of the first call and of the others, and bytes."""
    x = jax.random.normal(jax.random.key(0), (n, 224, 224, 3))
    start = time.perf_counter()
    compiled = jax.jit(explain).lower(VARIABLES, x, **options).compile()
    compiled(VARIABLES, x, **options).block_until_ready()
    first = time.perf_counter() - start
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        compiled(VARIABLES, x, **options).block_until_ready()
        times.append(time.perf_counter() - start)
    return first, statistics.median(times), compiled.memory_analysis().temp_size_in_bytes


def table(title, header, rows):
    print(title, *rows, sep="\n", flush=True)
    lines = [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]
    return "\n".join([f"## {title}", "", *lines, ""])


def growth(name, values, make, **options):
    rows = []
    for value in values:
        _, duration, memory = measured(make(value), repeats=3, **options)
        rows.append(
            [str(value), f"{1e3 * duration:.0f} ms", f"{1e3 * duration / value:.1f} ms", f"{memory / 1e6:.2f} MB"]
        )
    return table(name[0], [name[1], "time", f"per {name[1][:-1]}", "memory"], rows)


def batches():
    explain, rows = jaxplain.gradient(MODULE.apply), []
    for n in (1, 2, 4, 8, 16):
        _, duration, memory = measured(explain, n, target=0)
        rows.append([str(n), f"{1e3 * duration:.0f} ms", f"{1e3 * duration / n:.1f} ms", f"{memory / 1e6:.0f} MB"])
    return table("The gradient of a batch", ["images", "time", "per image", "memory"], rows)


def first_calls():
    raw = lambda v, x: jax.grad(lambda x: MODULE.apply(v, x)[:, 0].sum())(x)
    base, _, _ = measured(raw, repeats=1)
    rows = [["jax.jit(jax.grad)", f"{base:.1f} s", "1.0"]]
    f = MODULE.apply
    for name, explain in {
        "gradient": jaxplain.gradient(f),
        "integrated_gradients": jaxplain.integrated_gradients(f),
        "guided_backprop": jaxplain.guided_backprop(f),
        "grad_cam": jaxplain.grad_cam(f),
        "deeplift": jaxplain.deeplift(f),
        "lrp epsilon_plus_flat": jaxplain.lrp(f, composites.epsilon_plus_flat()),
        "lrp epsilon_gamma_box": jaxplain.lrp(f, composites.epsilon_gamma_box(-1.0, 1.0)),
    }.items():
        first, _, _ = measured(explain, repeats=1, target=0)
        rows.append([name, f"{first:.1f} s", f"{first / base:.1f}"])
    return table("The first call: tracing, compiling and running", ["explanation", "time", "of jax.grad's"], rows)


def main():
    f, key = MODULE.apply, jax.random.key(0)
    integrated = lambda steps: jaxplain.integrated_gradients(f, steps=steps)
    smoothed = lambda samples: jaxplain.smoothgrad(f, samples=samples)
    seen = lambda top: jaxplain.score_cam(f, top=top, chunk=16)
    sections = [
        batches(),
        growth(("Integrated gradients", "steps"), (50, 100, 500), integrated, target=0),
        growth(("SmoothGrad", "samples"), (50, 100, 500), smoothed, target=0, key=key),
        growth(("Score-CAM", "channels"), (64, 128, 512), seen, target=0),
        first_calls(),
    ]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = f"{jax.default_backend()}, {platform.machine()}, {cores} cores"
    head = f"jaxplain {jaxplain.__version__}, jax {jax.__version__}; {machine}.\n\n"
    OUT.write_text(head + "\n".join(sections))


if __name__ == "__main__":
    main()
