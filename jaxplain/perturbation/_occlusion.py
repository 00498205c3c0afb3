"""Occlusion: cover a window of the image and see what the score loses."""

from __future__ import annotations

import functools
import math

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._chunking import chunked_sum
from .._convention import (
    Apply,
    Array,
    Explain,
    OfImages,
    Score,
    Target,
    channels_last,
    explainer,
    heed_score,
    require_score,
    scores,
)
from .._images import like_examples
from ._blending import blend, require_positions, require_sizes, with_positions

__all__ = ["occlusion"]


def occlusion(
    apply: Apply,
    *,
    window: tuple[int, ...] = (8, 8),
    stride: tuple[int, ...] = (4, 4),
    baseline: ArrayLike = 0.0,
    of: Score = "output",
    chunk: int | None = 16,
) -> Explain:
    """What the score loses when a window is covered, averaged over the windows that cover a pixel.

    ``A_p = mean over windows w ∋ p of  score(x) - score(x with w replaced by x0)``

    Windows start every ``stride`` pixels. Where the last one does not fit it is cut off at the border, as captum's is,
    so every pixel is covered.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function of images ``(N, H, W, C)``, or of signals ``(N, T, C)``,
        volumes ``(N, D, H, W, C)`` or tables ``(N, F)``, whose columns are positions: see window.
      window: its height and width in pixels; it covers all channels. Of signals and tables it is one number, ``(8,)``,
        of volumes three.
      stride: the steps between windows, along the rows and the columns, in pixels; as many numbers.
      baseline: x0, a number or anything that broadcasts against the input, in the input's (preprocessed) units.
      of: ``"output"``, the outputs as they are, or ``"probability"``, the softmax of logits ``(N, K)``.
      chunk: how many windows are evaluated at once; memory does not depend on their number.

    Returns:
      An explainer; its maps ``(N, H, W)``, a value for each position, have the unit of the score.

    Raises:
      ValueError: if the window has not as many numbers as the input has axes of positions, is larger than the image, or
        the stride is larger than the window, so that pixels would never be covered.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x[..., 0] @ jnp.array([1.0, 2.0, 0.0]) @ jnp.ones((1,))
      >>> explain = jaxplain.perturbation.occlusion(f, window=(1, 1), stride=(1, 1))
      >>> explain(jnp.ones((1, 1, 3, 1)))
      Array([[[1., 2., 0.]]], dtype=float32)

    Reference:
      Zeiler, Fergus: Visualizing and Understanding Convolutional Networks. ECCV 2014, arXiv:1311.2901.
    """
    require_score(of)

    @explainer(apply, heed=heed_score(of))
    @channels_last
    def explain(f: OfImages, x: Array, target: Target, key: Array | None) -> Array:
        require_positions(x, "occlusion")
        score, x, x0 = with_positions(scores(f, x, target, of=of), x, f.reference(baseline, x))
        require_sizes(x.ndim - 2, window=window, stride=stride)
        axes = [covered_by_windows(*sizes) for sizes in zip(x.shape[1:-1], window, stride, strict=True)]
        count = functools.reduce(np.multiply.outer, [axis.sum(axis=0) for axis in axes])
        whole = score(x)

        def term(index: Array) -> Array:
            where = jnp.unravel_index(index, [len(axis) for axis in axes])
            along = [jnp.asarray(axis)[i] for axis, i in zip(axes, where, strict=True)]
            covered = functools.reduce(jnp.logical_and.outer, along)[None]
            return like_examples(whole - score(blend(~covered, x, x0)), covered) * covered

        total = chunked_sum(term, jnp.arange(math.prod(len(axis) for axis in axes)), chunk)
        return (total / jnp.asarray(count, total.dtype)[None]).astype(x.dtype)

    return explain


def covered_by_windows(size: int, window: int, stride: int) -> np.ndarray:
    """Which of the ``size`` pixels along one axis each window covers, ``(windows, size)``."""
    if window > size:
        raise ValueError(f"a window of {window} pixels is larger than the image's {size}: pass a smaller window=")
    if stride > window < size:
        raise ValueError(
            f"a stride of {stride} leaves pixels between windows of {window} uncovered: pass a smaller one"
        )
    starts = stride * np.arange(-(-(size - window) // stride) + 1)[:, None]
    pixels = np.arange(size)[None]
    return (starts <= pixels) & (pixels < starts + window)
