"""Guided backpropagation and DeconvNet: the gradient with other rules at activations."""

from __future__ import annotations

import jax

from .._convention import Apply, Array, Explain, Function, Target, explainer, score_gradient
from . import composites
from ._engine import Composite, trace_network

__all__ = ["deconvnet", "guided_backprop"]


def guided_backprop(apply: Apply) -> Explain:
    """Guided backpropagation: at every activation only the positive part of the gradient passes.

    ``R_in = max(R_out, 0) · f'(z)``, which is ``R · [R > 0] · [z > 0]`` for a ReLU; every ReLU is found, functional
    or not, and so are its relatives. At other operations, the gradient.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.

    Returns:
      An explainer; the attribution has the input's shape.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: jnp.maximum(x, 0) @ jnp.array([[1.0], [-1.0]])
      >>> jaxplain.guided_backprop(f)(jnp.array([[1.0, 1.0]]))
      Array([[1., 0.]], dtype=float32)

    Reference:
      Springenberg, Dosovitskiy, Brox, Riedmiller: Striving for Simplicity. ICLR workshop 2015, arXiv:1412.6806.
    """
    return modified_gradient(apply, composites.guided_backprop())


def deconvnet(apply: Apply) -> Explain:
    """DeconvNet: at every activation only the positive part passes, whatever the activation's input was.

    ``R_in = max(R_out, 0)``; max-pooling by its switches; at other operations, the gradient.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.

    Returns:
      An explainer; the attribution has the input's shape.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: jnp.maximum(x, 0) @ jnp.array([[1.0], [-1.0]])
      >>> jaxplain.deconvnet(f)(jnp.array([[-1.0, 1.0]]))
      Array([[1., 0.]], dtype=float32)

    Reference:
      Zeiler, Fergus: Visualizing and Understanding Convolutional Networks. ECCV 2014, arXiv:1311.2901.
    """
    return modified_gradient(apply, composites.deconvnet())


def modified_gradient(apply: Apply, composite: Composite) -> Explain:
    """The gradient with other rules for some units."""

    @explainer(apply)
    def explain(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        network = trace_network(f, x)
        composites.require_paths(composite, network.plan.units())
        outputs, pullback = jax.vjp(lambda x: network(composite, x), x)
        return pullback(score_gradient(target, outputs))[0]

    return explain
