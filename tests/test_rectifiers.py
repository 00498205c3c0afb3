"""What rectifiers read is computed once: the same values and derivatives, no sums and no convolution computed again."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import jaxplain
from jaxplain import rules
from jaxplain._graph.clipping import clip_bounds
from jaxplain.fast._relus import COMPARISONS, relus_to_materialise
from tests.convolution import conv

X = jax.random.normal(jax.random.key(0), (2, 8, 8, 16), jnp.float32)
W = jax.random.normal(jax.random.key(1), (8, 16, 16), jnp.float32) / 4
RECTIFIERS = {"relu": nn.relu, "maximum": lambda x: jnp.maximum(x, 0.0), "floor": lambda x: lax.max(x, -0.5)}
RECTIFIERS |= {"relu6": nn.relu6, "ceiling": lambda x: lax.min(x, 0.25)}


def residual(x, rectifier=nn.relu):
    for w in W:
        x = rectifier(x + x @ w)
    return x.mean(axis=(1, 2))


def found(f, *args):
    return len(relus_to_materialise(jax.make_jaxpr(f)(*args).jaxpr, lambda eqn: False))


def test_which_are_found():
    bias = jnp.ones((1, 1, 1, 16))
    assert found(residual, X) == len(W)
    assert found(lambda x: residual(x, nn.relu6), X) == len(W)
    assert found(lambda x: nn.relu(checkpoint_name(checkpoint_name(x + x**2, "a"), "b")), X) == 1
    assert found(lambda x: nn.relu(checkpoint_name(x, "a") + checkpoint_name(1.0, "b")), X) == 0
    assert found(lambda x: nn.silu(x + x**2), X) == 0
    assert found(lambda x: nn.relu(x + bias), X) == 0
    assert found(lambda x: nn.relu(x + 1), X) == 0
    assert found(lambda x: nn.relu(x), X) == 0
    assert found(lambda x: jnp.maximum(x + x**2, x), X) == 0
    assert found(lambda x: jnp.maximum(x + x**2, np.nan), X) == 0


@pytest.mark.parametrize("name", RECTIFIERS)
def test_values_and_derivatives(name):
    f = lambda x: RECTIFIERS[name](x + x[::-1]) ** 2  # ties where the sum is 0, or -0.5
    x = jnp.array([[0.0, -0.0, 0.25, 1.0, jnp.nan, jnp.inf, -3.0], [0.0, -0.0, -0.75, -1.0, 1.0, 1.0, 1.0]])
    assert found(f, x) == 1
    fast, loss = jaxplain.accelerate(f), lambda f: lambda x: f(x).sum()
    gradient = jax.grad(loss(f))
    twice = lambda g: jax.jvp(g, (x,), (jnp.ones_like(x),))
    for ours, theirs in (
        (jax.jit(fast)(x), f(x)),
        (jax.jit(jax.grad(loss(fast)))(x), gradient(x)),
        (jax.jit(jaxplain.accelerate(gradient))(x), gradient(x)),
        (jax.jit(jax.vmap(fast, 1))(x), jax.vmap(f, 1)(x)),
        (twice(jax.grad(loss(fast))), twice(gradient)),
    ):
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_bounds():
    of = lambda f: clip_bounds(jax.make_jaxpr(f)(X).eqns[0])
    assert of(nn.relu) == (0, np.inf)
    assert of(nn.relu6) == (0, 6)
    assert of(jax.jit(lambda x: jnp.maximum(jnp.minimum(x, 3.0), -1.0))) == (-1, 3)
    assert of(jax.jit(lambda x: jnp.minimum(jnp.maximum(x, 3.0), -1.0))) == (-1, -1)
    assert of(jax.jit(lambda x: jnp.maximum(x, 0.0) + 1)) is None
    assert of(jax.jit(lambda x: (jnp.maximum(x, 0.0), jnp.minimum(x, 0.0))[1])) is None
    assert of(jax.jit(lambda x: x)) is None
    assert of(lambda x: jnp.maximum(x, np.inf)) is None
    assert of(lambda x: jnp.maximum(x.astype(complex), 0.0)) is None
    assert clip_bounds(jax.make_jaxpr(jax.jit(lambda x: jnp.maximum(x, 0)))(X.astype(complex)).eqns[0]) is None


def test_comparisons_with_the_value_kept_between_bounds():
    values, numbers = np.array([-2, -1, -0.5, 0, 0.5, 1, 2, np.nan], np.float32), np.arange(-2.0, 2.5, 0.5)
    same = 0
    for (compare, is_same), number in itertools.product(COMPARISONS.items(), numbers):
        for low, high in [(-1, 1), (0, np.inf), (-np.inf, 0.5), (1, 1)]:
            if is_same(low, number, high):
                limit = jnp.full(values.shape, number, jnp.float32)
                kept = compare.bind(jnp.asarray(np.clip(values, low, high)), limit)
                np.testing.assert_array_equal(compare.bind(jnp.asarray(values), limit), kept)
                same += 1
    assert same == 16 + 18 + 22


@pytest.mark.parametrize(("rectifier", "wrapped"), [("relu", "alone"), ("relu6", "in a loop"), ("relu6", "mapped")])
def test_a_depthwise_convolution_is_computed_once(rectifier, wrapped):
    x = jax.random.normal(jax.random.key(0), (4, 64, 64, 16))
    kernel, w = jax.random.normal(jax.random.key(1), (5, 5, 1, 16)), jax.random.normal(jax.random.key(2), (16, 4))
    scale, bias = np.linspace(0.5, 2, 16)[None, None, None], np.linspace(-1, 1, 16)[None, None, None]

    def score(x):
        y = conv(x, kernel)
        return ((RECTIFIERS[rectifier](y * scale + bias) @ w) ** 2).sum()

    gradient = jax.grad(score)
    f = {
        "alone": gradient,
        "in a loop": lambda x: lax.map(gradient, x[None])[0],
        "mapped": jax.vmap(gradient),
    }[wrapped]
    x = x[:, None] if wrapped == "mapped" else x
    fast, plain = (jax.jit(g).lower(x).compile() for g in (jaxplain.accelerate(f), f))
    np.testing.assert_allclose(fast(x), plain(x), rtol=1e-9, atol=1e-9)
    convolution, products = 2 * 25 * x.size, 2 * 2 * 4 * x.size
    assert 1.5 < (fast.cost_analysis()["flops"] - products) / convolution < 2.5  # forward, backward, nothing again


def test_lrp_does_not_compute_a_depthwise_convolution_again():
    x = jnp.abs(jax.random.normal(jax.random.key(0), (2, 64, 64, 16)))
    kernel, w = jax.random.normal(jax.random.key(1), (5, 5, 1, 16)), jax.random.normal(jax.random.key(2), (16, 4))

    def apply(x):
        y = conv(nn.relu(x), kernel)
        return (nn.relu6(y) @ w).mean((1, 2))

    explain = jaxplain.lrp(apply, lambda unit: rules.z_plus() if unit.affine else rules.pass_through())
    flops = jax.jit(lambda x: explain(x, target=1)).lower(x).compile().cost_analysis()["flops"]
    convolution, products = 2 * 25 * x.size, 2 * 4 * x.size
    assert 2.5 < (flops - 2 * products) / convolution < 3.7  # forward, z+, backward


def test_a_forward_pass_and_a_derivative_that_were_rewritten_apart_share_their_convolution():
    x = jax.random.normal(jax.random.key(0), (2, 64, 64, 16))
    kernel, w = jax.random.normal(jax.random.key(1), (5, 5, 1, 16)), jax.random.normal(jax.random.key(2), (16, 4))
    apply = lambda x: ((nn.relu6(conv(x, kernel)) @ w) ** 2).mean((1, 2))
    gradient = jaxplain.accelerate(jax.grad(lambda x: apply(x).sum()))
    flops = lambda f: jax.jit(f).lower(x).compile().cost_analysis()["flops"]
    alone, both = flops(gradient), flops(lambda x: (jaxplain.accelerate(apply)(x), gradient(x)))
    convolution, product = 2 * 25 * x.size, 2 * 4 * x.size
    assert (both - alone - product) / convolution < 0.2


def test_numbers_that_are_not_compared():
    for f, x in (
        (lambda z: jnp.maximum(z * z + z, 0), jnp.array([1 + 2j, -3 - 1j])),
        (lambda x: (nn.relu(x + x**2), x + x**2 > jnp.nan), jnp.array([-0.5, 1.0], jnp.bfloat16)),
        (lambda x: (x + x[::-1] > 0, nn.relu(x + x[::-1])), jnp.array([-0.5, 1.0, -2.0])),  # before the rectifier
    ):
        jax.tree.map(np.testing.assert_array_equal, jax.jit(jaxplain.accelerate(f))(x), f(x))


def test_calls_that_only_hold_a_rectifier():
    constant = jnp.arange(-1.0, 2.0)
    both, other = jax.jit(lambda s: (s, nn.relu(s))), jax.jit(lambda s: jnp.maximum(constant, 0.0))
    x = jnp.ones((2, 3))
    for f in (lambda x: sum(both(x + x**2)), lambda x: other(x + x**2)):
        assert found(f, x) == 0
        np.testing.assert_array_equal(jaxplain.accelerate(f)(x), f(x))


def test_no_block_is_computed_again():
    x = jnp.ones((4, 64, 64, 4), jnp.float32)  # few channels: the sums are most of the work
    w = W[:, :4, :4]

    def f(x):
        for v in w:
            x = nn.relu(x + x @ v)
        return x

    flops = lambda f: jax.jit(f).lower(x).compile().cost_analysis()["flops"]
    products = 2 * len(w) * x.size * 4
    plain, fast = (flops(g) - products for g in (f, jaxplain.accelerate(f)))
    assert fast < 5 * len(w) * x.size < plain


def test_a_rectified_sum_is_explained_as_what_it_is():
    explain = lambda apply: jax.jit(jaxplain.lrp(apply))(X, target=1)
    np.testing.assert_allclose(explain(jaxplain.accelerate(residual)), explain(residual), rtol=1e-5, atol=1e-7)
