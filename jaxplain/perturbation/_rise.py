"""RISE: the mean of random masks, each weighted by the score that it leaves."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._chunking import chunked_sum
from .._convention import (
    Apply,
    Array,
    Explain,
    OfImages,
    Score,
    Target,
    channels_last,
    example_keys,
    explainer,
    heed_score,
    require_positive,
    require_score,
    scores,
)
from .._images import interpolation, like_examples
from ._blending import blend, require_positions, require_sizes

__all__ = ["rise"]


def rise(
    apply: Apply,
    *,
    masks: int = 4000,
    grid: tuple[int, ...] = (7, 7),
    probability: float = 0.5,
    baseline: ArrayLike = 0.0,
    of: Score = "probability",
    chunk: int | None = 64,
) -> Explain:
    """Randomized input sampling: random smooth masks, averaged with the score of what they show as weights.

    ``A = 1 / (n p) · Σ_i score(m_i x + (1 - m_i) x0) m_i``

    A mask is a grid of zeros and ones, one with probability p, enlarged by bilinear interpolation to one cell more
    than the image and cut out at a random position, so that ``E[m] = p`` at every pixel. The map estimates the score
    given that a pixel is shown; only its differences tell pixels apart.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function of images ``(N, H, W, C)``, or of signals ``(N, T, C)`` or
        volumes ``(N, D, H, W, C)``: see grid.
      masks: n, how many are drawn for each example. The error of a map falls as ``1/√n``.
      grid: the cells of a mask, along the rows and the columns; of signals one number, ``(7,)``, of volumes three.
      probability: p, with which a cell is shown.
      baseline: x0, what is seen where nothing is shown: a number or anything that broadcasts against the input.
      of: what is explained: ``"probability"``, as in the paper, applies the target to the softmax of logits
        ``(N, K)``; ``"output"`` to the outputs as they are. Outputs of another shape are always taken as they are.
      chunk: how many masks are evaluated at once; memory does not depend on ``masks``.

    Returns:
      An explainer that needs ``key``; its maps ``(N, H, W)``, a value for each position, have the unit of the score.

    Raises:
      ValueError: if ``key`` is missing, the grid has not as many numbers as the input has axes of positions, or an
        option is out of range.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> left = lambda x: x[:, :, :8].mean(axis=(1, 2, 3))
      >>> explain = jaxplain.perturbation.rise(left, masks=500, grid=(4, 4))
      >>> relevance = explain(jnp.ones((1, 16, 16, 1)), key=jax.random.key(0))[0]
      >>> bool(relevance[:, :8].mean() > relevance[:, 8:].mean())
      True

    Reference:
      Petsiuk, Das, Saenko: RISE: Randomized Input Sampling for Explanation of Black-box Models. BMVC 2018,
      arXiv:1806.07421.
    """
    require_positive(masks=masks)
    require_score(of)
    if not 0 < probability <= 1:
        raise ValueError(f"{probability=} must be in (0, 1]")

    @explainer(apply, heed=heed_score(of))
    @channels_last
    def explain(f: OfImages, x: Array, target: Target, key: Array | None) -> Array:
        require_positions(x, "rise", tables=False)
        require_sizes(x.ndim - 2, grid=grid)
        keys = example_keys(key, x, "rise")
        score, x0 = scores(f, x, target, of=of), f.reference(baseline, x)
        draw = lambda key: random_mask(key, x.shape[1:-1], grid, probability)

        def term(index: Array) -> Array:
            mask = jax.vmap(lambda key: draw(jax.random.fold_in(key, index)))(keys)
            return like_examples(score(blend(mask, x, x0)), mask) * mask

        total = chunked_sum(term, jnp.arange(masks), chunk)
        return (total / (masks * probability)).astype(x.dtype)

    return explain


def random_mask(key: Array, shape: tuple[int, ...], grid: tuple[int, ...], probability: float) -> Array:
    """One mask of a shape, in [0, 1], every pixel of it ``probability`` on average."""
    cells, *axes = jax.random.split(key, 1 + len(shape))
    shown = (jax.random.uniform(cells, grid, jnp.float32) < probability).astype(jnp.float32)

    def along(key: Array, size: int, count: int) -> Array:
        cell = -(-size // count)
        shift = jax.random.randint(key, (), 0, cell, dtype=jnp.int32)
        centres = (jnp.arange(size, dtype=jnp.int32) + shift).astype(jnp.float32) + 0.5
        return interpolation(centres * count / ((count + 1) * cell) - 0.5, count)

    enlarge = lambda mask, axis: jnp.tensordot(mask, along(*axis), (0, 1))  # its first axis, which becomes the last
    return functools.reduce(enlarge, zip(axes, shape, grid, strict=True), shown)
