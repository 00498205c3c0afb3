"""What the methods share that give every segment of an image a weight."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._convention import (
    Apply,
    Array,
    Explain,
    Function,
    OfImages,
    Score,
    Target,
    channels_last,
    concrete,
    explainer,
    heed_score,
    require_positive,
    require_score,
    scores,
)
from ._blending import blend, require_positions, with_positions
from ._superpixels import grid_segments


class SegmentOptions(TypedDict, total=False):
    """The options of every method that weighs segments.

    Signals ``(N, T, C)`` and volumes ``(N, D, H, W, C)`` are explained as images are: labels have the shape of their
    positions, ``(T,)`` or ``(N, T)``, without them there are 7 segments along each axis, and maps have a value for each
    position. So are tables ``(N, F)``, whose columns are the positions, and the segments if none are given.

    Attributes:
      count: how many segments there are, needed only where ``segments`` is traced.
      upsample: whether every pixel gets the weight of its segment; otherwise the weights ``(N, S)`` are returned.
      chunk: how many images are evaluated at once, 64 by default; memory does not depend on how many there are.
    """

    count: int | None
    upsample: bool
    chunk: int | None


@dataclass(frozen=True)
class Segmented:
    """Images in segments, of which some are shown to the network.

    Attributes:
      x: the images, ``(N, H, W, C)``, or whatever has positions and channels.
      x0: what hidden segments show.
      labels: the segment of every position, ``(1 or N, P)``.
      count: how many segments there are.
      score: the explained score, ``x -> (N,)``.
      chunk: how many images are evaluated at once.
    """

    x: Array
    x0: Array
    labels: Array
    count: int
    score: Function
    chunk: int | None

    def score_of(self, shown: Array) -> Array:
        """The score of the images with each segment shown or not, ``(1 or N, S)``, or in part, from 0 to 1."""
        return self.score(blend(paint(shown, self.labels, self.x), self.x, self.x0))


def weigh_segments(
    apply: Apply,
    method: str,
    segments: ArrayLike | None,
    baseline: ArrayLike,
    of: Score,
    weigh: Callable[[Segmented, Array | None], Array],
    *,
    count: int | None = None,
    upsample: bool = True,
    chunk: int | None = 64,
) -> Explain:
    """An explainer that returns ``weigh(segmented, key) -> (N, S)``, each weight at all pixels of its segment."""
    require_score(of)

    @explainer(apply, heed=heed_score(of))
    @channels_last
    def explain(f: OfImages, x: Array, target: Target, key: Array | None) -> Array:
        require_positions(x, method)
        given = np.arange(x.shape[1]) if segments is None and x.ndim == 2 else segments
        score, x, x0 = with_positions(scores(f, x, target, of=of), x, f.reference(baseline, x))
        labels, size = segments_of(given, count, x)
        weights = weigh(Segmented(x, x0, labels, size, score, chunk), key).astype(x.dtype)
        return paint(weights, labels, x) if upsample else weights

    return explain


def segments_of(segments: ArrayLike | None, count: int | None, x: Array) -> tuple[Array, int]:
    """The labels of every position, ``(1 or N, P)``, and how many segments there are, checked."""
    labels = grid_segments(x.shape[1:-1]) if segments is None else segments
    labels = jnp.asarray(labels) if not concrete(labels) else np.asarray(labels)  # values, also while x is traced
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"segments have dtype {labels.dtype}: pass an integer label for every pixel")
    if labels.shape not in (x.shape[1:-1], x.shape[:-1]):
        raise ValueError(f"segments have shape {labels.shape}: pass {x.shape[1:-1]} for all images, or {x.shape[:-1]}")
    if concrete(labels):
        low, high = int(labels.min()), int(labels.max())
        count = high + 1 if count is None else count
        if low < 0 or high >= count:
            raise ValueError(f"segments have labels {low} to {high}: number them from 0 to count - 1 = {count - 1}")
    elif count is None:
        raise ValueError("the segments are traced, so their number is unknown: pass count=")
    require_positive(count=count)
    return jnp.asarray(labels).reshape(-1, math.prod(x.shape[1:-1])), count


def paint(values: Array, labels: Array, x: Array) -> Array:
    """Give every position of images like ``x`` the value ``(1 or N, S)`` of its segment, ``(N, H, W)``."""
    labels = jnp.broadcast_to(labels, (x.shape[0], labels.shape[1]))
    return jnp.take_along_axis(values, labels, axis=1).reshape(x.shape[:-1])


def moments(weight: Array, features: Array, value: Array) -> tuple[Array, Array]:
    """One sample's share in the normal equations: ``w u uᵀ`` and ``w v u`` of weights (N,), features (N, S), values."""
    weighted = weight[:, None] * features
    return weighted[:, :, None] * features[:, None, :], weighted * value[:, None].astype(features.dtype)
