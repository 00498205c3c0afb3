"""ADCC: whether what the map shows is enough, is little, and is explained in the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from .._channels import channel_axis
from .._compose import heatmap, transformed
from .._convention import Array, Explain, OfImages, Score, Target, fix_target, network, outputs_of, split
from ._common import Baseline, flat, pearson, to_heatmap
from ._robustness import CALL
from .faithfulness._confidence import average_drop, mask_of, visible

__all__ = ["adcc"]


def adcc(explain: Explain, *, baseline: Baseline = 0.0, of: Score = "probability") -> Callable[..., Array]:
    """The harmonic mean of what `average_drop` leaves, of coherency and of simplicity; 1 is best.

    ``3 / (1 / (1 - drop) + 1 / coherency + 1 / (1 - complexity))``

    ``coherency = (1 + corr(m(x0 + m (x - x0)), m)) / 2,  complexity = mean of m,  m = m(x) = max(A(x), 0) / max A(x)``

    Coherency asks for the same map where the image shows what the map shows alone. The paper scales maps from their
    smallest value to their largest; here from 0, as in `average_drop`, which is the same for maps of which a part is
    0, as CAMs are.

    Args:
      explain: an explainer of images that says which network it explains (all of jaxplain's do).
      baseline: x0, what fades in where the map is small, as for `deletion`.
      of: the score whose drop counts is the ``"probability"``, or the ``"output"`` itself (see `jaxplain.scores`).

    Returns:
      A metric ``(*args, target=None, key=None) -> (N,)``, between 0 and 1; NaN where a map is constant.

    Raises:
      ValueError: if ``explain`` does not say which network it explains, or the input is no image.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x.sum(axis=(1, 2, 3))
      >>> x = jnp.array([4.0, 0.0, 0.0, 0.0]).reshape(1, 2, 2, 1)
      >>> metric = jaxplain.metrics.adcc(jaxplain.input_x_gradient(f), of="output")
      >>> metric(x).round(4)  # no drop, the same map, a quarter is shown: 3 / (1 + 1 + 4/3)
      Array([0.9], dtype=float32)

    Reference:
      Poppi, Cornia, Baraldi, Cucchiara: Revisiting the Evaluation of Class Activation Mapping for Explainability: A
      Novel Metric and Experimental Analysis. CVPR workshop 2021, arXiv:2104.10252.
    """

    @transformed(explain)
    def measured(*args: Any, target: Target = None, key: Array | None = None) -> Array:
        context, x = split(args)
        apply, target = network(explain), fix_target(explain, args, target)
        if x.ndim != 4:
            raise ValueError(f"adcc measures images (N, H, W, C), got shape {x.shape}")
        f = lambda x: outputs_of(apply, (*context, x))
        axis = channel_axis(f, x)
        map_of = lambda x: to_heatmap(heatmap(explain)(*context, x, target=target, key=key))
        a = map_of(x)
        shown = visible(OfImages(f, axis), jnp.moveaxis(x, axis, -1), a, baseline)
        again = map_of(jnp.moveaxis(shown, -1, axis))
        coherency = (1 + pearson(flat(mask_of(again)), flat(mask_of(a)))) / 2
        simplicity = 1 - flat(mask_of(a)).mean(axis=1)
        drop = average_drop(apply, baseline=baseline, of=of)(*args, attribution=a, target=target)
        return harmonic_mean(jnp.stack([1 - drop, coherency, simplicity]))

    measured.__doc__ = CALL
    return measured


def harmonic_mean(parts: Array) -> Array:
    """``n / Σ 1 / part`` over the first axis; 0 where a part is 0."""
    is_zero = parts <= 0
    mean = parts.shape[0] / (1 / jnp.where(is_zero, 1, parts)).sum(axis=0)
    return jnp.where(is_zero.any(axis=0) & ~jnp.isnan(mean), 0, mean)
