"""Removal of regions, square patches or segments: as in `removal`, but all pixels of a region share one place."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ..._convention import Apply, Array, OfImages, Score, Target, concrete, require_positive, scores
from ..._migration import takes_old_options
from .._common import Baseline, Metric, Order, flat, grid_regions, metric, ranks, replacement, summed
from ._deletion_curves import CurveOptions, area, removal, removal_curve, sign_of

__all__ = ["irof", "region_perturbation", "selectivity"]


@takes_old_options
def region_perturbation(
    apply: Apply,
    *,
    patch_size: int = 8,
    order: Order = "morf",
    regions_evaluation: int | None = 100,
    baseline: Baseline = 0.0,
    of: Score = "probability",
    curve: bool = False,
    chunk: int | None = 10,
) -> Metric:
    """The area over the perturbation curve, AOPC: how far the score drops while patches disappear.

    ``AOPC = 1/(L + 1) Σ_k (s_0 - s_k),  k = 0 ... L,  s_k = p_c(x without its first k patches)``

    Patches are ordered by the sum of the attribution inside. With ``patch_size=1`` it is the AOPC of pixel flipping.
    Quantus returns the drops alone, as ``curve=True`` does.

    Args:
      apply: ``apply(*args) -> logits``, any JAX function of images ``(N, H, W, C)``.
      patch_size: the side of a patch in pixels; those at the border are smaller where the image is no multiple of it.
      order: ``"morf"``, most relevant first (a higher area is better), or ``"lerf"``, least relevant first.
      regions_evaluation: L, how many patches disappear; all of them where there are fewer, or with `None`.
      baseline: as for `deletion`. The default of Quantus is the smallest value of each image.
      of: the score is the ``"probability"``, or the ``"output"`` itself (see `jaxplain.scores`).
      curve: whether to return the drops ``s_0 - s_k`` of k = 1 ... L, ``(N, L)``, instead of the area.
      chunk: how many steps are evaluated at once.

    Returns:
      A metric ``(*args, attribution, target=None) -> (N,)``.

    Raises:
      ValueError: if an option is out of range or the attribution does not belong to the images.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x.sum(axis=(1, 2, 3))
      >>> x = jnp.array([4.0, 3.0, 2.0, 1.0]).reshape(1, 2, 2, 1)
      >>> jaxplain.metrics.region_perturbation(f, patch_size=1, of="output")(x, attribution=x)  # (4 + 7 + 9 + 10) / 5
      Array([6.], dtype=float32)

    Reference:
      Samek, Binder, Montavon, Lapuschkin, Müller: Evaluating the Visualization of What a Deep Neural Network Has
      Learned. IEEE TNNLS 2017, arXiv:1509.06321.
    """
    require_positive(patch_size=patch_size, regions_evaluation=1 if regions_evaluation is None else regions_evaluation)
    sign = sign_of(order)

    @metric(apply)
    def measure(f: OfImages, x: Array, attribution: Array, target: Target, key: Array | None) -> Array:
        score = scores(f, x, target, of=of)
        places, number = patch_places(attribution, patch_size, sign)
        counts = np.arange(1, min(number, regions_evaluation or number) + 1)
        drops = score(x)[:, None] - removal(score, x, replacement(baseline, x, f), places, counts, chunk)
        return drops if curve else drops.sum(axis=1) / (len(counts) + 1)

    return measure


@takes_old_options
def selectivity(
    apply: Apply,
    *,
    patch_size: int = 8,
    baseline: Baseline = 0.0,
    of: Score = "probability",
    **options: Unpack[CurveOptions],
) -> Metric:
    """The area under the score while all patches disappear, the most relevant first; lower is better.

    ``S = Σ_k (s_{k-1} + s_k) / 2,  k = 2 ... L,  s_k = p_c(x without its first k patches)``

    As in Quantus, the intact image is no part of the curve, and the area is not divided by its length.

    Args:
      apply: ``apply(*args) -> logits``, any JAX function of images ``(N, H, W, C)``.
      patch_size: the side of a patch in pixels.
      baseline: as for `deletion`.
      of: the score is the ``"probability"``, or the ``"output"`` itself (see `jaxplain.scores`).
      **options: see `CurveOptions`; the curve is s_1 ... s_L, ``(N, L)``.

    Returns:
      A metric ``(*args, attribution, target=None) -> (N,)``.

    Raises:
      ValueError: as `region_perturbation`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x.sum(axis=(1, 2, 3))
      >>> x = jnp.array([4.0, 3.0, 2.0, 1.0]).reshape(1, 2, 2, 1)
      >>> jaxplain.metrics.selectivity(f, patch_size=1, of="output")(x, attribution=x)  # 4.5 + 2 + 0.5
      Array([7.], dtype=float32)

    Reference:
      Montavon, Samek, Müller: Methods for Interpreting and Understanding Deep Neural Networks. Digital Signal
      Processing 2018, arXiv:1706.07979.
    """
    require_positive(patch_size=patch_size)

    def order(x: Array, attribution: Array) -> tuple[Array, np.ndarray]:
        places, number = patch_places(attribution, patch_size)
        return places, np.arange(1, number + 1)

    return removal_curve(apply, baseline, of, order, area, **options)


@takes_old_options
def irof(
    apply: Apply,
    *,
    segments: ArrayLike,
    baseline: Baseline = "mean",
    of: Score = "probability",
    curve: bool = False,
    chunk: int | None = 10,
) -> Metric:
    """The area over the relative score while segments disappear, the most relevant first; higher is better.

    ``IROF = Σ_k (1 - (r_{k-1} + r_k) / 2),  k = 1 ... L,  r_k = p_c(x without its first k segments) / p_c(x)``

    Segments are ordered by the mean of the attribution inside. Quantus 0.6 leaves r_0 = 1 out of the area, and ends up
    larger by ``(1 + r_1) / 2``: there, a score that does not move has an IROF of 1 instead of 0.

    Args:
      apply: ``apply(*args) -> logits``, any JAX function of images ``(N, H, W, C)``.
      segments: ``(N, H, W)`` or ``(H, W)``, the number of the segment that each pixel lies in, such as
        ``skimage.segmentation.slic`` gives.
      baseline: as for `deletion`; the paper takes the mean colour.
      of: the score is the ``"probability"``, or the ``"output"`` itself (see `jaxplain.scores`).
      curve: whether to return the ratios r_1 ... r_L, ``(N, L)``, instead of the area. L is the largest number of
        segments of an image; the ratios of an image with fewer end early and stay.
      chunk: how many steps are evaluated at once.

    Returns:
      A metric ``(*args, attribution, target=None) -> (N,)``, between 0 and L where the score only falls.

    Raises:
      ValueError: if the segments do not belong to the images, or are traced, so that their number is unknown.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x.sum(axis=(1, 2, 3))
      >>> x = jnp.array([4.0, 2.0, 1.0, 1.0]).reshape(1, 2, 2, 1)
      >>> halves = jnp.array([[0, 0], [1, 1]])
      >>> metric = jaxplain.metrics.irof(f, segments=halves, baseline=0.0, of="output")
      >>> metric(x, attribution=x)  # the ratios are 1, 1/4, 0
      Array([1.25], dtype=float32)

    Reference:
      Rieger, Hansen: IROF: A Low Resource Evaluation Metric for Explanation Methods. arXiv:2003.08747, 2020.
    """
    if not concrete(segments) or not np.issubdtype(np.asarray(segments).dtype, np.integer):
        raise ValueError("segments must be known integers, not traced ones: make the metric outside of jax.jit")
    number = int(np.max(segments)) + 1
    if np.min(segments) < 0:
        raise ValueError(f"segments have labels {np.min(segments)} to {number - 1}: number them from 0")

    @metric(apply)
    def measure(f: OfImages, x: Array, attribution: Array, target: Target, key: Array | None) -> Array:
        score, maps = scores(f, x, target, of=of), summed(attribution)
        if np.shape(segments) not in (x.shape[:3], x.shape[1:3]):
            raise ValueError(f"segments of shape {np.shape(segments)} do not belong to images of shape {x.shape}")
        regions = jnp.broadcast_to(jnp.asarray(segments).reshape(-1, *x.shape[1:3]), maps.shape)
        sizes = region_sums(jnp.ones_like(maps), regions, number)
        means = jnp.where(sizes > 0, region_sums(maps, regions, number) / jnp.maximum(sizes, 1), -jnp.inf)
        places = place_of_regions(means, regions)
        values = removal(score, x, replacement(baseline, x, f), places, np.arange(1, number + 1), chunk)
        ratios = values / score(x)[:, None]
        before = jnp.concatenate([jnp.ones_like(ratios[:, :1]), ratios[:, :-1]], axis=1)
        exists = jnp.arange(1, number + 1)[None] <= (sizes > 0).sum(axis=1, keepdims=True)
        return ratios if curve else jnp.where(exists, 1 - (before + ratios) / 2, 0).sum(axis=1)

    return measure


def patch_places(attribution: Array, size: int, sign: int = 1) -> tuple[Array, int]:
    """The place of each pixel's square patch, ``(N, H, W)``, by the sum inside, and how many patches there are."""
    maps = summed(attribution)
    patches, number = grid_regions(maps.shape[1:], size)
    regions = jnp.broadcast_to(jnp.asarray(patches)[None], maps.shape)
    return place_of_regions(sign * region_sums(maps, regions, number), regions), number


def region_sums(maps: Array, regions: Array, number: int) -> Array:
    """The sum of each map over each region, ``(N, number)``."""
    return jax.vmap(lambda a, r: jax.ops.segment_sum(a, r, number))(flat(maps), flat(regions))


def place_of_regions(values: Array, regions: Array) -> Array:
    """The place of each pixel's region in descending order of the regions' values, ``(N, H, W)``."""
    return jax.vmap(lambda place, region: place[region])(ranks(values), regions)
