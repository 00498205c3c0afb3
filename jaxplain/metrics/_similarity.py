"""Map similarity: how a map compares with another one, or with where people looked.

Names and definitions are those of saliency prediction (Bylinskii et al. 2019). A *density* is a map that is nowhere
negative, of which only the proportions count; *fixations* are the pixels that were looked at, true or not 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._convention import Array
from .._reductions import root_mean_square
from ._common import below, centred, flat, heatmap_and_mask, nan_unless_finite, pearson, spearman, to_heatmap

__all__ = ["auc_judd", "kl", "nss", "pcc", "rank_correlation", "sim", "ssim"]


def pcc(attribution: ArrayLike, reference: ArrayLike) -> Array:
    """Pearson's correlation coefficient of two maps.

    ``cov(A, B) / (std A · std B)``

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed.
      reference: a map of the same examples, such as a density of fixations.

    Returns:
      ``(N,)``, between -1 and 1; NaN where a map is constant.

    Raises:
      ValueError: if the maps' shapes differ or one is not finite.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> a = jnp.array([[[1.0, 2.0], [3.0, 4.0]]])
      >>> jaxplain.metrics.pcc(a, 10 - 2 * a).round(4)
      Array([-1.], dtype=float32)

    Reference:
      Bylinskii, Judd, Oliva, Torralba, Durand: What Do Different Evaluation Metrics Tell Us About Saliency Models? IEEE
      TPAMI 2019, arXiv:1604.03605.
    """
    return pearson(*two_maps(attribution, reference))


def rank_correlation(attribution: ArrayLike, reference: ArrayLike) -> Array:
    """Spearman's rank correlation of two maps; equal values share the mean of their ranks.

    ``pcc(rank A, rank B)``

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed.
      reference: a map of the same examples.

    Returns:
      ``(N,)``, between -1 and 1; NaN where a map is constant.

    Raises:
      ValueError: as `pcc`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> a = jnp.array([[[1.0, 2.0], [3.0, 4.0]]])
      >>> jaxplain.metrics.rank_correlation(a, a**3).round(4)
      Array([1.], dtype=float32)

    Reference:
      Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim: Sanity Checks for Saliency Maps. NeurIPS 2018, arXiv:1810.03292.
    """
    a, b = two_maps(attribution, reference)
    return nan_unless_finite(a + b, spearman(a, b))


def sim(attribution: ArrayLike, density: ArrayLike) -> Array:
    """Similarity, or histogram intersection, of two distributions; 1 where they are the same.

    ``Σ_i min(P_i, Q_i),  P = max(A, 0) / Σ max(A, 0), Q likewise``

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed. The positive part counts.
      density: of fixations, of the same examples.

    Returns:
      ``(N,)``, between 0 and 1; NaN where a map has no positive part.

    Raises:
      ValueError: as `pcc`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> jaxplain.metrics.sim(jnp.array([[[1.0, 3.0], [0.0, -2.0]]]), jnp.array([[[2.0, 1.0], [1.0, 0.0]]]))
      Array([0.5], dtype=float32)

    Reference:
      Bylinskii, Judd, Oliva, Torralba, Durand: What Do Different Evaluation Metrics Tell Us About Saliency Models? IEEE
      TPAMI 2019, arXiv:1604.03605.
    """
    p, q = map(distribution, two_maps(attribution, density))
    return jnp.minimum(p, q).sum(axis=1)


def kl(attribution: ArrayLike, density: ArrayLike, *, eps: float = 2.2204e-16) -> Array:
    """The Kullback-Leibler divergence of the map from a density; 0 where they are the same.

    ``Σ_i Q_i log(ε + Q_i / (ε + P_i)),  P = max(A, 0) / Σ max(A, 0), Q likewise of the density``

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed. The positive part counts.
      density: of fixations, of the same examples.
      eps: ε, which bounds what a pixel costs that was looked at and has no attribution.

    Returns:
      ``(N,)``, in nats; NaN where a map has no positive part.

    Raises:
      ValueError: as `pcc`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> a = jnp.array([[[1.0, 1.0], [1.0, 1.0]]])
      >>> jaxplain.metrics.kl(a, jnp.array([[[1.0, 1.0], [0.0, 0.0]]]))  # log 2
      Array([0.6931472], dtype=float32)

    Reference:
      Bylinskii, Judd, Oliva, Torralba, Durand: What Do Different Evaluation Metrics Tell Us About Saliency Models? IEEE
      TPAMI 2019, arXiv:1604.03605.
    """
    p, q = map(distribution, two_maps(attribution, density))
    return (q * jnp.log(eps + q / (eps + p))).sum(axis=1)


def nss(attribution: ArrayLike, fixations: ArrayLike) -> Array:
    """Normalised scanpath saliency: the mean of the standardised map at the fixations; chance is 0.

    ``mean over fixations i of (A_i - mean A) / std A``

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed.
      fixations: ``(N, H, W)``, how often each pixel was looked at, or whether.

    Returns:
      ``(N,)``; NaN where there is no fixation or the map is constant.

    Raises:
      ValueError: as `pcc`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> a = jnp.array([[[1.0, -1.0], [-1.0, 1.0]]])
      >>> jaxplain.metrics.nss(a, a > 0)
      Array([1.], dtype=float32)

    Reference:
      Bylinskii, Judd, Oliva, Torralba, Durand: What Do Different Evaluation Metrics Tell Us About Saliency Models? IEEE
      TPAMI 2019, arXiv:1604.03605.
    """
    a, looks = two_maps(attribution, fixations)
    a = centred(a)
    standardised = a / root_mean_square(a, keepdims=True)
    return (standardised * looks).sum(axis=1) / looks.sum(axis=1)


def auc_judd(attribution: ArrayLike, fixations: ArrayLike) -> Array:
    """The area under the ROC curve of telling fixated pixels by the map, thresholds at the fixations only.

    The curve goes from (0, 0) through a point for every fixation to (1, 1). A pixel that was not looked at, with F
    fixations ranked above it out of n, adds the height of the curve there:
    ``mean over these pixels of min(1, (F + 1/2) / n)``.

    Equal values count half. The authors' code adds noise instead, so that their order is random.

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed.
      fixations: ``(N, H, W)``, true or not 0 where people looked.

    Returns:
      ``(N,)``, between 0 and 1; NaN where there is no fixation, or nothing else.

    Raises:
      ValueError: as `pcc`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> a = jnp.array([[[4.0, 3.0], [2.0, 1.0]]])
      >>> fixations = jnp.array([[[1, 0], [1, 0]]])
      >>> jaxplain.metrics.auc_judd(a, fixations)  # (3/4 + 1) / 2
      Array([0.875], dtype=float32)

    Reference:
      Judd, Ehinger, Durand, Torralba: Learning to Predict Where Humans Look. ICCV 2009.
    """
    a, looked = heatmap_and_mask(attribution, fixations)
    fixated = jnp.where(looked, -a, jnp.inf)  # others behind all fixations, so that what lies below a point is fixated
    number = looked.sum(axis=1, keepdims=True).astype(a.dtype)
    above = 0.5 * (below(fixated, -a, "left") + below(fixated, -a, "right"))
    heights = jnp.minimum(1, (above + 0.5) / number)
    share = jnp.where(looked, 0, heights).sum(axis=1) / (a.shape[1] - number[:, 0])
    return nan_unless_finite(a, jnp.where(number[:, 0] > 0, share, jnp.nan))


def ssim(
    attribution: ArrayLike, reference: ArrayLike, *, window: int = 7, data_range: ArrayLike | None = None
) -> Array:
    """The structural similarity of two maps; 1 where they are the same.

    ``mean of (2 μa μb + c1)(2 σab + c2) / ((μa² + μb² + c1)(σa² + σb² + c2)),  c1 = (0.01 L)², c2 = (0.03 L)²``

    with means μ, sample variances σ² and covariances over square windows that lie inside of the image.

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed.
      reference: a map of the same examples.
      window: the side of the windows in pixels, odd.
      data_range: L, a number or ``(N,)``; by default the largest value of both maps less the smallest, as in Quantus.

    Returns:
      ``(N,)``, between -1 and 1; NaN for two constant maps.

    Raises:
      ValueError: as `pcc`, or if the window is even or larger than the map.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> a = jnp.arange(16.0).reshape(1, 4, 4)
      >>> jaxplain.metrics.ssim(a, a, window=3).round(4), jaxplain.metrics.ssim(a, 15 - a, window=3) < 0
      (Array([1.], dtype=float32), Array([ True], dtype=bool))

    Reference:
      Wang, Bovik, Sheikh, Simoncelli: Image Quality Assessment: From Error Visibility to Structural Similarity. IEEE
      TIP 2004.
    """
    a, b = (v.reshape(to_heatmap(attribution).shape) for v in two_maps(attribution, reference))
    if window % 2 == 0 or not 1 < window <= min(a.shape[1:]):
        raise ValueError(f"{window=} must be odd, more than 1, and fit into maps of {a.shape[1]} x {a.shape[2]}")
    return structural_similarity(a, b, window, data_range)


def structural_similarity(a: Array, b: Array, window: int, data_range: ArrayLike | None = None) -> Array:
    """`ssim` of arrays with any number of spatial axes."""
    axes = tuple(range(1, a.ndim))
    spread = jnp.maximum(a.max(axes), b.max(axes)) - jnp.minimum(a.min(axes), b.min(axes))
    scale = jnp.broadcast_to(spread if data_range is None else jnp.asarray(data_range, a.dtype), spread.shape)
    of_example = lambda v: v.reshape(-1, *(1,) * len(axes))
    low = jnp.minimum(a.min(axes), b.min(axes))
    # Both so that L = 1; differences by what is above the least value, which keeps digits beside a large offset.
    above_a, above_b = ((v - of_example(low)) / of_example(scale) for v in (a, b))
    a, b = (v / of_example(scale) for v in (a, b))
    size = window ** len(axes)
    c1, c2 = 0.01**2, 0.03**2

    def mean(v: Array) -> Array:
        return jax.lax.reduce_window(v, 0.0, jax.lax.add, (1, *(window,) * len(axes)), (1,) * v.ndim, "VALID") / size

    covariance = lambda u, v: (mean(u * v) - mean(u) * mean(v)) * size / (size - 1)
    luminance = (2 * mean(a) * mean(b) + c1) / (mean(a) ** 2 + mean(b) ** 2 + c1)
    variances = covariance(above_a, above_a) + covariance(above_b, above_b)
    structure = (2 * covariance(above_a, above_b) + c2) / (variances + c2)
    return (luminance * structure).mean(axes)


def two_maps(attribution: ArrayLike, reference: ArrayLike) -> tuple[Array, Array]:
    """Two maps of the same examples, flattened to ``(N, H · W)``."""
    a, b = to_heatmap(attribution), to_heatmap(reference)
    if a.shape != b.shape:
        raise ValueError(f"maps of shapes {a.shape} and {b.shape} cannot be compared: resize one of them first")
    return flat(a), flat(b)


def distribution(a: Array) -> Array:
    """The positive part of ``(N, P)``, with the sum 1."""
    positive = jnp.maximum(a, 0)
    return positive / positive.sum(axis=1, keepdims=True)
