"""What every explainer inherits from the convention: arguments in their many forms, documentation, no needless cost."""

import functools
import inspect
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from tests.convolution import conv

WEIGHTS = jax.random.normal(jax.random.key(1), (4, 3), jnp.float32)
X = jax.random.normal(jax.random.key(2), (3, 4), jnp.float32)
TARGETS = [2, 0, 1]
KEY = jax.random.key(0)


def apply(weights, x):
    return jnp.tanh(x.reshape(*x.shape[:1], -1)) @ weights


explain = jaxplain.gradient(apply)


@pytest.mark.parametrize(
    "targets",
    [tuple(TARGETS), np.array(TARGETS), np.array(TARGETS, np.uint8), jnp.array(TARGETS), [np.int8(2), 0, jnp.array(1)]],
)
def test_classes_in_many_forms(targets):
    expected = explain(WEIGHTS, X, target=TARGETS)
    np.testing.assert_array_equal(explain(WEIGHTS, X, target=targets), expected)
    np.testing.assert_array_equal(explain(WEIGHTS, X[:1], target=targets[0]), expected[:1])


def test_traced_and_static_classes():
    expected = explain(WEIGHTS, X, target=TARGETS)
    traced = jax.jit(lambda a, b: explain(WEIGHTS, X, target=[a, b, 1]))(2, 0)
    np.testing.assert_allclose(traced, expected, rtol=1e-6)
    static = jax.jit(explain, static_argnames="target")(WEIGHTS, X[:1], target=2)
    np.testing.assert_allclose(static, expected[:1], rtol=1e-6)


def test_numpy_arguments():
    maps = explain(np.asarray(WEIGHTS), np.asarray(X), target=np.int64(1))
    np.testing.assert_array_equal(maps, explain(WEIGHTS, X, target=1))


@pytest.mark.parametrize("make_key", [lambda: KEY, lambda: jax.random.split(KEY, 3)])
def test_old_keys_draw_what_new_keys_draw(make_key):
    smooth = jaxplain.smoothgrad(apply, samples=3)
    expected = smooth(WEIGHTS, X, key=make_key())
    for old in (jax.random.key_data(make_key()), np.asarray(jax.random.key_data(make_key()))):
        np.testing.assert_array_equal(smooth(WEIGHTS, X, key=old), expected)


@pytest.mark.parametrize("shape", [(1, 4), (2, 1, 4, 1), (2, 2, 1, 2, 1)])
@pytest.mark.parametrize("method", ["gradient", "integrated_gradients", "guided_integrated_gradients", "smoothgrad"])
def test_inputs_of_any_rank(method, shape):
    x = jnp.arange(4.0 * shape[0], dtype=jnp.float32).reshape(shape) / 8
    maps = getattr(jaxplain, method)(apply)(WEIGHTS, x, key=KEY)
    flat = getattr(jaxplain, method)(apply)(WEIGHTS, x.reshape(-1, 4), key=KEY)
    assert maps.shape == shape
    if method != "smoothgrad":  # the noise is drawn in the shape of the input
        np.testing.assert_allclose(maps.reshape(-1, 4), flat, rtol=1e-5)


SHARDED = ["gradient", "integrated_gradients", "guided_integrated_gradients", "smoothgrad", "vargrad"]


@pytest.mark.parametrize("method", SHARDED)
def test_shardings_that_are_part_of_the_type(method):
    explicit = jax.sharding.AxisType.Explicit
    mesh = jax.make_mesh((3,), ("batch",), axis_types=(explicit,), devices=jax.devices()[:3])
    explain = jax.jit(getattr(jaxplain, method)(apply))
    expected = explain(WEIGHTS, X, key=KEY)
    with jax.set_mesh(mesh):
        x = jax.device_put(X, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch")))
        maps = explain(
            jax.device_put(WEIGHTS, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())), x, key=KEY
        )
    np.testing.assert_allclose(maps, expected, rtol=1e-5)


@pytest.mark.parametrize("method", SHARDED)
def test_inside_shard_map_with_its_checks(method):
    mesh = jax.make_mesh((3,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:3])
    explain, spec = getattr(jaxplain, method)(apply), jax.sharding.PartitionSpec("batch")
    keys = jax.random.split(KEY, 3)
    call = lambda x, key: explain(WEIGHTS, x, target=1, key=key)
    maps = jax.jit(jax.shard_map(call, mesh=mesh, in_specs=spec, out_specs=spec))(X, keys)
    np.testing.assert_allclose(maps, explain(WEIGHTS, X, target=1, key=keys), rtol=1e-4, atol=1e-6)


def test_classes_masked_by_minus_infinity():
    masked = lambda weights, x: jnp.where(jnp.arange(3)[None] == 1, -jnp.inf, apply(weights, x))
    np.testing.assert_array_equal(
        jaxplain.gradient(masked)(WEIGHTS, X, target=2), jaxplain.gradient(apply)(WEIGHTS, X, target=2)
    )
    score = jaxplain.scores(functools.partial(masked, WEIGHTS), X, 2)
    np.testing.assert_array_equal(score(X), apply(WEIGHTS, X)[:, 2])


def test_help_tells_the_convention():
    for made in (explain, jaxplain.smooth(explain), jaxplain.multiply(explain, explain), jax.jit(explain)):
        assert list(inspect.signature(made).parameters) == ["args", "target", "key"]
        assert "`None` for the predicted class" in made.__doc__
        assert made.apply is apply


def test_the_import_is_light():
    program = "import sys, jaxplain; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    heavy = {"PIL", "flax", "matplotlib", "optax", "rich", "scipy", "skimage", "tyro"}
    assert not heavy & set(loaded.stdout.split())


# ----------------------------------------------------------------------------------------------------------------- cost


def network(weights, x):
    x = conv(x, weights[0])
    return jnp.tanh(x).reshape(len(x), -1) @ weights[1]


IMAGES = jnp.ones((2, 32, 32, 3))
NETWORK = (jnp.ones((3, 3, 3, 8)), jnp.ones((8192, 10)))


def compiled(explain, **options):
    return jax.jit(explain).lower(NETWORK, IMAGES, **options).compile()


def test_the_gradient_costs_a_gradient():
    def bare(weights, x, target):
        return jax.grad(lambda x: (network(weights, x) * jax.nn.one_hot(target, 10)).sum())(x)

    target = jnp.array([1, 2])
    flops = [compiled(f, target=target).cost_analysis()["flops"] for f in (bare, jaxplain.gradient(network))]
    assert flops[1] == pytest.approx(flops[0], rel=1e-3)
    predicted = compiled(jaxplain.gradient(network)).cost_analysis()["flops"]
    last_layer = 2 * 2 * 8192 * 10  # whose logits the gradient of a given class does not need
    assert predicted == pytest.approx(flops[0] + last_layer, rel=1e-3)


@pytest.mark.parametrize("method", ["integrated_gradients", "smoothgrad"])
def test_memory_does_not_grow_with_steps_or_samples(method):
    name = {"integrated_gradients": "steps", "smoothgrad": "samples"}[method]
    explainers = [getattr(jaxplain, method)(network, **{name: n}) for n in (50, 500)]
    few, many = (compiled(e, target=1, key=KEY).memory_analysis().temp_size_in_bytes for e in explainers)
    assert few > IMAGES.nbytes
    assert many < 1.01 * few
