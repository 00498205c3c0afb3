"""What explanations cost, counted: the operations of the compiled function, in forward passes of the network."""

import functools

import jax
import jax.numpy as jnp
import pytest

import jaxplain
from jaxplain import composites, models

IMAGES = jnp.ones((4, 128, 128, 3), jnp.float32)
MOST = {  # forward passes; each is a few percent above what was counted when it was written
    "forward": (lambda f: jaxplain.accelerate(f), 1.01),
    "gradient": (jaxplain.gradient, 2.15),
    "guided_backprop": (jaxplain.guided_backprop, 2.15),
    "grad_cam": (jaxplain.grad_cam, 1.02),
    "layer_cam": (jaxplain.layer_cam, 1.02),
    "fem": (jaxplain.fem, 1.02),
    "deeplift": (jaxplain.deeplift, 2.45),  # the reference is one row for four images
    "lrp epsilon": (jaxplain.lrp, 2.2),
    "lrp epsilon_plus_flat": (lambda f: jaxplain.lrp(f, composites.epsilon_plus_flat()), 3.25),
    "lrp epsilon_gamma_box": (lambda f: jaxplain.lrp(f, composites.epsilon_gamma_box(-3.0, 3.0)), 3.95),
    "lrp epsilon_alpha2_beta1": (lambda f: jaxplain.lrp(f, composites.epsilon_alpha2_beta1()), 5.75),
    "excitation_backprop": (jaxplain.excitation_backprop, 3.4),
}


@functools.cache
def network():
    module, variables, _ = models.resnet18(num_classes=10)
    return module.apply, variables, flops(module.apply, variables)


def flops(f, variables, **target):
    return jax.jit(f).lower(variables, IMAGES, **target).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("name", MOST)
def test_operations_have_not_grown(name):
    apply, variables, forward = network()
    make, most = MOST[name]
    target = {} if name == "forward" else {"target": 3}
    assert flops(make(apply), variables, **target) <= most * forward
