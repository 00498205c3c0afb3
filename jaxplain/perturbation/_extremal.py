"""Extremal perturbation: the part of a given area that keeps the score highest, or without which it is lowest."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import jax
import jax.numpy as jnp
import numpy as np

from .._chunking import chunked_map
from .._convention import (
    Apply,
    Array,
    Explain,
    Function,
    OfImages,
    Score,
    Target,
    channels_last,
    chosen_class,
    explainer,
    heed_score,
    outputs_at,
    require_positive,
    require_score,
    scores,
)
from .._images import gaussian_blur
from ._attacks import margin
from ._blending import require_images
from ._mask_optimisation import constant, each_in, optimise, require_optimizer, require_steps

__all__ = ["extremal_perturbation"]

if TYPE_CHECKING:
    import optax

Variant = Literal["preserve", "delete", "dual"]
Reward = Literal["score", "contrastive"]


def extremal_perturbation(
    apply: Apply,
    *,
    areas: Sequence[float] = (0.1,),
    variant: Variant = "preserve",
    reward: Reward = "score",
    steps: int = 100,
    step: int = 7,
    sigma: float = 21.0,
    levels: int = 8,
    max_blur: float = 20.0,
    penalty: float = 300.0,
    growth: float = 1.0035,
    optimizer: optax.GradientTransformation | None = None,
    of: Score = "output",
    history: int | None = None,
    chunk: int | None = 1,
) -> Explain:
    """The smooth mask of a given area that keeps the score highest, or that deletes the most of it.

    ``max over m in [0, 1] of  score(x ⊗ M) - λ_t mean (sort(M) - step_a)²,  A = Σ_a M_a``

    M is m, a mask of one value every ``step`` pixels, enlarged by a smooth maximum of bumps ``sigma`` wide; ``x ⊗ M``
    reads each pixel from a pyramid of ever stronger blurs, sharp where M is 1; ``step_a`` is 0 for all pixels but the
    share a of them, where it is 1. Cells beyond the border repeat those at it, and each cell's slope is taken relative
    to the number of pixels it stands for, so that no place is favoured from the start. The paper takes 800 steps; the
    default of 100 keeps a large network on a CPU within a minute. The penalty λ grows by the same factor in total,
    however many the steps are. The authors' code also mirrors the images at random; this does not, and draws no random
    numbers.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function of images ``(N, H, W, C)``.
      areas: a, the shares of the image that masks cover, in (0, 1); the map is the sum of their masks.
      variant: ``"preserve"`` maximises the score of what M shows, ``"delete"`` minimises the score of what is left
        without it, ``"dual"`` the difference of both.
      reward: ``"score"``, or ``"contrastive"``, the score less that of the strongest other class.
      steps: how many gradients are taken; 800 in the paper.
      step: the distance of the values of m, in pixels.
      sigma: the width of the smoothing, in pixels.
      levels: how many levels the pyramid has.
      max_blur: the standard deviation of its strongest blur, in pixels.
      penalty: λ_0.
      growth: the factor by which λ grows in each of 800 steps.
      optimizer: any optax transformation; ``optax.sgd(0.01, momentum=0.9)`` without. Every example has its own state.
      of: the score is the ``"output"`` itself, or its ``"probability"`` (see `jaxplain.scores`).
      history: return this many maps, in equal distances along the way, ``(N, history, H, W)``; the last is the result.
      chunk: how many areas are optimised at once; memory does not depend on their number.

    Returns:
      An explainer; its maps ``(N, H, W)`` are between 0 and the number of areas.

    Raises:
      ValueError: if the input is not ``(N, H, W, C)``, an option is out of range, or the reward is contrastive and the
        target no class.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> corner = lambda x: 10 * x[:, 2:5, 2:5].max(axis=(1, 2, 3))
      >>> explain = jaxplain.perturbation.extremal_perturbation(corner, step=2, sigma=3.0, max_blur=5.0)
      >>> x = jnp.zeros((1, 16, 16, 1)).at[:, 3, 3].set(1.0)
      >>> kept = jax.jit(explain)(x)[0]
      >>> bool(kept[3, 3] > 0.9), bool(kept[12, 12] < 0.1)
      (True, True)

    Reference:
      Fong, Patrick, Vedaldi: Understanding Deep Networks via Extremal Perturbations and Smooth Masks. ICCV 2019,
      arXiv:1910.08485.
    """
    require_steps(steps, history)
    require_positive(step=step, chunk=1 if chunk is None else chunk)
    require_optimizer(optimizer)
    require_score(of)
    require_areas_and_levels(areas, levels)
    require_game(variant, reward)
    if not (sigma > 0 and max_blur > 0 and penalty >= 0 and growth > 0):
        raise ValueError(f"{sigma=}, {max_blur=} and {growth=} must be positive and {penalty=} not negative")

    @explainer(apply, heed=heed_score(of))
    @channels_last
    def explain(f: OfImages, x: Array, target: Target, key: Array | None) -> Array:
        require_images(x, "extremal_perturbation")
        score = scores(f, x, target, of=of) if reward == "score" else contrast_of(f, x, target, of)
        gain = gain_of(variant, score, blur_pyramid(x, levels, max_blur))
        smooth = functools.partial(smooth_mask, shape=(x.shape[1], x.shape[2]), step=step, sigma=sigma)
        start = constant(1.0, (-(-x.shape[1] // step), -(-x.shape[2] // step)), x)
        solver = per_pixel(optimizer, smooth, start, step)

        def masks_of(area: Array) -> Array:
            def loss(m: Array, t: Array) -> Array:
                mask = smooth(m)
                return penalty * growth ** (800 * t / steps) * area_excess(mask, area) - gain(mask)

            return each_in(history, smooth, optimise(loss, start, solver, steps, history))

        shares = jnp.asarray(areas, jnp.promote_types(x.dtype, jnp.float32))
        return chunked_map(masks_of, shares, chunk).sum(axis=0).astype(x.dtype)

    return explain


def require_game(variant: Variant, reward: Reward) -> None:
    """Check what is played for."""
    if variant not in ("preserve", "delete", "dual"):
        raise ValueError(f"unknown {variant=}: choose preserve, delete or dual")
    if reward not in ("score", "contrastive"):
        raise ValueError(f"unknown {reward=}: choose score or contrastive")


def require_areas_and_levels(areas: Sequence[float], levels: int) -> None:
    """Check the areas that masks are to cover, and the levels of the pyramid that they blend."""
    if not isinstance(areas, Sequence) or not areas or not all(0 < a < 1 for a in areas):
        raise ValueError(f"{areas=} must be shares of the image, at least one, each in (0, 1)")
    if not isinstance(levels, int) or levels < 2:
        raise ValueError(f"{levels=} must be at least 2: x itself and its strongest blur")


def gain_of(variant: Variant, score: Function, perturb: Function) -> Function:
    """What a mask is to maximise, ``mask -> (N,)``: the score of what it shows, or minus that of what it hides."""
    return {
        "preserve": lambda mask: score(perturb(mask)),
        "delete": lambda mask: -score(perturb(1 - mask)),
        "dual": lambda mask: score(perturb(mask)) - score(perturb(1 - mask)),
    }[variant]


def contrast_of(f: Function, x: Array, target: Target, of: Score) -> Function:
    """The score of a class less that of the strongest other one, ``x -> (N,)``."""
    chosen = chosen_class("the contrastive reward", target, outputs_at(f, x, target))
    values = (lambda x: jax.nn.softmax(f(x))) if of == "probability" else f
    return lambda x: margin(values(x), chosen)


def per_pixel(
    optimizer: optax.GradientTransformation | None, smooth: Function, start: Array, step: int
) -> optax.GradientTransformation:
    """An optimizer that takes the slope of each cell relative to the number of pixels it stands for."""
    import optax  # which takes long to import

    ones = jnp.ones((1, *start.shape[1:]), start.dtype)
    pixels = jax.grad(lambda m: smooth(m).sum())(ones)[0]
    even = optax.stateless(lambda slope, _: slope * (step**2 / pixels))
    return optax.chain(even, optimizer or optax.sgd(0.01, momentum=0.9))


def smooth_mask(m: Array, shape: tuple[int, int], step: int, sigma: float) -> Array:
    """Masks ``(N, h, w)`` at the image's resolution: ``M(u) = smax_j k(|u - u_j|) m_j``.

    ``k(d) = exp(-2 max(0, d/σ - 1/2)²)``, flat on top, and ``smax_j v_j = Σ v_j exp(20 v_j) / Σ exp(20 v_j)``; beyond
    the border m repeats.
    """
    n, height, width = m.shape
    radius = 1 + -(-int(sigma) // step)
    reach = range(-radius, radius + 1)
    centres = np.arange(step) - (step - 1) / 2  # of the pixels of a cell, around its own
    distance = [np.hypot(i * step - centres[:, None], j * step - centres[None]) for i in reach for j in reach]
    k = np.exp(-2 * np.maximum(0, np.stack(distance) / sigma - 0.5) ** 2).reshape(-1, 1, 1, 1, step * step)
    padded = jax.vmap(lambda m: jnp.pad(m, radius, mode="edge"))(m)
    m_j = jnp.stack([padded[:, radius + i :, radius + j :][:, :height, :width] for i in reach for j in reach])

    @jax.checkpoint  # one neighbour after the other, and nothing kept of them: an order of magnitude faster on a CPU
    def add(sums: tuple[Array, Array], neighbour: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        k, m_j = neighbour
        v = k * m_j[..., None]
        weight = jnp.exp(20 * v)
        return (sums[0] + v * weight, sums[1] + weight), None

    zero = jnp.zeros_like(m)[..., None] * jnp.asarray(k[0], m.dtype)
    (numerator, denominator), _ = jax.lax.scan(add, (zero, zero), (jnp.asarray(k, m.dtype), m_j))
    cells = (numerator / denominator).reshape(n, height, width, step, step).transpose(0, 1, 3, 2, 4)
    rows = cells.reshape(n, height * step, width, step)  # axis by axis, as a sharded batch asks for
    return rows.reshape(n, height * step, width * step)[:, : shape[0], : shape[1]]


def area_excess(mask: Array, area: Array) -> Array:
    """How far masks ``(N, H, W)`` are from ones of a given area: ``mean (sort(M) - step_a)²``, ``(N,)``."""
    ascending = lambda m: m[jnp.argsort(jax.lax.stop_gradient(m))]  # `jnp.sort` has no derivative on explicit meshes
    ranked = jax.vmap(ascending)(mask.reshape(mask.shape[0], -1))
    share = (jnp.arange(ranked.shape[1], dtype=ranked.dtype) + 0.5) / ranked.shape[1]
    return ((ranked - (share > 1 - area)[None]) ** 2).mean(axis=1)


def blur_pyramid(x: Array, levels: int, max_blur: float) -> Callable[[Array], Array]:
    """``mask -> image``: pixels read between blurs of x, the strongest where the mask is 0, x itself where it is 1."""
    sigmas = max_blur * (1 - jnp.arange(levels) / (levels - 1))
    pyramid = jax.vmap(gaussian_blur, in_axes=(None, 0))(x, sigmas)

    def perturb(mask: Array) -> Array:
        level = jnp.arange(levels, dtype=mask.dtype).reshape(-1, 1, 1, 1)
        weights = jnp.maximum(0, 1 - jnp.abs(mask[None] * (levels - 1) - level)).astype(x.dtype)
        return jnp.einsum("lnhw,lnhwc->nhwc", weights, pyramid)

    return perturb
