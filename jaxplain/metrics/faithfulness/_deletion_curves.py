"""Removal in order: what the score does while the most (or least) relevant pixels disappear.

All colours of a pixel disappear together. Every curve is made the same way: each pixel has a place in the order, and
the image of a step hides the pixels whose place is below a count. Equal attributions go in the order of the rows, from
left to right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict, Unpack

import jax.numpy as jnp
import numpy as np

from ..._chunking import chunked_map
from ..._convention import Apply, Array, Function, OfImages, Score, Target, require_positive, scores
from ..._migration import takes_old_options
from .._common import Baseline, Metric, Order, flat, hide, metric, ranks, replacement, summed

__all__ = ["deletion", "insertion", "monotonicity", "pixel_flipping"]


class CurveOptions(TypedDict, total=False):
    """The options of every metric that follows the score while an image changes step by step.

    Attributes:
      curve: whether to return what the area is of, ``(N, steps)``, instead of the area.
      chunk: how many steps are evaluated at once, 10 by default; memory does not depend on how many there are.
    """

    curve: bool
    chunk: int | None


@takes_old_options
def deletion(
    apply: Apply,
    *,
    steps: int = 50,
    baseline: Baseline = "zero",
    of: Score = "probability",
    **options: Unpack[CurveOptions],
) -> Metric:
    """The area under the score while the most relevant pixels are deleted; lower is better.

    ``D = 1/S Σ_k (s_{k-1} + s_k) / 2,  k = 1 ... S,  s_k = p_c(x without its k/S most relevant pixels)``

    Args:
      apply: ``apply(*args) -> logits``, any JAX function of images ``(N, H, W, C)``.
      steps: S, how many steps lead to an image without any pixel.
      baseline: what deleted pixels show: ``"zero"``, ``"mean"`` (of the image, channel by channel), ``"blur"`` (the
        image under a Gaussian of 5 pixels), or anything that broadcasts against the input.
      of: the score is the ``"probability"``, or the ``"output"`` itself (see `jaxplain.scores`).
      **options: see `CurveOptions`; the curve is s_0 ... s_S, ``(N, S + 1)``.

    Returns:
      A metric ``(*args, attribution, target=None) -> (N,)``.

    Raises:
      ValueError: if there are more steps than pixels, or the attribution does not belong to the images.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x.sum(axis=(1, 2, 3))
      >>> x = jnp.array([4.0, 3.0, 2.0, 1.0]).reshape(1, 2, 2, 1)
      >>> metric = jaxplain.metrics.deletion(f, steps=4, of="output")
      >>> metric(x, attribution=x), metric(x, attribution=-x)
      (Array([3.75], dtype=float32), Array([6.25], dtype=float32))

    Reference:
      Petsiuk, Das, Saenko: RISE: Randomized Input Sampling for Explanation of Black-box Models. BMVC 2018,
      arXiv:1806.07421.
    """
    require_positive(steps=steps)

    order = lambda x, attribution: (pixel_places(attribution), counts_by_fraction(steps, x))
    return removal_curve(apply, baseline, of, order, lambda values: area(values) / steps, **options)


@takes_old_options
def insertion(
    apply: Apply,
    *,
    steps: int = 50,
    baseline: Baseline = "blur",
    of: Score = "probability",
    **options: Unpack[CurveOptions],
) -> Metric:
    """The area under the score while the most relevant pixels are put into a blurred image; higher is better.

    ``I = 1/S Σ_k (s_{k-1} + s_k) / 2,  k = 1 ... S,  s_k = p_c(x0 with the k/S most relevant pixels of x)``

    The authors' code cuts its Gaussian of 5 pixels off at 11 x 11; here it is whole.

    Args:
      apply: ``apply(*args) -> logits``, any JAX function of images ``(N, H, W, C)``.
      steps: S, how many steps lead to the whole image.
      baseline: x0, as for `deletion`.
      of: the score is the ``"probability"``, or the ``"output"`` itself (see `jaxplain.scores`).
      **options: see `CurveOptions`; the curve is s_0 ... s_S, ``(N, S + 1)``.

    Returns:
      A metric ``(*args, attribution, target=None) -> (N,)``.

    Raises:
      ValueError: as `deletion`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x.sum(axis=(1, 2, 3))
      >>> x = jnp.array([4.0, 3.0, 2.0, 1.0]).reshape(1, 2, 2, 1)
      >>> metric = jaxplain.metrics.insertion(f, steps=4, baseline="zero", of="output", curve=True)
      >>> metric(x, attribution=x)
      Array([[ 0.,  4.,  7.,  9., 10.]], dtype=float32)

    Reference:
      Petsiuk, Das, Saenko: RISE: Randomized Input Sampling for Explanation of Black-box Models. BMVC 2018,
      arXiv:1806.07421.
    """
    require_positive(steps=steps)

    order = lambda x, attribution: (pixel_places(attribution), counts_by_fraction(steps, x))
    return removal_curve(apply, baseline, of, order, lambda values: area(values) / steps, inserts=True, **options)


@takes_old_options
def pixel_flipping(
    apply: Apply,
    *,
    features_in_step: int = 1,
    order: Order = "morf",
    baseline: Baseline = 0.0,
    of: Score = "probability",
    **options: Unpack[CurveOptions],
) -> Metric:
    """The area under the score while pixels are flipped to a baseline, ``features_in_step`` at a time.

    ``P = Σ_k (s_{k-1} + s_k) / 2,  k = 2 ... L,  s_k = p_c(x with its first k · features_in_step pixels flipped)``

    As in Quantus, the intact image is no part of the curve, and the area is not divided by its length. A pixel is
    flipped as a whole; Quantus flips its colours one by one, so that they agree on images of one channel only.

    Args:
      apply: ``apply(*args) -> logits``, any JAX function of images ``(N, H, W, C)``.
      features_in_step: how many pixels are flipped in a step; the last step takes what is left.
      order: ``"morf"``, most relevant first (a lower area is better), or ``"lerf"``, least relevant first.
      baseline: as for `deletion`. The default of Quantus is the smallest value of each image.
      of: the score is the ``"probability"``, or the ``"output"`` itself (see `jaxplain.scores`).
      **options: see `CurveOptions`; the curve is s_1 ... s_L, ``(N, L)``.

    Returns:
      A metric ``(*args, attribution, target=None) -> (N,)``.

    Raises:
      ValueError: if an option is out of range or the attribution does not belong to the images.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x.sum(axis=(1, 2, 3))
      >>> x = jnp.array([4.0, 3.0, 2.0, 1.0]).reshape(1, 2, 2, 1)
      >>> jaxplain.metrics.pixel_flipping(f, of="output", curve=True)(x, attribution=x)
      Array([[6., 3., 1., 0.]], dtype=float32)

    Reference:
      Bach, Binder, Montavon, Klauschen, Müller, Samek: On Pixel-Wise Explanations for Non-Linear Classifier Decisions
      by Layer-Wise Relevance Propagation. PLoS ONE 2015.
    """
    require_positive(features_in_step=features_in_step)
    sign = sign_of(order)
    plan = lambda x, attribution: (pixel_places(attribution, sign), counts_by_step(features_in_step, x))
    return removal_curve(apply, baseline, of, plan, area, **options)


@takes_old_options
def monotonicity(
    apply: Apply,
    *,
    features_in_step: int = 1,
    baseline: Baseline = 0.0,
    of: Score = "probability",
    chunk: int | None = 10,
) -> Metric:
    """Whether the score never falls while pixels are added to a baseline, the least important first.

    ``M = [s_1 <= s_2 <= ... <= s_L],  s_k = p_c(x0 with the k · features_in_step pixels of x of smallest |A|)``

    Quantus 0.6 puts the baseline where it should put the image, so that its curve is constant and its answer always
    true. This is the definition of the paper.

    Args:
      apply: ``apply(*args) -> logits``, any JAX function of images ``(N, H, W, C)``.
      features_in_step: how many pixels are added in a step; the last step takes what is left.
      baseline: x0, as for `deletion`.
      of: the score is the ``"probability"``, or the ``"output"`` itself (see `jaxplain.scores`).
      chunk: how many steps are evaluated at once.

    Returns:
      A metric ``(*args, attribution, target=None) -> (N,)``, 1 or 0.

    Raises:
      ValueError: as `pixel_flipping`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x.sum(axis=(1, 2, 3))
      >>> x = jnp.array([4.0, 3.0, 2.0, 1.0]).reshape(1, 2, 2, 1)
      >>> jaxplain.metrics.monotonicity(f, of="output")(x, attribution=x)
      Array([1.], dtype=float32)

    Reference:
      Arya et al.: One Explanation Does Not Fit All: A Toolkit and Taxonomy of AI Explainability Techniques.
      arXiv:1909.03012, 2019.
    """
    require_positive(features_in_step=features_in_step)

    order = lambda x, a: (pixel_places(jnp.abs(summed(a)), sign=-1), counts_by_step(features_in_step, x))
    never_falls = lambda values: (jnp.diff(values, axis=1) >= 0).all(axis=1).astype(values.dtype)
    return removal_curve(apply, baseline, of, order, never_falls, inserts=True, chunk=chunk)


# ------------------------------------------------------------------------------------------------------ the machinery


def removal_curve(
    apply: Apply,
    baseline: Baseline,
    of: Score,
    order: Callable[[Array, Array], tuple[Array, np.ndarray]],
    summary: Callable[[Array], Array],
    *,
    inserts: bool = False,
    curve: bool = False,
    chunk: int | None = 10,
) -> Metric:
    """A metric that is a summary of the scores while pixels disappear, or are put into the baseline.

    Args:
      apply: the network.
      baseline: what removed pixels show.
      of: which score.
      order: ``(x, attribution) ->`` the place of each pixel in the order, and how many are gone at each step.
      summary: of the scores, ``(N, S) -> (N,)``.
      inserts: whether pixels are put into the baseline instead of removed from the image.
      curve: see `CurveOptions`.
      chunk: see `CurveOptions`.
    """

    @metric(apply)
    def measure(f: OfImages, x: Array, attribution: Array, target: Target, key: Array | None) -> Array:
        score, x0 = scores(f, x, target, of=of), replacement(baseline, x, f)
        places, counts = order(x, attribution)
        values = removal(score, *((x0, x) if inserts else (x, x0)), places, counts, chunk)
        return values if curve else summary(values)

    return measure


def removal(score: Function, x: Array, x0: Array, places: Array, counts: np.ndarray, chunk: int | None) -> Array:
    """The scores ``(N, S)`` of images that show ``x0`` where a pixel's place in the order is below each count."""
    return chunked_map(lambda count: score(hide(x, places < count, x0)), jnp.asarray(counts), chunk).T


def pixel_places(attribution: Array, sign: int = 1) -> Array:
    """The place of each pixel, ``(N, H, W)``: 0 for the largest attribution, or with ``sign=-1`` for the smallest."""
    maps = summed(attribution)
    return ranks(flat(sign * maps)).reshape(maps.shape)


def counts_by_fraction(steps: int, x: Array) -> np.ndarray:
    """How many pixels are gone after 0 ... ``steps`` equal steps."""
    pixels = x.shape[1] * x.shape[2]
    if steps > pixels:
        raise ValueError(f"{steps=} is more than the image has pixels, {pixels}: take fewer steps")
    return np.arange(steps + 1) * pixels // steps


def counts_by_step(size: int, x: Array) -> np.ndarray:
    """How many pixels are gone after each step of ``size`` pixels, until all are."""
    pixels = x.shape[1] * x.shape[2]
    return np.minimum(np.arange(1, -(-pixels // size) + 1) * size, pixels)


def sign_of(order: Order) -> int:
    """1 where the most relevant goes first, -1 where the least relevant does."""
    if order not in ("morf", "lerf"):
        raise ValueError(f"unknown {order=}: choose morf (most relevant first) or lerf (least relevant first)")
    return 1 if order == "morf" else -1


def area(values: Array) -> Array:
    """The area under curves ``(N, S)`` with steps of width 1, by trapezoids."""
    return jnp.trapezoid(values, axis=1)
