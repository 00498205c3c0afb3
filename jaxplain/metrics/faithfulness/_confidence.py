"""Faithfulness by confidence: how sure the network is when it sees what the map shows, and no more."""

from __future__ import annotations

import jax.numpy as jnp

from ..._convention import Apply, Array, OfImages, Score, Target, scores
from ..._migration import takes_old_options
from ..._reductions import divide, over_largest
from .._common import Baseline, Metric, metric, replacement, summed

__all__ = ["average_drop", "average_gain", "increase_in_confidence"]


@takes_old_options
def average_drop(apply: Apply, *, baseline: Baseline = 0.0, of: Score = "probability") -> Metric:
    """The share of the score that is lost when only what the map shows stays visible; lower is better.

    ``max(0, p_c(x) - p_c(x0 + m (x - x0))) / p_c(x),  m = max(A, 0) / max A``

    The paper's number is the mean over a data set, in per cent. Its maps are never negative; of signed ones the
    positive part is taken. A map without one shows nothing.

    Args:
      apply: ``apply(*args) -> logits``, any JAX function of images ``(N, H, W, C)``.
      baseline: x0, what fades in where the map is small, as for `deletion`.
      of: the score is the ``"probability"``, or the ``"output"`` itself (see `jaxplain.scores`).

    Returns:
      A metric ``(*args, attribution, target=None) -> (N,)``.

    Raises:
      ValueError: if the attribution does not belong to the images.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x.sum(axis=(1, 2, 3))
      >>> x = jnp.array([4.0, 3.0, 2.0, 1.0]).reshape(1, 2, 2, 1)
      >>> jaxplain.metrics.average_drop(f, of="output")(x, attribution=x > 2)  # 10 becomes 7
      Array([0.3], dtype=float32)

    Reference:
      Chattopadhay, Sarkar, Howlader, Balasubramanian: Grad-CAM++: Generalized Gradient-based Visual Explanations for
      Deep Convolutional Networks. WACV 2018, arXiv:1710.11063.
    """

    @metric(apply)
    def measure(f: OfImages, x: Array, attribution: Array, target: Target, key: Array | None) -> Array:
        whole, part = confidences(f, x, attribution, target, baseline, of)
        return jnp.maximum(whole - part, 0) / whole

    return measure


@takes_old_options
def increase_in_confidence(apply: Apply, *, baseline: Baseline = 0.0, of: Score = "probability") -> Metric:
    """Whether the score rises when only what the map shows stays visible; 1 is better.

    ``[p_c(x) < p_c(x0 + m (x - x0))],  m = max(A, 0) / max A``

    Args:
      apply: ``apply(*args) -> logits``, any JAX function of images ``(N, H, W, C)``.
      baseline: x0, what fades in where the map is small, as for `deletion`.
      of: the score is the ``"probability"``, or the ``"output"`` itself (see `jaxplain.scores`).

    Returns:
      A metric ``(*args, attribution, target=None) -> (N,)``, 1 or 0.

    Raises:
      ValueError: if the attribution does not belong to the images.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x.sum(axis=(1, 2, 3))
      >>> x = jnp.array([4.0, 3.0, 2.0, -1.0]).reshape(1, 2, 2, 1)
      >>> jaxplain.metrics.increase_in_confidence(f, of="output")(x, attribution=x > 0)  # 8 becomes 9
      Array([1.], dtype=float32)

    Reference:
      Chattopadhay, Sarkar, Howlader, Balasubramanian: Grad-CAM++: Generalized Gradient-based Visual Explanations for
      Deep Convolutional Networks. WACV 2018, arXiv:1710.11063.
    """

    @metric(apply)
    def measure(f: OfImages, x: Array, attribution: Array, target: Target, key: Array | None) -> Array:
        whole, part = confidences(f, x, attribution, target, baseline, of)
        return (part > whole).astype(whole.dtype)

    return measure


@takes_old_options
def average_gain(apply: Apply, *, baseline: Baseline = 0.0, of: Score = "probability") -> Metric:
    """The share of the doubt that is gone when only what the map shows stays visible; higher is better.

    ``max(0, p_c(x0 + m (x - x0)) - p_c(x)) / (1 - p_c(x)),  m = max(A, 0) / max A``

    The counterpart of `average_drop`: where the one is more than 0, the other is 0. The paper's number is the mean over
    a data set, in per cent.

    Args:
      apply: ``apply(*args) -> logits``, any JAX function of images ``(N, H, W, C)``.
      baseline: x0, what fades in where the map is small, as for `deletion`.
      of: the score is the ``"probability"``, or the ``"output"`` itself where that is a probability.

    Returns:
      A metric ``(*args, attribution, target=None) -> (N,)``, between 0 and 1; 0 where there is no doubt.

    Raises:
      ValueError: if the attribution does not belong to the images.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: 0.1 * x.sum(axis=(1, 2, 3))
      >>> x = jnp.array([4.0, 3.0, 2.0, -3.0]).reshape(1, 2, 2, 1)
      >>> jaxplain.metrics.average_gain(f, of="output")(x, attribution=x > 0).round(4)  # 0.6 becomes 0.9
      Array([0.75], dtype=float32)

    Reference:
      Zhang, Torres, Sicre, Avrithis, Ayache: Opti-CAM: Optimizing Saliency Maps for Interpretability. 2023,
      arXiv:2301.07002.
    """

    @metric(apply)
    def measure(f: OfImages, x: Array, attribution: Array, target: Target, key: Array | None) -> Array:
        whole, part = confidences(f, x, attribution, target, baseline, of)
        return divide(jnp.maximum(part - whole, 0), 1 - whole)

    return measure


def confidences(
    f: OfImages, x: Array, attribution: Array, target: Target, baseline: Baseline, of: Score
) -> tuple[Array, Array]:
    """The score of the whole image, and of what the map shows of it."""
    score = scores(f, x, target, of=of)
    return score(x), score(visible(f, x, attribution, baseline))


def visible(f: OfImages, x: Array, attribution: Array, baseline: Baseline) -> Array:
    """What the map shows of an image: ``x0 + m (x - x0)``."""
    x0 = replacement(baseline, x, f)
    return x0 + mask_of(attribution)[..., None].astype(x.dtype) * (x - x0)


def mask_of(attribution: Array) -> Array:
    """How visible the map makes each pixel, ``m = max(A, 0) / max A``."""
    return over_largest(jnp.maximum(summed(attribution), 0))
