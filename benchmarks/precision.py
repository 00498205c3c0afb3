"""What rounded products do to the axiom of every method: with its request for precision, and declined.

    pip install '.[test]' && python -m benchmarks.precision

writes `benchmarks/results/precision.md`. On TPUs and GPUs JAX rounds the operands of products by default; here, on any
device, those of all products that ask for no more are rounded to bfloat16 (`tests/rounding.py`). The networks are small
ones of `tests/zoo`, without biases where a map should sum to the score. An error is the largest difference between a
map's sum and what it should be, over the largest value of that.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxplain
from jaxplain import composites, full_precision, metrics
from jaxplain._images import gaussian_blur
from tests.rounding import with_rounded_products
from tests.zoo import IMAGES, SHAPE, ZOO

OUT = Path(__file__).parents[1] / "benchmarks" / "results" / "precision.md"
DATA = np.random.default_rng(3).normal(size=(2, *SHAPE[1:])).astype(np.float32) * 0.3
KEY = jax.random.key(0)
EVERY_NEURON = {"upsample": False}
ABOUT = (
    f"jaxplain {jaxplain.__version__} with jax {jax.__version__}, {IMAGES.dtype}, by `python -m benchmarks.precision`.",
    "",
    "The largest difference between a map's sum and what it should be, over the largest value of that; of the ledger,",
    "the largest share of relevance that is unaccounted for. In float32; with products rounded to bfloat16, as TPUs do",
    "by default, where explainers that ask get what they ask for; and where `jax.default_matmul_precision` declines",
    "it. The score is in the precision that the explainer has. (Adversarial gradient integration, which asks as well,",
    "sums to differences between the ends of paths that nobody else knows.)",
)
ASKS, ASKS_NOT = "yes", "no"


def difference(score, x):
    return score(x) - score(0 * x)


def from_data(score, x):
    return score(x) - sum(score(jnp.broadcast_to(d, x.shape)) for d in DATA) / len(DATA)


SCORE = (lambda score, x: score(x), "score")
DIFFERENCE = (difference, "difference")
ONE = (lambda score, x: jnp.ones(len(x)), "1")
NOTHING = (lambda score, x: jnp.zeros(len(x)), "0")
ROWS = [  # name, how it is made, what its maps sum to, whether it asks
    ("input_x_gradient", jaxplain.input_x_gradient, SCORE, ASKS),
    ("lrp, epsilon", jaxplain.lrp, SCORE, ASKS),
    ("lrp, epsilon_plus", lambda f: jaxplain.lrp(f, composites.epsilon_plus()), SCORE, ASKS),
    ("deep_taylor", jaxplain.deep_taylor, SCORE, ASKS),
    ("excitation_backprop", jaxplain.excitation_backprop, ONE, ASKS),
    ("softmax_gradient_lrp", lambda f: jaxplain.softmax_gradient_lrp(f, "epsilon"), NOTHING, ASKS),
    ("hires_cam", functools.partial(jaxplain.hires_cam, **EVERY_NEURON), SCORE, ASKS),
    ("xgrad_cam", functools.partial(jaxplain.xgrad_cam, **EVERY_NEURON), SCORE, ASKS),
    ("layer_attribution", functools.partial(jaxplain.layer_attribution, **EVERY_NEURON), SCORE, ASKS),
    ("deeplift", jaxplain.deeplift, DIFFERENCE, ASKS),
    ("deeplift, reveal_cancel", functools.partial(jaxplain.deeplift, rule="reveal_cancel"), DIFFERENCE, ASKS),
    ("deep_shap", functools.partial(jaxplain.deep_shap, baselines=DATA), (from_data, "difference"), ASKS),
    ("integrated_gradients", jaxplain.integrated_gradients, DIFFERENCE, ASKS),
    (
        "blur_integrated_gradients",
        functools.partial(jaxplain.blur_integrated_gradients, max_sigma=4.0),
        (lambda score, x: score(x) - score(gaussian_blur(x, 4.0)), "difference"),
        ASKS,
    ),
    ("conductance", functools.partial(jaxplain.conductance, **EVERY_NEURON), DIFFERENCE, ASKS),
    ("kernel_shap", functools.partial(jaxplain.kernel_shap, **EVERY_NEURON), DIFFERENCE, ASKS_NOT),
    ("guided_integrated_gradients", jaxplain.guided_integrated_gradients, DIFFERENCE, ASKS),
    (
        "expected_gradients",
        functools.partial(jaxplain.expected_gradients, baselines=DATA),
        (from_data, "difference"),
        ASKS,
    ),
]


def without_biases(variables):
    """The network's variables, its biases and running means 0."""
    named = lambda path: path[-1].key in ("bias", "mean")
    return jax.tree.map_with_path(lambda path, leaf: 0 * leaf if named(path) else leaf, variables)


def cases():
    """A name, the network as a function of images, and as one without biases."""
    for name in ("resnet_basic", "vgg"):
        case = ZOO[name]
        apply = jaxplain.accelerate(case.apply, False)  # forms for a CPU are none that a TPU sees
        yield name, *(functools.partial(apply, v) for v in (case.variables, without_biases(case.variables)))


def error(make, want, asks, apply, targets, rounding):
    """How far the sums of maps are from what they should be, as a share of that."""
    score = lambda x: apply(x)[jnp.arange(len(x)), targets]
    explain = lambda x: make(apply)(x, target=targets, key=KEY).reshape(len(x), -1).sum(axis=1)
    wanted = lambda x: want(score, x)
    exact = full_precision(wanted) if asks == ASKS else wanted
    sums, wanted = jax.jit(rounding(explain))(IMAGES), jax.jit(rounding(exact))(IMAGES)
    return float(jnp.abs(sums - wanted).max() / (jnp.abs(wanted).max() or 1))


def ledger_error(composite, apply, targets, rounding):
    """The largest share of relevance that is unaccounted for at any unit."""
    compile_, jax.jit = jax.jit, lambda f: rounding(f)  # `summary` compiles what it runs
    try:
        return metrics.ledger(apply, composite)(IMAGES, target=targets)
    finally:
        jax.jit = compile_


def three(measure):
    """In float32; with rounded products where the explainer may ask for more; and where it may not."""
    yield measure(lambda f: f)
    yield measure(with_rounded_products)
    with jax.default_matmul_precision("default"):
        yield measure(with_rounded_products)


def main():
    heading = "| network | method | sums to | asks | float32 | bfloat16 | bfloat16, declined |"
    lines = [heading, "|---|---|---|---|---|---|---|"]
    print(heading)

    def add(*words, measure):
        lines.append(f"| {' | '.join([*words, *(f'{value:.0e}' for value in three(measure))])} |")
        print(lines[-1], flush=True)

    for network, biased, homogeneous in cases():
        targets = homogeneous(IMAGES).argmax(axis=1)  # of positive score
        for name, make, (want, total), asks in ROWS:
            apply = biased if total == "difference" else homogeneous
            add(network, name, total, asks, measure=functools.partial(error, make, want, asks, apply, targets))
        for name, composite in (("epsilon", None), ("epsilon_plus", composites.epsilon_plus())):
            measure = functools.partial(ledger_error, composite, biased, targets)
            add(network, f"the ledger of lrp, {name}", "closes", ASKS, measure=measure)
    OUT.write_text("\n".join([*ABOUT, "", *lines]) + "\n")


if __name__ == "__main__":
    main()
