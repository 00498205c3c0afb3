"""Relevance conditioned on channels of a layer: which part of an explanation goes through what they stand for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._channels import axis_of_channels, channel_axis, channels_read
from .._convention import Apply, Array, Explain, Function, Target, concrete, explainer, full_precision
from . import composites
from ._lrp import prepared, start, walk_to
from ._unit_of_layer import unit_of_layer
from .composites import NamedComposite

__all__ = ["concept_relevance"]


def concept_relevance(
    apply: Apply,
    composite: NamedComposite = "epsilon_plus",
    *,
    layer: str | None = None,
    channels: ArrayLike | None = None,
) -> Explain:
    """Concept relevance propagation: the part of LRP that goes through some channels of a layer.

    ``R_layer`` by LRP from the outputs;  ``R = `` LRP from the layer to the input, of ``R_layer`` at the channels and 0
    at the others

    Rules are linear in the relevance, so that the parts of all channels sum to what goes through the layer: to `lrp`,
    where nothing goes around it. All channels at once are one `jax.vmap`. How much goes through each of a convolution
    says ``served = lrp(apply, layer="its name")(images).sum(axis=(1, 2))``, ``(N, K)`` (without a name `lrp` would end
    at the input); the reference images of a channel, those of a data set that it serves most, are
    ``images[jnp.argsort(-served[:, channel])[:8]]``.

    The channel with most relevance alone finds less than all: in a small vision transformer, of two garments in an
    image and of four, its maximum was in the one that was asked for in 56 % and 25 %, that of `lrp` in 73 % and
    42 %, of lime in 94 % and 54 % (24 images); of mosaics of four photographs, seen by EfficientNet-Lite0, the one was
    found in 42 %, by `lrp` in 81 %, by lime in all of 24 (``benchmarks/results/planted_evidence.md``).

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      composite: as for `lrp`.
      layer: the layer's name (see `jaxplain.layers`), outside loops; None takes the last convolutional feature map.
      channels: the number of a channel, or several of them; may be traced. None takes all.

    Returns:
      An explainer; the relevance has the input's shape and the unit of the score.

    Raises:
      ValueError: as `lrp`, and if the layer lies in a loop, or has no such channel; where the number is traced, that
        makes NaN.
      TypeError: as `lrp`, and if channels are no integers.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: checkpoint_name(x @ jnp.array([[1.0, 0.0], [2.0, 3.0]]), "two").sum(axis=1, keepdims=True)
      >>> part = lambda c: jaxplain.concept_relevance(f, layer="two", channels=c)(jnp.array([[1.0, 1.0]]))
      >>> print(jax.vmap(part)(jnp.arange(2)).squeeze().round())  # of 6, 3 go through each
      [[1. 2.]
       [0. 3.]]

    Reference:
      Achtibat, Dreyer, Eisenbraun, Bosse, Wiegand, Samek, Lapuschkin: From attribution maps to human-understandable
      explanations through Concept Relevance Propagation. Nature Machine Intelligence 2023.
    """
    rules_of = composites.resolve(composite)

    @full_precision
    @explainer(apply)
    def explain(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        network, rule_of = prepared(f, x, rules_of, names=True)
        at = unit_of_layer(network, layer)
        if at.lengths:
            raise ValueError(f"layer {layer!r} lies in a loop, whose rules are those of all turns: name one outside")
        outputs, pullback = walk_to(network, rule_of, x, at)
        arrived = pullback(start(outputs, target))
        is_picture, read = arrived.ndim == x.ndim, channels_read(network.plan.graph)
        of_input = channel_axis(f, x) if is_picture else x.ndim - 1 if read is None else read
        axis = axis_of_channels(at.labels, of_input)
        part = arrived * selected(channels, arrived, -1 if axis is None else axis)
        return jax.vjp(lambda x: network.value_of(at.unit, rule_of, x), x)[1](part)[0]

    return explain


def selected(channels: ArrayLike | None, features: Array, axis: int) -> Array:
    """1 at some channels of features, 0 at the others; NaN where a channel does not exist."""
    if channels is None:
        return jnp.ones((), features.dtype)
    count, wanted = features.shape[axis], channels if isinstance(channels, jax.Array) else np.asarray(channels)
    if not jnp.issubdtype(wanted.dtype, jnp.integer):
        raise TypeError(f"channels of type {wanted.dtype}: pass their numbers, integers from 0 to {count - 1}")
    if concrete(wanted) and not all(0 <= channel < count for channel in np.ravel(wanted)):
        raise ValueError(f"channels={channels}: the layer has the channels 0 to {count - 1}")
    unknown = (jnp.asarray(wanted) < 0) | (jnp.asarray(wanted) >= count)
    shape = [count if i == axis % features.ndim else 1 for i in range(features.ndim)]
    is_wanted = jnp.isin(jnp.arange(count), wanted).reshape(shape)
    return jnp.where(unknown.any(), jnp.nan, is_wanted).astype(features.dtype)
