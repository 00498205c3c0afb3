"""An adapter: jaxplain's explanations in the metrics of Quantus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._channels import Channels, said_axis
from .._convention import Array, Explain

__all__ = ["explain_func"]


def explain_func(
    explain: Explain, *context: Any, key: Array | None = None, channels: Channels = "last"
) -> Callable[..., np.ndarray]:
    """An explainer as the ``explain_func`` of Quantus, which counts channels first.

    Quantus calls it with its own model, which is ignored: ``explain`` explains its JAX network. Metrics that perturb
    the input call both, so they have to compute the same; metrics that change Quantus' model (`mprt`, input invariance)
    do not see the change.

    Args:
      explain: any explainer of images; jit it, for it is called many times.
      context: what it is called with before the images, such as the variables of a network.
      key: a PRNG key for explainers that draw random numbers.
      channels: where the explained network has the channels of its images, ``"last"`` or ``"first"``.

    Returns:
      A function ``(model, inputs, targets, **ignored) -> attribution``, NumPy arrays ``(N, C, H, W)``, ``(N,)``, and
      ``(N, C, H, W)``, or ``(N, 1, H, W)`` where the explainer returns maps.

    Raises:
      ValueError: if the inputs are no images.

    Example:
      >>> import jax.numpy as jnp, jaxplain, numpy as np
      >>> explain = jaxplain.gradient(lambda w, x: jnp.einsum("nhwc,ck->nk", x, w))
      >>> adapted = jaxplain.metrics.quantus.explain_func(explain, jnp.array([[1.0, 2.0], [3.0, 4.0]]))
      >>> adapted(None, np.zeros((1, 2, 1, 1), np.float32), np.array([1])).ravel()  # channels 0 and 1 of class 1
      array([2., 4.], dtype=float32)

    Reference:
      Hedström, Weber, Krakowczyk, Bareeva, Motzkus, Samek, Lapuschkin, Höhne: Quantus: An Explainable AI Toolkit for
      Responsible Evaluation of Neural Network Explanations and Beyond. JMLR 2023, arXiv:2202.06861.
    """
    axis = said_axis((0,) * 4, channels)

    def adapted(model: Any, inputs: Any, targets: Any, **ignored: Any) -> np.ndarray:
        images = np.asarray(inputs)
        if images.ndim != 4:
            raise ValueError(f"this adapter explains images (N, C, H, W), got shape {images.shape}")
        x = jnp.asarray(np.moveaxis(images, 1, axis))
        attribution = np.asarray(explain(*context, x, target=jnp.asarray(np.asarray(targets)), key=key))
        return attribution[:, None] if attribution.ndim == 3 else np.moveaxis(attribution, axis, 1)

    return adapted
