"""What explanations cost, counted.

A call: the operations of the compiled function, in forward passes of the network. The first call, which traces and
compiles: the lines of StableHLO that XLA is given, in those of `jax.grad`.
"""

import functools

import jax
import jax.numpy as jnp
import pytest

import jaxplain
from jaxplain import composites, models

IMAGES = jnp.ones((4, 128, 128, 3), jnp.float32)
MOST = {  # forward passes, and lines; each is a few percent above what was counted when it was written
    "forward": (lambda f: jaxplain.accelerate(f), 1.01, 1.17),
    "gradient": (jaxplain.gradient, 2.15, 3.75),
    "guided_backprop": (jaxplain.guided_backprop, 2.15, 3.95),
    "grad_cam": (jaxplain.grad_cam, 1.02, 1.6),
    "layer_cam": (jaxplain.layer_cam, 1.02, 1.59),
    "fem": (jaxplain.fem, 1.02, 1.62),
    "deeplift": (jaxplain.deeplift, 2.45, 5.72),  # the reference is one row for four images
    "lrp epsilon": (lambda f: jaxplain.lrp(f, composites.epsilon()), 2.2, 4.68),
    "lrp epsilon_plus": (jaxplain.lrp, 3.4, 6.97),
    "lrp epsilon_plus_flat": (lambda f: jaxplain.lrp(f, composites.epsilon_plus_flat()), 3.25, 6.48),
    "lrp epsilon_gamma_box": (lambda f: jaxplain.lrp(f, composites.epsilon_gamma_box(-3.0, 3.0)), 3.95, 8.8),
    "lrp epsilon_alpha2_beta1": (lambda f: jaxplain.lrp(f, composites.epsilon_alpha2_beta1()), 5.75, 11.3),
    "excitation_backprop": (jaxplain.excitation_backprop, 3.4, 7.1),
}


@functools.cache
def network():
    module, variables, _ = models.resnet18(num_classes=10)
    plain = lambda variables, x: jax.grad(lambda x: module.apply(variables, x)[:, 3].sum())(x)
    return module.apply, variables, flops(lowered(module.apply, variables)), lines(lowered(plain, variables))


def lowered(f, variables, **target):
    return jax.jit(f).lower(variables, IMAGES, **target)


def flops(program):
    return program.compile().cost_analysis()["flops"]


def lines(program):
    return len(program.as_text().splitlines())


@pytest.mark.parametrize("name", MOST)
def test_operations_have_not_grown(name):
    apply, variables, forward, gradient = network()
    make, passes, length = MOST[name]
    program = lowered(make(apply), variables, **({} if name == "forward" else {"target": 3}))
    assert flops(program) <= passes * forward
    assert lines(program) <= length * gradient
