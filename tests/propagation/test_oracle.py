"""The oracle itself: by hand, and against zennit through a whole network, with no engine in between."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.networks import conv, dense, flatten, norm, peer_numbers
from tests.propagation import oracle

PEERS, SHARED = peer_numbers("zennit_lrp.npz")
X, TARGETS, LOW, HIGH = (SHARED[key] for key in ("images", "targets", "low", "high"))

# One output z = 2·3 - 1·4 + 5·(-1) + 1 = -2, with contributions 6, -4, -5 and bias 1.
W, B, A = np.array([2.0, -1.0, 5.0]), 1.0, np.array([3.0, 4.0, -1.0])
BY_HAND = {
    "zero": (oracle.zero(), [6 / -2, -4 / -2, -5 / -2]),
    "gradient": (oracle.gradient(), [2, -1, 5]),
    "epsilon": (oracle.epsilon(0.0), [6 / -2, -4 / -2, -5 / -2]),
    "epsilon_1": (oracle.epsilon(1.0), [6 / -3, -4 / -3, -5 / -3]),
    "z_plus": (oracle.z_plus(0.0), [6 / 7, 0, 0]),
    "alpha_beta": (oracle.alpha_beta(2.0, 1.0, 0.0), [2 * 6 / 7, -4 / 9, -5 / 9]),
    "gamma": (oracle.gamma(1.0, 0.0), [6 / -11, -8 / -11, -10 / -11]),  # 6 - 8 - 10 + 1
    "z_box": (oracle.z_box(-5.0, 10.0, 0.0), [16 / 42, 6 / 42, 20 / 42]),  # 2·(3 + 5), -1·(4 - 10), 5·(-1 + 5)
    "w_square": (oracle.w_square(0.0), [4 / 31, 1 / 31, 25 / 31]),
    "flat": (oracle.flat(0.0), [1 / 3, 1 / 3, 1 / 3]),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name):
    share, expected = BY_HAND[name]
    np.testing.assert_allclose(share(W, B, A), expected, rtol=1e-14)


def test_a_denominator_of_zero_is_stabilised_upwards():
    share = oracle.epsilon(0.5)(np.array([1.0, 1.0]), 0.0, np.array([2.0, -2.0]))
    np.testing.assert_allclose(share, [2 / 0.5, -2 / 0.5])
    np.testing.assert_array_equal(oracle.zero()(np.array([1.0, 1.0]), 0.0, np.array([2.0, -2.0])), 0)


# Rules of the first layer and of the others, as zennit's stored maps were made.
EPSILON = oracle.epsilon(1e-6)
ZENNIT = {
    "epsilon": (EPSILON, EPSILON),
    "epsilon_0.25": (oracle.epsilon(0.25), oracle.epsilon(0.25)),
    "gamma": (oracle.gamma(0.25), oracle.gamma(0.25)),
    "z_plus": (oracle.z_plus(), oracle.z_plus()),
    "alpha2_beta1": (oracle.alpha_beta(2.0, 1.0), oracle.alpha_beta(2.0, 1.0)),
    "alpha1_beta0": (oracle.alpha_beta(1.0, 0.0), oracle.alpha_beta(1.0, 0.0)),
    "z_box": (oracle.z_box(LOW, HIGH), EPSILON),
    "w_square": (oracle.w_square(), EPSILON),
    "flat": (oracle.flat(), EPSILON),
}


def pool(reduce):
    return lambda x: reduce(x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1), axis=(2, 4))


def chain_of(variables):
    """The layers of `tests.networks.Chain`, each with what its rule is chosen by."""

    def apply(module, x):
        return module.apply({collection: tree.get(module.name, {}) for collection, tree in variables.items()}, x)

    conv1, conv2 = conv(6, 3, "conv1", padding=1), conv(8, 3, "conv2", padding=1, use_bias=False)
    return [
        ("first", lambda x: apply(norm("bn1"), apply(conv1, x))),
        ("activation", jax.nn.relu),
        ("winner", pool(jnp.max)),
        ("other", lambda x: apply(norm("bn2"), apply(conv2, x))),
        ("activation", jax.nn.relu),
        ("proportional", pool(jnp.mean)),
        ("shape", flatten),
        ("other", lambda x: apply(dense(10, "fc1"), x)),
        ("activation", jax.nn.relu),
        ("other", lambda x: apply(dense(4, "fc2"), x)),
    ]


@pytest.fixture(scope="module")
def steps():
    """The chain's layers from the last to the first: kind, input, and the layer as a matrix or a function."""
    a, steps = jnp.asarray(X), []
    for kind, layer in chain_of(PEERS["chain"][1]):
        affine = kind in ("first", "other", "proportional")
        steps.append((kind, a, oracle.matrix_of(layer, a.shape[1:]) if affine else layer))
        a = layer(a)
    return np.asarray(a), steps[::-1]


@pytest.mark.parametrize("name", ZENNIT)
def test_the_oracle_explains_a_network_as_zennit_does(name, steps):
    logits, steps = steps
    relevance = logits * np.eye(4)[TARGETS]
    rules = dict(zip(("first", "other"), ZENNIT[name], strict=True), proportional=EPSILON)
    for kind, a, layer in steps:
        if kind in rules:
            relevance = oracle.propagate(rules[kind], *layer, np.asarray(a), relevance.reshape(len(a), -1))
        elif kind != "activation":
            relevance = np.asarray(jax.vjp(layer, a)[1](jnp.asarray(relevance))[0])
    expected = PEERS["chain"][2][name]
    np.testing.assert_allclose(relevance, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
