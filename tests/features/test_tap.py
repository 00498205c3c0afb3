"""Layers are found in any framework and under any transform, by names that say what they are."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

import jaxplain
from tests import convolution
from tests.close import within
from tests.features.networks import NET_IN, X
from tests.networks import conv, dense

close = within(1e-9)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        return nn.relu(conv(4, 3, "conv")(x))


class Wrapped(nn.Module):
    """Blocks inside jit, remat and scan, one that is shared, and a method with a name of its own."""

    def setup(self):
        self.stem, self.jitted, self.rematted, self.shared = Block(), nn.jit(Block)(), nn.remat(Block)(), Block()
        self.looped = nn.scan(
            lambda block, x, _: (block(x), None), variable_broadcast="params", split_rngs={"params": False}, length=3
        )
        self.block = Block()
        self.head = dense(5, None)

    def encode(self, x):
        return self.stem(x)

    def __call__(self, x):
        x = self.shared(self.shared(self.rematted(self.jitted(self.encode(x)))))
        x, _ = self.looped(self.block, x, None)
        return self.head(x.mean(axis=(1, 2)))


NET = Wrapped()
VARIABLES = NET.init(jax.random.key(0), X)


def test_the_names_of_layers():
    names = jaxplain.layers(NET.apply)(VARIABLES, X)
    assert list(names) == [
        *("stem/conv", "stem", "jitted/conv", "jitted", "rematted/conv", "rematted"),
        *("shared/conv[0]", "shared/conv[1]", "shared[0]", "shared[1]"),
        *("block/conv[0]", "block/conv[1]", "block/conv[2]", "block[0]", "block[1]", "block[2]", "head"),
    ]
    assert names["shared[0]"] == (2, 8, 8, 4)
    assert names["head"] == (2, 5)


def test_features_are_those_of_capture_intermediates():
    _, state = NET.apply(VARIABLES, X, capture_intermediates=True, mutable=["intermediates"])
    kept = state["intermediates"]
    calls = {name: kept[name]["__call__"] for name in ("stem", "jitted", "rematted", "shared", "head")}
    calls |= {f"{name}/conv": kept[name]["conv"]["__call__"] for name in ("stem", "shared")}
    for name, values in calls.items():
        for i, value in enumerate(values):
            outputs, features, _ = jaxplain.tap(NET.apply, f"{name}[{i}]")(VARIABLES, X)
            np.testing.assert_array_equal(features, value)
            np.testing.assert_array_equal(outputs, NET.apply(VARIABLES, X))
        np.testing.assert_array_equal(jaxplain.tap(NET.apply, name)(VARIABLES, X).features, values[-1])


@pytest.mark.parametrize(
    ("layer", "call"), [("stem", 0), ("jitted/conv", 0), ("rematted", 0), ("shared[0]", 0), ("shared", 1)]
)
def test_gradient_is_that_of_an_array_added_to_the_module(layer, call):
    """Another way to the same gradient: an interceptor that adds zeros to one call's output."""
    path = tuple(layer.removesuffix("[0]").split("/"))

    def score(extra):
        calls = []

        def add(call_next, args, kwargs, context):
            y = call_next(*args, **kwargs)
            if context.method_name != "__call__" or context.module.path != path:
                return y
            calls.append(1)
            return y + extra if len(calls) == call + 1 else y

        with nn.intercept_methods(add):
            return NET.apply(VARIABLES, X)[:, 2].sum()

    pullback = jaxplain.tap(NET.apply, layer)(VARIABLES, X).pullback
    close(pullback(jnp.zeros((2, 5)).at[:, 2].set(1)), jax.grad(score)(jnp.zeros((2, 8, 8, 4))))


def test_what_jit_and_vmap_return_can_be_walked_back():
    read = jaxplain.tap(NET.apply, "stem")
    wanted = read(VARIABLES, X)
    close(jax.jit(read)(VARIABLES, X).pullback(wanted.outputs), wanted.pullback(wanted.outputs))
    each = jax.vmap(lambda x: read(VARIABLES, x[None]))(X)
    pulled = jax.vmap(lambda back, v: back(v))(each.pullback, each.outputs)
    close(pulled[:, 0], wanted.pullback(wanted.outputs))


def test_under_jit_vmap_and_closures():
    wanted = jaxplain.tap(NET.apply, "stem")(VARIABLES, X).features
    close(jax.jit(lambda v, x: jaxplain.tap(NET.apply, "stem")(v, x).features)(VARIABLES, X), wanted)
    closed = lambda x: NET.apply(VARIABLES, x)
    close(jaxplain.tap(closed, "stem")(X).features, wanted)
    each = jax.vmap(lambda x: jaxplain.tap(closed, "stem")(x[None]).features[0])(X)
    close(each, wanted)
    compiled_before = jax.jit(NET.apply)
    compiled_before(VARIABLES, X)  # its trace is cached, without Flax's interceptor: names come from scopes
    close(
        jaxplain.tap(compiled_before, "rematted")(VARIABLES, X).features,
        jaxplain.tap(NET.apply, "rematted")(VARIABLES, X).features,
    )
    single = jax.vmap(lambda v, x: NET.apply(v, x[None])[0], in_axes=(None, 0))
    close(jaxplain.tap(single, "stem")(VARIABLES, X).features.reshape(wanted.shape), wanted)


@pytest.mark.parametrize("reverse", [False, True])
def test_turns_of_a_loop(reverse):
    """A hand-made scan with carries, constants, slices and stacked results, cut in every turn."""
    w = jax.random.normal(jax.random.key(0), (4, 3, 3))

    def network(x):
        def turn(x, w):
            x = jnp.tanh(checkpoint_name(x @ w, "inside"))
            return x, x.sum(axis=1)

        x, sums = jax.lax.scan(turn, x, w, reverse=reverse)
        return x + sums.T @ jnp.ones((4, 3))

    def unrolled(x, extra):
        values, sums = [], []
        for i, matrix in enumerate(w[::-1] if reverse else w):
            values.append(x @ matrix + extra[i])
            x = jnp.tanh(values[-1])
            sums.append(x.sum(axis=1))
        return x + jnp.stack(sums).T @ jnp.ones((4, 3)), values

    x = jax.random.normal(jax.random.key(1), (2, 3))
    zeros = jnp.zeros((4, 2, 3))
    outputs, values = unrolled(x, zeros)
    gradients = jax.grad(lambda extra: (unrolled(x, extra)[0] ** 2).sum())(zeros)
    for turn in range(4):
        tapped = jaxplain.tap(network, f"inside[{turn}]")(x)
        close(tapped.outputs, outputs)
        close(tapped.features, values[turn])
        close(tapped.pullback(2 * outputs), gradients[turn])


def test_custom_derivatives_stay():
    @jax.custom_vjp
    def doubled_gradient(x):
        return x.sum(axis=1)

    doubled_gradient.defvjp(lambda x: (doubled_gradient(x), x), lambda x, g: (2 * jnp.ones_like(x) * g[:, None],))
    pullback = jaxplain.tap(lambda x: doubled_gradient(checkpoint_name(x, "features")), "features")(
        jnp.ones((1, 3))
    ).pullback
    np.testing.assert_array_equal(pullback(jnp.ones(1)), [[2.0, 2.0, 2.0]])


@pytest.mark.parametrize("name", ["linen", "nnx", "equinox", "plain"])
def test_frameworks_have_the_same_features(name):
    wanted = NET_IN["linen"](X)
    apply = NET_IN[name]
    _, features, pullback = jaxplain.tap(apply)(X)
    close(apply(X), wanted)
    close(features, jaxplain.tap(NET_IN["linen"])(X).features)
    close(pullback(wanted), jaxplain.tap(NET_IN["linen"])(X).pullback(wanted))


def test_names_beside_flax_linen():
    net = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    scoped = lambda x: jax.nn.relu(jax.named_scope("first")(net)(x)).sum(axis=1)
    assert list(jaxplain.layers(scoped)(jnp.ones((2, 3)))) == ["first"]
    linear = eqx.nn.Linear(3, 3, key=jax.random.key(0))
    twice = jax.vmap(lambda x: linear(jax.nn.relu(linear(x))).sum())
    assert list(jaxplain.layers(twice)(jnp.ones((2, 3)))) == ["eqx.nn.Linear[0]", "eqx.nn.Linear[1]"]
    x = jax.random.normal(jax.random.key(1), (2, 3), jnp.float32)
    close(jaxplain.tap(twice, "eqx.nn.Linear[0]")(x).features, jax.vmap(linear)(x))


def test_channels_are_found_wherever_they_are():
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 3, 5))
    specs = {"NHWC": (0, 1, 2, 3), "NCHW": (0, 3, 1, 2), "NWHC": (0, 2, 1, 3)}
    maps = {}
    for spec, order in specs.items():

        def network(x, spec=spec, order=order):
            x = x.transpose(order)
            y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=(spec, "HWIO", spec))
            y = checkpoint_name(jnp.tanh(y).transpose(np.argsort(order)).transpose(order) * 2, "features")
            weights = jnp.arange(5.0).reshape([5 if i == spec.index("C") else 1 for i in range(4)])
            return (y**2 * weights).mean(axis=(1, 2, 3))

        x = jax.random.normal(jax.random.key(1), (2, 6, 6, 3))
        maps[spec] = jaxplain.tap(network, "features")(x).features
    close(maps["NCHW"], maps["NHWC"])
    assert maps["NWHC"].shape == (2, 6, 6, 5)


@pytest.mark.parametrize(
    ("apply", "layer", "message"),
    [
        (NET.apply, "stemm", "no layer 'stemm': the nearest are stem"),
        (NET.apply, "shared[2]", r"layer 'shared\[2\]': shared is called 2 times, choose \[0\] to \[1\]"),
        (lambda v, x: x.sum(axis=(1, 2)), "conv", r"the network's values have no names.*checkpoint_name\(x, 'conv'\)"),
        (lambda v, x: x.sum(axis=(1, 2)), None, "no convolutional feature map with more than one position"),
    ],
)
def test_errors(apply, layer, message):
    with pytest.raises(ValueError, match=message):
        jaxplain.tap(apply, layer)(VARIABLES, X)


@pytest.mark.parametrize("layer", ["scoped", "named"])
def test_layers_that_cannot_be_cut_are_errors(layer):
    inside = lambda x: checkpoint_name(jax.named_scope("scoped")(jnp.tanh)(x), "named")
    custom = jax.custom_vjp(inside)
    custom.defvjp(lambda x: (inside(x), x), lambda x, g: (g,))
    networks = {
        "a branch of a `cond`, which may not be taken": lambda x: jax.lax.cond(x.sum() > 0, inside, jnp.cos, x),
        "`while` at .*, which cannot be cut": lambda x: jax.lax.while_loop(lambda x: x.sum() > 9, inside, x),
        "`custom_vjp_call` at .*, which cannot be cut": custom,
    }
    for message, network in networks.items():
        for inner in (network, lambda x, f=network: jax.lax.scan(lambda x, _: (f(x), None), x, length=2)[0]):
            with pytest.raises(ValueError, match=f"layer '{layer}' lies in {message}: name a layer outside it"):
                jaxplain.tap(inner, layer)(jnp.ones((2, 3)))


def test_names_with_brackets():
    mark = lambda x: checkpoint_name(x, "block[3]")
    x = jnp.ones((2, 3))
    close(jaxplain.tap(lambda x: mark(2 * x), "block[3]")(x).features, 2 * x)
    twice = lambda x: mark(3 * mark(2 * x))
    assert list(jaxplain.layers(twice)(x)) == ["block[3][0]", "block[3][1]"]
    close(jaxplain.tap(twice, "block[3][0]")(x).features, 2 * x)


class SeveralArrays(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = conv(4, 3, "conv")(x)
        return nn.relu(x), {"raw": x, "size": 4}


class OfSeveralArrays(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = jax.named_scope("scaled")(lambda x: 2 * x)(SeveralArrays(name="several")(x)[0])
        return dense(5, "head")(x.mean(axis=(1, 2)))


def test_modules_that_return_several_arrays():
    net = OfSeveralArrays()
    variables = net.init(jax.random.key(0), X)
    names = jaxplain.layers(net.apply)(variables, X)
    assert list(names) == ["several/conv", "several[0]", "several[1]", "scaled", "head"]  # in the order of evaluation
    raw = jaxplain.tap(net.apply, "several/conv")(variables, X).features
    close(jaxplain.tap(net.apply, "several[0]")(variables, X).features, nn.relu(raw))
    close(jaxplain.tap(net.apply, "several[1]")(variables, X).features, raw)
    close(jaxplain.tap(net.apply, "scaled")(variables, X).features, 2 * nn.relu(raw))


def test_channels_in_groups_are_followed():
    """Group normalisation and channel shuffling take a feature map apart and put it together again."""
    layers = [eqx.nn.Conv2d(3, 4, 3, padding=1, key=jax.random.key(0)), eqx.nn.GroupNorm(2, 4), jnp.tanh]
    grouped = eqx.nn.Sequential([eqx.nn.Lambda(f) if f is jnp.tanh else f for f in layers])
    x = X[:, :5, :6]
    features = jax.vmap(lambda x: grouped(x.transpose(2, 0, 1)))
    tapped = jaxplain.tap(lambda x: features(x).mean(axis=(2, 3)))(x)
    close(tapped.features, features(x).transpose(0, 2, 3, 1))

    def shuffled(x):
        x = convolution.conv(x, kernel)
        return jnp.tanh(x.reshape(2, 5, 6, 2, 4).swapaxes(3, 4).reshape(2, 5, 6, 8))

    kernel = jax.random.normal(jax.random.key(0), (3, 3, 3, 8))
    close(jaxplain.tap(lambda x: shuffled(x).mean(axis=(1, 2)))(x).features, shuffled(x))


def test_batches_of_one_under_vmap():
    """A network of batches, called an example at a time, has features like any other."""
    apply = NET_IN["linen"]
    single = jax.vmap(lambda x: apply(x[None])[0])
    for layer in (None, "conv1"):
        wanted, got = (jaxplain.tap(f, layer)(X) for f in (apply, single))
        close(got.features, wanted.features)
        close(got.pullback(wanted.outputs), wanted.pullback(wanted.outputs))
    close(jaxplain.grad_cam(single)(X), jaxplain.grad_cam(apply)(X))


def test_the_last_feature_map_before_pooling():
    """Whatever averages it: in a precision of its own, or as a product with weights."""
    features = lambda x: jnp.tanh(convolution.conv(x, jnp.ones((3, 3, 3, 4), x.dtype)))
    rows = jnp.ones((2, 8)) / 8
    pooled = lambda x: jnp.einsum("nhwc,ih,jw->nijc", features(x), rows, rows).reshape(2, -1)
    close(jaxplain.tap(pooled)(X).features, features(X))
    x = X.astype(jnp.bfloat16)
    averaged = jaxplain.tap(lambda x: features(x).mean(axis=(1, 2)))(x).features  # a mean is taken in float32
    assert averaged.dtype == jnp.bfloat16
    np.testing.assert_array_equal(averaged, features(x))


def test_tokens_behind_the_last_convolution_are_an_error():
    def network(x):
        tokens = x.reshape(2, 64, 3)
        kernel = jnp.ones((2, 2, 3, 3))
        patches = convolution.conv(x, kernel, 2, padding="VALID")
        tokens = patches.reshape(2, 16, 3)
        tokens = tokens + jax.nn.softmax(tokens @ tokens.mT) @ tokens
        return (tokens @ jnp.ones((3, 3))).mean(axis=1)

    with pytest.raises(ValueError, match="the network goes on with many positions"):
        jaxplain.tap(network)(X)


def test_nothing_is_left_behind_after_an_exception():
    before = jax.tree.map(jnp.copy, VARIABLES)
    with pytest.raises(ValueError, match="no layer"):
        jaxplain.grad_cam(NET.apply, "nowhere")(VARIABLES, X)
    assert " name[" not in str(jax.make_jaxpr(NET.apply)(VARIABLES, X))
    jax.tree.map(np.testing.assert_array_equal, before, VARIABLES)
    assert set(NET.apply(VARIABLES, X, mutable=True)[1]) == {"params"}
