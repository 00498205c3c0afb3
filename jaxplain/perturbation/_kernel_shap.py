"""Kernel SHAP: the Shapley values of segments, by weighted least squares over coalitions of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._chunking import chunked_sum
from .._convention import Apply, Array, Explain, Score, example_keys, require_positive
from ._segment_weights import Segmented, SegmentOptions, moments, weigh_segments

__all__ = ["kernel_shap"]


def kernel_shap(
    apply: Apply,
    *,
    segments: ArrayLike | None = None,
    samples: int = 1000,
    baseline: ArrayLike = 0.0,
    of: Score = "output",
    **options: Unpack[SegmentOptions],
) -> Explain:
    """Shapley values of segments, by the weighted least squares whose solution they are.

    ``min over φ of  Σ_z π(z) (v(z) - v(0) - φ · z)²  with  Σ φ = v(1) - v(0),  π(z) = (S - 1) / (C(S, k) k (S - k))``

    ``v(z)`` is the score with the k segments of z shown and the baseline elsewhere. Where all ``2^S - 2`` coalitions
    fit into ``samples`` they are enumerated: the Shapley values are exact and no key is needed. Otherwise those of one
    segment are, and larger ones are drawn in proportion to π, each followed by its complement; the sum is still exact,
    to the precision of the network's scores.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function of images ``(N, H, W, C)``, or of signals, volumes or tables
        (see `SegmentOptions`).
      segments: labels of the pixels, ``(H, W)`` or ``(N, H, W)`` integers from 0. Without them a grid of 7 by 7:
        the same wherever it runs, so superpixels of `slic` must be asked for, ``segments=slic(images)``.
      samples: how many images are evaluated for each example, at most.
      baseline: x0, what hidden segments show: a number or anything that broadcasts against the input.
      of: the score is the ``"output"`` itself, or its ``"probability"`` (see `jaxplain.scores`).
      **options: see `SegmentOptions`. The values ``(N, S)`` sum to ``score(x) - score(x0)``.

    Returns:
      An explainer that needs ``key`` unless it enumerates; its maps ``(N, H, W)`` have the unit of the score.

    Raises:
      ValueError: if ``key`` is missing, the segments do not fit the images, or there are too few samples for them.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x[:, 0, 0, 0] * x[:, 0, 1, 0] + x[:, 0, 2, 0]
      >>> explain = jaxplain.perturbation.kernel_shap(f, segments=jnp.array([[0, 1, 2]]))
      >>> explain(jnp.array([2.0, 3.0, 1.0]).reshape(1, 1, 3, 1)).round()  # the product 6 is shared
      Array([[[3., 3., 1.]]], dtype=float32)

    Reference:
      Lundberg, Lee: A Unified Approach to Interpreting Model Predictions. NeurIPS 2017, arXiv:1705.07874; in pairs:
      Covert, Lee: Improving KernelSHAP. AISTATS 2021, arXiv:2012.01536.
    """
    require_positive(samples=samples)

    def weigh(at: Segmented, key: Array | None) -> Array:
        nothing = at.score(at.x0)
        total = at.score(at.x) - nothing
        dtype = jnp.promote_types(total.dtype, jnp.float32)
        draw, indices = coalitions(key, at.x, at.count, samples)

        # with φ = total / S + ψ the constraint is Σ ψ = 0, which holds by itself when every z is centred
        def term(index: Array) -> tuple[Array, Array]:
            shown, weight = draw(index)
            share = shown.mean(axis=1, dtype=dtype)
            value = (at.score_of(shown) - nothing).astype(dtype) - share * total
            return moments(weight.astype(dtype), shown - share[:, None], value)

        gram, moment = chunked_sum(term, indices, at.chunk)
        regular = gram + gram.trace(axis1=1, axis2=2)[:, None, None] / at.count**2  # as large where all ψ are equal
        psi = jnp.linalg.solve(regular, moment[..., None])[..., 0]
        return psi + total[:, None] / at.count

    return weigh_segments(apply, "kernel_shap", segments, baseline, of, weigh, **options)


def coalitions(
    key: Array | None, x: Array, size: int, samples: int
) -> tuple[Callable[[Array], tuple[Array, Array]], Array]:
    """How coalition i is drawn, ``i -> (shown (N, S), weight (N,))``, and all i: every coalition, or random pairs."""
    if size < 2:
        raise ValueError("kernel_shap shares the score among segments, and there is only one: pass two or more")
    n, k = x.shape[0], np.arange(1, size)
    share = 1 / (k * (size - k))  # of the sizes of coalitions in the sum of all weights
    if 2**size - 2 <= samples:
        kernel = share / share.sum() / [math.comb(size, i) for i in k]

        def every(index: Array) -> tuple[Array, Array]:
            shown = (index >> jnp.arange(size)) & 1
            weight = jnp.asarray(kernel)[shown.sum() - 1]
            return jnp.broadcast_to(shown[None] == 1, (n, size)), jnp.broadcast_to(weight[None], (n,))

        return every, jnp.arange(1, 2**size - 1)
    if samples < 2 * size:
        raise ValueError(f"{samples=} are too few for the values of {size} segments: take at least {2 * size}")
    keys = example_keys(key, x, "kernel_shap")
    inner = np.log(share[1:-1])
    weights = np.array([share[0], share[1:-1].sum() / 2]) / [size, max(1, samples / 2 - size)]

    def one(key: Array) -> Array:
        which, order = jax.random.split(key)
        members = 2 + jax.random.categorical(which, jnp.asarray(inner, jnp.float32))
        return jax.random.permutation(order, size) < members

    def pairs(index: Array) -> tuple[Array, Array]:
        pair = index // 2
        drawn = jax.vmap(lambda key: one(jax.random.fold_in(key, pair)))(keys)
        shown = jnp.where(pair < size, (jnp.arange(size) == pair)[None], drawn)
        weight = jnp.asarray(weights)[(pair >= size).astype(int)]
        return shown ^ (index % 2 == 1), jnp.broadcast_to(weight[None], (n,))

    return pairs, jnp.arange(samples)
