"""Meaningful perturbation: the smallest smooth blur that makes the class disappear."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from .._convention import (
    Apply,
    Array,
    Explain,
    Function,
    OfImages,
    Score,
    Target,
    channels_last,
    class_weights,
    example_keys,
    explainer,
    heed_score,
    is_probability,
    require_positive,
    require_score,
    scorer,
    scores,
)
from .._images import gaussian_blur
from .._migration import takes_old_options
from ._blending import blend, require_images
from ._mask_optimisation import constant, each_in, optimise, require_optimizer, require_steps

__all__ = ["meaningful_perturbation"]

if TYPE_CHECKING:
    import optax


@takes_old_options
def meaningful_perturbation(
    apply: Apply,
    *,
    steps: int = 100,
    target_fraction: float | None = 0.03,
    area: float = 2.0,
    variation: float = 0.8,
    exponent: float = 3.0,
    factor: int = 8,
    mask_blur: float = 5.0,
    image_blur: float = 10.0,
    jitter: int = 4,
    optimizer: optax.GradientTransformation | None = None,
    of: Score = "probability",
    history: int | None = None,
) -> Explain:
    """The smallest smooth part of the image without which the class is gone, learned by gradient descent.

    ``min over m in [0, 1] of  λ1 mean (1 - m) + λ2 mean |∇m|^β + E_τ excess(M x_τ + (1 - M) blur(x)_τ)``
    ``excess(x') = max(0, (s(x') - l) / (s(x) - l))``

    M is m, enlarged to the input's size and blurred, and the map is ``1 - M``; ``x_τ`` is the image, moved by up to
    ``jitter`` pixels, anew in every step. ``s = log(p / (1 - p))`` are the log-odds of the class, and l those at which
    ``target_fraction`` of p is left: beyond it only the area counts. So the same λ1 fits images that are easy and hard
    to change and networks that are more and less certain, and no p is too close to 0 or 1 to have a slope. At λ1 = 2 an
    image keeps its class if more than half of it would have to go. With ``target_fraction=None``, the paper's
    objective, p itself is the excess, and prices are others: ``area=0.08, variation=8`` here; it leaves much of the
    class in some images and removes half of others. Masks start with everything removed. The paper takes 300 steps of
    Adam at 0.1; the default of 100, with a rate that falls, keeps a large network on a CPU within a minute.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function of images ``(N, H, W, C)``.
      steps: how many gradients are taken; 300 in the paper.
      target_fraction: the share r of the class's probability that the mask leaves, in (0, 1); None for the
        paper's objective.
      area: λ1, the price of removing everything; the paper's 1e-4 for each of 28 x 28 is 0.08 here.
      variation: λ2, the price of edges; the paper's 1e-2 is 8 here.
      exponent: β of the total variation.
      factor: how many pixels of the image a pixel of m stands for, along each axis.
      mask_blur: the standard deviation of the blur of M, in pixels of the image.
      image_blur: that of the blur that removes, in pixels.
      jitter: the largest shift, in pixels; 0 needs no ``key``.
      optimizer: any optax transformation; Adam without, its rate falling from 0.2 to 0 along a cosine. Every example
        has its own state.
      of: ``"probability"`` explains the softmax of logits ``(N, K)``, ``"output"`` the outputs as they are. What is not
        the probability of classes (``"output"``, a callable target, weights outside [0, 1], outputs that are not
        ``(N, K)``) is s itself, and l is ``s(x) - (1 - r) |s(x)|``.
      history: return this many maps, in equal distances along the way, ``(N, history, H, W)``; the last is the result.

    Returns:
      An explainer that needs ``key``; its maps ``(N, H, W)`` are 1 where the image is removed, 0 where it is kept.

    Raises:
      ValueError: if ``key`` is missing, the input is not ``(N, H, W, C)``, or an option is out of range.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> corner = lambda x: x[:, 2:5, 2:5].max(axis=(1, 2, 3))
      >>> explain = jaxplain.perturbation.meaningful_perturbation(
      ...     corner, factor=2, mask_blur=1.0, jitter=0  # the defaults are for images of 224 x 224
      ... )
      >>> x = jnp.zeros((1, 16, 16, 1)).at[:, 3, 3].set(1.0)
      >>> removed = jax.jit(explain)(x)[0]
      >>> bool(removed[3, 3] > 0.9), bool(removed[12, 12] < 0.1)
      (True, True)

    Reference:
      Fong, Vedaldi: Interpretable Explanations of Black Boxes by Meaningful Perturbation. ICCV 2017, arXiv:1704.03296.
    """
    require_steps(steps, history)
    require_positive(factor=factor)
    require_optimizer(optimizer)
    require_score(of)
    if target_fraction is not None and not 0 < target_fraction < 1:
        raise ValueError(f"{target_fraction=} must be a share of the class's probability, in (0, 1), or None")
    if not (area >= 0 and variation >= 0 and exponent >= 1 and mask_blur >= 0 and image_blur > 0 and jitter >= 0):
        raise ValueError(
            f"{area=}, {variation=}, {mask_blur=} and {jitter=} must not be negative, {image_blur=} must be positive "
            f"and {exponent=} at least 1"
        )

    @explainer(apply, heed=heed_score(of))
    @channels_last
    def explain(f: OfImages, x: Array, target: Target, key: Array | None) -> Array:
        import optax  # which takes long to import

        require_images(x, "meaningful_perturbation")
        shape = (x.shape[1], x.shape[2])
        score = remaining_score(f, x, target, of, target_fraction)
        x0 = gaussian_blur(x, image_blur)
        moved = shifts(key, x, x0, jitter)

        def loss(m: Array, step: Array) -> Array:
            edges = sum((jnp.abs(jnp.diff(m, axis=axis)) ** exponent).sum(axis=(1, 2)) for axis in (1, 2))
            prices = area * (1 - m).mean(axis=(1, 2)) + variation * edges / math.prod(m.shape[1:])
            return prices + score(blend(full_size(m, shape, mask_blur), *moved(step)))

        start = constant(0.0, (-(-shape[0] // factor), -(-shape[1] // factor)), x)
        solver = optimizer or optax.adam(optax.cosine_decay_schedule(0.2, steps))
        masks = optimise(loss, start, solver, steps, history)
        return 1 - each_in(history, lambda m: full_size(m, shape, mask_blur), masks).astype(x.dtype)

    return explain


def remaining_score(f: Function, x: Array, target: Target, of: Score, fraction: float | None) -> Function:
    """How much of a score ``x -> (N,)`` remains above the aim, scaled to 1 at ``x`` and 0 at the aim or below.

    Where the target is a class, or weighs classes by 0 to 1, the score is the logarithm of its odds.
    """
    if fraction is None:
        return scores(f, x, target, of=of)
    outputs = f(x)
    height = score = scorer(target, outputs, of)
    aim = score(outputs) - (1 - fraction) * jnp.abs(score(outputs))
    if is_probability(outputs, of) and not callable(target):
        weights = class_weights(target, outputs)
        shares = ((weights >= 0) & (weights <= 1)).all(axis=1)
        odds = functools.partial(log_odds, weights=jnp.where(shares[:, None], weights, 0.5))
        height = lambda outputs: jnp.where(shares, odds(outputs), score(outputs))
        log_p = jnp.log(fraction) + jax.nn.log_sigmoid(odds(outputs))
        aim = jnp.where(shares, log_p - jnp.log1p(-jnp.exp(log_p)), aim)
    whole = height(outputs)
    distance = jnp.where(whole > aim, whole - aim, 1)

    def excess(x: Array) -> Array:
        above = (height(f(x)) - aim) / distance
        return jnp.where(above <= 0, 0, above)  # NaN stays NaN

    return excess


def log_odds(logits: Array, weights: Array) -> Array:
    """``log(Σ w p / Σ (1 - w) p)``, p the softmax, which has a slope also where the probability rounds to 0 or 1."""
    weights = weights.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return jax.nn.logsumexp(logits, axis=1, b=weights) - jax.nn.logsumexp(logits, axis=1, b=1 - weights)


def full_size(m: Array, shape: tuple[int, int], sigma: float) -> Array:
    """Masks ``(N, h, w)`` at the image's resolution, bilinear and then blurred."""
    large = jax.vmap(lambda m: jax.image.resize(m, shape, "linear"))(m)
    return gaussian_blur(large[..., None], sigma)[..., 0]


def shifts(key: Array | None, x: Array, x0: Array, jitter: int):
    """``step -> (x, x0)``, both moved by the same random number of pixels, their borders repeated."""
    if not jitter:
        return lambda step: (x, x0)
    keys = example_keys(key, x, "meaningful_perturbation")
    both = jnp.concatenate([x, x0], axis=3)
    padded = jax.vmap(lambda v: jnp.pad(v, ((jitter, jitter), (jitter, jitter), (0, 0)), mode="edge"))(both)

    def one(key: Array, image: Array) -> Array:
        top, left = jax.random.randint(key, (2,), 0, 2 * jitter + 1, dtype=jnp.int32)
        return jax.lax.dynamic_slice(image, (top, left, jnp.zeros_like(top)), both.shape[1:])

    def moved(step: Array) -> tuple[Array, Array]:
        images = jax.vmap(lambda key, image: one(jax.random.fold_in(key, step), image))(keys, padded)
        return images[..., : x.shape[3]], images[..., x.shape[3] :]

    return moved
