"""Explanations on a GPU in eight minutes: whether they equal a CPU's, how fast they are, beside peers, what they hold.

    pip install '.[benchmark]' 'jax[cuda13]' && python -m benchmarks.gpu

writes `benchmarks/results/gpu.md`. Without a GPU ``--dry-run`` goes the same ways on a CPU, with small images and a few
methods, and writes nothing; CI runs it so that the script works on the day there is one.

* *Equal*: every method on a network of realistic shapes, compiled for the device with products in full precision,
  against what the CPU computes with XLA's optimisations left out; the largest difference over the largest value, at
  most 1e-4.
* *Speed*: ResNet-50 with random weights, 64 images of 224 x 224; medians of calls after two that are not counted. In
  float32 and bfloat16, from images with channels last and first. Precision is what each library has by default: JAX's
  products of float32 are TF32 on a GPU, but for LRP, DeepLIFT and integrated gradients, which ask for all digits. The
  peers run in the same minutes on the same device, with random weights of their own and in their faster memory format.
  The share of the peak is that of operations a second (of `jax.grad`, counted by XLA) in a product of matrices of
  8192 x 8192.
* *Memory*: the temporaries and results of the compiled function, as XLA counts them; of a peer the most that PyTorch
  allocates in a call, less what it held before.

What does not fit into ``--minutes`` is left out, and the table says so.
"""

import argparse
import itertools
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "")  # a GPU and the CPU beside it
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the peers need memory, too

import jax
import jax.numpy as jnp
import numpy as np

import jaxplain
from benchmarks.timing import median_seconds
from jaxplain import composites, models
from tests.compiled.networks import images
from tests.compiled.test_explanations import EXPLAINERS, UNOPTIMISED, explain_of

OUT = Path(__file__).parent / "results" / "gpu.md"
CHUNK = 4  # steps or channels at a time
DTYPES = ("float32", "bfloat16")
GOALS = {"gradient": 1.5, "integrated gradients, 16 steps": 1.5, "LRP epsilon_plus_flat": 4.0, "Grad-CAM": 3.0}
ROWS = {
    "gradient": jaxplain.gradient,
    "LRP epsilon_plus_flat": lambda f: jaxplain.lrp(f, composites.epsilon_plus_flat()),
    "DeepLIFT": jaxplain.deeplift,
    "Grad-CAM": jaxplain.grad_cam,
    "integrated gradients, 16 steps": lambda f: jaxplain.integrated_gradients(f, steps=16, chunk=CHUNK),
    "Score-CAM, 64 channels": lambda f: jaxplain.score_cam(f, top=64, chunk=CHUNK),
}
HEADING = (
    "| explanation | numbers | channels | images/s | peer, images/s | ratio | asked | share of the peak | MiB "
    "| peer, MiB |"
)


class Plan(NamedTuple):
    """What is measured, where, and until when."""

    device: Any
    deadline: float
    size: int = 224
    batch: int = 64
    calls: int = 5
    make: Callable[..., Any] = models.resnet50
    methods: tuple[str, ...] = tuple(EXPLAINERS)
    rows: tuple[str, ...] = ("jax.grad", *ROWS)
    forms: tuple[tuple[str, str], ...] = tuple(itertools.product(DTYPES, ("last", "first")))

    @property
    def is_over(self):
        """Whether no time is left."""
        return time.monotonic() > self.deadline

    def photographs(self, channels, dtype="float32"):
        """Random images: what they show does not change the time."""
        x = np.random.default_rng(0).normal(size=(self.batch, self.size, self.size, 3))
        x = jnp.asarray(x if channels == "last" else np.moveaxis(x, -1, 1), dtype)
        return jax.device_put(x, self.device)


def equal(plan):
    """Method -> the largest difference to the CPU over the largest value, of those for which there was time."""
    cpu, found = jax.devices("cpu")[0], {}
    for name in plan.methods:
        if plan.is_over:
            break
        x, explain = images(jnp.float32), explain_of(name, jnp.float32)
        with jax.default_device(cpu):
            plain = np.asarray(jax.jit(explain).lower(x).compile(UNOPTIMISED)(x))
        with jax.default_device(plan.device), jax.default_matmul_precision("highest"):
            there = np.asarray(jax.jit(explain)(jax.device_put(x, plan.device)))
        found[name] = float(np.abs(there - plain).max() / np.abs(plain).max())
    return found


def ours(network, row, dtype, channels, plan):
    """Seconds and bytes of one of ours; None where no time was left."""
    apply, variables = network
    cast = lambda a: jnp.asarray(a, dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a
    variables, x = jax.device_put(jax.tree.map(cast, variables), plan.device), plan.photographs(channels, dtype)
    f = apply if channels == "last" else lambda v, x: apply(v, jnp.moveaxis(x, 1, -1))
    explain, target = jax.jit(plain_gradient(f) if row == "jax.grad" else ROWS[row](f)), jnp.arange(plan.batch)
    if plan.is_over:
        return None
    compiled = explain.lower(variables, x, target=target).compile()
    memory = compiled.memory_analysis()
    seconds = median_seconds(lambda: jax.block_until_ready(compiled(variables, x, target=target)), plan.calls, before=2)
    return seconds, memory.temp_size_in_bytes + memory.output_size_in_bytes


def plain_gradient(f):
    """What a user would write."""
    score = lambda v, x, target: jnp.take_along_axis(f(v, x), target[:, None], axis=1).sum()
    return lambda v, x, target: jax.grad(score, argnums=1)(v, x, target)


def peers(plan):
    """Row -> seconds and bytes of the peer in its faster memory format."""
    import torch

    from benchmarks.explanations import Peers, Setting

    def finished(result):
        torch.cuda.synchronize()
        return result

    def held(call):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() - before

    library, found = Peers(None), {}
    for row in (row for row in ROWS if not row.startswith("Score-CAM")):  # whose peer takes all 2048 channels
        for memory in ("channels_last", "contiguous_format"):
            laid = {"memory_format": getattr(torch, memory)}
            model = library.network("resnet50").to("cuda", **laid)
            x = torch.from_numpy(np.array(plan.photographs("first"))).to("cuda", **laid)
            setting = Setting(memory=memory, batch=CHUNK * plan.batch)
            explain = library.explainer(row, "resnet50", model, setting, range(plan.batch))
            call = lambda e=explain, x=x: finished(e(x.clone()))
            if not plan.is_over:
                taken = median_seconds(call, plan.calls, before=2), held(call)
                found[row] = min(found.get(row, taken), taken)
    return found


def peak(dtype, plan):
    """Operations a second in a product of matrices."""
    side = 512 if plan.device.platform == "cpu" else 8192
    a, product = jax.device_put(jnp.ones((side, side), dtype), plan.device), jax.jit(jnp.dot)
    return 2 * side**3 / median_seconds(lambda: product(a, a).block_until_ready(), plan.calls, before=2)


def cells(row, dtype, found, rivals, plan, of_peak):
    """What a line of the table says behind its name."""
    if found is None:
        return ["no time was left", *[""] * 6]
    (seconds, held), rival = found, rivals.get(row) if dtype == "float32" else None
    speed, asked = lambda taken: f"{plan.batch / taken:.0f}", str(GOALS.get(row, ""))
    theirs = [speed(rival[0]), f"**{rival[0] / seconds:.2f}**", asked] if rival else [""] * 3
    share = f"{of_peak / seconds:.0%}" if row in ("gradient", "jax.grad") else ""
    return [speed(seconds), *theirs, share, f"{held >> 20}", f"{rival[1] >> 20}" if rival else ""]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="the same ways on a CPU, small, and nothing is written")
    parser.add_argument("--minutes", type=float, default=8.0)
    options = parser.parse_args()
    plan = Plan(jax.devices()[0], time.monotonic() + 60 * options.minutes)
    if options.dry_run:
        forms, rows = (("float32", "last"), ("bfloat16", "first")), ("jax.grad", "gradient", "Grad-CAM")
        plan = plan._replace(size=32, batch=2, calls=1, make=models.resnet18, forms=forms, rows=rows)
        plan = plan._replace(methods=("gradient", "grad_cam"))
    elif plan.device.platform == "cpu":
        raise SystemExit("there is no GPU here: --dry-run tries the script on a CPU")
    module, variables, _ = plan.make()
    rivals = {} if options.dry_run else peers(plan)
    plain = jax.jit(plain_gradient(module.apply)).lower(variables, plan.photographs("last"), jnp.arange(plan.batch))
    flops, speeds = plain.compile().cost_analysis()["flops"], {dtype: peak(dtype, plan) for dtype in DTYPES}
    lines = [HEADING, f"|{'---|' * (HEADING.count('|') - 1)}"]
    for (dtype, channels), row in itertools.product(plan.forms, plan.rows):
        found = ours((module.apply, variables), row, dtype, channels, plan)
        behind = cells(row, dtype, found, rivals, plan, flops / speeds[dtype])
        lines.append(f"| {' | '.join([row, dtype, channels, *behind])} |")
    apart = equal(plan)
    far = ", ".join(f"{name} {difference:.1e}" for name, difference in apart.items() if not difference <= 1e-4)
    packages = ("jaxplain", "jax", *(("torch", "captum", "zennit", "grad-cam") if rivals else ()))
    speeds = "; ".join(f"a product of matrices in {dtype}: {speed / 1e12:.1f} T/s" for dtype, speed in speeds.items())
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    text = (
        f"{versions}; {plan.device.device_kind}, {platform.machine()}.",
        f"{type(module).__name__}, {plan.batch} images of {plan.size} x {plan.size}. {speeds}.",
        "\n".join(lines),
        f"Beside the CPU: {len(apart)} of {len(plan.methods)} methods tried; further off than 1e-4: {far or 'none'}.",
    )
    print("\n\n".join(text))
    if not options.dry_run:
        OUT.write_text("\n\n".join(text) + "\n")


if __name__ == "__main__":
    main()
