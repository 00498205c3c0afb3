"""Excitation backprop, plain and contrastive."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .._channels import axis_of_channels, channel_axis, is_picture
from .._convention import Apply, Array, Explain, Function, Target, explainer, full_precision, score_gradient
from .._graph.origins import Origins
from . import composites
from ._engine import trace_network
from ._lrp import last_layer_negated, walk
from ._unit_of_layer import unit_of_layer

__all__ = ["excitation_backprop"]


def excitation_backprop(
    apply: Apply, layer: str | None = None, *, contrastive: bool = False, upsample: bool = True
) -> Explain:
    """Excitation backprop: the probability that a winner-take-all walk from the target visits a neuron.

    ``P(i) = Σ_j P(j) x_i w_ij+ / Σ_i x_i w_ij+``, the z+ rule without biases from one at the target, so that it
    equals the z+ map divided by z_c. Contrastive: the same walk with the last layer's weights negated is subtracted,
    and the difference, summed over the channels of a position, clamped at zero. At the input, which keeps its shape,
    the channels keep their differences where that sum is positive and are zero elsewhere, so that their sum is the map;
    an input without positions, ``(N, D)``, is clamped value by value. Attention and gates get LRP's rules, whose shares
    have both signs: behind them the walk is no probability.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      layer: the name of the layer where the walk ends (see `jaxplain.layers`), its channels summed; None goes on to the
        input.
      contrastive: whether the dual walk is subtracted.
      upsample: whether a layer's map is enlarged to the input's height and width, bilinearly.

    Returns:
      An explainer; ``(N, H, W)`` at a layer, else the input's shape. Without ``contrastive`` and ``upsample`` it sums
      to 1, less what reaches neurons to which nothing contributes positively; how much that is, and where, is in the
      column "dead" of ``jaxplain.summary(apply, jaxplain.composites.excitation_backprop())(*args)``.

    Raises:
      ValueError: if ``layer`` names no layer, or a map is asked for and it has no positions.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x @ jnp.array([[1.0], [3.0], [-1.0]])
      >>> jaxplain.excitation_backprop(f)(jnp.ones((1, 3))).round(2)
      Array([[0.25, 0.75, 0.  ]], dtype=float32)

    Reference:
      Zhang, Lin, Brandt, Shen, Sclaroff: Top-down Neural Attention by Excitation Backprop. ECCV 2016, arXiv:1608.00507.
    """
    composite = composites.excitation_backprop()

    @full_precision
    @explainer(apply)
    def explain(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        outputs, pullback = walk(f, x, composite, layer)
        one = score_gradient(target, outputs)
        visits = pullback(one)
        if contrastive:
            visits = visits - walk(f, x, last_layer_negated(composite), layer)[1](one)
            axis = layer_channels(f, x, layer)[1] if layer else channel_axis(f, x) if x.ndim > 2 else ()
            visits = jnp.where(visits.sum(axis=axis, keepdims=True) > 0, visits, 0)
        if layer is None:
            return visits
        return layer_map(visits, f, x, layer, upsample)

    return explain


def layer_map(visits: Array, f: Function, x: Array, layer: str, upsample: bool) -> Array:
    """What arrived at a layer, summed over its channels, at the resolution of the layer or of the input."""
    channels = channel_axis(f, x)
    labels, axis = layer_channels(f, x, layer)
    maps = visits.sum(axis=axis)
    maps = maps[:, 0] if maps.ndim == x.ndim and maps.shape[1] == 1 else maps  # vmap(lambda x: f(x[None])[0])
    if not upsample:
        return maps
    if maps.ndim != x.ndim - 1 or not is_picture(labels, axis, channels, x.ndim):
        raise ValueError(
            f"layer {layer!r} has relevance of shape {visits.shape}, which is no picture: pass upsample=False, or name "
            "another layer"
        )
    size = (n for i, n in enumerate(x.shape) if i != channels)
    return jax.image.resize(maps, tuple(size), "bilinear")


def layer_channels(f: Function, x: Array, layer: str) -> tuple[Origins | None, int]:
    """Where the axes of a layer come from, and which of them are its channels."""
    network = trace_network(f, x, names=True)
    labels = unit_of_layer(network, layer).labels
    axis = axis_of_channels(labels, channel_axis(f, x))
    return labels, -1 if axis is None else axis
