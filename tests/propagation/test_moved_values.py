"""Operations that only move values, or choose among them: the relevance follows the value, DeepLIFT is complete."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain

R = np.random.default_rng(0)
X, X0, V, W = R.normal(size=(3, 6)), R.normal(size=(3, 6)), R.normal(size=(6, 6)), R.normal(size=(6, 2))


def by_pairs(h):
    a, b, c = h.reshape(-1, 3, 2).transpose(1, 0, 2)  # `unstack` from JAX 0.11 on
    return jax.nn.relu(a) - jax.nn.relu(b) * c


def with_indices(h):
    values, _ = lax.sort((h, lax.broadcasted_iota(jnp.int32, h.shape, 1)), dimension=1, num_keys=1)
    return values


NETWORKS = {
    "sort": lambda h: jnp.sort(h, axis=1)[:, 2:5],
    "sort downwards": lambda h: jnp.sort(h, axis=1, descending=True),
    "sort along another axis": lambda h: jnp.sort(h.reshape(-1, 3, 2), axis=1).reshape(-1, 6),
    "sort with indices": with_indices,
    "top_k": lambda h: lax.top_k(h, 3)[0],
    "median": lambda h: jnp.median(h, axis=1, keepdims=True),
    "quantiles": lambda h: jnp.quantile(h, jnp.array([0.3, 0.8]), axis=1).T,
    "nanmedian": lambda h: jnp.nanmedian(h, axis=1, keepdims=True),
    "tile": lambda h: jnp.tile(h, (1, 2))[:, 4:9],
    "tile of a row": lambda h: h * jnp.tile(jnp.linspace(1, 2, 6)[None], (len(h), 1)),
    "unpacked": by_pairs,
    "unstack": lambda h: jnp.stack(jnp.unstack(h, axis=1)[::-1], axis=1),
    "interp of values": lambda h: jax.vmap(lambda r: jnp.interp(jnp.linspace(0.2, 4.7, 5), jnp.arange(6.0), r))(h),
    "scatter-add": lambda h: jnp.zeros((len(h), 3)).at[:, jnp.array([0, 0, 2])].add(h[:, :3]),
    "log2": lambda h: jnp.log2(1 + jnp.exp(h)),
    "sinc": jnp.sinc,
    "polyval": lambda h: jnp.polyval(jnp.array([1.0, 2.0, 0.5]), h),
}


def network(f):
    return lambda x: jax.nn.silu(f(x @ V)) @ W[: jax.eval_shape(f, x @ V).shape[1]]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
def test_deeplift_is_complete(name, rule):
    f = network(NETWORKS[name])
    for x0 in (X0, X0[:1]):
        attribution = jax.jit(jaxplain.deeplift(f, baseline=x0, rule=rule))(X, target=1)
        expected = f(X) - f(jnp.broadcast_to(jnp.asarray(x0), X.shape))
        np.testing.assert_allclose(attribution.sum(axis=1), expected[:, 1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["sort", "top_k", "median", "tile", "unpacked", "unstack", "interp of values"])
def test_lrp_0_is_input_times_gradient_where_values_only_move(name):
    f = lambda x: NETWORKS[name](x @ V) @ W[: jax.eval_shape(NETWORKS[name], X @ V).shape[1]]
    if name == "unpacked":  # its product counts twice in the gradient, and once in LRP
        f = lambda x: jnp.stack(list((x @ V).reshape(-1, 3, 2).transpose(1, 0, 2)), 1).reshape(-1, 6) @ W
    zero = lambda unit: jaxplain.rules.zero() if unit.affine else jaxplain.rules.proportional(0.0)
    np.testing.assert_allclose(
        jaxplain.lrp(f, lambda u: zero(u) if u.kind in ("dense", "scale", "sum", "pool") else None)(X, target=0),
        jaxplain.input_x_gradient(f)(X, target=0),
        rtol=1e-9,
        atol=1e-12,
    )


def test_the_relevance_of_a_sorted_value_goes_where_it_stood():
    x, w = jnp.array([[3.0, 1.0, 2.0]]), jnp.array([[10.0], [100.0], [1000.0]])
    np.testing.assert_allclose(jaxplain.lrp(lambda x: jnp.sort(x, axis=1) @ w)(x)[0], [3000, 10, 200], rtol=1e-5)
    np.testing.assert_allclose(jaxplain.lrp(lambda x: lax.top_k(x, 2)[0] @ w[:2])(x)[0], [30, 0, 200], rtol=1e-5)


@pytest.mark.parametrize(
    ("x0", "x", "expected"),
    [
        ([1.0, 2.0, 3.0], [1.5, 2.0, 3.0], [5.0, 0, 0]),  # the order stays: each value has its place's weight
        ([1.0, 2.0, 3.0], [1.0, 2.0, 0.0], [0, 0, -1110.0]),  # one falls through all places, which all lose 1
        ([5.0, 1.0, 0.0], [1.0, 5.0, 0.0], [-2200.0, 2200.0, 0]),  # two change places: the mean of both weights
        (
            [0.0, 0.0, 0.0],
            [1.0, 2.0, 3.0],
            [370.0, 920.0, 1920.0],
        ),  # shared equally by those that pass a level together
    ],
)
def test_what_deeplift_gives_to_sorted_values(x0, x, expected):
    f = lambda x: jnp.sort(x, axis=1) @ jnp.array([[10.0], [100.0], [1000.0]])
    for rule in ("rescale", "reveal_cancel"):
        a = jaxplain.deeplift(f, baseline=jnp.array([x0]), rule=rule)(jnp.array([x]))
        np.testing.assert_allclose(a[0], expected, rtol=1e-9)


def test_masked_values_may_be_infinite():
    f = lambda x: jax.nn.relu(lax.top_k(jnp.where(jnp.arange(6) < 4, x, -jnp.inf), 3)[0]) @ W[:3]
    a = jaxplain.deeplift(f, baseline=X0)(X, target=0)
    np.testing.assert_allclose(a.sum(axis=1), (f(X) - f(X0))[:, 0], rtol=1e-9)
    np.testing.assert_array_equal(a[:, 4:], 0)


@pytest.mark.parametrize(
    ("name", "method"),  # of log2, the oldest JAX divides a logarithm by a number, which deconvnet keeps
    [(name, jaxplain.guided_backprop) for name in ("log2", "sinc", "polyval")]
    + [(name, jaxplain.deconvnet) for name in ("sinc", "polyval")],
)
def test_elementwise_functions_of_every_jax_are_activations(name, method):
    g, z = NETWORKS[name], X @ V
    passed = np.maximum(np.broadcast_to(W[:, 1], (3, 6)), 0)
    slope = jax.grad(lambda z: g(z).sum())(z) if method is jaxplain.guided_backprop else 1.0
    np.testing.assert_allclose(method(lambda x: g(x @ V) @ W)(X, target=1), (passed * slope) @ V.T, rtol=1e-9)


def test_values_unpacked_by_hand_have_the_relevance_known_from_the_oldest_jax():
    w = np.array([[0.5, -1.0, 2.0, 1.0], [1.5, 0.5, -0.5, 1.0]]).T @ np.array(
        [[1.0, 0, 1, 2, 1, 0], [0, 1, 1, 0, 1, 2]]
    )

    def f(x):
        a, b = (x @ w).reshape(len(x), 2, 3).transpose(1, 0, 2)
        return jax.nn.relu(a) - jax.nn.relu(b)

    x = jnp.ones((1, 4))
    a, b = x @ w[:, 0], x @ w[:, 3]  # 2.5 and 5
    np.testing.assert_allclose(jaxplain.lrp(f)(x, target=0)[0], w[:, 0] - w[:, 3], rtol=1e-5)
    np.testing.assert_allclose(f(x)[0, 0], (a - b)[0])


def spectrum(x):
    return jnp.abs(jnp.fft.fft(x @ V, axis=1)) @ W


def test_complex_numbers_are_named_as_what_they_are():
    for method in (jaxplain.lrp, jaxplain.deeplift):
        remedy = "explain by a method that needs none, such as jaxplain.integrated_gradients"
        with pytest.raises(ValueError, match=f"no rule for `complex` at .*, where its values are complex.*{remedy}"):
            method(spectrum)(X, target=0)
    np.testing.assert_allclose(
        jaxplain.guided_backprop(spectrum)(X, target=0), jaxplain.gradient(spectrum)(X, target=0), rtol=1e-9
    )


def test_complex_numbers_take_a_rule_from_a_composite():
    f = lambda x: jnp.fft.ifft(jnp.fft.fft(x, axis=1) * 2, axis=1).real @ W
    gradient = lambda unit: jaxplain.rules.gradient() if unit.kind == "complex" else None
    expected = 2 * jaxplain.lrp(lambda x: x @ W)(2 * X, target=0)  # the gradient of the identity, twice
    np.testing.assert_allclose(jaxplain.lrp(f, gradient)(X, target=0), expected, rtol=1e-6)
