"""A layer has one name in every method, and is called as its framework calls it."""

import functools
import os
import threading
import warnings

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

import jaxplain
from jaxplain import composites, rules
from tests.close import within

close = within(1e-9)

X = jax.random.normal(jax.random.key(0), (2, 6, 6, 3), jnp.float64)
TARGET = np.array([1, 3])


def draw(*shape, seed):
    return 0.3 * jax.random.normal(jax.random.key(seed), shape, jnp.float64)


PARAMS = {
    "stem": {"kernel": draw(3, 3, 3, 4, seed=1), "bias": draw(4, seed=2)},
    "blocks": [
        {
            "conv": {"kernel": draw(3, 3, 4, 4, seed=3 + i)},
            "bn": {
                "scale": 1 + draw(4, seed=5 + i),
                "bias": draw(4, seed=7 + i),
                "mean": draw(4, seed=9 + i),
                "var": 1 + draw(4, seed=i) ** 2,
            },
        }
        for i in range(2)
    ],
    "head": {"kernel": draw(4, 5, seed=20), "bias": draw(5, seed=21)},
}


# -------------------------------------------------------------------------------------- one network in six frameworks


def conv(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def along(x, vector):
    """A vector with as many axes as an array whose channels it goes along."""
    return vector.reshape((1,) * (x.ndim - 1) + vector.shape)


def plain(params, x):
    x = conv(x, params["stem"]["kernel"])
    x = jax.nn.relu(x + along(x, params["stem"]["bias"]))
    for block in params["blocks"]:
        bn = block["bn"]
        x = conv(x, block["conv"]["kernel"])
        x = (x - along(x, bn["mean"])) * along(x, bn["scale"] / jnp.sqrt(bn["var"] + 1e-5))
        x = jax.nn.relu(x + along(x, bn["bias"]))
    return x.mean(axis=(1, 2)) @ params["head"]["kernel"] + params["head"]["bias"][None]


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), use_bias=False, name="conv", param_dtype=jnp.float64)(x)
        return nn.BatchNorm(use_running_average=True, epsilon=1e-5, name="bn", param_dtype=jnp.float64)(x)


class Linen(nn.Module):
    def setup(self):
        self.stem = nn.Conv(4, (3, 3), param_dtype=jnp.float64)
        self.blocks = [LinenBlock(), LinenBlock()]
        self.head = nn.Dense(5, param_dtype=jnp.float64)

    def __call__(self, x):
        x = nn.relu(self.stem(x))
        for block in self.blocks:
            x = nn.relu(block(x))
        return self.head(x.mean(axis=(1, 2)))


def linen_variables():
    part = lambda block, *names: {name: block["bn"][name] for name in names}
    blocks = [(f"blocks_{i}", block) for i, block in enumerate(PARAMS["blocks"])]
    params = {name: {"conv": block["conv"], "bn": part(block, "scale", "bias")} for name, block in blocks}
    stats = {name: {"bn": part(block, "mean", "var")} for name, block in blocks}
    return {"params": {"stem": PARAMS["stem"], "head": PARAMS["head"], **params}, "batch_stats": stats}


class NnxBlock(nnx.Module):
    def __init__(self, params, rngs):
        self.conv = nnx.Conv(4, 4, (3, 3), use_bias=False, param_dtype=jnp.float64, rngs=rngs)
        self.bn = nnx.BatchNorm(4, use_running_average=True, epsilon=1e-5, param_dtype=jnp.float64, rngs=rngs)
        fill(self.conv, params["conv"])
        fill(self.bn, params["bn"])

    def __call__(self, x):
        return self.bn(self.conv(x))


class Nnx(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.stem = nnx.Conv(3, 4, (3, 3), param_dtype=jnp.float64, rngs=rngs)
        self.blocks = nnx.List([NnxBlock(params, rngs) for params in PARAMS["blocks"]])
        self.head = nnx.Linear(4, 5, param_dtype=jnp.float64, rngs=rngs)
        fill(self.stem, PARAMS["stem"])
        fill(self.head, PARAMS["head"])

    def features(self, x):
        x = nnx.relu(self.stem(x))
        for block in self.blocks:
            x = nnx.relu(block(x))
        return x

    def __call__(self, x):
        return self.head(self.features(x).mean(axis=(1, 2)))


def fill(module, params):
    for name, value in params.items():
        getattr(module, name).set_value(value)


class Norm(eqx.Module):
    scale: jax.Array
    bias: jax.Array
    mean: jax.Array
    var: jax.Array

    def __call__(self, x):
        column = lambda a: a[:, None, None]
        return (x - column(self.mean)) * column(self.scale / jnp.sqrt(self.var + 1e-5)) + column(self.bias)


class EquinoxBlock(eqx.Module):
    conv: eqx.nn.Conv2d
    bn: Norm

    def __call__(self, x):
        return self.bn(self.conv(x))


class Equinox(eqx.Module):
    stem: eqx.nn.Conv2d
    blocks: list[EquinoxBlock]
    head: eqx.nn.Linear

    def __call__(self, x):
        x = jax.nn.relu(self.stem(x))
        for block in self.blocks:
            x = jax.nn.relu(block(x))
        return self.head(x.mean(axis=(1, 2)))


def equinox_model():
    def convolution(params, inputs):
        made = eqx.nn.Conv2d(inputs, 4, 3, padding=1, use_bias="bias" in params, key=jax.random.key(0))
        made = eqx.tree_at(lambda c: c.weight, made, params["kernel"].transpose(3, 2, 0, 1))
        return eqx.tree_at(lambda c: c.bias, made, params["bias"][:, None, None]) if "bias" in params else made

    blocks = [EquinoxBlock(convolution(block["conv"], 4), Norm(**block["bn"])) for block in PARAMS["blocks"]]
    head = eqx.nn.Linear(4, 5, key=jax.random.key(0))
    head = eqx.tree_at(lambda d: (d.weight, d.bias), head, (PARAMS["head"]["kernel"].T, PARAMS["head"]["bias"]))
    return Equinox(convolution(PARAMS["stem"], 3), blocks, head)


def haiku_network():
    import haiku as hk

    class Block(hk.Module):
        def __call__(self, x):
            x = hk.Conv2D(4, 3, with_bias=False, name="conv")(x)
            return hk.BatchNorm(True, True, 0.9, eps=1e-5, name="bn")(x, is_training=False)

    class Net(hk.Module):
        def __call__(self, x):
            x = jax.nn.relu(hk.Conv2D(4, 3, name="stem")(x))
            for i in range(2):
                x = jax.nn.relu(Block(name=f"blocks_{i}")(x))
            return hk.Linear(5, name="head")(x.mean(axis=(1, 2)))

    weights = lambda params: {leaf: params[name] for leaf, name in (("w", "kernel"), ("b", "bias")) if name in params}
    params, state = {f"net/{name}": weights(PARAMS[name]) for name in ("stem", "head")}, {}
    for i, block in enumerate(PARAMS["blocks"]):
        wide = {name: value.reshape(1, 1, 1, -1) for name, value in block["bn"].items()}
        params[f"net/blocks_{i}/conv"] = weights(block["conv"])
        params[f"net/blocks_{i}/bn"] = {"scale": wide["scale"], "offset": wide["bias"]}
        for name in ("mean", "var"):
            averages = {"hidden": wide[name], "average": wide[name], "counter": jnp.ones((), jnp.int32)}
            state[f"net/blocks_{i}/bn/~/{name}_ema"] = averages
    network = hk.without_apply_rng(hk.transform_with_state(lambda x: Net()(x)))
    apply = lambda variables, x: network.apply(variables["params"], variables["state"], x)[0]
    return apply, {"params": params, "state": state}


def keras_network():
    """With a BatchNorm of its own, since that of Keras computes in float32 whatever it is given."""
    import keras

    class BatchNorm(keras.layers.Layer):
        def build(self, shape):
            self.values = [self.add_weight(shape=shape[-1:], name=name) for name in ("scale", "bias", "mean", "var")]

        def call(self, x):
            scale, bias, mean, var = (along(x, value[...]) for value in self.values)
            return (x - mean) * (scale / jnp.sqrt(var + 1e-5)) + bias

    keras.config.set_floatx("float64")
    images = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", name="stem")(images)
    x = keras.layers.ReLU()(x)
    for i in range(2):
        x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name=f"blocks_{i}_conv")(x)
        x = keras.layers.ReLU()(BatchNorm(name=f"blocks_{i}_bn")(x))
    x = keras.layers.Flatten()(keras.layers.AveragePooling2D(6)(x))  # the global one averages in float32
    x = keras.layers.Dense(5, name="head")(x)
    model = keras.Model(images, x)
    layers = {"stem": PARAMS["stem"], "head": PARAMS["head"]}
    layers |= {f"blocks_{i}_{name}": part for i, block in enumerate(PARAMS["blocks"]) for name, part in block.items()}
    for name, values in layers.items():
        model.get_layer(name).set_weights(list(values.values()))

    def apply(weights, x):
        with jax.numpy_rank_promotion("allow"):  # Keras adds biases as they are
            return model.stateless_call(weights, [], x, training=False)[0]

    return apply, [v.value for v in model.trainable_variables]


@functools.cache
def network(framework):
    """``apply, context``, skipped where the framework is not installed."""
    images = lambda x: x.transpose(0, 3, 1, 2)
    os.environ["KERAS_BACKEND"] = "jax"
    if framework in ("haiku", "keras"):
        pytest.importorskip(framework)
    make = {
        "dict": lambda: (plain, PARAMS),
        "linen": lambda: (Linen().apply, linen_variables()),
        "nnx": lambda: (lambda model, x: model(x), Nnx()),
        "equinox": lambda: (lambda model, x: jax.vmap(model)(images(x)), equinox_model()),
        "haiku": haiku_network,
        "keras": keras_network,
    }
    return make[framework]()


LAYERS = ("stem", "blocks/0/conv", "blocks/0/bn", "blocks/0", "blocks/1/conv", "blocks/1/bn", "blocks/1", "head")


OTHERS = {"haiku": {"net"}, "keras": {"re_lu", "average_pooling2d", "flatten"}}


def own_name(framework, layer):
    """A layer as its framework calls it; in Haiku the network has a name, Keras' networks are flat."""
    if framework in ("linen", "haiku"):
        layer = layer.replace("blocks/", "blocks_")
    if framework == "haiku":
        return f"net/{layer}"
    return layer.replace("/", "_") if framework == "keras" else layer


@pytest.mark.parametrize("framework", ["dict", "linen", "nnx", "equinox", "haiku", "keras"])
def test_corresponding_layers_are_listed(framework):
    apply, context = network(framework)
    close(apply(context, X), plain(PARAMS, X))
    named = jaxplain.layers(apply)(context, X)
    wanted = {own_name(framework, layer) for layer in LAYERS if framework != "keras" or not layer[-1].isdigit()}
    assert wanted <= set(named)
    assert {name.rstrip("0123456789_") for name in set(named) - wanted} <= OTHERS.get(framework, {"blocks"})
    assert named[own_name(framework, "stem")] in [(2, 6, 6, 4), (2, 4, 6, 6)]
    assert named[own_name(framework, "head")] == (2, 5)


def maps_at(apply, layer):
    """Every kind of method that takes the name of a layer."""
    path = composites.first_match((layer, rules.z_plus()))
    return {
        "grad_cam": jaxplain.grad_cam(apply, layer),
        "conductance": jaxplain.conductance(apply, layer, steps=3),
        "excitation_backprop": jaxplain.excitation_backprop(apply, layer),
        "lrp at the layer": lambda *args, **options: spatial(jaxplain.lrp(apply, layer=layer)(*args, **options)),
        "a composite by path": jaxplain.lrp(apply, path),
    }


def spatial(relevance):
    """Channels last, wherever they are."""
    return relevance if relevance.shape[-1] == 4 else relevance.transpose(0, 2, 3, 1)


@functools.cache
def maps(framework, layer):
    apply, context = network(framework)
    explain = maps_at(apply, own_name(framework, layer))
    if framework == "nnx":  # a module is no argument of jax.jit
        return jax.jit(lambda x: {name: f(context, x, target=TARGET) for name, f in explain.items()})(X)
    return eqx.filter_jit(lambda c, x: {name: f(c, x, target=TARGET) for name, f in explain.items()})(context, X)


@pytest.mark.parametrize("layer", ["stem", "blocks/0/bn", "blocks/1/conv"])
@pytest.mark.parametrize("framework", ["linen", "nnx", "equinox", "haiku", "keras"])
def test_the_same_layer_has_the_same_maps_in_every_framework(framework, layer):
    ours, wanted = maps(framework, layer), maps("dict", layer)
    for name, a in wanted.items():
        assert np.abs(a).max() > 0
        close(ours[name], a)


def test_lrp_at_a_module_that_is_no_unit():
    """A block returns what its BatchNorm does."""
    apply, context = network("nnx")
    at = lambda layer: jaxplain.lrp(apply, layer=layer)(context, X, target=TARGET)
    close(at("blocks/1"), at("blocks/1/bn"))


# ---------------------------------------------------------------------------------------------------------- Flax NNX


WAYS = (
    *("argument", "the model itself", "closure", "bound method", "method of an owner", "partial", "split"),
    *("own method", "jitted"),
)


def ways_to_call(model):
    graph, state = nnx.split(model)
    bound = type(
        "Owner", (), {"__init__": lambda self: setattr(self, "net", model), "run": lambda self, x: self.net(x)}
    )()
    return {
        "argument": (lambda model, x: model(x), (model,)),
        "the model itself": (model, ()),
        "closure": (lambda x: model(x), ()),
        "bound method": (model.__call__, ()),
        "method of an owner": (bound.run, ()),
        "partial": (functools.partial(lambda model, x: model(x), model), ()),
        "split": (lambda state, x: nnx.merge(graph, state)(x), (state,)),
        "own method": (lambda model, x: model.head(model.features(x).mean(axis=(1, 2))), (model,)),
        "jitted": (jax.jit(lambda x: model(x)), ()),
    }


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_call_an_nnx_network(way):
    apply, context = ways_to_call(network("nnx")[1])[way]
    inside = "net/" if way == "method of an owner" else ""
    assert set(jaxplain.layers(apply)(*context, X)) >= {inside + layer for layer in LAYERS}
    close(jaxplain.tap(apply, "blocks/0/bn")(*context, X).features, reference_features())


@functools.cache
def reference_features():
    return jaxplain.tap(plain, "blocks/0/bn")(PARAMS, X).features


def test_under_transformations():
    apply, model = network("nnx")
    graph, state = nnx.split(model)
    at = lambda state, x: jaxplain.tap(lambda state, x: nnx.merge(graph, state)(x), "blocks/0/bn")(state, x).features
    close(jax.jit(at)(state, X), reference_features())
    close(
        nnx.jit(lambda model, x: jaxplain.tap(apply, "blocks/0/bn")(model, x).features)(model, X), reference_features()
    )
    close(jax.vmap(lambda x: at(state, x[None])[0])(X), reference_features())


class Several(nnx.Module):
    """A sequence, a layer that is called twice, and one in a loop."""

    def __init__(self, rngs):
        self.body = nnx.Sequential(nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.relu, nnx.Conv(4, 4, (3, 3), rngs=rngs))
        self.shared = nnx.Conv(4, 4, (3, 3), rngs=rngs)
        make = nnx.split_rngs(splits=3)(nnx.vmap(lambda rngs: nnx.Conv(4, 4, (3, 3), rngs=rngs)))
        self.looped = make(rngs)

    def __call__(self, x):
        x = self.shared(nnx.relu(self.shared(self.body(x))))
        turn = nnx.scan(lambda x, layer: nnx.relu(layer(x)), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return turn(x, self.looped).mean(axis=(1, 2))


@pytest.mark.parametrize("way", ["module", "split"])
def test_sequences_shared_layers_and_loops(way):
    model, x = Several(nnx.Rngs(0)), X.astype(jnp.float32)
    graph, state = nnx.split(model)
    apply = (
        model if way == "module" else functools.partial(lambda state, x: nnx.merge(graph, state, copy=True)(x), state)
    )
    named = jaxplain.layers(apply)(x)
    for name in ("body/layers/0", "body/layers/2", "body", "shared[0]", "shared[1]", "looped[0]", "looped[2]"):
        assert named[name] == (2, 6, 6, 4), name
    first = model.body(x)
    close(jaxplain.tap(apply, "body")(x).features, first, 1e-6)
    second = model.shared(nnx.relu(model.shared(first)))
    close(jaxplain.tap(apply, "shared[0]")(x).features, model.shared(first), 1e-6)
    close(jaxplain.tap(apply, "shared")(x).features, second, 1e-6)
    kernel, bias = model.looped.kernel[...][0], model.looped.bias[...][0]
    close(jaxplain.tap(apply, "looped[0]")(x).features, conv(second, kernel) + along(second, bias), 1e-6)


def test_two_threads_have_the_right_names_and_nothing_is_left_behind():
    model = Nnx()
    classes = {type(part): dict(vars(type(part))) for _, part in nnx.iter_modules(model)}
    attributes = [sorted(vars(part)) for _, part in nnx.iter_modules(model)]
    found, networks = {}, {"whole": model, "features": lambda x: model.features(x).mean(axis=(1, 2))}
    run = lambda name: found.update({name: list(jaxplain.layers(networks[name])(X))})
    threads = [threading.Thread(target=run, args=(name,)) for name in networks for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "head" in found["whole"]
    assert set(found["whole"]) - set(found["features"]) == {"head"}
    with pytest.raises(ValueError, match="no layer 'nowhere'"):
        jaxplain.grad_cam(model, "nowhere")(X)
    assert all(
        vars(kind)[name] is value for kind, own in classes.items() for name, value in own.items() if name != "__doc__"
    )
    assert [sorted(vars(part)) for _, part in nnx.iter_modules(model)] == attributes


@pytest.mark.parametrize("explain", [jaxplain.grad_cam, jaxplain.lrp, lambda f: jaxplain.lrp(f, layer="stem")])
def test_a_network_in_training_mode_is_told_so(explain):
    model = Nnx()
    model.blocks[0].bn.use_running_average = False
    with pytest.raises(ValueError, match=r"switch it to inference.*model.eval\(\) in Flax NNX"):
        explain(lambda model, x: model(x))(model, X)


# ------------------------------------------------------------------------------------------- intermediates of the user


def test_captured_intermediates_are_layers():
    module, variables = Linen(), network("linen")[1]
    captured = functools.partial(module.apply, capture_intermediates=True, mutable=["intermediates"])
    close(jaxplain.gradient(captured)(variables, X), jaxplain.gradient(module.apply)(variables, X))
    _, state = captured(variables, X)
    found = jax.tree_util.tree_leaves_with_path(state["intermediates"])
    maps = {"/".join(key.key for key in path[:-2]): value for path, value in found if value.ndim == 4}
    assert {"stem", "blocks_0/conv", "blocks_0/bn", "blocks_0", "blocks_1/conv", "blocks_1/bn", "blocks_1"} == set(maps)
    for name, value in maps.items():
        close(jaxplain.tap(captured, name)(variables, X).features, value)
        close(jaxplain.grad_cam(captured, name)(variables, X), jaxplain.grad_cam(module.apply, name)(variables, X))


class Sowing(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), param_dtype=jnp.float64)(x)
        self.sow("intermediates", "doubled", 2 * x)
        half = 0.5 * x
        self.sow("intermediates", "halved", half)
        return half.mean(axis=(1, 2))


def test_sown_values_are_layers_of_the_linen_network():
    module = Sowing()
    variables = module.init(jax.random.key(0), X)
    sown = functools.partial(module.apply, mutable=["intermediates"])
    params = {"params": variables["params"]}
    features = jaxplain.tap(module.apply, "Conv_0")(params, X).features
    close(jaxplain.tap(sown, "halved")(params, X).features, 0.5 * features)
    close(jaxplain.lrp(sown, layer="halved")(params, X), jaxplain.lrp(module.apply, layer="Conv_0")(params, X))


def test_captured_values_of_nnx_are_layers():
    class Net(nnx.Module):
        def __init__(self):
            self.conv = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0))

        def __call__(self, x):
            x = nnx.relu(self.conv(x))
            self.sow(nnx.Intermediate, "features", x)
            return x.mean(axis=(1, 2))

    model, x = Net(), X.astype(jnp.float32)
    graph, state = nnx.split(model)
    captured = nnx.capture(lambda model, x: model(x), nnx.Intermediate)
    apply = lambda state, x: captured(nnx.merge(graph, state), x)
    close(jaxplain.tap(apply, "features")(state, x).features, nnx.relu(model.conv(x)), 1e-6)


def test_other_pairs_stay_an_error():
    with pytest.raises(TypeError, match="a tuple of 2 instead of one array"):
        jaxplain.gradient(lambda x: (x.mean(axis=(1, 2)), {"batch_stats": x}))(X)


# --------------------------------------------------------------------------------------------------------- one resolver


def test_the_top_name_may_be_left_out():
    params = {"net": PARAMS}
    apply = lambda params, x: plain(params["net"], x)
    for layer in ("net/stem", "stem"):
        close(jaxplain.tap(apply, layer)(params, X).features, jaxplain.tap(plain, "stem")(PARAMS, X).features)
    close(jaxplain.tap(plain, "net/stem")(PARAMS, X).features, jaxplain.tap(plain, "stem")(PARAMS, X).features)


def test_a_name_that_several_fit_is_an_error():
    params = {side: {"conv": {"kernel": draw(3, 3, 3, 4, seed=i)}} for i, side in enumerate(("left", "right"))}
    apply = lambda params, x: sum(conv(x, p["conv"]["kernel"]) for p in params.values()).mean(axis=(1, 2))
    message = r"layer 'conv' may be left/conv \(2, 6, 6, 4\), right/conv \(2, 6, 6, 4\): name one of them"
    with pytest.raises(ValueError, match=message):
        jaxplain.grad_cam(apply, "conv")(params, X)


@pytest.mark.parametrize(
    "explain",
    [
        jaxplain.grad_cam,
        jaxplain.excitation_backprop,
        lambda f, layer: jaxplain.lrp(f, layer=layer),
        jaxplain.conductance,
    ],
)
def test_an_unknown_name_has_the_same_sentence_everywhere(explain):
    with pytest.raises(ValueError, match=r"no layer 'stemm': the nearest are stem \(2, 6, 6, 4\)"):
        explain(plain, "stemm")(PARAMS, X)


def test_a_composite_by_an_unknown_path_names_the_nearest_with_shapes():
    composite = composites.first_match(("blocks/2/*", rules.z_plus()))
    with pytest.raises(ValueError, match=r"'blocks/2/\*' is no kind.*the nearest paths are blocks/./.* \(2, 6, 6, 4\)"):
        jaxplain.lrp(plain, composite)(PARAMS, X)


def test_at_is_the_former_name_of_layer():
    with pytest.warns(DeprecationWarning, match="at='stem' is now layer='stem'"):
        former = jaxplain.lrp(plain, at="stem")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        now = jaxplain.lrp(plain, layer="stem")
    close(former(PARAMS, X), now(PARAMS, X))


# ------------------------------------------------------------------------------------------------------- parameters


PAIRS = [(draw(3, 4, seed=1), draw(4, seed=2)), (draw(4, 5, seed=3), draw(5, seed=4))]


@pytest.mark.parametrize(
    ("params", "pairs", "names"),
    [
        (PAIRS, lambda p: p, ["0", "1"]),
        (dict(zip("ac", PAIRS, strict=True)), lambda p: p.values(), ["a", "c"]),
        (
            {"params": {name: {"w": w, "b": b} for name, (w, b) in zip("ac", PAIRS, strict=True)}},
            lambda p: [(layer["w"], layer["b"]) for layer in p["params"].values()],
            ["a", "c"],
        ),
    ],
)
def test_parameters_in_lists_pairs_and_collections(params, pairs, names):
    def apply(params, x):
        (w1, b1), (w2, b2) = pairs(params)
        return jnp.tanh(x @ w1 + b1[None]) @ w2 + b2[None]

    assert list(jaxplain.layers(apply)(params, X[:, 0, 0])) == names


def test_a_scope_says_more_than_numbers_in_a_list():
    """As in Keras, whose variables are a list and whose layers are scopes."""

    def apply(weights, x):
        for name, w in zip(("first", "second"), weights, strict=True):
            x = jax.named_scope(f"net/{name}")(jnp.matmul)(x, w)
        return x

    weights = [w for w, _ in PAIRS]
    assert list(jaxplain.layers(apply)(weights, X[:, 0, 0])) == ["first", "second"]
    close(
        jaxplain.lrp(apply, layer="first")(weights, X[:, 0, 0]),
        jaxplain.lrp(apply, layer="net/first")(weights, X[:, 0, 0]),
    )


def test_parameters_of_numpy_are_named():
    params = {"stem": {"w": np.ones((3, 4), np.float32)}, "head": {"w": np.ones((4, 2), np.float32)}}
    apply = lambda params, x: jnp.tanh(x @ params["stem"]["w"]) @ params["head"]["w"]
    assert list(jaxplain.layers(apply)(params, jnp.ones((2, 3), jnp.float32))) == ["stem", "head"]


def test_a_module_whose_values_leave_it_apart_is_told_so():
    """An encoder that a decoder reads at several places."""
    params = {
        "encoder": {"a": {"w": draw(3, 3, seed=1)}, "b": {"w": draw(3, 3, seed=2)}},
        "decoder": {"w": draw(3, 3, seed=3)},
    }

    def apply(params, x):
        a = jnp.tanh(x @ params["encoder"]["a"]["w"])
        b = jnp.tanh(a @ params["encoder"]["b"]["w"])
        return jnp.tanh(b @ params["decoder"]["w"]) + a

    x = X[:, 0, 0]
    assert list(jaxplain.layers(apply)(params, x)) == ["encoder/a", "encoder/b", "decoder"]
    with pytest.raises(
        ValueError, match=r"what layer 'encoder' makes leaves it through several values: name one of encoder/a"
    ):
        jaxplain.tap(apply, "encoder")(params, x)


def test_layers_print_a_tree():
    printed = str(jaxplain.layers(plain)(PARAMS, X)).splitlines()
    assert [line.split()[0] for line in printed[2:]] == ["stem", "blocks", "0", "conv", "bn", "1", "conv", "bn", "head"]
    assert printed[2].split() == ["stem", "conv", "(2,", "6,", "6,", "4)", "112"]
    assert jaxplain.layers(plain)(PARAMS, X)._repr_html_().count("<tr>") == 10


def test_layers_in_a_branch_and_in_a_loop_that_counts():
    params = {"stem": {"w": draw(3, 3, seed=1)}, "inner": {"w": draw(3, 3, seed=2)}, "side": {"w": draw(3, 3, seed=3)}}

    def apply(params, x):
        x = x @ params["stem"]["w"]
        x = jax.lax.fori_loop(0, 2, lambda i, x: jnp.tanh(x @ params["inner"]["w"]), x)
        return jax.lax.cond(params["side"]["w"][0, 0] > 0, lambda x: x @ params["side"]["w"], lambda x: x, x)

    x = X[:, 0, 0]
    assert list(jaxplain.layers(apply)(params, x)) == ["stem", "inner[0]", "inner[1]"]
    inner = params["inner"]["w"]
    close(jaxplain.tap(apply, "inner")(params, x).features, jnp.tanh(x @ params["stem"]["w"] @ inner) @ inner)
    with pytest.raises(ValueError, match="layer 'side' lies in a branch of a `cond`"):
        jaxplain.tap(apply, "side")(params, x)


# ------------------------------------------------------------------- whatever a network's code names besides layers


def test_arrays_at_the_top_go_by_their_own_names_beside_others():
    two = lambda params, x: jax.nn.relu(x @ params["hidden"]) @ params["b"]
    params = {"hidden": jnp.eye(4), "b": jnp.ones((4, 2))}
    assert set(jaxplain.layers(two)(params, jnp.ones((1, 4)))) == {"hidden", "b"}
    one = lambda params, x: x @ params["w"] + params["b"][None]
    assert not jaxplain.layers(one)({"w": jnp.eye(4), "b": jnp.ones(4)}, jnp.ones((1, 4)))


def test_what_is_no_tree_of_parameters_is_left_alone():
    class Lazy:
        def __getattr__(self, name):
            raise RuntimeError(name)

    w, mixed, lazy = jnp.arange(8.0).reshape(4, 2), {0: "a", "x": 2.0}, Lazy()
    f = lambda x: (x @ w) * mixed["x"] if lazy is not None else x
    close(jaxplain.lrp(f)(jnp.ones((1, 4)), target=1), 2 * w[None, :, 1], 1e-4)


@jax.tree_util.register_pytree_node_class
class Wrapped:
    def __init__(self, w):
        self.w = w

    def tree_flatten(self):
        return ({"w": self.w},), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(children[0]["w"])


def test_every_weight_is_found_in_trees_that_are_made_as_they_are_asked_for():
    params = {f"l{i}": Wrapped(jnp.eye(4) * (i + 1)) for i in range(10)}

    def f(params, x):
        for layer in params.values():
            x = jax.nn.relu(x @ layer.w)
        return x

    assert params.keys() <= set(jaxplain.layers(f)(params, jnp.ones((1, 4))))


def test_a_module_stands_for_its_units_and_a_kind_for_no_module():
    def f(x):
        with jax.named_scope("conv"), jax.named_scope("act"):
            h = jnp.tanh(x @ jnp.eye(4))
        with jax.named_scope("block"):
            return h @ jnp.ones((4, 2))

    x = jnp.ones((1, 4))
    jaxplain.lrp(f, composites.epsilon_plus())(x)  # its rule for convolutions is none for what lies in "conv"
    rows = jaxplain.summary(f, composites.first_match(("block", rules.z_plus())))(x).rows
    assert [row.rule for row in rows if row.unit.path == "block"] == ["z_plus()"]


# ----------------------------------------------------------------------------------- layers that are in no model's tree

GLOBAL = Nnx()


def with_a_global_model(x):
    return GLOBAL(x)


def a_helper(x):
    return GLOBAL.features(x)


def through_a_helper(x):
    return GLOBAL.head(a_helper(x).mean(axis=(1, 2)))


@pytest.mark.parametrize(
    "apply",
    [with_a_global_model, through_a_helper, lambda x, model=GLOBAL: model(x), lambda x, *, model=GLOBAL: model(x)],
)
def test_modules_among_globals_and_defaults_are_found(apply):
    close(apply(X), plain(PARAMS, X))
    named = jaxplain.layers(apply)(X)
    assert set(LAYERS) <= set(named)
    close(jaxplain.tap(apply, "blocks/0")(X).features, reference_features())


COUNT = 0


def test_globals_that_a_function_sets_stay_the_module_s_own():
    def apply(x):
        global COUNT
        COUNT += 1
        return GLOBAL(x)

    assert set(LAYERS) <= set(jaxplain.layers(apply)(X))
    assert COUNT == 1


def test_layers_in_the_closure_go_by_the_names_of_its_variables():
    conv = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0))
    head = {"w": draw(4, 5, seed=1), "b": draw(5, seed=2)}
    apply = lambda x: nnx.relu(conv(x)).mean(axis=(1, 2)) @ head["w"] + head["b"][None]
    assert set(jaxplain.layers(apply)(X)) == {"conv", "head"}
    close(jaxplain.tap(apply, "conv")(X).features, conv(X), 1e-6)


def test_relevance_at_each_turn_of_a_loop():
    """As that of the same layers one by one; a loop that runs backwards, and one inside another."""
    w = draw(2, 3, 4, 4, seed=1) + 0.1  # so that not all is cut at zero
    params = {"stem": {"w": draw(3, 4, seed=2)}, "inner": {"w": w}, "head": {"w": draw(4, 5, seed=3)}}

    def network(turns):
        def apply(params, x):
            x = turns(params["inner"]["w"], jax.nn.relu(x @ params["stem"]["w"]))
            return x @ params["head"]["w"]

        return apply

    def loops(weights, x):
        turn = lambda x, w: (jax.nn.relu(x @ w), None)
        outer = lambda x, ws: (jax.lax.scan(turn, x, ws, reverse=True)[0], None)
        return jax.lax.scan(outer, x, weights)[0]

    def one_by_one(weights, x):
        for i, ws in enumerate(weights):
            for j, w in enumerate(ws[::-1]):
                x = jax.nn.relu(checkpoint_name(x @ w, f"turn {3 * i + j}"))
        return x

    x = X[:, 0, 0] ** 2
    for turn in range(6):
        name = f"inner[{turn}]"
        for method in (jaxplain.lrp, lambda f, layer: jaxplain.excitation_backprop(f, layer, upsample=False)):
            explain = method(network(loops), layer=name)
            wanted = method(network(one_by_one), layer=f"turn {turn}")(params, x, target=TARGET)
            assert np.abs(wanted).max() > 0
            close(explain(params, x, target=TARGET), wanted)
            close(jax.jit(explain)(params, x, target=TARGET), wanted)
