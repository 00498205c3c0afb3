"""ROAD: removal that leaves no trace of where, by noisy linear imputation."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse.linalg import cg

from ..._chunking import chunked_map
from ..._convention import Apply, Array, OfImages, Target, chosen_class, example_keys, outputs_at
from ..._reductions import at_least_float32, scale_of
from .._common import Metric, Order, metric
from ._deletion_curves import pixel_places, sign_of

__all__ = ["road"]


def road(
    apply: Apply,
    *,
    percentages: Sequence[float] = tuple(range(1, 100, 2)),
    order: Order = "morf",
    noise: float = 0.01,
    curve: bool = False,
    chunk: int | None = 5,
) -> Metric:
    """Remove and debias: how often the prediction survives the removal of the most relevant pixels; lower is better.

    ``R = mean over p of [argmax z(x without its p % most relevant pixels) = c]``

    A removed pixel becomes the weighted mean of its neighbours (1/6 beside and above, 1/12 across), all of them at once
    by a linear system, plus a little noise, so that the shape of the removed region tells the network nothing.

    Quantus 0.6 gives the mean over the examples for each percentage, and fails on images with more than one channel.

    Args:
      apply: ``apply(*args) -> logits (N, K)``, any JAX function of images ``(N, H, W, C)``.
      percentages: how many pixels are removed, each in [0, 100).
      order: ``"morf"``, most relevant first, or ``"lerf"``, least relevant first (higher is better).
      noise: its standard deviation, in the input's units; 0 needs no key.
      curve: whether to return 1 or 0 for every percentage, ``(N, P)``, instead of the mean.
      chunk: how many percentages are evaluated at once.

    Returns:
      A metric ``(*args, attribution, target=None, key=None) -> (N,)``; the target is a class.

    Raises:
      ValueError: if a percentage is out of range, the target is no class, or ``key`` is missing.

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
    shares = np.asarray(percentages, float)
    if shares.ndim != 1 or shares.size == 0 or not ((shares >= 0) & (shares < 100)).all():
        raise ValueError(f"percentages={percentages} must be a list of numbers in [0, 100)")
    sign = sign_of(order)

    @metric(apply)
    def measure(f: OfImages, x: Array, attribution: Array, target: Target, key: Array | None) -> Array:
        keys = None if noise == 0 else example_keys(key, x, "road")
        label = chosen_class("road", target, outputs_at(f, x, target)).argmax(axis=1)
        places = pixel_places(attribution, sign)

        def survives(step: tuple[Array, Array]) -> Array:
            index, count = step
            hidden = places < count
            imputed = impute(x, hidden)
            if keys is not None:
                draw = lambda key: jax.random.normal(jax.random.fold_in(key, index), x.shape[1:], jnp.float32)
                imputed = jnp.where(hidden[..., None], imputed + noise * jax.vmap(draw)(keys).astype(x.dtype), imputed)
            return f(imputed).argmax(axis=1) == label

        counts = (shares / 100 * (x.shape[1] * x.shape[2]) + 1e-9).astype(int)
        survived = chunked_map(survives, (jnp.arange(len(counts)), jnp.asarray(counts)), chunk).T
        survived = survived.astype(at_least_float32(x).dtype)
        return survived if curve else survived.mean(axis=1)

    return measure


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
