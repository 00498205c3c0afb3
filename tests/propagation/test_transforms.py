"""Explainers by propagation under JAX's transformations: vmap, grad, export, sharding."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import NamedSharding, PartitionSpec

import jaxplain
from jaxplain import composites, rules
from tests.close import within
from tests.convolution import conv
from tests.zoo import IMAGES, TARGETS, ZOO
from tests.zoo.layers import draw

BASELINE = np.array([0.3, -0.2, 0.5])  # one value per channel
COMPOSITES = {
    "epsilon": composites.uniform(rules.epsilon(0.01)),
    "gamma": composites.uniform(rules.gamma()),
    "epsilon_plus": composites.epsilon_plus(),
    "alpha2_beta1": composites.epsilon_alpha2_beta1(),
    "box": composites.epsilon_gamma_box(low=-4.0, high=4.0),
}
METHODS = {name: functools.partial(jaxplain.lrp, composite=c) for name, c in COMPOSITES.items()} | {
    "guided_backprop": jaxplain.guided_backprop,
    "rescale": functools.partial(jaxplain.deeplift, baseline=BASELINE),
    "reveal_cancel": functools.partial(jaxplain.deeplift, baseline=BASELINE, rule="reveal_cancel"),
}
FEW = ["epsilon_plus", "rescale", "reveal_cancel"]
every_method = pytest.mark.parametrize("method", METHODS)
few_methods = pytest.mark.parametrize("method", FEW)
networks = pytest.mark.parametrize("name", ["unrolled", "scan_remat", "inception"])

close = within(1e-10)


@functools.cache
def explain(name, method):
    """The explainer of a network, its weights bound."""
    case = ZOO[name]
    return functools.partial(METHODS[method](case.apply), case.variables)


@functools.cache
def expected(name, method):
    return jax.jit(explain(name, method))(IMAGES, target=TARGETS)


@networks
@every_method
def test_jit_equals_eager(name, method):
    close(explain(name, method)(IMAGES, target=TARGETS), expected(name, method))


@networks
@few_methods
def test_all_classes_at_once(name, method):
    maps = jax.jit(jax.vmap(lambda c: explain(name, method)(IMAGES, target=c)))(jnp.arange(5))
    close(maps[TARGETS, jnp.arange(2)], expected(name, method))


@networks
@pytest.mark.parametrize(
    ("rule", "values"), [(rules.epsilon, [1e-6, 0.01, 0.5]), (rules.gamma, [0.0, 0.25, 4.0])], ids=["epsilon", "gamma"]
)
def test_a_rule_parameter_may_be_traced(name, rule, values):
    case = ZOO[name]
    with_value = lambda v: jaxplain.lrp(case.apply, composites.uniform(rule(v)))(*case.args, target=TARGETS)
    maps = jax.jit(jax.vmap(with_value))(jnp.array(values))
    for value, relevance in zip(values, maps, strict=True):
        close(relevance, with_value(value))


@networks
@few_methods
def test_batch_mates_do_not_matter(name, method):
    alone = jax.jit(explain(name, method))(IMAGES[1:], target=TARGETS[1:])
    close(alone[0], expected(name, method)[1])
    by_one = jax.jit(jax.vmap(lambda x, t: explain(name, method)(x[None], target=t)[0]))(IMAGES, TARGETS)
    close(by_one, expected(name, method))


@networks
@few_methods
def test_export_and_back(name, method):
    pytest.importorskip("flatbuffers")
    bound = jax.jit(lambda x, target: explain(name, method)(x, target=target))
    stored = jax.export.export(bound)(IMAGES, TARGETS).serialize()
    close(jax.export.deserialize(stored).call(IMAGES, TARGETS), expected(name, method))


@networks
@few_methods
def test_sharded_equals_one_device(name, method):
    devices = jax.make_mesh((4,), ("batch",))
    split = lambda a: jax.device_put(a, NamedSharding(devices, PartitionSpec("batch")))
    images, targets = jnp.concatenate([IMAGES, IMAGES]), jnp.concatenate([TARGETS, TARGETS])
    maps = jax.jit(explain(name, method))(split(images), target=split(targets))
    assert maps.sharding.is_equivalent_to(split(images).sharding, maps.ndim)
    close(maps, jnp.concatenate([expected(name, method)] * 2))


class Smooth(nn.Module):
    """Without kinks of its own, so that its explanations are differentiable wherever the rules are."""

    @nn.compact
    def __call__(self, x):
        x = nn.softplus(nn.BatchNorm(use_running_average=True)(nn.Conv(3, (3, 3), (2, 2))(x)))
        x = x * nn.sigmoid(nn.Conv(3, (1, 1))(x.mean(axis=(1, 2), keepdims=True)))
        x = nn.avg_pool(nn.gelu(nn.Conv(4, (3, 3))(x)), (2, 2), (2, 2))
        return nn.Dense(5)(nn.LayerNorm()(x.reshape(len(x), -1)))


@pytest.mark.parametrize(
    "method", sorted(set(METHODS) - {"guided_backprop"})
)  # which jumps where a gradient changes its sign
def test_gradient_with_respect_to_the_parameters(method):
    """Against finite differences along a random direction; no rule has a kink within the steps."""
    network, x = Smooth(), IMAGES[:, :8, :8]
    variables, random = draw(network, x.shape), np.random.default_rng(0)
    direction = jax.tree.map(lambda v: jnp.asarray(random.normal(size=v.shape)), variables)
    weights = jnp.asarray(random.normal(size=x.shape))
    explained = METHODS[method](network.apply)

    def loss(step):
        moved = jax.tree.map(lambda v, d: v + step * d, variables, direction)
        return (explained(moved, x, target=TARGETS) * weights).sum()

    steps = jnp.array([-2e-6, -1e-6, 0.0, 1e-6, 2e-6])
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(loss)))(steps)
    finite = (values[0] - 8 * values[1] + 8 * values[3] - values[4]) / 12e-6
    np.testing.assert_allclose(slopes[2], finite, rtol=1e-6)


@few_methods
def test_gradients_of_explanations_are_finite(method):
    """To the second order in the input, behind ReLUs, dead ones included."""
    case = ZOO["unrolled"]
    explained = METHODS[method](case.apply)
    images = IMAGES.at[0].set(0)
    loss = lambda v, x: (explained(v, x, target=TARGETS) ** 2).sum()
    floats = {name: value for name, value in case.variables.items() if name not in ("count", "flag")}
    gradient = jax.grad(loss, argnums=(0, 1))
    _, second = jax.jit(lambda v, x: jax.jvp(lambda x: gradient(v, x), (x,), (jnp.ones_like(x),)))(floats, images)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(second))


@pytest.mark.parametrize("make", [jaxplain.lrp, jaxplain.excitation_backprop])
def test_at_a_layer_the_derivative_in_parameters_is_that_of_the_values(make):
    """What lies before the layer has rules as well, by which it must not be differentiated."""

    def f(w, x):
        y = checkpoint_name(jnp.tanh(conv(x, w["first"])), "middle")
        return jnp.tanh(conv(y, w["second"])).sum(axis=(1, 2))

    keys = jax.random.split(jax.random.key(8), 3)
    normal = lambda key, *shape: 0.3 * jax.random.normal(key, shape, jnp.float64)
    w = {"first": normal(keys[0], 3, 3, 3, 4), "second": normal(keys[1], 3, 3, 4, 5)}
    options = {} if make is jaxplain.lrp else {"upsample": False}
    loss = lambda w: (make(f, layer="middle", **options)(w, IMAGES, target=TARGETS) ** 2).sum()
    direction = {name: jax.random.normal(keys[2], v.shape, v.dtype) for name, v in w.items()}
    along = lambda step: loss(jax.tree.map(lambda a, d: a + step * d, w, direction))
    slope = sum(jnp.vdot(g, direction[name]) for name, g in jax.grad(loss)(w).items())
    np.testing.assert_allclose(slope, (along(1e-6) - along(-1e-6)) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize("layer", ["middle", "turn[1]"])
def test_at_a_layer_every_device_has_its_own_examples(layer):
    def f(w, x):
        y = checkpoint_name(jax.nn.relu(conv(x, w[0])), "middle")
        turn = lambda y, w: (checkpoint_name(jax.nn.relu(conv(y, w)), "turn"), None)
        return jax.lax.scan(turn, y, w[1:])[0].sum(axis=(1, 2))

    w = 0.3 * jax.random.normal(jax.random.key(8), (3, 3, 3, 3, 3), jnp.float64)
    call = lambda x, target: jaxplain.lrp(f, layer=layer)(w, x, target=target)
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    spec = PartitionSpec("batch")
    mapped = jax.jit(jax.shard_map(call, mesh=mesh, in_specs=spec, out_specs=spec))
    targets = jnp.array([2, 0])
    close(mapped(IMAGES, targets), call(IMAGES, targets))
