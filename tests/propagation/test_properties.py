"""Axioms on networks drawn at random.

All layers keep the shape of what they get, so that JAX compiles each operation once for all networks.
"""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

import jaxplain
from jaxplain import composites, rules
from tests.close import close
from tests.convolution import conv

SHAPE, FEATURES, CLASSES = (2, 5, 5, 3), 4, 3
X, BASELINE = (jnp.asarray(np.random.default_rng(seed).normal(size=SHAPE)) for seed in (0, 1))
TARGETS = jnp.array([2, 0])


# ------------------------------------------ layers: maker(random, folded) -> function; folded or not, the same function


def weights(random, size, inputs=FEATURES, outputs=FEATURES):
    return jnp.asarray(random.normal(0, (1.5 / (size * size * inputs)) ** 0.5, (size, size, inputs, outputs)))


def vector(random, low=-0.3, high=0.3):
    return jnp.asarray(random.uniform(low, high, (1, 1, 1, FEATURES)))


def plain_conv(size, inputs=FEATURES):
    def make(random, folded):
        w = weights(random, size, inputs)
        return lambda x: conv(x, w)

    return make


def depthwise(random, folded):
    w = weights(random, 3, 1)
    return lambda x: conv(x, w)


def biased_conv(random, folded):
    """Its bias added in one piece or in two."""
    w, b, c = weights(random, 3), vector(random), vector(random)
    return (lambda x: conv(x, w) + (b + c)) if folded else lambda x: conv(x, w) + b + c


def norm(random):
    mean, bias = vector(random), vector(random)
    return mean, vector(random, 0.5, 1.5) / jnp.sqrt(vector(random, 0.5, 1.5)), bias


def conv_norm(random, folded):
    """BatchNorm behind a convolution, explicit or folded into its weights."""
    w, (mean, scale, bias) = weights(random, 3), norm(random)
    if folded:
        return lambda x: conv(x, w * scale) + (bias - mean * scale)
    return lambda x: (conv(x, w) - mean) * scale + bias


def norm_conv(random, folded):
    """BatchNorm between an activation and a 1 × 1 convolution, explicit or folded into its weights."""
    w, (mean, scale, bias) = weights(random, 1), norm(random)
    if folded:
        shift = conv(bias - mean * scale, w)
        w = w * scale.reshape(1, 1, FEATURES, 1)
        return lambda x: conv(jax.nn.relu(x), w) + shift
    return lambda x: conv((jax.nn.relu(x) - mean) * scale + bias, w)


def lone_norm(random, folded):
    mean, scale, bias = norm(random)
    return lambda x: (x - mean) * scale + bias


def window(x, start, op):
    return lax.reduce_window(x, start, op, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")


def average(random, folded):
    """An average that does not count its padding, or one that does."""
    count = window(jnp.ones((1, *SHAPE[1:3], 1)), 0.0, lax.add) if random.random() < 0.5 else 9
    return lambda x: window(x, 0.0, lax.add) / count


def relu(random, folded):
    return jax.nn.relu if folded else lambda x: jnp.where(x > 0, x, 0)


def gate(random, folded):
    w, b = weights(random, 1), vector(random)
    return lambda x: x * jax.nn.sigmoid(conv(x.mean(axis=(1, 2), keepdims=True), w) + b)


def halves(random, folded):
    w, v = weights(random, 3), weights(random, 1)
    return lambda x: jnp.concatenate([conv(x, w)[..., :2], jnp.split(conv(x, v), 2, axis=-1)[1]], axis=-1)


def elementwise(f):
    return lambda random, folded: f


HOMOGENEOUS = {
    "conv3": plain_conv(3),
    "conv1": plain_conv(1),
    "depthwise": depthwise,
    "relu": relu,
    "leaky_relu": elementwise(jax.nn.leaky_relu),
    "max_pool": elementwise(lambda x: window(x, -jnp.inf, lax.max)),
    "average": average,
    "halves": halves,
}
LAYERS = HOMOGENEOUS | {
    "biased_conv": biased_conv,
    "conv_norm": conv_norm,
    "norm_conv": norm_conv,
    "norm": lone_norm,
    "relu6": elementwise(lambda x: jnp.clip(x, 0, 1)),
    "tanh": elementwise(jnp.tanh),
    "gelu": elementwise(jax.nn.gelu),
    "softplus": elementwise(jax.nn.softplus),
    "silu": elementwise(jax.nn.silu),
    "gate": gate,
}


def specifications(layers):
    """A seed, and a list of layers; a list within it is a residual branch."""
    layer = st.sampled_from(sorted(layers))
    return st.tuples(st.integers(0, 2**31), st.lists(layer | st.lists(layer, min_size=1, max_size=3), max_size=4))


def network(specification, folded=False):
    seed, layers = specification
    random = np.random.default_rng(seed)

    def sequence(layers):
        functions = [sequence(layer) if isinstance(layer, list) else LAYERS[layer](random, folded) for layer in layers]
        residual = [isinstance(layer, list) for layer in layers]

        def apply(x):
            for f, skip in zip(functions, residual, strict=True):
                x = x + f(x) if skip else f(x)
            return x

        return apply

    stem, body = plain_conv(3, SHAPE[-1])(random, folded), sequence(layers)
    head = jnp.asarray(random.normal(size=(FEATURES, CLASSES)))
    return lambda x: body(jax.nn.relu(stem(x))).mean(axis=(1, 2)) @ head


every_network, homogeneous_networks = (given(specifications(layers)) for layers in (LAYERS, HOMOGENEOUS))


# ------------------------------------------------------------------------------------------------------------- axioms


def scores(apply, x):
    return apply(x)[jnp.arange(len(x)), TARGETS]


def lrp_0(unit):
    return rules.zero() if unit.affine else rules.proportional(1e-14) if unit.kind == "sum" else None


@homogeneous_networks
def test_lrp_0_is_input_times_gradient_without_biases(specification):
    apply = network(specification)
    maps = jaxplain.lrp(apply, lrp_0)(X, target=TARGETS)
    close(maps, jaxplain.input_x_gradient(apply)(X, target=TARGETS), 1e-8, scale=1e-6)


@homogeneous_networks
def test_excitation_backprop_is_z_plus_for_a_score_of_one(specification):
    apply = network(specification)
    z_plus = jaxplain.lrp(apply, composites.excitation_backprop())(X, target=TARGETS)
    excitation = jaxplain.excitation_backprop(apply)(X, target=TARGETS)
    close(excitation * scores(apply, X).reshape(-1, 1, 1, 1), z_plus, 1e-9, scale=1e-6)


@every_network
def test_deeplift_is_complete(specification):
    apply = network(specification)
    change = scores(apply, X) - scores(apply, BASELINE)
    for rule in ("rescale", "reveal_cancel"):
        maps = jaxplain.deeplift(apply, baseline=BASELINE, rule=rule)(X, target=TARGETS)
        close(maps.sum(axis=(1, 2, 3)), change, 1e-9, scale=float(jnp.abs(maps).sum()) * 1e-3)


@every_network
def test_the_ledger_closes_whatever_the_rules(specification):
    apply = network(specification)
    several = [rules.epsilon(0.1), rules.gamma(), rules.alpha_beta(), rules.z_box(-4.0, 4.0), rules.w_square()]
    table = jaxplain.summary(apply, lambda unit: several[unit.position % 5] if unit.affine else None)(X, target=TARGETS)
    for row in table.rows:
        assert abs(row.ledger.gap) <= 1e-9 * max(1, *map(abs, row.ledger)), (row.unit.kind, row.rule, row.ledger)
    assert abs(table.gap) <= 1e-9 * max(1, *(abs(row.ledger.relevance_out) for row in table.rows))


@every_network
def test_the_way_a_network_is_written_does_not_matter(specification):
    apply, folded = network(specification), network(specification, folded=True)
    close(folded(X), apply(X), 1e-12)
    for explain in (
        lambda f: jaxplain.lrp(f, composites.epsilon_plus_flat()),
        lambda f: jaxplain.lrp(f, composites.uniform(rules.gamma())),
        lambda f: jaxplain.lrp(f, composites.uniform(rules.w_square())),
        jaxplain.guided_backprop,
        lambda f: jaxplain.deeplift(f, baseline=BASELINE),
        lambda f: jaxplain.deeplift(f, baseline=BASELINE, rule="reveal_cancel"),
    ):
        close(explain(folded)(X, target=TARGETS), explain(apply)(X, target=TARGETS), 1e-8, scale=1e-6)
