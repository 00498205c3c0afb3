"""FullGrad: the gradient's share of the input and of every bias."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from .._channels import axis_of_channels
from .._convention import Apply, Array, Explain, Function, OfImages, Target, channels_last, explainer, score_gradient
from .._graph.origins import CONVOLVED, Origins, follow, of_input
from .._images import enlarge
from ..propagation._engine import refuse_training_mode, trace_network
from ..propagation._units import Unit
from ._maps import unit_range

__all__ = ["full_grad"]


@dataclass(frozen=True)
class Terms:
    """What the score consists of: for networks of ReLUs and maxima, the sum of all terms is the score.

    Attributes:
      input: ``x · ∂z/∂x``, of the input's shape.
      biases: ``b · ∂z/∂y`` of every affine layer, channels last.
    """

    input: Array
    biases: list[Array]


def full_grad(apply: Apply, *, rescale: bool = True) -> Explain:
    """FullGrad: input times gradient, and bias times gradient at every layer, added up at the input's resolution.

    ``M = Σ_c ψ(x · ∂z/∂x) + Σ_l Σ_c ψ(b_l · ∂z/∂y_l)``, ψ the absolute value, scaled to [0, 1] and enlarged

    The bias of a layer is what it makes of zero, BatchNorm included. Layers without positions take no part in the map.
    Before ψ, the terms of a network of ReLUs add up to its score.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      rescale: whether ψ scales each layer's terms to [0, 1], example by example, as the authors do.

    Returns:
      An explainer; maps ``(N, H, W)``, not negative.

    Raises:
      ValueError: if a layer lies in a loop or a branch, a layer has positions among its examples, or the network is in
        training mode.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: (x * 2.0).sum(axis=(1, 2))
      >>> jaxplain.full_grad(f, rescale=False)(jnp.array([1.0, -3.0]).reshape(1, 1, 2, 1))
      Array([[[2., 6.]]], dtype=float32)

    Reference:
      Srinivas, Fleuret: Full-Gradient Representation for Neural Network Visualization. NeurIPS 2019, arXiv:1905.00780.
    """

    @explainer(apply)
    @channels_last
    def explain(f: OfImages, x: Array, target: Target, key: Array | None) -> Array:
        terms = full_gradient(f, x, target)
        total = jnp.zeros(x.shape[:-1], x.dtype)
        for term in (terms.input, *terms.biases):
            if term.ndim == x.ndim:
                size = jnp.abs(term)
                total += enlarge(unit_range(size).sum(axis=-1) if rescale else size.sum(axis=-1), x)
        return total

    return explain


def full_gradient(f: Function, x: Array, target: Target) -> Terms:
    """The terms of the full gradient of a score."""
    network = trace_network(f, x)
    refuse_training_mode(network, x)
    outer = [step for step in network.plan.steps if isinstance(step, Unit) and step.affine]
    if inner := [unit for unit in network.plan.units() if unit.affine and unit not in outer]:
        raise ValueError(f"full_grad does not look into loops and branches, as at {inner[0].place}")
    calls = network.affine_values(x)
    probes = {unit.position: jnp.zeros_like(calls[unit.position][2]) for unit in outer}
    outputs, pullback = jax.vjp(lambda x, probes: network(lambda unit: None, x, probes=probes), x, probes)
    to_input, to_layers = pullback(score_gradient(target, outputs))
    known = follow(network.plan.graph, of_input(network.plan.graph))
    biases = []
    for unit in outer:
        bias, gradient = calls[unit.position][0].affine.bias, to_layers[unit.position]
        term = as_image(bias * gradient, known.get(unit.outputs[0]), x.ndim)
        if term.ndim == x.ndim and len(term) != len(x):
            raise ValueError(
                f"full_grad: the layer at {unit.place} has positions among its examples, {len(term)} where the batch "
                f"is {len(x)}: keep the batch in front"
            )
        biases.append(term)
    return Terms(x * to_input, biases)


def as_image(term: Array, labels: Origins | None, rank: int) -> Array:
    """A layer's term with its axes in the order of the image's: batch, positions, channels.

    Products, as those that resize features, leave them in any order. Where an axis is made of several of the image's,
    only the channels are moved.
    """
    order = [next(iter(label - {CONVOLVED}), -1) for label in labels or () if len(label - {CONVOLVED}) == 1]
    if sorted(order) == list(range(rank)):
        return term.transpose(tuple(order.index(axis) for axis in range(rank)))
    axis = axis_of_channels(labels, rank - 1)
    return term if axis is None else jnp.moveaxis(term, axis, -1)
