"""Feature explanation method: which features stand out, whatever the class."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Unpack

from .._convention import Apply, Array, Explain
from .._reductions import deviation, divide, largest_of_each
from ._maps import Layers, LayerView, MapOptions, layer_map, spatial_axes

__all__ = ["fem", "multilayer_fem"]


def fem(apply: Apply, layer: Layers = None, *, k: float = 2.0, **options: Unpack[MapOptions]) -> Explain:
    """Feature explanation method: where channels are unusually strong. It knows no class and needs no gradient.

    ``M = Σ_c μ_c [A^c > μ_c + k σ_c]``, divided by its maximum; μ and σ are the mean and the (population) standard
    deviation over a channel's positions

    The inequality is strict, so a constant channel takes no part. Among P positions none exceeds the mean by more than
    ``σ sqrt(P - 1)``: with the paper's k = 2, maps of at most 5 positions are always empty, and that raises a warning.
    The "FEM" of the PyTorch library `grad-cam` is another formula.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      layer: the layer's name (see `jaxplain.layers`), or several; None takes the last convolutional feature map.
      k: how many standard deviations make a feature unusual.
      **options: see `MapOptions`.

    Returns:
      An explainer; maps ``(N, H, W)``, at most 1 at the layer's resolution; zero where no feature stands out. The
      target does not matter.

    Raises:
      ValueError: if no layer has that name, or it has no positions.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: checkpoint_name(x, "features").mean(axis=(1, 2))
      >>> x = jnp.zeros((1, 1, 6, 1)).at[0, 0, 4].set(1.0)
      >>> jaxplain.fem(f, "features")(x)
      Array([[[0., 0., 0., 0., 1., 0.]]], dtype=float32)

    Reference:
      Fuad, Martin, Giot, Bourqui, Benois-Pineau, Zemmari: Features Understanding in 3D CNNs for Actions Recognition in
      Video. IPTA 2020.
    """

    def above_k_sigma(at: LayerView) -> Array:
        A = at.features
        count = math.prod(A.shape[1:-1])
        if count <= k**2 + 1:
            warnings.warn(
                f"a layer with {count} positions has none beyond {k} standard deviations: its FEM is zero everywhere",
                stacklevel=2,
            )
        mean, std = A.mean(axis=spatial_axes(A), keepdims=True), deviation(A, spatial_axes(A), keepdims=True)
        votes = (mean * (mean + k * std < A)).sum(axis=-1)
        return divide(votes, largest_of_each(votes))

    return layer_map(apply, layer, above_k_sigma, **options)


def multilayer_fem(
    apply: Apply, layer: Sequence[str | None], *, k: float = 2.0, **options: Unpack[MapOptions]
) -> Explain:
    """FEM at several layers, each divided by its maximum and enlarged, then combined.

    The fusion is our reading of Bourroux et al., who compare several.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      layer: the layers' names; None among them is the last convolutional feature map.
      k: as for `fem`.
      **options: see `MapOptions`; ``combine="mean"``, ``"sum"``, ``"max"`` or ``"product"``.

    Returns:
      An explainer; maps ``(N, H, W)``.

    Raises:
      ValueError: as `fem`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: checkpoint_name(checkpoint_name(x, "a") ** 2, "b").mean(axis=(1, 2))
      >>> x = jnp.zeros((1, 1, 6, 1)).at[0, 0, 4].set(1.0)
      >>> jaxplain.multilayer_fem(f, ["a", "b"], combine="sum")(x)
      Array([[[0., 0., 0., 0., 2., 0.]]], dtype=float32)

    Reference:
      Bourroux, Benois-Pineau, Bourqui, Giot: Multi Layered Feature Explanation Method for Convolutional Neural
      Networks. ICPRAI 2022.
    """
    if isinstance(layer, str):
        raise ValueError(f"multilayer_fem combines several layers, got {layer!r}: use fem for one")
    return fem(apply, layer, k=k, **options)
