"""LIME: a linear surrogate of the network on images of which some segments are hidden."""

from __future__ import annotations

from typing import Literal, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._chunking import chunked_sum
from .._convention import Apply, Array, Explain, Score, example_keys, require_positive
from ._segment_weights import Segmented, SegmentOptions, moments, weigh_segments

__all__ = ["lime"]


def lime(
    apply: Apply,
    *,
    segments: ArrayLike | None = None,
    samples: int = 1000,
    baseline: ArrayLike = 0.0,
    distance: Literal["cosine", "l2"] = "cosine",
    kernel_width: float = 0.25,
    ridge: float = 1.0,
    of: Score = "probability",
    **options: Unpack[SegmentOptions],
) -> Explain:
    """Local interpretable model-agnostic explanations: a ridge regression on which segments are shown.

    ``min over w, w0 of  Σ_i π(z_i) (score(x_i) - w0 - w · z_i)² + ridge |w|²,  π(z) = exp(-D(1, z)² / width²)``

    ``x_i`` shows the segments with ``z = 1`` and the baseline elsewhere; the first sample is the image itself, the
    others show each segment with probability 1/2. D is the cosine distance ``1 - √(share of segments shown)``, or the
    l2 distance ``√(share of segments hidden)``, for which the width wants to be larger, like 0.75. The paper selects
    a few segments before the regression; here all of them stay.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function of images ``(N, H, W, C)``, or of signals, volumes or tables
        (see `SegmentOptions`).
      segments: labels of the pixels, ``(H, W)`` or ``(N, H, W)`` integers from 0. Without them a grid of 7 by 7:
        the same wherever it runs, so superpixels of `slic` must be asked for, ``segments=slic(images)``.
      samples: how many images are evaluated for each example.
      baseline: x0, what hidden segments show: a number or anything that broadcasts against the input.
      distance: ``"cosine"`` or ``"l2"``.
      kernel_width: the width of π.
      ridge: the strength of the penalty; the sum of the weights π tells what is strong.
      of: the score is the ``"probability"``, as in the paper, or the ``"output"`` itself (see `jaxplain.scores`).
      **options: see `SegmentOptions`.

    Returns:
      An explainer that needs ``key``; its maps ``(N, H, W)`` have the unit of the score.

    Raises:
      ValueError: if ``key`` is missing, the segments do not fit the images, or an option is out of range.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> f = lambda x: 3 * x[:, 0, 0, 0] - x[:, 1, 1, 0]
      >>> labels = jnp.arange(4).reshape(2, 2)
      >>> explain = jaxplain.perturbation.lime(f, segments=labels, ridge=1e-3)
      >>> explain(jnp.ones((1, 2, 2, 1)), key=jax.random.key(0)).round(2) + 0.0
      Array([[[ 3.,  0.],
              [ 0., -1.]]], dtype=float32)

    Reference:
      Ribeiro, Singh, Guestrin: "Why Should I Trust You?": Explaining the Predictions of Any Classifier. KDD 2016,
      arXiv:1602.04938.
    """
    require_positive(samples=samples)
    if distance not in ("cosine", "l2"):
        raise ValueError(f"unknown {distance=}: choose cosine or l2")
    if not (kernel_width > 0 and ridge >= 0):
        raise ValueError(f"{kernel_width=} must be positive and {ridge=} not negative")

    def weigh(at: Segmented, key: Array | None) -> Array:
        keys, size = example_keys(key, at.x, "lime"), at.count
        whole = at.score(at.x)
        dtype = jnp.promote_types(whole.dtype, jnp.float32)
        if not ridge and samples <= size:
            raise ValueError(
                f"{samples=} are too few for the weights of {size} segments without a penalty: take at least "
                f"{size + 1}, better twice as many, or ridge > 0"
            )

        def term(index: Array) -> tuple[Array, Array]:
            drawn = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, index), (size,), jnp.float32))(keys)
            shown = (drawn < 0.5) | (index == 0)
            share = shown.mean(axis=1, dtype=dtype)
            squared = (1 - jnp.sqrt(share)) ** 2 if distance == "cosine" else 1 - share
            features = jnp.concatenate([~shown, jnp.ones_like(shown[:, :1])], axis=1).astype(dtype)
            return moments(jnp.exp(-squared / kernel_width**2), features, whole - at.score_of(shown))

        # what is lost by what is hidden, so that the first sample is 0 and large scores do not cancel
        gram, moment = chunked_sum(term, jnp.arange(samples), at.chunk)
        penalty = ridge * (jnp.arange(size + 1) < size)  # not on the intercept
        system = gram + jnp.diag(penalty.astype(gram.dtype))[None]
        return jnp.linalg.solve(system, moment[..., None])[:, :size, 0]

    return weigh_segments(apply, "lime", segments, baseline, of, weigh, **options)
