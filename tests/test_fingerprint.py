"""Checksums of networks: the same in every process, and different for different networks."""

import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain.evaluation._fingerprint import fingerprint, network_fingerprint

X = jnp.ones((2, 6, 6, 3))
SEVERAL = """
import functools, jax, jax.numpy as jnp, numpy as np, flax.linen as nn
from jax.sharding import PartitionSpec as P
from jaxplain.evaluation._fingerprint import fingerprint, network_fingerprint

x = jnp.ones((2, 6, 6, 3))
w = np.linspace(-1, 1, 27 * 4, dtype="f").reshape(3, 3, 3, 4)

class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True)(nn.Conv(4, (3, 3))(x))
        return nn.Dense(3)(nn.max_pool(nn.gelu(nn.relu6(x)), (2, 2), (2, 2)).mean((1, 2)))

@jax.custom_jvp
def square(x): return x * x
square.defjvp(lambda p, t: (square(*p), 2 * p[0] * t[0]))

@jax.custom_vjp
def cube(x): return x ** 3
cube.defvjp(lambda x: (cube(x), x), lambda x, g: (3 * x * x * g,))

def loops(x):
    x, _ = jax.lax.scan(lambda c, w: (jnp.tanh(c * w), None), x, jnp.arange(3.0))
    x = jax.lax.cond(x.sum() > 0, square, cube, x)
    x = jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x + 1, x)
    return jax.checkpoint(jax.nn.relu)(x).mean((1, 2))

def callback(x):
    return jax.pure_callback(lambda x: np.asarray(x).mean((1, 2)), jax.ShapeDtypeStruct((2, 3), x.dtype), x)

mesh = jax.make_mesh((1, 1, 1), ("a", "b", "c"))
sharded = jax.shard_map(lambda x: x.mean((1, 2)), mesh=mesh, in_specs=P(), out_specs=P(), axis_names={"a", "b", "c"})
net = Net()
variables = net.init(jax.random.key(0), x)
print(network_fingerprint(net.apply, (variables,), x))
for f in (loops, callback, sharded, lambda x: jax.lax.conv(x.transpose(0, 3, 1, 2), w.T, (1, 1), "SAME").mean((2, 3))):
    print(network_fingerprint(f, (), x))
print(fingerprint({"b": x, "a": [jax.random.key(1), {"c", "d", "e", "f"}, None, len]}))
"""


def test_checksums_are_the_same_in_every_process():
    run = lambda seed: subprocess.run(
        [sys.executable, "-c", SEVERAL],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    first, second = run("1"), run("2")
    assert first == second
    assert len(set(first)) == 6


def test_checksums_do_not_depend_on_what_was_traced_before():
    f = lambda x: jax.nn.gelu(jax.nn.relu(x)).mean((1, 2))
    before = network_fingerprint(f, (), X)
    jax.jit(jax.grad(lambda x: f(x).sum()))(X)
    assert network_fingerprint(f, (), X) == before
    jax.clear_caches()
    assert network_fingerprint(lambda x: jax.nn.gelu(jax.nn.relu(x)).mean((1, 2)), (), X) == before


W = np.linspace(-1, 1, 12).reshape(3, 4)
CHANGED = {
    "a literal": [lambda x, a=a: x.mean((1, 2)) * a for a in (1.0, 1.0 + 1e-12)],
    "a constant": [lambda x, w=w: x.mean((1, 2)) @ w for w in (W, W + 1e-12)],
    "a constant of a jitted function": [
        lambda x, w=w: jax.jit(lambda x: x.mean((1, 2)) @ w)(x) for w in (W, W[:, ::-1].copy())
    ],
    "a constant in a loop": [
        lambda x, w=w: jax.lax.scan(lambda c, _: (c * w[:1, :3], None), x.mean((1, 2)), None, 2)[0]
        for w in (W, W[:, ::-1].copy())
    ],
    "an operation": [lambda x, f=f: f(x).mean((1, 2)) for f in (jax.nn.relu, jax.nn.relu6)],
    "the order of operands": [lambda x, s=s: s * x.mean((1, 2)) - s * x.max((1, 2)) for s in (1, -1)],
    "a parameter": [lambda x, axis=axis: jnp.cumsum(x, axis).mean((1, 2)) for axis in (1, 2)],
    "a branch": [lambda x, g=g: jax.lax.cond(x.sum() > 0, jnp.sin, g, x).mean((1, 2)) for g in (jnp.cos, lambda x: x)],
    "the precision of a product": [
        lambda x, p=p: jnp.matmul(x.mean((1, 2)), W, precision=p) for p in (None, jax.lax.Precision.HIGHEST)
    ],
    "which argument is read": [lambda x, i=i: x[..., i : i + 1].mean((1, 2)) for i in (0, 1)],
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_changed_network_has_another_checksum(what):
    before, after = (network_fingerprint(f, (), X) for f in CHANGED[what])
    assert before != after


def test_weights_and_what_is_no_array_count():
    f = lambda options, w, x: x.mean((1, 2)) @ w * options["scale"]
    contexts = [
        ({"scale": 1.0}, W),
        ({"scale": 2.0}, W),
        ({"scale": 1.0}, W + 1),
        ({"scale": 1.0}, W.astype(np.float32)),
        ({"scale": 1.0}, jnp.asarray(W)[:, ::-1]),
    ]
    assert len({network_fingerprint(f, context, X) for context in contexts}) == len(contexts)
    assert network_fingerprint(f, ({"scale": 1.0}, jnp.asarray(W)), X) == network_fingerprint(f, contexts[0], X)


def test_the_values_of_the_input_do_not_count_but_its_shape_does():
    net = nn.Dense(3)
    variables = net.init(jax.random.key(0), X)
    same, other = (network_fingerprint(net.apply, (variables,), x) for x in (X + 1, X[:1]))
    assert network_fingerprint(net.apply, (variables,), X) == same != other


def test_checksums_of_arrays():
    arrays = [np.zeros(4), np.zeros(4, np.float32), np.zeros((2, 2)), np.zeros(4, np.int64), np.ones(4), -np.zeros(4)]
    assert len(set(map(fingerprint, arrays))) == len(arrays)
    assert fingerprint(jnp.zeros(4, jnp.float32)) == fingerprint(np.zeros(4, np.float32))
    assert fingerprint({"a": arrays[0], "b": arrays[4]}) != fingerprint({"b": arrays[0], "a": arrays[4]})
    assert fingerprint(np.arange(6).reshape(2, 3).T) == fingerprint(np.array([[0, 3], [1, 4], [2, 5]]))
