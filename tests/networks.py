"""Small networks that many tests explain: Linen twins of `benchmarks/peers/networks.py`, name by name."""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

DATA = Path(__file__).parent / "data"


def conv(features, size, name, **options):
    return nn.Conv(features, (size, size), name=name, param_dtype=jnp.float64, **options)


def dense(features, name, **options):
    return nn.Dense(features, name=name, param_dtype=jnp.float64, **options)


def norm(name):
    return nn.BatchNorm(use_running_average=True, epsilon=1e-5, name=name, param_dtype=jnp.float64)


def relu(x, name):
    """A ReLU with a name, as PyTorch's are modules."""
    return checkpoint_name(nn.relu(x), name)


def flatten(x):
    """Flatten in PyTorch's order, channels first."""
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


class Chain(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.max_pool(relu(norm("bn1")(conv(6, 3, "conv1", padding=1)(x)), "relu1"), (2, 2), (2, 2))
        x = relu(norm("bn2")(conv(8, 3, "conv2", padding=1, use_bias=False)(x)), "relu2")
        x = nn.avg_pool(x, (2, 2), (2, 2))
        return dense(4, "fc2")(nn.relu(dense(10, "fc1")(flatten(x))))


class Residual(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(norm("stem_bn")(conv(6, 3, "stem", padding=1, use_bias=False)(x)))
        x = relu(norm("bn1")(conv(6, 3, "conv1", padding=1, use_bias=False)(x)) + x, "relu1")
        y = norm("bn2")(conv(8, 3, "conv2", padding=1, strides=2, use_bias=False)(x))
        x = relu(y + norm("skip_bn")(conv(8, 1, "skip", strides=2, padding=0, use_bias=False)(x)), "relu2")
        return dense(4, "head")(x.mean(axis=(1, 2)))


class Depthwise(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(norm("bn1")(conv(12, 1, "expand", use_bias=False)(x)))
        x = conv(12, 3, "depthwise", padding=1, strides=2, feature_group_count=12, use_bias=False)(x)
        x = norm("bn3")(conv(6, 1, "project", use_bias=False)(nn.relu(norm("bn2")(x))))
        x = relu(conv(8, 3, "grouped", padding=1, feature_group_count=2)(x), "relu3")
        return dense(4, "head")(x.mean(axis=(1, 2)))


class Branches(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(conv(6, 3, "stem", padding=1)(x))
        x1 = nn.relu(norm("bn1")(conv(4, 1, "branch1", use_bias=False)(x)))
        x2 = nn.relu(norm("bn2")(conv(4, 3, "branch2", padding=1, use_bias=False)(x)))
        pooled = nn.avg_pool(x, (3, 3), (1, 1), padding=((1, 1), (1, 1)))
        x3 = nn.relu(norm("bn3")(conv(4, 1, "branch3", use_bias=False)(pooled)))
        x = checkpoint_name(jnp.concatenate([x1, x2, x3], axis=-1), "concat")
        return dense(4, "head")(x.mean(axis=(1, 2)))


class Smooth(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.softplus(conv(8, 3, "conv2", padding=0, strides=2)(jnp.tanh(conv(6, 3, "conv1", padding=1)(x))))
        return dense(4, "fc2")(jnp.tanh(dense(10, "fc1")(x.mean(axis=(1, 2)))))


NETWORKS = {
    "chain": Chain(),
    "residual": Residual(),
    "depthwise": Depthwise(),
    "branches": Branches(),
    "smooth": Smooth(),
}

PARAMS = {"weight": "kernel", "bias": "bias"}
NORM_PARAMS = {"weight": "scale", "bias": "bias"}
STATISTICS = {"running_mean": "mean", "running_var": "var"}


def variables_from(state):
    """Linen variables from a PyTorch state dict of arrays."""
    norms = {key.split(".")[0] for key in state if key.endswith("running_mean")}
    tree = {"params": {}, "batch_stats": {}}
    for key, value in state.items():
        module, leaf = key.split(".")
        if leaf in STATISTICS:
            tree["batch_stats"].setdefault(module, {})[STATISTICS[leaf]] = value
        elif leaf != "num_batches_tracked":
            name = (NORM_PARAMS if module in norms else PARAMS)[leaf]
            value = {4: lambda w: w.transpose(2, 3, 1, 0), 2: lambda w: w.T, 1: lambda w: w}[value.ndim](value)
            tree["params"].setdefault(module, {})[name] = value
    return jax.tree.map(jnp.asarray, tree)


def peer_numbers(file):
    """The peers' stored numbers: ``{network: (module, variables, numbers)}`` and what the networks share."""
    with np.load(DATA / file) as stored:
        numbers = {key: stored[key] for key in stored.files}
    shared = {key: value for key, value in numbers.items() if "/" not in key}
    result = {}
    for name, module in NETWORKS.items():
        own = {key.removeprefix(f"{name}/"): value for key, value in numbers.items() if key.startswith(f"{name}/")}
        if own:
            state = {key.removeprefix("state/"): value for key, value in own.items() if key.startswith("state/")}
            result[name] = (module, variables_from(state), own)
    return result, shared


def initialised(module, x, key=0):
    """Random float64 variables."""
    return module.init(jax.random.key(key), jnp.asarray(x))
