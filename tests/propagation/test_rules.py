"""Every rule x every weight operation x bias x BatchNorm x sign of the input, against the naive oracle."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain
from jaxplain import rules
from tests.propagation import oracle

LOW, HIGH = -2.5, 3.0
RULES = {
    "zero": (rules.zero(), oracle.zero()),
    "epsilon": (rules.epsilon(), oracle.epsilon()),
    "epsilon_0.25": (rules.epsilon(0.25), oracle.epsilon(0.25)),
    "gamma": (rules.gamma(), oracle.gamma()),
    "z_plus": (rules.z_plus(), oracle.z_plus()),
    "alpha_beta": (rules.alpha_beta(), oracle.alpha_beta()),
    "z_box": (rules.z_box(LOW, HIGH), oracle.z_box(LOW, HIGH)),
    "w_square": (rules.w_square(), oracle.w_square()),
    "flat": (rules.flat(), oracle.flat()),
    "gradient": (rules.gradient(), oracle.gradient()),
}
SIGNED_PARTS = ("gamma", "z_plus", "alpha_beta")  # the rules that look whether inputs are non-negative
WITHOUT_BIAS = {
    "zero": (rules.zero(bias=False), oracle.without_bias(oracle.zero())),
    "epsilon": (rules.epsilon(bias=False), oracle.without_bias(oracle.epsilon())),
    "gamma": (rules.gamma(bias=False), oracle.gamma(bias=False)),
    "z_plus": (rules.z_plus(bias=False), oracle.without_bias(oracle.z_plus())),
    "alpha_beta": (rules.alpha_beta(bias=False), oracle.without_bias(oracle.alpha_beta())),
    "w_square": (rules.w_square(bias=False), oracle.without_bias(oracle.w_square())),
}


@dataclasses.dataclass(frozen=True)
class Layer:
    """``apply(x, weight)`` for inputs ``(N, *shape)``, its channels on one axis of input and output."""

    shape: tuple[int, ...]
    weight: tuple[int, ...]
    apply: Callable
    channels: int = -1


def convolution(shape, weight, *, layout=None, strides=1, padding="SAME", **options):
    space = len(shape) - 1
    layout = layout or {1: ("NHC", "HIO", "NHC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NHWDC", "HWDIO", "NHWDC")}[space]

    def apply(x, w):
        return lax.conv_general_dilated(x, w, (strides,) * space, padding, dimension_numbers=layout, **options)

    return Layer(shape, weight, apply, 1 if layout[0][1] == "C" else -1)


def transposed(x, w):
    return lax.conv_transpose(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def batched(x, w):
    """A dense layer for each group, the weight on the left: (N, group, in) and (group, in, out) to (N, group, out)."""
    return lax.dot_general(w, x, (((1,), (2,)), ((0,), (1,)))).transpose(2, 0, 1)


def mean_pool(x, _):
    return lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 1, 1, 1), [(0, 0), (1, 0), (0, 1), (0, 0)]) / 4


# As many equal shapes as can be: compiling the operations of one shape is what takes the time.
LAYERS = {
    "dense": Layer((4,), (4, 4), lambda x, w: x @ w),
    "dense_per_position": Layer((4, 4, 4), (4, 4), lambda x, w: x @ w),
    "einsum": Layer((4, 4, 4), (4, 4, 4), lambda x, w: jnp.einsum("nhwc,hcd->nwd", x, w)),
    "einsum_permuted": Layer((4, 4, 4), (4, 4, 4), lambda x, w: jnp.einsum("nhwc,hcd->ndw", x, w), channels=1),
    "batched": Layer((4, 4), (4, 4, 4), batched),
    "conv_1d": convolution((4, 4), (3, 4, 4)),
    "conv_2d": convolution((4, 4, 4), (3, 3, 4, 4)),
    "conv_3d": convolution((3, 3, 2, 2), (2, 2, 2, 2, 2), padding="VALID"),
    "channels_first": convolution((4, 4, 4), (4, 4, 3, 3), layout=("NCHW", "OIHW", "NCHW")),
    "strided": convolution((4, 4, 4), (3, 2, 4, 4), strides=2, padding=[(2, 3), (3, 1)]),
    "dilated": convolution((4, 4, 4), (2, 2, 4, 4), rhs_dilation=(2, 3)),
    "grouped": convolution((4, 4, 4), (2, 2, 2, 4), feature_group_count=2),
    "depthwise": convolution((4, 4, 4), (3, 3, 1, 4), feature_group_count=4),
    "transposed": Layer((2, 2, 4), (3, 3, 4, 4), transposed),
    "upsampling": convolution((4, 4, 4), (4, 4, 4, 4), padding=[(0, 0), (1, -1)], lhs_dilation=(2, 2)),
    "mean_pool": Layer((4, 4, 4), (), mean_pool),
    "global_mean_pool": Layer((4, 4, 4), (), lambda x, _: x.mean(axis=(1, 2))),
}
NORMS = {"none": (), "after": ("after",), "before": ("before",), "both": ("before", "after")}


def per_channel(random, layer, x):
    """A random vector along the channels of ``x``, in a shape that broadcasts without promotion of ranks."""
    shape = [1] * x.ndim
    shape[layer.channels] = x.shape[layer.channels]
    return jnp.asarray(random.uniform(-1, 1, shape))


def batch_norm(random, layer, like):
    scale, shift, mean = (per_channel(random, layer, like) for _ in range(3))
    variance = jnp.exp(per_channel(random, layer, like))
    return lambda x: (x - mean) * (scale / jnp.sqrt(variance + 1e-5)) + shift


def network(layer, bias, norms):
    """The layer with bias and BatchNorm, as a function of the input alone."""
    random = np.random.default_rng(0)
    weight = jnp.asarray(random.normal(size=layer.weight))
    inputs = jax.ShapeDtypeStruct((2, *layer.shape), jnp.float64)
    outputs = jax.eval_shape(layer.apply, inputs, weight)
    before, after = (batch_norm(random, layer, like) for like in (inputs, outputs))
    shift = per_channel(random, layer, outputs)

    def apply(x):
        y = layer.apply(before(x) if "before" in norms else x, weight)
        y = y + shift if bias else y
        return after(y) if "after" in norms else y

    return apply


def flattened(apply):
    return lambda x: apply(x).reshape(len(x), -1)


def uniform(rule):
    """The rule on whatever is affine: `composites.uniform` leaves pooling to its own rule."""
    return lambda unit: rule if unit.kind in ("conv", "dense", "pool") else None


def check(apply, table, x, explained):
    """Compare ``explained``, which may put something before ``apply``, with the oracle on the layer's input ``x``."""
    outputs = flattened(apply)(x)
    weights = jnp.asarray(np.random.default_rng(2).normal(size=outputs.shape))
    matrix, bias = oracle.matrix_of(apply, x.shape[1:])
    for name, (rule, share) in table.items():
        relevance = jaxplain.lrp(flattened(explained), uniform(rule))(x, target=weights)
        expected = oracle.propagate(share, matrix, bias, np.asarray(x), np.asarray(weights * outputs))
        atol = 1e-10 * np.abs(expected).max()
        np.testing.assert_allclose(relevance, expected, rtol=0, atol=atol, err_msg=name)


def inputs(layer, sign):
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, *layer.shape)))
    return jnp.maximum(x, 0) if sign == "non-negative" else x


def case(layer, bias, norm, sign):
    name = f"{layer}-{'bias' if bias else 'no bias'}-{norm}-{sign}"
    return pytest.param(LAYERS[layer], bias, NORMS[norm], sign, id=name)


CASES = [
    case(layer, bias, norm, sign)
    for layer in LAYERS
    for bias in (False, True)
    for norm in NORMS
    for sign in ("signed", "non-negative")
    if not (LAYERS[layer].weight == () and "before" in NORMS[norm])  # BatchNorm before a pooling is a unit by itself
]


@pytest.mark.parametrize(("layer", "bias", "norms", "sign"), CASES)
def test_rules_against_the_oracle(layer, bias, norms, sign):
    apply = network(layer, bias, norms)
    if sign == "signed":
        table = RULES | {f"{name} without bias": pair for name, pair in WITHOUT_BIAS.items()} if bias else RULES
        check(apply, table, inputs(layer, sign), apply)
    else:
        table = {name: RULES[name] for name in SIGNED_PARTS}
        check(apply, table, inputs(layer, sign), lambda x: apply(jnp.maximum(x, 0)))


@pytest.mark.parametrize("kind", ["dense", "conv", "grouped"])
def test_terms_of_both_signs(kind):
    rng = np.random.default_rng(0)
    w = rng.normal(size={"dense": (6, 4), "conv": (3, 3, 6, 4), "grouped": (3, 3, 3, 4)}[kind])
    x = rng.normal(size=(2, 6) if kind == "dense" else (2, 5, 5, 6))
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": 1 + (kind == "grouped")}
    linear = lambda x, w: x @ w if kind == "dense" else jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", **options)
    apply = lambda x: linear(x, w).reshape(2, -1)
    explain = jaxplain.lrp(jaxplain.accelerate(apply, False), lambda unit: rules.z_plus())
    r = jnp.zeros((2, apply(x).shape[1])).at[:, 1].set(1.0) * apply(x)

    positive, negative = (jnp.maximum(x, 0), jnp.maximum(w, 0)), (jnp.minimum(x, 0), jnp.minimum(w, 0))
    z, pull = jax.vjp(
        lambda a, b: (linear(a, positive[1]) + linear(b, negative[1])).reshape(2, -1), positive[0], negative[0]
    )
    wanted = sum(a * c for a, c in zip((positive[0], negative[0]), pull(r / z), strict=True))
    np.testing.assert_allclose(explain(x, target=1), wanted, rtol=1e-5)
