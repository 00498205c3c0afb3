"""How near LRP comes to what the machine can do: an estimate for each product, and the time.

    pip install '.[demo]' && python -m benchmarks.roofline

writes `benchmarks/results/roofline.md`. The products are the convolutions and matrix products that the explanation with
`epsilon_plus_flat` consists of before anything is accelerated, without those of zeros that a dilated input has between
its pixels. Each is taken to need the longer one of two times: its multiplications and additions at the speed of a
product of matrices of 4096 x 4096, and its operands and its result through memory at the speed of copying 512 MiB. That
is an estimate of the least: what stays in a cache is faster, and of a padded border some products are of zeros.
Elementwise steps are not counted, as if all were fused into products. *Distance* is the measured time over the sum:
medians of rounds, with the least and the most.
"""

import math
import platform
import statistics
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives as P

import jaxplain
from benchmarks.timing import median_seconds
from jaxplain import composites, models

OUT = Path(__file__).parent / "results" / "roofline.md"
NETWORKS = ("resnet50", "efficientnet_lite0")
BATCH, ROUNDS, CALLS = 4, 3, 5


def products(jaxpr):
    """Operations and bytes of each convolution and matrix product, those of functions inside as well."""
    for eqn in jaxpr.eqns:
        if eqn.primitive in (P.conv_general_dilated_p, P.dot_general_p):
            shapes = [v.aval.shape for v in (*eqn.invars, *eqn.outvars)]
            yield 2 * multiplications(eqn.params, *shapes), 4 * sum(map(math.prod, shapes))
        for inner in jax.tree.leaves(eqn.params, is_leaf=is_jaxpr):
            if is_jaxpr(inner):
                yield from products(getattr(inner, "jaxpr", inner))


def is_jaxpr(value):
    """Whether a parameter is a function."""
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def multiplications(params, left, right, out):
    """Of values that are no zeros between the pixels of a dilated input."""
    if "dimension_numbers" in params and "lhs_dilation" in params:
        outputs = right[params["dimension_numbers"].rhs_spec[0]]
        return math.prod(right) // outputs * math.prod(out) // math.prod(params["lhs_dilation"])
    (contracted, _), _ = params["dimension_numbers"]
    return math.prod(left[axis] for axis in contracted) * math.prod(out)


def bound(jaxpr, speed, bandwidth):
    """Seconds of the products that operations bound, and of those that memory does."""
    by = [(operations / speed, size / bandwidth) for operations, size in products(jaxpr)]
    return sum(a for a, b in by if a >= b), sum(b for a, b in by if a < b)


def seconds(call):
    """The median of some calls, after one."""
    return median_seconds(lambda: jax.block_until_ready(call()), CALLS)


def machine():
    """Operations and bytes a second."""
    a, b = jnp.ones((4096, 4096), jnp.float32), jnp.ones(2**27, jnp.float32)
    product, copy = jax.jit(jnp.dot), jax.jit(lambda b: b + 1)
    return 2 * 4096**3 / seconds(lambda: product(a, a)), 2 * 4 * 2**27 / seconds(lambda: copy(b))


def line(network, speed, bandwidth):
    """A line of the table."""
    module, variables, _ = getattr(models, network)()
    x = jnp.asarray(np.random.default_rng(0).normal(size=(BATCH, 224, 224, 3)), jnp.float32)
    make = lambda apply: jaxplain.lrp(apply, composites.epsilon_plus_flat())
    plain = jax.make_jaxpr(lambda v, x: make(jaxplain.accelerate(module.apply, False))(v, x, target=0))
    parts, explain = bound(plain(variables, x).jaxpr, speed, bandwidth), jax.jit(make(module.apply))
    times = [seconds(lambda: explain(variables, x, target=0)) for _ in range(ROUNDS)]
    middle, least, most = (f"{t / sum(parts):.2f}" for t in (statistics.median(times), min(times), max(times)))
    cells = [f"{1e3 * t:.0f} ms" for t in (*parts, sum(parts), statistics.median(times))]
    return f"| {' | '.join([network, *cells])} | **{middle}** ({least} to {most}) |"


def main():
    speed, bandwidth = map(statistics.median, zip(*(machine() for _ in range(ROUNDS)), strict=True))
    lines = [
        f"jaxplain {version('jaxplain')} with jax {version('jax')}, {BATCH} images of 224 x 224, float32, on a CPU "
        f"({platform.machine()}): {speed / 1e9:.0f} G operations and {bandwidth / 1e9:.1f} GB a second.",
        "",
        "| network | bound by operations | bound by memory | together | measured | distance (least to most) |",
        "|---|---|---|---|---|---|",
    ]
    for network in NETWORKS:
        lines.append(line(network, speed, bandwidth))
        print(lines[-1], flush=True)
    OUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
