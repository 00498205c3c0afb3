"""What the metrics share: how they are called, maps, ranks, and the scores of many perturbed inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._channels import channel_axis, said_axis
from .._compose import heatmap
from .._convention import (
    Apply,
    Array,
    OfImages,
    Target,
    concrete,
    explainer,
    outputs_of,
    split,
)
from .._execution import executable
from .._images import gaussian_blur
from .._reductions import at_least_float32, largest, norm

Metric: TypeAlias = Callable[..., Array]
Baseline: TypeAlias = ArrayLike | Literal["zero", "mean", "blur"]
Order: TypeAlias = Literal["morf", "lerf"]

CALL = """Measure an attribution of the last positional argument.

Args:
  *args: the arguments of ``apply``; the last one is the images that were explained, ``(N, H, W, C)``, or
    ``(N, C, H, W)`` where the network has its channels first.
  attribution: what is measured, ``(N, H, W)``, or of the images' shape, its channels summed where the metric does not
    say otherwise.
  target: the target that was explained, in one of the forms of the convention (see `jaxplain.explainer`).
  key: one PRNG key, or ``(N,)``; needed by metrics that draw random numbers.

Returns:
  One number per example, ``(N,)``, in at least float32.
"""


def metric(apply: Apply) -> Callable[[Metric], Metric]:
    """Decorate ``measure(f, x, attribution, target, key)`` so that it becomes a metric of the network ``apply``.

    It sees images and attributions with their channels last, wherever the network has them, and outputs in at least
    float32.
    """
    explainer(apply)  # refuses what is no function

    def decorate(measure: Metric) -> Metric:
        def measured(*args: Any, attribution: ArrayLike, target: Target = None, key: Array | None = None) -> Array:
            context, x = split(args)
            if x.ndim != 4:
                raise ValueError(f"metrics of networks measure images (N, H, W, C), got shape {x.shape}")
            network = lambda x: outputs_of(apply, (*context, x))
            axis, a = channel_axis(network, x), jnp.asarray(attribution)
            if a.shape not in (x.shape, x.shape[:axis] + x.shape[axis + 1 :]):
                raise ValueError(f"an attribution of shape {a.shape} does not belong to images of shape {x.shape}")
            a = jnp.moveaxis(a, axis, -1) if a.ndim == 4 else a
            f = OfImages(executable(apply, lambda x: at_least_float32(network(x))), axis)
            return nan_unless_finite(a, measure(f, jnp.moveaxis(x, axis, -1), a, target, key))

        measured.__doc__ = CALL
        return measured

    return decorate


# ------------------------------------------------------------------------------------------------------------- maps


def to_heatmap(attribution: ArrayLike) -> Array:
    """An attribution as maps ``(N, H, W)`` in at least float32: channels are summed."""
    if jnp.ndim(attribution) == 4:
        said_axis(jnp.shape(attribution), None, 'sum them before, jaxplain.heatmap(attribution, channels="first")')
    return summed(attribution)


def summed(attribution: ArrayLike) -> Array:
    """`to_heatmap` of what is known to have its channels last, as metrics of a network see it."""
    return heatmap(at_least_float32(finite(attribution)), channels="last")


def heatmap_and_mask(attribution: ArrayLike, mask: ArrayLike) -> tuple[Array, Array]:
    """The maps and the masks they are compared with, flattened to ``(N, H · W)``."""
    maps, inside = to_heatmap(attribution), jnp.asarray(mask)
    if inside.shape != maps.shape:
        raise ValueError(f"the mask has shape {inside.shape}: pass one of {maps.shape} for each map, true inside")
    return flat(maps), flat(inside != 0)


def finite(attribution: ArrayLike) -> Array:
    """Refuse an attribution with NaN or infinite values, which have no rank."""
    a = jnp.asarray(attribution)
    if concrete(a) and not np.isfinite(np.asarray(a, np.float64)).all():
        raise ValueError("the attribution holds NaN or infinite values: no metric can rank them")
    return a


def nan_unless_finite(attribution: Array, values: Array) -> Array:
    """What was measured, NaN where the attribution is not finite, which cannot be refused when it is traced."""
    is_finite = jnp.isfinite(flat(attribution)).all(axis=1)
    return jnp.where(is_finite.reshape(-1, *(1,) * (values.ndim - 1)), values, jnp.nan)


def flat(a: Array) -> Array:
    """All that belongs to an example in one axis, ``(N, P)``."""
    return a.reshape(a.shape[0], -1)


# ------------------------------------------------------------------------------------------------------------ ranks


def ranks(values: Array) -> Array:
    """The place of each value of ``(N, P)`` in descending order: 0 for the largest; ties go to the first position."""
    order = descending(values)
    return jax.vmap(lambda o: jnp.zeros_like(o).at[o].set(jnp.arange(o.size, dtype=o.dtype)))(order)


def descending(values: Array) -> Array:
    """The positions of ``(N, P)`` values from the largest to the smallest, equal ones in their order.

    Sorting plain integers is several times faster on CPU than sorting floats with their positions. So float32 is sorted
    by its lower and then by its upper half, each packed with the position into one integer.
    """
    if values.dtype != jnp.float32 or values.shape[1] > 2**16:
        return jnp.argsort(-values, axis=1, stable=True)
    # -0 is 0: not by 0 - values, which XLA turns into a plain negation where the values are one themselves.
    bits = jax.lax.bitcast_convert_type(jnp.where(values == 0, 0, -values), jnp.uint32)
    keys = jnp.where(bits >> 31 == 1, ~bits, bits | jnp.uint32(2**31))  # in the order of the floats
    position = jax.lax.broadcasted_iota(jnp.uint32, keys.shape, 1)
    by_half = lambda half: (jnp.sort(half << 16 | position, axis=1) & 0xFFFF).astype(jnp.int32)
    first = by_half(keys & 0xFFFF)
    second = by_half(jnp.take_along_axis(keys >> 16, first, axis=1))
    return jnp.take_along_axis(first, second, axis=1)


def mean_ranks(values: Array) -> Array:
    """The place of each value of ``(N, P)`` in ascending order, from 1; equal values share the mean of their places."""
    return 0.5 * (below(values, values, "left") + below(values, values, "right") + 1)


def below(values: Array, points: Array, side: Literal["left", "right"]) -> Array:
    """How many of ``(N, P)`` values lie below each point, strictly (``"left"``) or not (``"right"``), as floats."""
    count = jax.vmap(lambda v, p: jnp.searchsorted(jnp.sort(v), p, side=side))(values, points)
    return count.astype(points.dtype)


def pearson(a: Array, b: Array) -> Array:
    """The correlation of ``(N, P)`` with ``(N, P)``; NaN where one of them is constant."""
    a, b = (v / norm(v, keepdims=True) for v in (centred(a), centred(b)))
    return (a * b).sum(axis=1)


def centred(a: Array) -> Array:
    """``(N, P)`` less its mean, as a share of the largest difference; NaN where it is constant."""
    constant = a.max(axis=1, keepdims=True) == a.min(axis=1, keepdims=True)
    a = jnp.where(constant, 0, a - a.mean(axis=1, keepdims=True))  # the mean of equal values is rounded
    return a / largest(jnp.abs(a))


def spearman(a: Array, b: Array) -> Array:
    """The correlation of the ranks."""
    return pearson(mean_ranks(a), mean_ranks(b))


def grid_regions(shape: tuple[int, ...], size: int) -> tuple[np.ndarray, int]:
    """The number of the square patch that each pixel of ``(H, W)`` lies in, and how many there are.

    Where the sides are no multiples of ``size``, the patches at the border are smaller, as evenly as possible.
    """
    rows, columns = ((np.arange(side) + (-side % size) // 2) // size for side in shape)
    return rows[:, None] * (columns[-1] + 1) + columns[None, :], int((rows[-1] + 1) * (columns[-1] + 1))


# ------------------------------------------------------------------------------------------------- perturbed inputs


def replacement(baseline: Baseline, x: Array, f: OfImages) -> Array:
    """What hidden pixels show: a baseline of `jaxplain`, or one made of the image.

    ``"mean"`` is the image's mean of each channel, ``"blur"`` the image under a Gaussian of 5 pixels.
    """
    if not isinstance(baseline, str):
        return f.reference(baseline, x)
    if baseline not in ("zero", "mean", "blur"):
        raise ValueError(f"unknown {baseline=}: choose zero, mean or blur, or pass an array")
    if baseline == "zero":
        return jnp.zeros_like(x)
    if baseline == "blur":
        return gaussian_blur(x, 5.0)
    return jnp.broadcast_to(x.mean(axis=(1, 2), keepdims=True), x.shape)


def hide(x: Array, hidden: Array, x0: Array) -> Array:
    """Images that show ``x0`` in the hidden pixels, ``(N, H, W)`` or one mask ``(H, W)`` for all."""
    return jnp.where(hidden[..., None] if hidden.ndim == 3 else hidden[None, ..., None], x0, x)
