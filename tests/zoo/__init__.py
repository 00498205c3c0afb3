"""Small networks of every architecture and every way of writing them, on which the propagation engine is tested.

``ZOO[name].apply(ZOO[name].variables, ZOO[name].images)`` are the logits of two images for five classes.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.zoo import activations, control_flow, convolutional, transformers
from tests.zoo.layers import draw

SHAPE, CLASSES = (2, 16, 16, 3), 5


@dataclasses.dataclass(frozen=True)
class Case:
    """A network and everything needed to explain it; nothing is drawn before it is asked for."""

    name: str
    apply: Callable[[Any, jax.Array], jax.Array]
    make_variables: Callable[[], Any]

    @functools.cached_property
    def variables(self):
        with jax.ensure_compile_time_eval():  # they may first be asked for inside a trace
            return self.make_variables()

    @functools.cached_property
    def logits(self):
        return jax.jit(self.apply)(self.variables, IMAGES)

    @property
    def args(self):
        return self.variables, IMAGES


def _drawn(size, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=size))


IMAGES = _drawn(SHAPE)
BASELINE = _drawn(SHAPE[1:], seed=1) * 0.5
TARGETS = jnp.array([1, 4])


def _linen(name, module):
    return Case(name, module.apply, lambda: draw(module, SHAPE))


def _ending(end, of):
    return Case(end.__name__, lambda variables, x: end(of.apply(variables, x)), of.make_variables)


LINEN = convolutional.NETWORKS | transformers.NETWORKS | activations.NETWORKS
LINEN |= {"linen_unrolled": control_flow.LinenStack(scanned=False)}
ARCHITECTURES = {name: _linen(name, module) for name, module in LINEN.items()}
scanned = control_flow.LinenStack(scanned=True)
CONTROL_FLOW = {
    name: Case(name, apply, control_flow.variables)
    for name, apply in (control_flow.NETWORKS | control_flow.OTHERS).items()
} | {
    "linen_scan_remat": Case(
        "linen_scan_remat", scanned.apply, lambda: scanned.stack(ARCHITECTURES["linen_unrolled"].variables)
    )
}
ENDINGS = {end.__name__: _ending(end, CONTROL_FLOW["unrolled"]) for end in (jax.nn.softmax, jax.nn.log_softmax)}
ZOO = ARCHITECTURES | CONTROL_FLOW | ENDINGS
