"""ROAD: removal that leaves no trace of where, by noisy linear imputation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse.linalg import cg

from ..._chunking import chunked_map
from ..._convention import (
    Apply,
    Array,
    Function,
    OfImages,
    Score,
    Target,
    chosen_class,
    example_keys,
    outputs_at,
    scores,
)
from ..._reductions import at_least_float32, scale_of
from .._common import Metric, Order, metric
from ._deletion_curves import pixel_places, sign_of

__all__ = ["road", "road_combined"]

What: TypeAlias = Literal["prediction"] | Score


def road(
    apply: Apply,
    *,
    percentages: Sequence[float] = tuple(range(1, 100, 2)),
    order: Order = "morf",
    of: What = "prediction",
    noise: float = 0.01,
    curve: bool = False,
    chunk: int | None = 5,
) -> Metric:
    """Remove and debias: how often the prediction survives the removal of the most relevant pixels; lower is better.

    ``R = mean over p of [argmax z(x without its p % most relevant pixels) = c]``, or of the score of that image

    A removed pixel becomes the weighted mean of its neighbours (1/6 beside and above, 1/12 across), all of them at once
    by a linear system, plus a little noise, so that the shape of the removed region tells the network nothing.

    Quantus 0.6 gives the mean over the examples for each percentage, and fails on images with more than one channel.
    pytorch-grad-cam gives how far the score rises above that of the image.

    Args:
      apply: ``apply(*args) -> logits (N, K)``, any JAX function of images ``(N, H, W, C)``.
      percentages: how many pixels are removed, each in [0, 100).
      order: ``"morf"``, most relevant first, or ``"lerf"``, least relevant first (higher is better).
      of: whether the ``"prediction"`` survives, 1 or 0, as in the paper, or the score that is left: the
        ``"probability"``, or the ``"output"`` itself (see `jaxplain.scores`).
      noise: its standard deviation, in the input's units; 0 needs no key.
      curve: whether to return the number for every percentage, ``(N, P)``, instead of the mean.
      chunk: how many percentages are evaluated at once.

    Returns:
      A metric ``(*args, attribution, target=None, key=None) -> (N,)``; the target of a prediction is a class.

    Raises:
      ValueError: if a percentage is out of range, the target of a prediction is no class, or ``key`` is missing.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> brighter = lambda x: jnp.stack([x.mean(axis=(1, 2, 3)), 0.5 * jnp.ones(len(x))], axis=1)
      >>> x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 1].set(16.0)
      >>> metric = jaxplain.metrics.road(brighter, percentages=[0, 10, 50], noise=0.0, curve=True)
      >>> metric(x, attribution=x)
      Array([[1., 0., 0.]], dtype=float32)

    Reference:
      Rong, Leemann, Borisov, Kasneci, Kasneci: A Consistent and Efficient Evaluation Strategy for Attribution Methods.
      ICML 2022, arXiv:2202.00449.
    """
    shares, sign = shares_of(percentages), sign_of(order)

    def measure(left: Callable[[int], Array]) -> Array:
        return left(sign)

    return removed_and_imputed("road", apply, shares, of, noise, curve, chunk, measure)


def road_combined(
    apply: Apply,
    *,
    percentages: Sequence[float] = (10, 20, 30, 40, 50, 60, 70, 80, 90),
    of: What = "probability",
    noise: float = 0.01,
    curve: bool = False,
    chunk: int | None = 5,
) -> Metric:
    """How much more the removal of the most relevant pixels costs than that of the least relevant; higher is better.

    ``(R_lerf - R_morf) / 2``, see `road`

    As in pytorch-grad-cam, where p % are what stays, and of equally relevant pixels all go together.

    Args:
      apply: ``apply(*args) -> logits (N, K)``, any JAX function of images ``(N, H, W, C)``.
      percentages: how many pixels are removed, each in [0, 100).
      of: the score that is left is the ``"probability"``, or the ``"output"`` itself (see `jaxplain.scores`), or
        whether the ``"prediction"`` survives.
      noise: as for `road`; the same in both orders.
      curve: whether to return the number for every percentage, ``(N, P)``, instead of the mean.
      chunk: how many percentages are evaluated at once, in either order.

    Returns:
      A metric ``(*args, attribution, target=None, key=None) -> (N,)``; of probabilities and predictions between -1/2
      and 1/2, and about 0 for a random map.

    Raises:
      ValueError: as `road`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> brightness = lambda x: x.mean(axis=(1, 2, 3))
      >>> x = jnp.zeros((1, 4, 4, 1)).at[0, 2, 2].set(16.0)
      >>> metric = jaxplain.metrics.road_combined(brightness, percentages=[10], of="output", noise=0.0)
      >>> metric(x, attribution=x)  # 1 is left, or 0
      Array([0.5], dtype=float32)

    Reference:
      Rong, Leemann, Borisov, Kasneci, Kasneci: A Consistent and Efficient Evaluation Strategy for Attribution Methods.
      ICML 2022, arXiv:2202.00449.
    """
    shares = shares_of(percentages)

    def measure(left: Callable[[int], Array]) -> Array:
        return (left(sign_of("lerf")) - left(sign_of("morf"))) / 2

    return removed_and_imputed("road_combined", apply, shares, of, noise, curve, chunk, measure)


# ------------------------------------------------------------------------------------------------------ the machinery


def shares_of(percentages: Sequence[float]) -> np.ndarray:
    """The percentages, checked, as shares."""
    shares = np.asarray(percentages, float)
    if shares.ndim != 1 or shares.size == 0 or not ((shares >= 0) & (shares < 100)).all():
        raise ValueError(f"percentages={percentages} must be a list of numbers in [0, 100)")
    return shares / 100


def removed_and_imputed(
    asker: str,
    apply: Apply,
    shares: np.ndarray,
    of: What,
    noise: float,
    curve: bool,
    chunk: int | None,
    combine: Callable[[Callable[[int], Array]], Array],
) -> Metric:
    """A metric of what is left of the score: ``combine`` gets it, ``(N, P)``, as a function of the order's sign."""
    if of not in (choices := ("prediction", *get_args(Score))):
        raise ValueError(f"unknown {of=}: choose {', '.join(choices)}")

    @metric(apply)
    def measure(f: OfImages, x: Array, attribution: Array, target: Target, key: Array | None) -> Array:
        keys = None if noise == 0 else example_keys(key, x, asker)
        score = survival(asker, f, x, target) if of == "prediction" else scores(f, x, target, of=of)
        counts = (shares * (x.shape[1] * x.shape[2]) + 1e-9).astype(int)

        def left(sign: int) -> Array:
            places = pixel_places(attribution, sign)

            def after(step: tuple[Array, Array]) -> Array:
                index, count = step
                hidden = places < count
                imputed = impute(x, hidden)
                if keys is None:
                    return score(imputed)
                draw = lambda key: jax.random.normal(jax.random.fold_in(key, index), x.shape[1:], jnp.float32)
                noisy = imputed + noise * jax.vmap(draw)(keys).astype(x.dtype)
                return score(jnp.where(hidden[..., None], noisy, imputed))

            return chunked_map(after, (jnp.arange(len(counts)), jnp.asarray(counts)), chunk).T

        values = combine(left)
        return values if curve else values.mean(axis=1)

    return measure


def survival(asker: str, f: OfImages, x: Array, target: Target) -> Function:
    """Whether an image is predicted to have the target's class, 1 or 0."""
    label = chosen_class(asker, target, outputs_at(f, x, target)).argmax(axis=1)
    return lambda y: (f(y).argmax(axis=1) == label).astype(at_least_float32(x).dtype)


def impute(x: Array, hidden: Array) -> Array:
    """Images ``(N, H, W, C)`` whose hidden pixels, ``(N, H, W)``, are the weighted mean of their neighbours.

    ``u_i Σ_j w_ij = Σ_j w_ij u_j`` for every hidden pixel i, with ``u = x`` at the others: a symmetric positive
    definite system, solved by conjugate gradients without ever being written down.
    """
    seen = at_least_float32(x)
    scale = scale_of(seen, (1, 2, 3))  # the conjugate gradients square what they are given
    seen = seen / scale
    weight = neighbours(jnp.ones_like(seen, shape=(1, *x.shape[1:3], 1)))
    at_hidden = lambda u: jnp.where(hidden[..., None], u, 0)
    tolerance = float(jnp.finfo(seen.dtype).eps) ** (2 / 3)

    def solve(from_seen: Array, hidden: Array) -> Array:
        laplacian = lambda u: jnp.where(hidden[..., None], (weight * u[None] - neighbours(u[None]))[0], 0)
        return cg(laplacian, from_seen, tol=tolerance, maxiter=hidden.size)[0]

    from_seen = at_hidden(neighbours(seen - at_hidden(seen)))
    return jnp.where(hidden[..., None], (scale * jax.vmap(solve)(from_seen, hidden)).astype(x.dtype), x)


def neighbours(u: Array) -> Array:
    """The weighted sum of each pixel's eight neighbours: 1/6 beside and above, 1/12 across, 0 outside of the image.

    ``12 K = (1 2 1)ᵀ (1 2 1) - 4 δ``
    """

    def along_axis(u: Array, axis: int) -> Array:
        padded = jnp.pad(u, [(1, 1) if i == axis else (0, 0) for i in range(u.ndim)])
        window = lambda start: jax.lax.slice_in_dim(padded, start, start + u.shape[axis], axis=axis)
        return window(0) + 2 * u + window(2)

    return (along_axis(along_axis(u, 1), 2) - 4 * u) / 12
