"""Occlusion: cover a window of the image and see what the score loses."""

from __future__ import annotations

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
from ._blending import blend, require_images, require_pair

__all__ = ["occlusion"]


def occlusion(
    apply: Apply,
    *,
    window: tuple[int, int] = (8, 8),
    stride: tuple[int, int] = (4, 4),
    baseline: ArrayLike = 0.0,
    of: Score = "output",
    chunk: int | None = 16,
) -> Explain:
    """What the score loses when a window is covered, averaged over the windows that cover a pixel.

    ``A_p = mean over windows w ∋ p of  score(x) - score(x with w replaced by x0)``

    Windows start every ``stride`` pixels. Where the last one does not fit it is cut off at the border, as captum's is,
    so every pixel is covered.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function of images ``(N, H, W, C)``.
      window: its height and width in pixels; it covers all channels.
      stride: the steps between windows, along the rows and the columns, in pixels.
      baseline: x0, a number or anything that broadcasts against the input, in the input's (preprocessed) units.
      of: ``"output"``, the outputs as they are, or ``"probability"``, the softmax of logits ``(N, K)``.
      chunk: how many windows are evaluated at once; memory does not depend on their number.

    Returns:
      An explainer; its maps ``(N, H, W)`` have the unit of the score.

    Raises:
      ValueError: if the input is not ``(N, H, W, C)``, a window is larger than the image, or the stride larger than
        the window, so that pixels would never be covered.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x[..., 0] @ jnp.array([1.0, 2.0, 0.0]) @ jnp.ones((1,))
      >>> explain = jaxplain.perturbation.occlusion(f, window=(1, 1), stride=(1, 1))
      >>> explain(jnp.ones((1, 1, 3, 1)))
      Array([[[1., 2., 0.]]], dtype=float32)

    Reference:
      Zeiler, Fergus: Visualizing and Understanding Convolutional Networks. ECCV 2014, arXiv:1311.2901.
    """
    require_pair(window=window, stride=stride)
    require_score(of)

    @explainer(apply, heed=heed_score(of))
    @channels_last
    def explain(f: OfImages, x: Array, target: Target, key: Array | None) -> Array:
        require_images(x, "occlusion")
        rows, columns = (covered_by_windows(*sizes) for sizes in zip(x.shape[1:3], window, stride, strict=True))
        count = rows.sum(axis=0)[:, None] * columns.sum(axis=0)[None]
        score = scores(f, x, target, of=of)
        x0, whole = f.reference(baseline, x), score(x)

        def term(index: Array) -> Array:
            row, column = jnp.divmod(index, len(columns))
            covered = (jnp.asarray(rows)[row][:, None] & jnp.asarray(columns)[column][None])[None]
            return like_examples(whole - score(blend(~covered, x, x0)), covered) * covered

        total = chunked_sum(term, jnp.arange(len(rows) * len(columns)), chunk)
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
