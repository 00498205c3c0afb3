"""What is made of one image that is repeated for a batch is computed once, as DeepLIFT's reference, and is the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain
from jaxplain._graph.rewrite import with_rewritten_equations
from jaxplain.fast._repeated_rows import repeated_in, repeated_rows
from tests import convolution
from tests.zoo import BASELINE, IMAGES, TARGETS, ZOO

DRAW = np.random.default_rng(0)
N = 3  # as many examples as channels, and as rows and columns
X = jnp.asarray(DRAW.normal(size=(N, N, N, 3)))
X0 = jnp.asarray(DRAW.normal(size=(1, N, N, 3)))
KERNEL, SQUARE, TOKEN, OUT = (jnp.asarray(DRAW.normal(size=s)) for s in ((3, 3, 3, 3), (3, 3), (1, 1, 3), (27, 4)))
CONTEXT = jnp.asarray(DRAW.normal(size=(N, 1, 1, 1)))

conv = lambda x, **numbers: convolution.conv(x, KERNEL, **numbers)


def attention(tokens):
    scores = jnp.einsum("nid,njd->nij", tokens @ SQUARE, tokens)
    return jnp.einsum("nij,njd->nid", jax.nn.softmax(scores), tokens)


@jax.custom_jvp
def scaled(x):
    return jnp.tanh(x * CONTEXT)


scaled.defjvps(lambda tangent, y, x: tangent * (1 - y**2) * CONTEXT)


def vit(x):
    tokens = jnp.concatenate([jnp.tile(TOKEN, (len(x), 1, 1)), x.reshape(len(x), -1, 3)], axis=1)
    return tokens + attention(tokens)


ALONE = {  # every operation works on examples by themselves
    "conv": lambda x: jax.nn.relu(conv(x) + TOKEN[None]),
    "pool": lambda x: lax.reduce_window(conv(x), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "SAME"),
    "vit": vit,
    "concatenate": lambda x: jnp.concatenate([jnp.tanh(conv(x)), jnp.ones_like(x)], axis=-1)[..., 1:4],
    "pad_split_stack": lambda x: jnp.stack(jnp.split(jnp.pad(jnp.tanh(x), [(0, 0), (0, 1), (0, 0), (0, 0)]), 2, 1), 1),
    "cumsum": lambda x: jnp.tanh(jnp.cumsum(conv(x), axis=1)),
    "reversed": lambda x: jnp.tanh(conv(x)[:, ::-1].transpose(0, 2, 1, 3)),
    "scan": lambda x: lax.scan(lambda h, w: (jnp.tanh(h @ w) * h, None), x, jnp.stack([SQUARE, 2 * SQUARE]))[0],
    "scan_ys": lambda x: lax.scan(lambda h, w: (jnp.tanh(h @ w),) * 2, x, jnp.stack([SQUARE, SQUARE]))[1].sum(0),
    "equal_weights": lambda x: convolution.conv(jnp.tanh(x), jnp.full_like(KERNEL, 0.1)) @ jnp.full((3, 3), 0.2),
    "cond": lambda x: lax.cond(SQUARE[0, 0] > 0, jnp.tanh, lambda x: conv(x) ** 2, conv(x)),
}
ALONE["call"] = lambda x: jax.jit(lambda x: jax.nn.relu(jax.nn.gelu(conv(x)) + TOKEN[None]))(x)
TOGETHER = {  # examples are mixed, told apart, or moved
    "index": lambda x: jnp.tanh(x * jnp.arange(len(x))[:, None, None, None]),
    "length": lambda x: (jnp.tanh(x * len(x)) + x ** len(x)) * CONTEXT,
    "context": lambda x: jnp.tanh(conv(x) * CONTEXT),
    "cumsum": lambda x: jnp.tanh(jnp.cumsum(conv(x), axis=0)),
    "cummax": lambda x: lax.cummax(conv(x) * CONTEXT, axis=0),
    "set": lambda x: jnp.tanh(x.at[0].set(1.0)),
    "update": lambda x: jnp.tanh(lax.dynamic_update_slice(x, X0, (1, 0, 0, 0))),
    "window": lambda x: jnp.tanh(lax.reduce_window(conv(x), 0.0, lax.add, (2, 1, 1, 1), (1, 1, 1, 1), "SAME")),
    "padded": lambda x: jnp.tanh(jnp.pad(conv(x), [(1, 0), (0, 0), (0, 0), (0, 0)])[:-1] + 1),
    "reversed": lambda x: jnp.tanh(conv(x) * CONTEXT)[::-1],
    "sliced": lambda x: jnp.concatenate([jnp.tanh(x[:1]), x[1:] ** 2]),
    "stacked": lambda x: jnp.stack([jnp.tanh(x[:, 0]), x[:, 1] ** 2, conv(x)[:, 2]]),
    "conv_over_batch": lambda x: jnp.tanh(conv(x, dimension_numbers=("HNWC", "HWIO", "HNWC"))),
    "conv_transposing": lambda x: jnp.tanh(conv(x, dimension_numbers=("NHWC", "HWIO", "HNWC"))),
    "transposed": lambda x: jnp.tanh(conv(x).transpose(3, 1, 2, 0)) * CONTEXT,
    "gram": lambda x: x * jnp.tanh(jnp.einsum("nhwc,mhwc->nm", x, x) * CONTEXT[..., 0, 0])[:, :, None, None],
    "mixed_by_dot": lambda x: jnp.tanh(jnp.einsum("nm,mhwc->nhwc", SQUARE, x)),
    "contracted": lambda x: x * jnp.tanh(jnp.tensordot(x, SQUARE, axes=(0, 0)))[..., :1].transpose(2, 0, 1, 3),
    "statistics": lambda x: conv(x) * jnp.tanh(x).mean(axis=0, keepdims=True) * CONTEXT,
    "maximum": lambda x: x * x.max(axis=0, keepdims=True) * CONTEXT,
    "chosen": lambda x: jnp.where(CONTEXT > 0, jnp.tanh(x), x**2),
    "custom": lambda x: scaled(jnp.tanh(x)) + scaled(jnp.ones_like(x)) * x,
    "merged": lambda x: jnp.tanh(x.reshape(-1, 3) @ SQUARE).reshape(x.shape) * CONTEXT,
    "merged_then_told_apart": lambda x: jnp.tanh(x.reshape(-1, 9) * SQUARE.reshape(1, 9)).reshape(x.shape),
    "gathered": lambda x: jnp.tanh(conv(x)[jnp.array([2, 0, 1])] * CONTEXT),
    "scan_over_examples": lambda x: lax.scan(lambda h, x: (h + jnp.tanh(x),) * 2, jnp.zeros_like(x[0]), x)[1],
    "scan_that_tells_apart": lambda x: lax.scan(lambda h, w: (jnp.tanh(h @ w) * CONTEXT, None), x, SQUARE[None])[0],
    "scan_in_turn": lambda x: lax.scan(lambda h, _: ((h[1], jnp.cumsum(h[0], 0)), None), (x, x**2), None, 3)[0][1],
}
NETWORKS = {f"{sort}_{name}": f for sort, fs in (("alone", ALONE), ("together", TOGETHER)) for name, f in fs.items()}
logits = lambda f: lambda x: jnp.tanh(f(x)).reshape(len(x), -1)[:, :9] @ OUT[:9]


def maps_and_flops(f, baseline, x=X, rule="rescale", target=1):
    explain = jax.jit(lambda x, x0: jaxplain.deeplift(f, baseline=x0, rule=rule)(x, target=target))
    compiled = explain.lower(x, baseline).compile()
    return compiled(x, baseline), compiled.cost_analysis()["flops"]


@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
@pytest.mark.parametrize("name", NETWORKS)
def test_one_reference_is_that_of_every_example(name, rule):
    f = logits(NETWORKS[name])
    each = jnp.broadcast_to(X0, X.shape)
    expected, _ = maps_and_flops(f, each, rule=rule)
    for shared in (X0, X0[0]):
        maps, _ = maps_and_flops(f, shared, rule=rule)
        np.testing.assert_allclose(maps, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(maps.sum(), (f(X) - f(each))[:, 1].sum(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["vgg", "efficientnet", "vit", "convnext", "linen_scan_remat", "scan_remat", "unet"])
def test_networks_of_the_zoo(name):
    case = ZOO[name]
    f = lambda x: case.apply(case.variables, x)
    shared, once = maps_and_flops(f, BASELINE, IMAGES, target=TARGETS)
    each, twice = maps_and_flops(f, jnp.broadcast_to(BASELINE, IMAGES.shape), IMAGES, target=TARGETS)
    np.testing.assert_allclose(shared, each, rtol=1e-9, atol=1e-12 * float(jnp.abs(each).max()))
    assert once < twice or "scan" in name  # a loop gets all rows


@pytest.mark.parametrize(
    "target", [None, lambda z: z[:, 0] - jax.nn.softmax(z)[:, 2], lambda z: (z - z.mean(0, keepdims=True))[:, 0]]
)
def test_any_score(target):
    f, each = logits(ALONE["vit"]), jnp.broadcast_to(X0, X.shape)
    expected, _ = maps_and_flops(f, each, target=target)
    np.testing.assert_allclose(maps_and_flops(f, X0, target=target)[0], expected, rtol=1e-10, atol=1e-12)
    score = jaxplain.scores(f, X, target)
    np.testing.assert_allclose(expected.sum(), (score(X) - score(each)).sum(), rtol=1e-9, atol=1e-12)


@jax.custom_jvp
def root(x):
    return jnp.sqrt(jnp.maximum(x, 0))


root.defjvps(lambda tangent, y, x: tangent * jnp.where(y > 0, 0.5 / jnp.where(y > 0, y, 1), 0))


@pytest.mark.parametrize("activation", [jax.nn.relu, jax.nn.relu6, root])
def test_derivatives_in_the_parameters_are_those_that_the_activation_defines(activation):
    def loss(bias, baseline):
        network = lambda bias, x: activation(x @ (1 - jnp.eye(4)) + bias[None]) @ (1 - jnp.eye(4))
        return (
            jaxplain.deeplift(network, baseline=baseline)(bias, jnp.arange(12.0).reshape(3, 4), target=1) ** 2
        ).sum()

    bias = jnp.zeros(4)  # the reference is where the derivative has to be chosen
    wanted = jax.grad(loss)(bias, jnp.zeros((3, 4)))
    np.testing.assert_allclose(jax.grad(loss)(bias, 0.0), wanted, rtol=1e-10, atol=1e-12)


def test_the_reference_is_evaluated_once():
    network = lambda x: jnp.tanh(conv(jnp.tanh(conv(jnp.tanh(conv(x)))))).mean(axis=(1, 2))
    x = jnp.asarray(DRAW.normal(size=(4, 16, 16, 3)))
    _, once = maps_and_flops(network, 0.5, x)
    _, each = maps_and_flops(network, jnp.full_like(x, 0.5), x)
    assert once < 0.79 * each  # 4 + 1 + 4 passes for 4 + 4 + 4, and a sum that hides the reference from the compiler
    shap = lambda x: jaxplain.deep_shap(network, baselines=x[:1])(x, target=1)
    assert jax.jit(shap).lower(x).compile().cost_analysis()["flops"] < 0.8 * each


@pytest.mark.parametrize("name", NETWORKS)
def test_a_function_of_repeated_rows_keeps_its_values_and_derivatives(name):
    f = logits(lambda x: NETWORKS[name](x) + conv(x).sum())
    g = lambda x0: f(jnp.broadcast_to(x0, X.shape))
    once = with_rewritten_equations(g, repeated_rows)
    for one, other in ((once, g), (jax.jacobian(once), jax.jacobian(g))):
        np.testing.assert_allclose(jax.jit(one)(X0), other(X0), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ALONE)
def test_it_is_computed_for_one_row(name):
    if name in ("scan", "scan_ys", "cond"):  # whose bodies get all rows
        return
    jaxpr = jax.make_jaxpr(lambda x0: ALONE[name](jnp.broadcast_to(conv(x0), X.shape)))(X0).jaxpr
    assert jaxpr.outvars[0] in repeated_in(jaxpr)


@pytest.mark.parametrize("name", sorted(set(TOGETHER) - {"merged_then_told_apart"}))
def test_rows_that_meet_or_are_told_apart_are_not_repeated(name):
    jaxpr = jax.make_jaxpr(lambda x0: TOGETHER[name](jnp.broadcast_to(conv(x0), X.shape)))(X0).jaxpr
    assert jaxpr.outvars[0] not in repeated_in(jaxpr)


def test_only_what_belongs_to_a_product_is_computed_for_one_row():
    f = lambda x, x0: jnp.tanh(conv(jnp.broadcast_to(x0, x.shape))) + x * jnp.broadcast_to(x0, x.shape) ** 2
    jaxpr = jax.make_jaxpr(f)(X, X0).jaxpr
    names = [form.eqn.primitive.name for form in repeated_rows(jaxpr) if form.other]
    assert names == ["broadcast_in_dim", "conv_general_dilated", "tanh"]


def test_the_flat_rule_counts_inputs_once():
    """What its neurons share relevance by depends on no image."""
    network = lambda x: jax.nn.relu(conv(x)).mean(axis=(1, 2))

    def flops(n):
        explain = jax.jit(jaxplain.lrp(network, jaxplain.composites.epsilon_plus_flat()))
        return explain.lower(jnp.ones((n, 16, 16, 3)), target=1).compile().cost_analysis()["flops"]

    products = lambda n: 2 * 16 * 16 * 3 * 27 * n
    assert flops(8) - flops(2) < 6 * 2.4 * products(1)  # forward and backward for every image


def test_operations_that_are_not_known_get_all_rows():
    jaxpr = jax.make_jaxpr(lambda x0: lax.cumprod(jnp.broadcast_to(x0, X.shape), axis=1))(X0).jaxpr
    assert jaxpr.outvars[0] not in repeated_in(jaxpr)
