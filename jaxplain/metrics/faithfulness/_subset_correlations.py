"""Faithfulness by effects: whether what the map says about pixels agrees with what their removal does to the score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ..._chunking import chunked_map
from ..._convention import (
    Apply,
    Array,
    Function,
    OfImages,
    Score,
    Target,
    example_keys,
    reference,
    require_positive,
    scores,
)
from ..._migration import takes_old_options
from ..._reductions import at_least_float32, root_mean_square
from .._common import (
    Baseline,
    Metric,
    grid_regions,
    hide,
    metric,
    pearson,
    ranks,
    replacement,
    spearman,
    summed,
)
from ._deletion_curves import pixel_places

__all__ = [
    "faithfulness_correlation",
    "faithfulness_estimate",
    "infidelity",
    "monotonicity_correlation",
    "sensitivity_n",
]

Sets: TypeAlias = Callable[[Array], Array]  # the number of a set -> its pixels, (N, H, W), or (H, W) for all examples


@takes_old_options
def faithfulness_correlation(
    apply: Apply,
    *,
    samples: int = 100,
    subset_size: int = 224,
    masks: ArrayLike | None = None,
    baseline: Baseline = 0.0,
    of: Score = "output",
    chunk: int | None = 10,
) -> Metric:
    """The correlation of what the map says about random sets of pixels with what their removal does; 1 is best.

    ``corr over sets S of (Σ_{i in S} A_i,  z_c(x) - z_c(x without S))``

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function of images ``(N, H, W, C)``.
      samples: the number of sets (``nr_runs`` in Quantus).
      subset_size: how many pixels are in a set, drawn for each example without replacement.
      masks: ``(M, H, W)``, sets to take instead of drawing them, the same for all examples; needs no key.
      baseline: what removed pixels show, as for `deletion`. The default of Quantus is the image's smallest value.
      of: the score is the ``"probability"``, or the ``"output"`` itself (see `jaxplain.scores`).
      chunk: how many sets are removed at once; memory does not depend on ``samples``.

    Returns:
      A metric ``(*args, attribution, target=None, key=None) -> (N,)``; NaN where the map or the score is constant.

    Raises:
      ValueError: if ``key`` is missing, an option is out of range, or the attribution does not belong to the images.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> f = lambda x: x.sum(axis=(1, 2, 3))
      >>> x = jnp.array([4.0, 3.0, 2.0, 1.0]).reshape(1, 2, 2, 1)
      >>> metric = jaxplain.metrics.faithfulness_correlation(f, subset_size=2)
      >>> metric(x, attribution=x, key=jax.random.key(0)).round(4)
      Array([1.], dtype=float32)

    Reference:
      Bhatt, Weller, Moura: Evaluating and Aggregating Feature-based Model Explanations. IJCAI 2020, arXiv:2005.00631.
    """
    require_positive(samples=samples, subset_size=subset_size)

    @metric(apply)
    def measure(f: OfImages, x: Array, attribution: Array, target: Target, key: Array | None) -> Array:
        if masks is None:
            keys = example_keys(key, x, "faithfulness_correlation")
            sets, number = random_subsets(keys, np.full(samples, subset_size), x), samples
        else:
            sets, number = given_subsets(masks, x)
        score = scores(f, x, target, of=of)
        return pearson(*effects(score, x, replacement(baseline, x, f), summed(attribution), sets, number, chunk))

    return measure


@takes_old_options
def sensitivity_n(
    apply: Apply,
    *,
    sizes: Sequence[int] = (1, 4, 16, 64, 256),
    samples: int = 100,
    baseline: Baseline = 0.0,
    of: Score = "output",
    curve: bool = False,
    chunk: int | None = 10,
) -> Metric:
    """`faithfulness_correlation` for sets of several sizes n; 1 is best.

    ``corr over sets S of n pixels of (Σ_{i in S} A_i,  z_c(x) - z_c(x without S)),  mean over n``

    This is the definition of the paper. Quantus 0.6 removes pixels in the order of the map, compares what the last ones
    are said to do with what all of them did, and correlates over the examples of the batch.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function of images ``(N, H, W, C)``.
      sizes: the numbers n of pixels in a set.
      samples: how many sets of each size are drawn for each example.
      baseline: what removed pixels show, as for `deletion`.
      of: the score is the ``"probability"``, or the ``"output"`` itself (see `jaxplain.scores`).
      curve: whether to return the correlation for every n, ``(N, len(sizes))``, instead of the mean.
      chunk: how many sets are removed at once.

    Returns:
      A metric ``(*args, attribution, target=None, key=None) -> (N,)``.

    Raises:
      ValueError: as `faithfulness_correlation`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> f = lambda x: x.sum(axis=(1, 2, 3))
      >>> x = jnp.array([4.0, 3.0, 2.0, 1.0]).reshape(1, 2, 2, 1)
      >>> metric = jaxplain.metrics.sensitivity_n(f, sizes=(1, 2), samples=20)
      >>> metric(x, attribution=x, key=jax.random.key(0)).round(4)
      Array([1.], dtype=float32)

    Reference:
      Ancona, Ceolini, Öztireli, Gross: Towards Better Understanding of Gradient-based Attribution Methods for Deep
      Neural Networks. ICLR 2018, arXiv:1711.06104.
    """
    require_positive(samples=samples, **{"every size": min(sizes, default=0)})

    @metric(apply)
    def measure(f: OfImages, x: Array, attribution: Array, target: Target, key: Array | None) -> Array:
        keys = example_keys(key, x, "sensitivity_n")
        sets, number = random_subsets(keys, np.repeat(sizes, samples), x), len(sizes) * samples
        score = scores(f, x, target, of=of)
        pairs = effects(score, x, replacement(baseline, x, f), summed(attribution), sets, number, chunk)
        correlations = pearson(*(a.reshape(-1, samples) for a in pairs)).reshape(-1, len(sizes))
        return correlations if curve else correlations.mean(axis=1)

    return measure


@takes_old_options
def faithfulness_estimate(
    apply: Apply,
    *,
    features_in_step: int = 1,
    baseline: Baseline = 0.0,
    of: Score = "output",
    chunk: int | None = 10,
) -> Metric:
    """The correlation of what the map says about each pixel with what its removal alone does; 1 is best.

    ``corr over pixels i of (A_i,  z_c(x) - z_c(x without i))``

    With ``features_in_step`` above 1, over groups of as many pixels, by rank: the most relevant ones, the next, ...

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function of images ``(N, H, W, C)``.
      features_in_step: how many pixels are in a group.
      baseline: what removed pixels show, as for `deletion`. The default of Quantus is the image's smallest value.
      of: the score is the ``"probability"``, or the ``"output"`` itself (see `jaxplain.scores`).
      chunk: how many groups are removed at once.

    Returns:
      A metric ``(*args, attribution, target=None) -> (N,)``; NaN where the map or the score is constant.

    Raises:
      ValueError: if an option is out of range or the attribution does not belong to the images.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: (x**2).sum(axis=(1, 2, 3))
      >>> x = jnp.array([4.0, 3.0, 2.0, 1.0]).reshape(1, 2, 2, 1)
      >>> jaxplain.metrics.faithfulness_estimate(f)(x, attribution=x**2).round(4)
      Array([1.], dtype=float32)

    Reference:
      Alvarez-Melis, Jaakkola: Towards Robust Interpretability with Self-Explaining Neural Networks. NeurIPS 2018,
      arXiv:1806.07538.
    """
    require_positive(features_in_step=features_in_step)

    @metric(apply)
    def measure(f: OfImages, x: Array, attribution: Array, target: Target, key: Array | None) -> Array:
        sets, number = rank_groups(attribution, features_in_step)
        score = scores(f, x, target, of=of)
        return pearson(*effects(score, x, replacement(baseline, x, f), summed(attribution), sets, number, chunk))

    return measure


@takes_old_options
def monotonicity_correlation(
    apply: Apply,
    *,
    features_in_step: int = 1,
    samples: int = 100,
    low: float = 0.0,
    high: float = 1.0,
    baseline: Baseline | None = None,
    eps: float = 1e-5,
    of: Score = "probability",
    chunk: int | None = 10,
) -> Metric:
    """The rank correlation of each pixel's importance with how much the score varies with it; 1 is best.

    ``rank corr over pixels i of (|A_i|,  E[(p_c(x with x_i = u) - p_c(x))²] / p_c(x)²),  u ~ U(low, high)``

    With ``features_in_step`` above 1, over groups of as many pixels, by rank. Where ``|p_c(x)| < eps`` nothing is
    divided.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function of images ``(N, H, W, C)``.
      features_in_step: how many pixels are in a group; they get the same u.
      samples: how many values u are drawn for each example; every pixel sees the same ones.
      low: the smallest u, in the input's units.
      high: the largest u.
      baseline: what the pixels show instead of random values, as for `deletion`; needs no key.
      eps: the smallest score to divide by.
      of: the score is the ``"probability"``, or the ``"output"`` itself (see `jaxplain.scores`).
      chunk: how many groups are changed at once, ``samples`` evaluations one after the other for each.

    Returns:
      A metric ``(*args, attribution, target=None, key=None) -> (N,)``.

    Raises:
      ValueError: if ``key`` is missing, an option is out of range, or the attribution does not belong to the images.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: (x**2).sum(axis=(1, 2, 3))
      >>> x = jnp.array([4.0, 3.0, 2.0, 1.0]).reshape(1, 2, 2, 1)
      >>> jaxplain.metrics.monotonicity_correlation(f, baseline=0.0, of="output")(x, attribution=x).round(4)
      Array([1.], dtype=float32)

    Reference:
      Nguyen, Rodríguez Martínez: On Quantitative Aspects of Model Interpretability. arXiv:2007.07584, 2020.
    """
    require_positive(features_in_step=features_in_step, samples=samples)

    @metric(apply)
    def measure(f: OfImages, x: Array, attribution: Array, target: Target, key: Array | None) -> Array:
        importance, score = jnp.abs(summed(attribution)), scores(f, x, target, of=of)
        sets, number = rank_groups(importance, features_in_step)
        full = score(x)
        if baseline is None:
            keys, draws = example_keys(key, x, "monotonicity_correlation"), samples
            draw = lambda key, i: jax.random.uniform(jax.random.fold_in(key, i), (1, 1, 1), jnp.float32, low, high)
            value = lambda i: reference(jax.vmap(draw, (0, None))(keys, i).astype(x.dtype), x)
        else:
            x0, draws = replacement(baseline, x, f), 1
            value = lambda i: x0

        def of_group(index: Array) -> tuple[Array, Array]:
            hidden = sets(index)
            change = chunked_map(lambda i: score(hide(x, hidden, value(i))) - full, jnp.arange(draws), 1)
            varied = root_mean_square(change, 0)  # has the rank of its square, which may be too small a number
            return jnp.where(hidden, importance, 0).sum(axis=(1, 2)), varied

        claimed, varied = chunked_map(of_group, jnp.arange(number), chunk)
        scale = jnp.where(jnp.abs(full) >= eps, jnp.abs(full), 1)
        return spearman(claimed.T, varied.T / scale[:, None])

    return measure


@takes_old_options
def infidelity(
    apply: Apply,
    *,
    patch_size: int = 4,
    masks: ArrayLike | None = None,
    noise: float | None = None,
    samples: int = 100,
    baseline: Baseline = 0.0,
    of: Score = "output",
    chunk: int | None = 10,
) -> Metric:
    """The mean squared error of what the map predicts for perturbations of the input; 0 is best.

    ``E over perturbations I of (Σ_i I_i A_i - (z_c(x) - z_c(x - I)))²``

    Perturbations are the removal of each square patch (``I = x - x0`` inside, 0 outside), of the given sets of pixels,
    or Gaussian noise. The attribution counts colour by colour; one without channels holds for every colour.

    Quantus 0.6 removes the patches one after the other and puts none back: cumulated ``masks`` give its number.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function of images ``(N, H, W, C)``.
      patch_size: the side of a patch in pixels.
      masks: ``(M, H, W)``, sets of pixels to remove instead of the patches.
      noise: the standard deviation of Gaussian perturbations instead of removals, in the input's units; needs a key.
      samples: how many of them are drawn for each example.
      baseline: x0, what removed pixels show, as for `deletion`. The default of Quantus is the image's smallest value.
      of: the score is the ``"probability"``, or the ``"output"`` itself (see `jaxplain.scores`).
      chunk: how many perturbations are evaluated at once.

    Returns:
      A metric ``(*args, attribution, target=None, key=None) -> (N,)``, in squared units of the score.

    Raises:
      ValueError: if ``key`` is missing, an option is out of range, or the attribution does not belong to the images.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: 3 * x.sum(axis=(1, 2, 3))
      >>> x = jnp.array([4.0, 3.0, 2.0, 1.0]).reshape(1, 2, 2, 1)
      >>> metric = jaxplain.metrics.infidelity(f, patch_size=1)
      >>> metric(x, attribution=jnp.full((1, 2, 2), 3.0)), metric(x, attribution=jnp.zeros((1, 2, 2)))
      (Array([0.], dtype=float32), Array([67.5], dtype=float32))

    Reference:
      Yeh, Hsieh, Suggala, Inouye, Ravikumar: On the (In)fidelity and Sensitivity of Explanations. NeurIPS 2019,
      arXiv:1901.09392.
    """
    require_positive(patch_size=patch_size, samples=samples)
    if masks is not None and noise is not None:
        raise ValueError("masks are removed and noise is added: pass one of them")

    @metric(apply)
    def measure(f: OfImages, x: Array, attribution: Array, target: Target, key: Array | None) -> Array:
        score, x0 = scores(f, x, target, of=of), replacement(baseline, x, f)
        a = at_least_float32(attribution if attribution.ndim == 4 else attribution[..., None])
        if noise is not None:
            keys, number = example_keys(key, x, "infidelity"), samples
            draw = lambda key, i: jax.random.normal(jax.random.fold_in(key, i), x.shape[1:], jnp.float32)
            perturbed = lambda i: x - jnp.asarray(noise, x.dtype) * jax.vmap(draw, (0, None))(keys, i).astype(x.dtype)
        else:
            sets, number = patches(patch_size, x) if masks is None else given_subsets(masks, x)
            perturbed = lambda i: hide(x, sets(i), x0)
        full = score(x)

        def error(index: Array) -> Array:
            other = perturbed(index)
            return ((at_least_float32(x - other) * a).sum(axis=(1, 2, 3)) - (full - score(other))) ** 2

        return chunked_map(error, jnp.arange(number), chunk).mean(axis=0)

    return measure


# ------------------------------------------------------------------------------------------- sets of pixels to remove


def effects(
    score: Function, x: Array, x0: Array, maps: Array, sets: Sets, number: int, chunk: int | None
) -> tuple[Array, Array]:
    """The attribution inside of each set, and how far the score drops when it is removed, both ``(N, number)``."""
    full = score(x)

    def effect(index: Array) -> tuple[Array, Array]:
        hidden = sets(index)
        claimed = jnp.where(hidden if hidden.ndim == 3 else hidden[None], maps, 0).sum(axis=(1, 2))
        return claimed, full - score(hide(x, hidden, x0))

    claimed, dropped = chunked_map(effect, jnp.arange(number), chunk)
    return claimed.T, dropped.T


def random_subsets(keys: Array, sizes: np.ndarray, x: Array) -> Sets:
    """Random sets of pixels, of the given sizes, for each example its own."""
    height, width = x.shape[1:3]
    if sizes.max() >= height * width:
        raise ValueError(f"a set of {sizes.max()} pixels is no part of an image of {height} x {width}: take fewer")
    draw = lambda key, index: jax.random.uniform(jax.random.fold_in(key, index), (height * width,), jnp.float32)

    def sets(index: Array) -> Array:
        places = ranks(jax.vmap(draw, (0, None))(keys, index))
        return (places < jnp.asarray(sizes)[index]).reshape(-1, height, width)

    return sets


def given_subsets(masks: ArrayLike, x: Array) -> tuple[Sets, int]:
    """The user's sets, and how many there are."""
    masks = jnp.asarray(masks)
    if masks.ndim != 3 or masks.shape[1:] != x.shape[1:3] or len(masks) == 0:
        raise ValueError(f"masks have shape {masks.shape}: stack sets of pixels of shape {x.shape[1:3]} along axis 0")
    return lambda index: masks[index] != 0, len(masks)


def patches(size: int, x: Array) -> tuple[Sets, int]:
    """Each square patch of the image, and how many there are."""
    regions, number = grid_regions(x.shape[1:3], size)
    return lambda index: jnp.asarray(regions) == index, number


def rank_groups(attribution: Array, size: int) -> tuple[Sets, int]:
    """Groups of ``size`` pixels, those of largest attribution first, and how many there are."""
    places = pixel_places(attribution)
    return lambda index: places // size == index, -(-places.shape[1] * places.shape[2] // size)
