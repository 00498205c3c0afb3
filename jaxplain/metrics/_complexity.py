"""Complexity: whether the map is concentrated, so that it can be read."""

from __future__ import annotations

import jax.numpy as jnp
from jax.scipy.special import xlogy
from jax.typing import ArrayLike

from .._convention import Array
from .._reductions import divide, over_largest
from ._common import flat, nan_unless_finite, to_heatmap

__all__ = ["complexity", "effective_complexity", "sparseness"]


def sparseness(attribution: ArrayLike) -> Array:
    """The Gini index of the absolute attribution: 0 where all pixels are equal, near 1 where one has all.

    ``Σ_i (2 i - P - 1) |A|_i / (P Σ_i |A|_i),  |A|_1 <= |A|_2 <= ... <= |A|_P``

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed.

    Returns:
      ``(N,)``, between 0 and ``1 - 1/P``; 0 for a map of zeros.

    Raises:
      ValueError: if the attribution is not finite.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> jaxplain.metrics.sparseness(jnp.array([[[0.0, -8.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]]))
      Array([0.75, 0.  ], dtype=float32)

    Reference:
      Chalasani, Chen, Roy Chowdhury, Jha, Wu: Concise Explanations of Neural Networks using Adversarial Training. ICML
      2020, arXiv:1810.06583.
    """
    a = jnp.sort(jnp.abs(flat(over_largest(to_heatmap(attribution)))), axis=1)
    size = a.shape[1]
    weights = ((2 * jnp.arange(1, size + 1) - size - 1) / size).astype(a.dtype)
    return divide((a * weights[None]).sum(axis=1), a.sum(axis=1))


def complexity(attribution: ArrayLike) -> Array:
    """The entropy of the absolute attribution in nats; lower is simpler.

    ``-Σ_i q_i log q_i,  q = |A| / Σ_i |A_i|``

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed.

    Returns:
      ``(N,)``, between 0 and ``log(H · W)``; NaN for a map of zeros.

    Raises:
      ValueError: if the attribution is not finite.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> jaxplain.metrics.complexity(jnp.array([[[1.0, -1.0], [0.0, 0.0]]]))  # log 2
      Array([0.6931472], dtype=float32)

    Reference:
      Bhatt, Weller, Moura: Evaluating and Aggregating Feature-based Model Explanations. IJCAI 2020, arXiv:2005.00631.
    """
    a = jnp.abs(flat(over_largest(to_heatmap(attribution))))
    q = a / a.sum(axis=1, keepdims=True)
    return -xlogy(q, q).sum(axis=1)


def effective_complexity(attribution: ArrayLike, *, eps: float = 1e-5) -> Array:
    """How many pixels count: those whose absolute attribution exceeds a share of the largest one.

    ``#{i: |A_i| > eps · max |A|}``

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed.
      eps: the share. Quantus divides by the largest value of the whole batch.

    Returns:
      ``(N,)``, as floats.

    Raises:
      ValueError: if the attribution is not finite.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> jaxplain.metrics.effective_complexity(jnp.array([[[1.0, -2.0], [0.1, 0.0]]]), eps=0.1)
      Array([2.], dtype=float32)

    Reference:
      Nguyen, Rodríguez Martínez: On Quantitative Aspects of Model Interpretability. arXiv:2007.07584, 2020.
    """
    a = jnp.abs(flat(over_largest(to_heatmap(attribution))))
    return nan_unless_finite(a, (a > eps).sum(axis=1).astype(a.dtype))
