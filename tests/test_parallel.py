"""A batch that is sharded over devices stays where it is, and every device computes its own share."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain
from jaxplain._batching import vmap_behind
from jaxplain._taxonomy import METHODS
from tests.convolution import conv

WITH_LOOPS = ("integrated_gradients", "smoothgrad", "score_cam", "chunked", "deeplift")


def keep_to_their_share(*names):
    """Run `tests.flops_per_device`, which needs a process of its own, and return what does not keep to an eighth."""
    command = [sys.executable, "-m", "tests.flops_per_device", *names]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = [json.loads(line) for line in printed.splitlines()]
    assert len(found) >= max(1, len(names))
    return [m for m in found if not (0.8 <= 8 * m["share"] <= 1.2 and m["sent"] < 0.1 and m["turns"])]


def test_a_device_computes_its_share_and_sends_no_images():
    assert keep_to_their_share(*WITH_LOOPS) == []


def test_of_every_method():
    assert keep_to_their_share() == []


def test_a_step_of_a_job_of_every_method():
    pytest.importorskip("grain")
    pytest.importorskip("tensorstore")
    assert keep_to_their_share(*(f"bulk.{name}" for name in METHODS)) == []


# ------------------------------------------------------------------------------------------- one axis behind another

X = jax.random.normal(jax.random.key(0), (3, 5, 5, 4), jnp.float64)
KERNEL = jax.random.normal(jax.random.key(1), (3, 3, 4, 4), jnp.float64)
T = jnp.linspace(-1.0, 2.0, 5)


def channels_first(x, kernel):
    y = lax.conv_general_dilated(x.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1), (2, 1), "VALID")
    return y.transpose(2, 3, 1, 0)


def batch_last(x, kernel):
    return lax.conv_general_dilated(x.T, kernel, (1, 1), "SAME", dimension_numbers=("CHWN", "HWIO", "HCWN"))


OF_SAMPLES = {
    "an input": lambda t, w: conv(t * X, w),
    "a kernel": lambda t, w: conv(X, t * w),
    "both": lambda t, w: conv(jnp.sin(t * X), jnp.cos(t * w)),
    "neither, beside one": lambda t, w: jnp.tanh(conv(X, w)) + jnp.tanh(conv(t * X, w)),
    "channels first": lambda t, w: channels_first(jnp.sin(t * X), w),
    "the batch last": lambda t, w: batch_last(jnp.sin(t * X), w),
    "in groups": lambda t, w: conv(jnp.sin(t * X), w[:, :, :1], feature_group_count=4),
    "a gradient": lambda t, w: jax.grad(lambda x: jnp.tanh(conv(x, w)).sum())(t * X),
    "a gradient in the kernel": lambda t, w: jax.grad(lambda w: jnp.tanh(conv(t * X, w)).sum())(w),
    "a velocity": lambda t, w: jax.jvp(lambda t: jnp.tanh(conv(jnp.sin(t * X), w)), (t,), (1.0,)),
    "in a loop": lambda t, w: lax.scan(lambda x, _: (jnp.tanh(conv(x, w)), x.sum()), t * X, length=3),
    "an unmapped one in a loop": lambda t, w: t * lax.scan(lambda x, _: (conv(x, w), None), X, length=2)[0],
    "in a branch": lambda t, w: lax.cond(t > 0, conv, lambda x, w: x, t * X, w),
    "in forms for a platform": lambda t, w: jaxplain.accelerate(jax.grad(lambda x: (conv(x, w) ** 3).sum()))(t * X),
    "in another one": lambda t, w: vmap_behind(lambda s: jnp.tanh(conv(s * t * X, w)))(T[:3]),
    "an outer vmap": lambda t, w: jax.vmap(lambda x: conv(t * x[None], w)[0])(X),
}


@pytest.mark.parametrize("f", OF_SAMPLES.values(), ids=OF_SAMPLES)
def test_behind_the_batch_it_is_vmap(f):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12),
        jax.jit(vmap_behind(lambda t: f(t, KERNEL)))(T),
        jax.jit(jax.vmap(lambda t: f(t, KERNEL)))(T),
    )


@pytest.mark.parametrize("f", OF_SAMPLES.values(), ids=OF_SAMPLES)
def test_and_so_is_its_derivative_in_what_it_closes_over(f):
    total = lambda vmap: lambda w: sum((y**2).sum() for y in jax.tree.leaves(vmap(lambda t: f(t, w))(T)))
    ours, theirs = (jax.jit(jax.grad(total(vmap)))(KERNEL) for vmap in (vmap_behind, jax.vmap))
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10 * jnp.abs(theirs).max())


def test_the_batch_comes_first_in_its_convolutions():
    text = str(jax.make_jaxpr(vmap_behind(lambda t: conv(t * X, KERNEL)))(T))
    assert "(3, 5, 5, 5, 4)" in text  # images, samples: 3, 5
    assert "custom_vmap" not in text
