"""The same networks, with the same weights, in several frameworks.

A network is written once in Linen and once for all others, over the layers and functions of a framework that go by the
same names everywhere; the layers' shapes are read off the Linen variables. ``TWINS[framework](name, variables)`` is a
function of the images.
"""

import functools
import os
import types

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from tests.convolution import conv as convolve
from tests.networks import NETWORKS, conv, dense, flatten


def chain(net, x):
    x = net.max_pool(net.relu(net.bn1(net.conv1(x))))
    x = net.avg_pool(net.relu(net.bn2(net.conv2(x))))
    return net.fc2(net.relu(net.fc1(net.flatten(x))))


def residual(net, x):
    x = net.relu(net.stem_bn(net.stem(x)))
    x = net.relu(net.bn1(net.conv1(x)) + x)
    y = net.bn2(net.conv2(x))
    return net.head(net.mean(net.relu(y + net.skip_bn(net.skip(x)))))


def pooled(net, x):
    x = net.max_pool(net.relu(net.conv(x)))
    return net.head(net.gelu(net.hidden(net.flatten_channels_last(x))))


def averaged(net, x):
    return net.head(net.mean(net.relu(net.conv2(net.relu(net.conv1(x))))))


FORWARD = {"chain": chain, "residual": residual, "pooled": pooled, "averaged": averaged}
STRIDES = {"residual": {"conv2": 2, "skip": 2}, "averaged": {"conv2": 2}}


class Pooled(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.max_pool(nn.relu(conv(4, 3, "conv")(x)), (2, 2), (2, 2))
        return dense(5, "head")(nn.gelu(dense(6, "hidden")(x.reshape(len(x), -1))))


class Averaged(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(conv(4, 3, "conv1", padding=1, use_bias=False)(x))
        x = nn.relu(conv(6, 3, "conv2", padding=1, strides=2, use_bias=False)(x))
        return dense(5, "head", use_bias=False)(x.mean(axis=(1, 2)))


LINEN = NETWORKS | {"pooled": Pooled(), "averaged": Averaged()}


def layers(name, variables, *, conv, dense, norm):
    """Every layer of a network, made by a framework's makers: ``conv(name, stride, kernel, bias)`` and so on."""
    made = {}
    for layer, params in variables["params"].items():
        if "scale" in params:
            made[layer] = norm(layer, **params, **variables["batch_stats"][layer])
        elif params["kernel"].ndim == 4:
            made[layer] = conv(layer, STRIDES.get(name, {}).get(layer, 1), params["kernel"], params.get("bias"))
        else:
            made[layer] = dense(layer, params["kernel"], params.get("bias"))
    return made


def linen(name, variables):
    return functools.partial(LINEN[name].apply, variables)


class PlainFunctions:
    """Functions of JAX alone."""

    relu, gelu, flatten = map(staticmethod, (jax.nn.relu, jax.nn.gelu, flatten))
    mean = staticmethod(lambda x: x.mean(axis=(1, 2)))
    flatten_channels_last = staticmethod(lambda x: x.reshape(x.shape[0], -1))  # of any batch size

    @staticmethod
    def max_pool(x):
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    @staticmethod
    def avg_pool(x):
        n, h, w, c = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def in_plain_jax(name, variables):
    along_channels = lambda values: jnp.zeros(()) if values is None else values.reshape(1, 1, 1, -1)

    def conv(_, stride, kernel, bias):
        padding = [(kernel.shape[0] // 2,) * 2] * 2
        return lambda x: convolve(x, kernel, stride, padding) + along_channels(bias)

    def dense(_, kernel, bias):
        return lambda x: x @ kernel + (0 if bias is None else bias[None])

    def norm(_, **values):
        scale, bias, mean, var = (along_channels(values[leaf]) for leaf in ("scale", "bias", "mean", "var"))
        return lambda x: (x - mean) * jax.lax.rsqrt(var + 1e-5) * scale + bias

    net = PlainFunctions()
    vars(net).update(layers(name, variables, conv=conv, dense=dense, norm=norm))
    return functools.partial(FORWARD[name], net)


class NNX(nnx.Module):
    relu = staticmethod(nnx.relu)
    max_pool = staticmethod(lambda x: nnx.max_pool(x, (2, 2), (2, 2)))
    avg_pool = staticmethod(lambda x: nnx.avg_pool(x, (2, 2), (2, 2)))
    mean = staticmethod(lambda x: x.mean(axis=(1, 2)))
    flatten = staticmethod(flatten)
    gelu = staticmethod(nnx.gelu)
    flatten_channels_last = staticmethod(lambda x: x.reshape(len(x), -1))

    def __init__(self, forward, layers):
        self.forward = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def __call__(self, x):
        return self.forward(self, x)


def in_nnx(name, variables):
    options = {"rngs": nnx.Rngs(0), "param_dtype": jnp.float64}

    def filled(layer, **values):
        for leaf, value in values.items():
            if value is not None:
                getattr(layer, leaf).set_value(value)
        return layer

    def conv(_, stride, kernel, bias):
        *size, inputs, outputs = kernel.shape
        shape = {"strides": stride, "padding": size[0] // 2, "use_bias": bias is not None}
        return filled(nnx.Conv(inputs, outputs, size, **shape, **options), kernel=kernel, bias=bias)

    def dense(_, kernel, bias):
        return filled(nnx.Linear(*kernel.shape, use_bias=bias is not None, **options), kernel=kernel, bias=bias)

    def norm(_, **values):
        return filled(nnx.BatchNorm(len(values["mean"]), use_running_average=True, epsilon=1e-5, **options), **values)

    graph, state = nnx.split(NNX(FORWARD[name], layers(name, variables, conv=conv, dense=dense, norm=norm)))
    return lambda x: nnx.merge(graph, state)(x)


class Equinox(eqx.Module):
    """One example, channels first, as Equinox has it; BatchNorm with its state."""

    layers: dict
    forward: object = eqx.field(static=True)

    def __call__(self, x):
        pool = {"kernel_size": 2, "stride": 2}
        functions = {
            "relu": jax.nn.relu,
            "max_pool": eqx.nn.MaxPool2d(**pool),
            "avg_pool": eqx.nn.AvgPool2d(**pool),
            "mean": lambda x: x.mean(axis=(1, 2)),
            "flatten": jnp.ravel,
            "gelu": jax.nn.gelu,
            "flatten_channels_last": lambda x: x.transpose(1, 2, 0).ravel(),
        }
        return self.forward(types.SimpleNamespace(**self.layers, **functions), x)


class EquinoxNorm(eqx.Module):
    norm: eqx.nn.BatchNorm
    state: eqx.nn.State

    def __call__(self, x):
        return self.norm(x, self.state, inference=True)[0]


def in_equinox(name, variables):
    key = jax.random.key(0)

    def filled(layer, **values):
        for leaf, value in values.items():
            layer = eqx.tree_at(lambda layer, leaf=leaf: getattr(layer, leaf), layer, value)
        return layer

    def conv(_, stride, kernel, bias):
        *size, inputs, outputs = kernel.shape
        layer = eqx.nn.Conv2d(
            inputs, outputs, size, stride, padding=size[0] // 2, use_bias=bias is not None, key=key, dtype=jnp.float64
        )
        layer = filled(layer, weight=kernel.transpose(3, 2, 0, 1))
        return layer if bias is None else filled(layer, bias=bias.reshape(-1, 1, 1))

    def dense(_, kernel, bias):
        layer = eqx.nn.Linear(*kernel.shape, use_bias=bias is not None, key=key, dtype=jnp.float64)
        return filled(layer, weight=kernel.T, **({} if bias is None else {"bias": bias}))

    def norm(_, scale, bias, mean, var):
        made, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(
            len(scale), axis_name="batch", eps=1e-5, mode="ema", dtype=jnp.float64
        )
        return EquinoxNorm(filled(made, weight=scale, bias=bias), state.set(made.ema_state_index, (mean, var)))

    model = Equinox(layers(name, variables, conv=conv, dense=dense, norm=norm), FORWARD[name])
    return jax.vmap(lambda x: model(x.transpose(2, 0, 1)), axis_name="batch")


def in_haiku(name, variables):
    import haiku as hk

    params, state = {}, {}

    def conv(layer, stride, kernel, bias):
        size, _, _, outputs = kernel.shape
        params[layer] = {"w": kernel} | ({} if bias is None else {"b": bias})
        padding = ((size // 2, size // 2),) * 2
        return lambda x: hk.Conv2D(outputs, size, stride, padding=padding, with_bias=bias is not None, name=layer)(x)

    def dense(layer, kernel, bias):
        params[layer] = {"w": kernel, "b": bias}
        return lambda x: hk.Linear(len(bias), name=layer)(x)

    def norm(layer, scale, bias, mean, var):
        wide = lambda v: v.reshape(1, 1, 1, -1)
        params[layer] = {"scale": wide(scale), "offset": wide(bias)}
        for leaf, value in (("mean", mean), ("var", var)):
            averages = {"hidden": wide(value), "average": wide(value), "counter": jnp.ones((), jnp.int32)}
            state[f"{layer}/~/{leaf}_ema"] = averages
        return lambda x: hk.BatchNorm(True, True, decay_rate=0.9, eps=1e-5, name=layer)(x, is_training=False)

    functions = {
        "relu": jax.nn.relu,
        "max_pool": lambda x: hk.max_pool(x, (2, 2, 1), (2, 2, 1), "VALID"),
        "avg_pool": lambda x: hk.avg_pool(x, (2, 2, 1), (2, 2, 1), "VALID"),
        "mean": lambda x: x.mean(axis=(1, 2)),
        "flatten": flatten,
    }
    net = types.SimpleNamespace(**layers(name, variables, conv=conv, dense=dense, norm=norm), **functions)
    network = hk.without_apply_rng(hk.transform_with_state(lambda x: FORWARD[name](net, x)))
    return lambda x: network.apply(params, state, x)[0]


def in_keras(name, variables):
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    keras.config.set_floatx("float64")
    weights = {}

    def conv(layer, stride, kernel, bias):
        size, _, _, outputs = kernel.shape
        weights[layer] = [kernel] if bias is None else [kernel, bias]
        made = keras.layers.Conv2D(outputs, size, stride, use_bias=bias is not None, name=layer)
        return lambda x: made(keras.layers.ZeroPadding2D(size // 2)(x))

    def dense(layer, kernel, bias):
        weights[layer] = [kernel, bias]
        return keras.layers.Dense(len(bias), name=layer)

    def norm(layer, scale, bias, mean, var):
        weights[layer] = [scale, bias, mean, var]
        return keras.layers.BatchNormalization(epsilon=1e-5, name=layer)

    functions = {
        "relu": keras.layers.ReLU(),
        "max_pool": keras.layers.MaxPooling2D(2),
        "avg_pool": keras.layers.AveragePooling2D(2),
        "mean": keras.layers.GlobalAveragePooling2D(),
        "flatten": lambda x: keras.layers.Flatten()(keras.layers.Permute((3, 1, 2))(x)),
    }
    x = keras.Input((8, 8, 3))
    net = types.SimpleNamespace(**layers(name, variables, conv=conv, dense=dense, norm=norm), **functions)
    model = keras.Model(x, FORWARD[name](net, x))
    for layer, values in weights.items():
        model.get_layer(layer).set_weights(values)
    trainable, other = ([v.value for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables))

    def apply(x):
        with jax.numpy_rank_promotion("allow"):  # Keras adds biases as they are
            return model.stateless_call(trainable, other, x, training=False)[0]

    return apply


TWINS = {
    "linen": linen,
    "plain": in_plain_jax,
    "nnx": in_nnx,
    "equinox": in_equinox,
    "haiku": in_haiku,
    "keras": in_keras,
}
