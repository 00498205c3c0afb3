"""A million explanations on hardware that is not here, by arithmetic: `python -m benchmarks.bulk_hardware`.

The operations of an image are XLA's count for ResNet-50 and photographs of 224 x 224 pixels, sixteen at once. A device
is assumed to reach a tenth of its peak, which is what its maker's data sheet says (dense, without sparsity): of a TPU
v5e 197 TFLOP/s in bfloat16, of an H100 (SXM) 495 in TF32 and 67 in float32. Methods whose maps sum to something ask for
full precision (`jaxplain.full_precision`): float32 on an H100, six products of bfloat16 in place of one on a TPU. The
others take JAX's defaults, TF32 and bfloat16. Nothing here was measured on such a device.
"""

import jax
import jax.numpy as jnp

import jaxplain
from jaxplain import models

BATCH, SHARE, IMAGES = 16, 0.1, 10**6
PEAK = {  # operations per second of one device, by default and in full precision
    "TPU v5e": (197e12, 197e12 / 6),
    "H100": (495e12, 67e12),
}
METHODS = {  # and the option that says how often the network is asked, which XLA's count of a loop leaves out
    "grad_cam": (jaxplain.grad_cam, None, 0),
    "gradient": (jaxplain.gradient, None, 0),
    "lrp": (lambda f: jaxplain.lrp(f, jaxplain.composites.epsilon_plus()), None, 0),
    "smoothgrad": (jaxplain.smoothgrad, "samples", 50),
    "integrated_gradients": (jaxplain.integrated_gradients, "steps", 50),
    "rise": (jaxplain.rise, "masks", 4000),
}


def operations(network, make, option, times):
    """Of one image, and whether its products are in full precision."""
    x = jax.ShapeDtypeStruct((BATCH, 224, 224, 3), jnp.float32)
    as_it_is = jaxplain.accelerate(network.module.apply, False)  # not in forms that are for CPUs

    def count(**options):
        explain = jax.jit(jaxplain.heatmap(make(as_it_is, **options)))
        lowered = explain.lower(network.variables, x, target=0, key=jax.random.key(0))
        convolutions = [line for line in lowered.as_text().splitlines() if "stablehlo.convolution" in line]
        return lowered.cost_analysis()["flops"] / BATCH, all("HIGHEST" in line for line in convolutions)

    if option is None:
        return count()
    (two, is_precise), (four, _) = (count(**{option: n, "chunk": None}) for n in (2, 4))
    return two + (times - 2) * (four - two) / 2, is_precise


def main():
    """Print a table in Markdown."""
    print("| method | GFLOP an image | precision |", " | ".join(f"eight {name} | one" for name in PEAK), "|")
    print("|---" * (3 + 2 * len(PEAK)) + "|")
    network = models.resnet50()
    for name, how in METHODS.items():
        flops, is_precise = operations(network, *how)
        rates = [peak[is_precise] * SHARE / flops for peak in PEAK.values()]
        cells = [f"{short(8 * rate)} images/s | {short(IMAGES / rate / 3600)} h" for rate in rates]
        precision = "full" if is_precise else "default"
        print(f"| `{name}` | {short(flops / 1e9)} | {precision} |", " | ".join(cells), "|", flush=True)


def short(number):
    """A number with two digits that count."""
    return f"{float(f'{number:.2g}'):,g}"


if __name__ == "__main__":
    main()
