"""Linear operations of other kinds, and weights of other types: LRP-0 is input times gradient, DeepLIFT is complete."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain
from jaxplain import rules
from tests.close import close

KEYS = jax.random.split(jax.random.key(0), 5)
W, V, SQUARE = (jax.random.normal(key, shape) for key, shape in zip(KEYS, ((4, 6), (6, 3), (6, 6)), strict=False))
GROUPS, X = jax.random.normal(KEYS[3], (2, 6, 6)), jax.random.normal(KEYS[4], (4, 4))
LOWER = jnp.tril(SQUARE) + 3 * jnp.eye(6)
BANDS = jnp.array([0.0, 1, 2, 3, 4, 5]), 9 * jnp.ones(6), jnp.array([1.0, 2, 3, 4, 5, 0])
LINEAR = {
    "scatter_mul": lambda h: h.at[:, 2:5].multiply(3.0),
    "solve": lambda h: jnp.linalg.solve(SQUARE, h.T).T,
    "solve_triangular": lambda h: jax.scipy.linalg.solve_triangular(LOWER, h.T, lower=True).T,
    "tridiagonal_solve": lambda h: lax.linalg.tridiagonal_solve(*BANDS, h.T).T,
    "ragged_dot": lambda h: lax.ragged_dot(h, GROUPS, jnp.array([2, 2])),
}


def network(middle):
    return lambda x: middle(jax.nn.relu(x @ W)) @ V


@pytest.mark.parametrize("name", LINEAR)
def test_lrp_is_input_times_gradient(name):
    f = network(LINEAR[name])
    expected = jaxplain.input_x_gradient(f)(X, target=1)
    np.testing.assert_allclose(jaxplain.lrp(f, lambda unit: exact(unit))(X, target=1), expected, rtol=1e-9, atol=1e-9)


def exact(unit):
    """Without a stabiliser."""
    return {"dense": rules.epsilon(0.0), "linear": rules.proportional(0.0)}.get(unit.kind)


@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
@pytest.mark.parametrize("name", LINEAR)
def test_deeplift_is_complete(name, rule):
    f = network(LINEAR[name])
    difference = (f(X) - f(jnp.zeros_like(X)))[:, 1]
    np.testing.assert_allclose(jaxplain.deeplift(f, rule=rule)(X, target=1).sum(axis=1), difference, rtol=1e-9)


def test_a_system_whose_matrix_is_explained_has_no_rule():
    outer = lambda h: jnp.eye(6)[None] + h[:, :, None] * h[:, None, :]
    f = network(lambda h: jnp.linalg.solve(outer(h), h[..., None])[..., 0])
    with pytest.raises(ValueError, match="linear in one operand, and another one depends on the explained input"):
        jaxplain.lrp(f)(X)


# --------------------------------------------------------------------------------------------- weights of other types

STORED = jnp.array([[10, -20], [30, 40]])
SCALE = jnp.array([[0.01, 0.02]], jnp.float32)
INPUT = jnp.array([[1.0, 2.0]], jnp.float32)
TYPES = [jnp.int8, jnp.uint8, jnp.float16, jnp.bfloat16, jnp.float8_e4m3fn]


def dequantised(dtype, scale=SCALE):
    """A layer as of weight-only quantisation: the product of two types, scaled."""
    weight = jnp.abs(STORED).astype(dtype) if dtype == jnp.uint8 else STORED.astype(dtype)
    product = lambda x: lax.dot_general(x, weight, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32)
    return lambda x: product(x) * scale


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: dtype.__name__)
def test_weights_of_less_precision_are_scaled_in_that_of_the_result(dtype):
    f = dequantised(dtype)
    expected = jaxplain.input_x_gradient(f)(INPUT, target=1)
    np.testing.assert_allclose(jaxplain.lrp(f, "epsilon")(INPUT, target=1), expected, rtol=1e-5)
    for rule in ("rescale", "reveal_cancel"):
        np.testing.assert_allclose(jaxplain.deeplift(f, rule=rule)(INPUT, target=1), expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: dtype.__name__)
def test_weights_are_squared_in_the_precision_of_the_result(dtype):
    squared = jaxplain.lrp(dequantised(dtype, jnp.ones((1, 2), jnp.float32)), lambda unit: rules.w_square())
    expected = 60.0 * jnp.array([20.0**2, 40.0**2]) / (20**2 + 40**2)  # of the score -20 + 2 · 40, or 20 + 2 · 40
    np.testing.assert_allclose(squared(INPUT, target=1)[0], expected * (5 / 3 if dtype == jnp.uint8 else 1), rtol=1e-5)


def test_a_convolution_that_adds_in_higher_precision_than_it_reads():
    kernel, x = (
        jax.random.normal(KEYS[0], (3, 3, 3, 4), jnp.bfloat16),
        jax.random.normal(KEYS[1], (1, 6, 6, 3), jnp.bfloat16),
    )
    layout = ("NHWC", "HWIO", "NHWC")
    conv = lambda x: lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=layout, preferred_element_type=jnp.float32
    )
    precise = lambda x: lax.conv_general_dilated(
        x, kernel.astype(jnp.float32), (1, 1), "VALID", dimension_numbers=layout, precision="highest"
    )
    network = lambda conv: lambda x: jax.nn.relu(3.3 * conv(x)).sum(axis=(1, 2))
    for composite in ("epsilon", "epsilon_plus"):
        relevance = jaxplain.lrp(network(conv), composite)(x, target=1)
        expected = jaxplain.lrp(network(precise), composite)(x.astype(jnp.float32), target=1)
        close(relevance, expected, 2**-8)  # the precision of the input, which the map has


def test_other_linear_operations_give_no_negative_share():
    f = network(lambda h: jnp.linalg.solve(SQUARE, h.T).T)
    of_classes = lambda x: jax.nn.relu(f(x))
    assert (jaxplain.excitation_backprop(of_classes)(jnp.abs(X), target=1) >= 0).all()
