"""Meaningful perturbation: the smallest smooth blur that makes the class disappear."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from ..explainer import Apply, Array, Explain, Function, Target, example_keys, explainer, require_positive
from ..gradients import gaussian_blur
from .learned import constant, each_in, optimise, require_optimizer, require_steps
from .masked import Explained, blend, require_explained, require_images, score_of

if TYPE_CHECKING:
    import optax


def meaningful_perturbation(
    apply: Apply,
    *,
    steps: int = 100,
    area: float = 3e-3,
    variation: float = 1e-3,
    exponent: float = 3.0,
    factor: int = 8,
    mask_blur: float = 5.0,
    image_blur: float = 10.0,
    jitter: int = 4,
    optimizer: optax.GradientTransformation | None = None,
    of: Explained = "probability",
    history: int | None = None,
) -> Explain:
    """The smallest smooth part of the image without which the class is gone, learned by gradient descent.

    ``min over m in [0, 1] of  λ1 Σ (1 - m) + λ2 Σ |∇m|^β + E_τ score(M x_τ + (1 - M) blur(x)_τ),  A = 1 - M``

    M is m, enlarged to the input's size and blurred; ``x_τ`` is the image, moved by up to ``jitter`` pixels, anew in
    every step. The mask starts with everything removed, where the probability is not saturated: where a network is all
    but certain of the whole image, the slope vanishes. The paper takes 300 steps of Adam; the default of 100 keeps a
    large network on a CPU within a minute. The paper's λ1 = 1e-4 and λ2 = 1e-2 let half of an image go; the defaults,
    chosen on ten photographs with EfficientNet-Lite0, remove less.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function of images ``(N, H, W, C)``.
      steps: how many gradients are taken; 300 in the paper.
      area: λ1, the price of what is removed; 1e-4 in the paper.
      variation: λ2, the price of edges; 1e-2 in the paper.
      exponent: β of the total variation.
      factor: how many pixels of the image a pixel of m stands for, along each axis.
      mask_blur: the standard deviation of the blur of M, in pixels of the image.
      image_blur: that of the blur that removes, in pixels.
      jitter: the largest shift, in pixels; 0 needs no ``key``.
      optimizer: any optax transformation; ``optax.adam(0.1)`` without. Every example has its own state.
      of: ``"probability"``, as in the paper, applies the target to the softmax of logits ``(N, K)``; ``"output"`` to
        the outputs as they are, to whose scale λ1 and λ2 must fit. Outputs of another shape are always taken as they
        are.
      history: return this many maps, in equal distances along the way, ``(N, history, H, W)``; the last is the result.

    Returns:
      An explainer that needs ``key``; its maps ``(N, H, W)`` are 1 where the image is removed, 0 where it is kept.

    Raises:
      ValueError: if ``key`` is missing, the input is not ``(N, H, W, C)``, or an option is out of range.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> corner = lambda x: x[:, 2:5, 2:5].max(axis=(1, 2, 3))
      >>> explain = jaxplain.perturbation.meaningful_perturbation(
      ...     corner, factor=2, mask_blur=1.0, jitter=0, area=1e-2  # the default is for images of 224 x 224
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
    require_explained(of)
    if not (area >= 0 and variation >= 0 and exponent >= 1 and mask_blur >= 0 and image_blur > 0 and jitter >= 0):
        raise ValueError(
            f"{area=}, {variation=}, {mask_blur=} and {jitter=} must not be negative, {image_blur=} must be positive "
            f"and {exponent=} at least 1"
        )

    @explainer(apply)
    def explain(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        import optax  # which takes long to import

        require_images(x, "meaningful_perturbation")
        shape = (x.shape[1], x.shape[2])
        score, x0 = score_of(f, x, target, of), gaussian_blur(x, image_blur)
        moved = shifts(key, x, x0, jitter)

        def loss(m: Array, step: Array) -> Array:
            removed = (1 - m).sum(axis=(1, 2))
            edges = sum((jnp.abs(jnp.diff(m, axis=axis)) ** exponent).sum(axis=(1, 2)) for axis in (1, 2))
            return area * removed + variation * edges + score(blend(enlarge(m, shape, mask_blur), *moved(step)))

        start = constant(0.0, (-(-shape[0] // factor), -(-shape[1] // factor)), x)
        masks = optimise(loss, start, optimizer or optax.adam(0.1), steps, history)
        return 1 - each_in(history, lambda m: enlarge(m, shape, mask_blur), masks).astype(x.dtype)

    return explain


def enlarge(m: Array, shape: tuple[int, int], sigma: float) -> Array:
    """Masks ``(N, h, w)`` at the image's resolution, bilinear and then blurred."""
    large = jax.vmap(lambda m: jax.image.resize(m, shape, "linear"))(m)
    return gaussian_blur(large[..., None], sigma)[..., 0]


def shifts(key: Array | None, x: Array, x0: Array, jitter: int):
    """``step -> (x, x0)``, both moved by the same random number of pixels, their borders repeated."""
    if not jitter:
        return lambda step: (x, x0)
    keys = example_keys(key, x.shape[0], "meaningful_perturbation")
    both = jnp.concatenate([x, x0], axis=3)
    padded = jnp.pad(both, ((0, 0), (jitter, jitter), (jitter, jitter), (0, 0)), mode="edge")

    def one(key: Array, image: Array) -> Array:
        top, left = jax.random.randint(key, (2,), 0, 2 * jitter + 1, dtype=jnp.int32)
        return jax.lax.dynamic_slice(image, (top, left, jnp.zeros_like(top)), both.shape[1:])

    def moved(step: Array) -> tuple[Array, Array]:
        images = jax.vmap(lambda key, image: one(jax.random.fold_in(key, step), image))(keys, padded)
        return images[..., : x.shape[3]], images[..., x.shape[3] :]

    return moved
