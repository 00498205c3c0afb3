"""Faithfulness by confidence: how sure the network is when it sees what the map shows, or images with the same map."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ..._convention import Apply, Array, OfImages, Score, Target, require_classes, scores
from ..._migration import takes_old_options
from ..._reductions import deviation, divide, norm, over_largest
from .._common import Baseline, Metric, flat, metric, replacement, to_heatmap

__all__ = ["average_drop", "increase_in_confidence", "sufficiency"]


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


def sufficiency(apply: Apply, *, threshold: float = 0.6) -> Metric:
    """How often examples of the batch with a similar map have the same prediction; 1 is best.

    ``mean over j with d(|A_i|, |A_j|) <= threshold of [argmax z(x_j) = argmax z(x_i)],  j ≠ i``

    d is the Euclidean distance, every pixel divided by its standard deviation over the batch, and then the largest
    distance in the batch is 1. The one metric that compares examples: it depends on the batch. 0 where no other map is
    similar.

    Args:
      apply: ``apply(*args) -> logits (N, K)``, any JAX function of images ``(N, H, W, C)``.
      threshold: the largest distance that counts as similar, as a share of the largest one.

    Returns:
      A metric ``(*args, attribution) -> (N,)``.

    Raises:
      ValueError: if the attribution does not belong to the images.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x[:, 0, :, 0]
      >>> x = jnp.array([[4.0, 3.0], [5.0, 1.0], [2.0, 9.0]]).reshape(3, 1, 2, 1)
      >>> a = jnp.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]).reshape(3, 1, 2)
      >>> jaxplain.metrics.sufficiency(f)(x, attribution=a)
      Array([1., 1., 0.], dtype=float32)

    Reference:
      Dasgupta, Frost, Moshkovitz: Framework for Evaluating Faithfulness of Local Explanations. ICML 2022,
      arXiv:2202.00734.
    """

    @metric(apply)
    def measure(f: OfImages, x: Array, attribution: Array, target: Target, key: Array | None) -> Array:
        maps = jnp.abs(flat(to_heatmap(attribution)))
        maps = divide(maps, deviation(maps, 0, keepdims=True))
        distance = jax.lax.map(lambda a: norm(maps - a[None]), maps)
        similar = (distance <= threshold * distance.max()) & ~jnp.eye(maps.shape[0], dtype=bool)
        outputs = f(x)
        require_classes("sufficiency", outputs)
        predicted = outputs.argmax(axis=1)
        same = similar & (predicted[:, None] == predicted[None, :])
        return same.sum(axis=1) / jnp.maximum(similar.sum(axis=1), 1).astype(maps.dtype)

    return measure


def confidences(
    f: OfImages, x: Array, attribution: Array, target: Target, baseline: Baseline, of: Score
) -> tuple[Array, Array]:
    """The score of the whole image, and of what the map shows of it."""
    score, x0 = scores(f, x, target, of=of), replacement(baseline, x, f)
    shown = over_largest(jnp.maximum(to_heatmap(attribution), 0))[..., None].astype(x.dtype)
    return score(x), score(x0 + shown * (x - x0))
