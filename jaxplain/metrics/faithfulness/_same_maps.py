"""Faithfulness by comparison: whether images with the same map, or similar ones, have the same prediction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp

from ..._convention import Apply, Array, OfImages, Target, require_classes, require_positive
from ..._reductions import deviation, divide, norm
from .._common import Metric, descending, flat, metric, ranks, summed

__all__ = ["consistency", "sufficiency"]

Discretise: TypeAlias = Callable[[Array], Array]


def consistency(
    apply: Apply, *, discretise: Literal["top_n_sign", "sign", "rank"] | Discretise = "top_n_sign", n: int = 5
) -> Metric:
    """How often examples of the batch with the same map have the same prediction; 1 is best.

    ``mean over j with d(A_j) = d(A_i) of [argmax z(x_j) = argmax z(x_i)],  j ≠ i``

    d makes a map coarse, so that two can be the same. It compares examples, so that it depends on the batch. 0 where no
    other map is the same.

    The ``"top_n_sign"`` of Quantus 0.6 are the signs of the first n values, those of the upper left corner, and of
    absolute values by default: its answer is the same for nearly every explanation. Here they are the n largest.

    Args:
      apply: ``apply(*args) -> logits (N, K)``, any JAX function of images ``(N, H, W, C)``.
      discretise: d: ``"top_n_sign"``, where the n largest absolute values are, and their signs; ``"sign"``, the signs
        of all; ``"rank"``, their order; or a function of maps ``(N, H · W)`` that returns an array ``(N, ...)``.
      n: how many values ``"top_n_sign"`` looks at.

    Returns:
      A metric ``(*args, attribution) -> (N,)``.

    Raises:
      ValueError: if an option is unknown or out of range, or the attribution does not belong to the images.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x[:, 0, :, 0]
      >>> x = jnp.array([[4.0, 3.0], [5.0, 1.0], [2.0, 9.0], [1.0, 8.0]]).reshape(4, 1, 2, 1)
      >>> a = jnp.array([[1.0, 0.2], [2.0, 0.1], [3.0, 1.0], [-1.0, 0.5]]).reshape(4, 1, 2)
      >>> jaxplain.metrics.consistency(f, n=1)(x, attribution=a)  # the first three maps are the same
      Array([0.5, 0.5, 0. , 0. ], dtype=float32)

    Reference:
      Dasgupta, Frost, Moshkovitz: Framework for Evaluating Faithfulness of Local Explanations. ICML 2022,
      arXiv:2202.00734.
    """
    require_positive(n=n)
    named = {"top_n_sign": lambda a: jnp.where(ranks(jnp.abs(a)) < n, jnp.sign(a), 0), "sign": jnp.sign}
    named["rank"] = descending
    if not callable(discretise) and discretise not in named:
        raise ValueError(f"unknown {discretise=}: choose {', '.join(named)}, or pass a function of maps (N, H · W)")
    coarse = discretise if callable(discretise) else named[discretise]

    @metric(apply)
    def measure(f: OfImages, x: Array, attribution: Array, target: Target, key: Array | None) -> Array:
        maps = flat(summed(attribution))
        kinds = flat(coarse(maps))
        same = jax.lax.map(lambda kind: (kinds == kind[None]).all(axis=1), kinds)
        return agreement("consistency", f(x), same).astype(maps.dtype)

    return measure


def sufficiency(apply: Apply, *, threshold: float = 0.6) -> Metric:
    """How often examples of the batch with a similar map have the same prediction; 1 is best.

    ``mean over j with d(|A_i|, |A_j|) <= threshold of [argmax z(x_j) = argmax z(x_i)],  j ≠ i``

    d is the Euclidean distance, every pixel divided by its standard deviation over the batch, and then the largest
    distance in the batch is 1. It compares examples, so that it depends on the batch. 0 where no other map is similar.

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
        maps = jnp.abs(flat(summed(attribution)))
        maps = divide(maps, deviation(maps, 0, keepdims=True))
        distance = jax.lax.map(lambda a: norm(maps - a[None]), maps)
        similar = distance <= threshold * distance.max()
        return agreement("sufficiency", f(x), similar).astype(maps.dtype)

    return measure


def agreement(asker: str, outputs: Array, similar: Array) -> Array:
    """How often the examples that are similar to each, ``(N, N)``, itself left out, have the same prediction."""
    require_classes(asker, outputs)
    others = similar & ~jnp.eye(similar.shape[0], dtype=bool)
    predicted = outputs.argmax(axis=1)
    same = others & (predicted[:, None] == predicted[None, :])
    return same.sum(axis=1) / jnp.maximum(others.sum(axis=1), 1).astype(outputs.dtype)
