"""Class activation maps that weigh channels by what the network says when it sees only them, or all but them."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp

from .._chunking import chunked_map
from .._convention import Apply, Array, Explain, Score, heed_score, require_positive, require_score, scorer
from .._images import enlarge
from .._migration import takes_old_options
from .._reductions import deviation, divide, norm
from ._maps import Layers, LayerView, MapOptions, layer_map, spatial_axes, unit_range

__all__ = ["ablation_cam", "score_cam"]


@takes_old_options
def score_cam(
    apply: Apply,
    layer: Layers = None,
    *,
    chunk: int | None = 32,
    top: int | None = None,
    of: Score = "output",
    **options: Unpack[MapOptions],
) -> Explain:
    """Score-CAM: channels weighted by the score of the input seen through them. No gradient.

    ``M = Σ_k w_k A^k,  w = softmax_k(s),  s_k = p_c(x · H_k)``, H_k the channel enlarged and scaled to [0, 1]

    A channel that is constant hides the whole input.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function; called once for each channel.
      layer: the layer's name (see `jaxplain.layers`), or several; None takes the last convolutional feature map.
      chunk: how many channels are tried at once.
      top: try only that many channels of each example, those that vary most; None tries all.
      of: the target is applied to the ``"output"``, or to the ``"probability"``, the softmax of logits ``(N, K)``. The
        authors' own code takes probabilities; outputs were measured to be as good or better in insertion, deletion and
        the grid pointing game (``benchmarks/results/defaults.md``).
      **options: see `MapOptions`.

    Returns:
      An explainer; maps ``(N, H, W)``, a mean of channels.

    Raises:
      ValueError: if no layer has that name, it has no positions, or a count is not positive.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: checkpoint_name(x, "features").sum(axis=(1, 2, 3))  # a score, the same through both channels
      >>> x = jnp.array([[1.0, 4.0], [3.0, 2.0]]).reshape(1, 1, 2, 2)
      >>> jaxplain.score_cam(f, "features")(x)
      Array([[[2.5, 2.5]]], dtype=float32)

    Reference:
      Wang, Wang, Du, Yang, Zhang, Ding, Mardziel, Hu: Score-CAM. CVPR workshops 2020, arXiv:1910.01279.
    """
    require_positive(**{name: n for name, n in (("chunk", chunk), ("top", top)) if n is not None})
    require_score(of)

    def score_behind_channel(at: LayerView) -> Array:
        score = scorer(at.target, at.head(at.features), of)
        A = channels(at.features, top_channels(deviation(at.features, spatial_axes(at.features)), top))

        def seen(channel: Array) -> Array:
            mask = unit_range(enlarge(jnp.take(A, channel, axis=-1), at.x))
            return score(at.f(at.x * mask[..., None]))

        return weighted_channels(A, jax.nn.softmax(chunked_map(seen, jnp.arange(A.shape[-1]), chunk), axis=0))

    return layer_map(apply, layer, score_behind_channel, heed=heed_score(of), **options)


def ablation_cam(
    apply: Apply, layer: Layers = None, *, chunk: int | None = 32, top: int | None = None, **options: Unpack[MapOptions]
) -> Explain:
    """Ablation-CAM: channels weighted by how far the score falls without them. No gradient.

    ``M = Σ_k w_k A^k,  w_k = (z_c - z_c[A^k := 0]) / z_c``, 0 where z_c is 0

    Only the network after the layer is evaluated for each channel.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      layer: the layer's name (see `jaxplain.layers`), or several; None takes the last convolutional feature map.
      chunk: how many channels are tried at once.
      top: try only that many channels of each example, those of the largest norm; None tries all.
      **options: see `MapOptions`.

    Returns:
      An explainer; maps ``(N, H, W)``, signed.

    Raises:
      ValueError: if no layer has that name, it has no positions, or a count is not positive.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: checkpoint_name(x, "features").sum(axis=(1, 2)) @ jnp.array([[3.0], [-1.0]])
      >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0]]).reshape(1, 1, 2, 2)
      >>> jaxplain.ablation_cam(f, "features")(x)  # z = 2: without the first channel -1, without the second 3
      Array([[[ 1.5, -0.5]]], dtype=float32)

    Reference:
      Desai, Ramaswamy: Ablation-CAM. WACV 2020.
    """
    require_positive(**{name: n for name, n in (("chunk", chunk), ("top", top)) if n is not None})

    def drop_without_channel(at: LayerView) -> Array:
        A, outputs = at.features, at.head(at.features)
        score = scorer(at.target, outputs)
        tried = top_channels(norm(A, spatial_axes(A)), top)

        def without(channel: Array) -> Array:
            keep = 1 - jax.nn.one_hot(channel, A.shape[-1], dtype=A.dtype)
            return score(at.head(A * jnp.expand_dims(keep, spatial_axes(A))))

        z = score(outputs)[None]
        return weighted_channels(channels(A, tried), divide(z - chunked_map(without, tried.T, chunk), z))

    return layer_map(apply, layer, drop_without_channel, **options)


def top_channels(strength: Array, top: int | None) -> Array:
    """The numbers of each example's strongest channels, ``(N, K) -> (N, top)``; all of them in their order for None."""
    n, count = strength.shape
    if top is None or top >= count:
        return jnp.broadcast_to(jnp.arange(count), (n, count))
    return jax.lax.top_k(strength, top)[1]


def channels(A: Array, chosen: Array) -> Array:
    """The channels of those numbers, example by example."""
    return jnp.take_along_axis(A, jnp.expand_dims(chosen, spatial_axes(A)), axis=-1)


def weighted_channels(A: Array, weights: Array) -> Array:
    """``Σ_k w_k A^k`` for weights ``(K, N)``."""
    return (A * jnp.expand_dims(weights.T, spatial_axes(A))).sum(axis=-1).astype(A.dtype)
