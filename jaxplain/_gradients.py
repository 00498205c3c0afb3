"""The gradient family: the gradient, its integrals along paths to the input, its expectation over baselines."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ._channels import channel_axis
from ._chunking import chunked_sum
from ._convention import (
    Apply,
    Array,
    Explain,
    Function,
    Target,
    example_keys,
    explainer,
    full_precision,
    reference,
    require_positive,
    score_gradient,
    scores,
)
from ._images import gaussian_blur, like_examples

__all__ = [
    "blur_integrated_gradients",
    "expected_gradients",
    "gradient",
    "guided_integrated_gradients",
    "input_x_gradient",
    "integrated_gradients",
]

Path = Callable[[Array, Array, Array], Array]
Quadrature = Literal["gauss_legendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid"]


def gradient(apply: Apply) -> Explain:
    """The gradient of the score with respect to the input.

    ``A = ∂z_c / ∂x``

    The map of the original paper is its largest absolute value over colours, ``heatmap(attribution, "max_abs")``.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.

    Returns:
      An explainer (see `jaxplain.explainer` for its arguments and errors). The attribution has the input's shape and
      the unit score per input unit.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> explain = jax.jit(jaxplain.gradient(lambda w, x: jnp.tanh(x) @ w))
      >>> explain(jnp.array([[1.0, 2.0]]), jnp.array([[0.0]]), target=1)
      Array([[2.]], dtype=float32)

    Reference:
      Simonyan, Vedaldi, Zisserman: Deep Inside Convolutional Networks. ICLR workshop 2014, arXiv:1312.6034.
    """

    @explainer(apply)
    def explain(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        outputs, pullback = jax.vjp(f, x)
        return pullback(score_gradient(target, outputs))[0]

    return explain


def input_x_gradient(apply: Apply) -> Explain:
    """The input times the gradient.

    ``A = x · ∂z_c / ∂x``

    On networks of ReLUs and max-pools without biases it is complete, and equal to LRP-0.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.

    Returns:
      An explainer; the attribution has the input's shape and the unit of the score.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> jaxplain.input_x_gradient(lambda w, x: x @ w)(jnp.array([[2.0], [3.0]]), jnp.array([[1.0, -1.0]]))
      Array([[ 2., -3.]], dtype=float32)

    Reference:
      Shrikumar, Greenside, Shcherbina, Kundaje: Not Just a Black Box. arXiv:1605.01713, 2016.
    """

    @full_precision
    @explainer(apply)
    def explain(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        return x * gradient(f)(x, target=target)

    return explain


def integrated_gradients(
    apply: Apply,
    *,
    baseline: ArrayLike = 0.0,
    path: Path | None = None,
    steps: int = 50,
    rule: Quadrature = "gauss_legendre",
    chunk: int | None = 10,
) -> Explain:
    """The gradient integrated along the straight line from a baseline to the input, or along another path.

    ``A = (x - x0) · ∫ ∂z_c/∂x (x0 + t (x - x0)) dt,  t from 0 to 1``

    Complete: the attribution of an example sums to ``z_c(x) - z_c(x0)``, up to the error of the quadrature. Along
    another path γ from x0 to x it is ``∫ ∂z_c/∂x (γ(t)) · γ'(t) dt``, and just as complete.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      baseline: x0, a number or anything that broadcasts against the input, in the input's (preprocessed) units. 0, the
        mean image of usual preprocessing, was measured to be better in insertion and deletion than black on seven
        networks and than white on five (``benchmarks/results/defaults.md``); deletion itself goes to the mean.
      path: ``path(x0, x, t) -> γ(t)``, of arrays in the input's shape and a number t, a function that JAX
        differentiates in t; its ends are x0 and x where the map is to be complete. None is the straight line.
      steps: how many gradients the integral is made of.
      rule: the quadrature.
      chunk: how many of them are evaluated at once; memory does not depend on ``steps``.

    Returns:
      An explainer; the attribution has the input's shape and the unit of the score.

    Raises:
      ValueError: if ``steps`` or ``chunk`` is not positive, the rule is unknown, the baseline does not broadcast, or
        the path has points of another shape.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> explain = jaxplain.integrated_gradients(lambda x: (x**2).sum(axis=1), baseline=1.0)
      >>> explain(jnp.array([[2.0, 3.0]])).round(4)  # 4 - 1 and 9 - 1
      Array([[3., 8.]], dtype=float32)
      >>> first_then_second = lambda x0, x, t: x0 + jnp.clip(2 * t - jnp.array([[0, 1]]), 0, 1) * (x - x0)
      >>> explain = jaxplain.integrated_gradients(lambda x: x[:, 0] * x[:, 1], path=first_then_second)
      >>> explain(jnp.array([[2.0, 3.0]])).round(4)  # alone the first does nothing
      Array([[0., 6.]], dtype=float32)

    Reference:
      Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks. ICML 2017, arXiv:1703.01365.
    """
    nodes = quadrature(rule, steps)
    if not (path is None or callable(path)):
        raise TypeError(f"{path=} is no path: pass a function (x0, x, t) -> point, t from 0 to 1")

    @full_precision
    @explainer(apply)
    def explain(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        x0 = reference(baseline, x)
        along = lambda t: (straight if path is None else path)(x0, x, t)
        point = jax.eval_shape(along, jnp.zeros(()))
        if getattr(point, "shape", None) != x.shape or not jnp.issubdtype(point.dtype, jnp.floating):
            what = f"shape {point.shape}, {point.dtype}" if hasattr(point, "shape") else type(point).__name__
            raise ValueError(
                f"path(x0, x, t) returned {what}: return a point in the input's shape {x.shape}, of floats"
            )
        return path_integral(scores(f, x, target), along, nodes, chunk, x.dtype)

    return explain


def blur_integrated_gradients(
    apply: Apply,
    *,
    max_sigma: float = 50.0,
    steps: int = 50,
    rule: Quadrature = "gauss_legendre",
    chunk: int | None = 10,
) -> Explain:
    """The gradient integrated along the path that blurs the image away.

    ``A = ∫ ∂z_c/∂x (γ(t)) · γ'(t) dt,  γ(t) = Gauss[σ(t)] * x,  σ(t) = (1 - t)² max_sigma,  t from 0 to 1``

    There is no baseline to choose. Complete: it sums to ``z_c(x)`` minus the score of the blurred image. The paper's σ
    is linear in t; the square changes no exact value and puts more of the steps where the image changes most. The blur
    renormalises the Gaussian at the border, so that a constant image stays as it is.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function of images ``(N, H, W, C)``.
      max_sigma: the standard deviation of the strongest blur, in pixels.
      steps: how many gradients the integral is made of.
      rule: the quadrature.
      chunk: how many of them are evaluated at once.

    Returns:
      An explainer; the attribution has the input's shape and the unit of the score.

    Raises:
      ValueError: if the input is not ``(N, H, W, C)``, or an option is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> explain = jaxplain.blur_integrated_gradients(lambda x: x[:, 1, 1].sum(axis=1))
      >>> dot = jnp.zeros((1, 3, 3, 1)).at[0, 1, 1].set(9.0)
      >>> explain(dot)[0, 1, 1].round(1)  # 9, less the mean that is left of it
      Array([8.], dtype=float32)

    Reference:
      Xu, Venugopalan, Sundararajan: Attribution in Scale and Space. CVPR 2020, arXiv:2004.03383.
    """
    nodes = quadrature(rule, steps)
    if not max_sigma > 0:
        raise ValueError(f"{max_sigma=} must be positive")

    @full_precision
    @explainer(apply)
    def explain(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        if x.ndim != 4:
            raise ValueError(f"blur integrated gradients explains images (N, H, W, C), got shape {x.shape}")
        axis = channel_axis(f, x)
        image = jnp.moveaxis(x, axis, -1)
        path = lambda t: jnp.moveaxis(gaussian_blur(image, max_sigma * (1 - t) ** 2), -1, axis)
        return path_integral(scores(f, x, target), path, nodes, chunk, x.dtype)

    return explain


def expected_gradients(apply: Apply, *, baselines: ArrayLike, samples: int = 50, chunk: int | None = 10) -> Explain:
    """Integrated gradients averaged over baselines drawn from a data set.

    ``A = E[(x - x0) · ∂z_c/∂x (x0 + t (x - x0))],  x0 uniform over the baselines, t uniform in [0, 1]``

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      baselines: ``(B, ...)``, examples shaped like one input, in the same units.
      samples: how many pairs (x0, t) are drawn for each example.
      chunk: how many of them are evaluated at once.

    Returns:
      An explainer that needs ``key``; the attribution has the input's shape and the unit of the score, and sums to
      ``z_c(x) - E z_c(x0)`` up to the error of sampling.

    Raises:
      ValueError: if ``key`` is missing or the baselines have another shape than the examples.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> explain = jaxplain.expected_gradients(lambda x: x.sum(axis=1), baselines=jnp.full((5, 2), 0.5))
      >>> explain(jnp.array([[1.0, 3.0]]), key=jax.random.key(0))
      Array([[0.5, 2.5]], dtype=float32)

    Reference:
      Erion, Janizek, Sturmfels, Lundberg, Lee: Improving performance of deep learning models with axiomatic attribution
      priors and expected gradients. Nature Machine Intelligence 2021, arXiv:1906.10670.
    """
    require_positive(samples=samples)

    @full_precision
    @explainer(apply)
    def explain(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        keys = example_keys(key, x, "expected_gradients")
        data = jnp.asarray(baselines, x.dtype)
        if data.shape[1:] != x.shape[1:] or data.size == 0:
            raise ValueError(f"baselines have shape {data.shape}: stack examples of shape {x.shape[1:]} along axis 0")
        slope = slope_of(scores(f, x, target))

        def draw(key: Array) -> tuple[Array, Array]:
            which, where = jax.random.split(key)
            index = jax.random.randint(which, (), 0, len(data), dtype=jnp.int32)
            return index, jax.random.uniform(where, dtype=jnp.float32).astype(x.dtype)

        placed = jax.typeof(x).sharding if any(jax.typeof(x).sharding.spec) else None

        def term(sample: Array) -> Array:
            index, t = jax.vmap(lambda key: draw(jax.random.fold_in(key, sample)))(keys)
            x0 = data.at[index].get(out_sharding=placed)
            return (x - x0) * slope(x0 + like_examples(t, x) * (x - x0))

        return (chunked_sum(term, jnp.arange(samples), chunk) / samples).astype(x.dtype)

    return explain


def guided_integrated_gradients(
    apply: Apply,
    *,
    baseline: ArrayLike = 0.0,
    steps: int = 50,
    fraction: float = 0.25,
    max_distance: float = 0.02,
) -> Explain:
    """The gradient integrated along a path that prefers the features with the smallest gradient.

    At step s of ``steps`` the L1 distance to the input shrinks to ``(1 - s/steps) |x - x0|``: the ``fraction`` of
    features with the smallest ``|∂z_c/∂x|`` goes first, then the next, until the distance is spent, and every feature
    stays within ``max_distance`` of the straight line. ``A = Σ ∂z_c/∂x · (step of x)``.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      baseline: x0, a number or anything that broadcasts against the input.
      steps: the number of steps; they follow one another, so there is no ``chunk``.
      fraction: the share of features that move together, in (0, 1].
      max_distance: the largest distance to the straight line, as a share of it, in [0, 1]; 0 is the straight line.

    Returns:
      An explainer; the attribution has the input's shape and the unit of the score, and sums to ``z_c(x) - z_c(x0)`` up
      to the error of a left Riemann sum.

    Raises:
      ValueError: if an option is out of range or the baseline does not broadcast.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> explain = jaxplain.guided_integrated_gradients(lambda x: x @ jnp.array([1.0, -2.0]))
      >>> explain(jnp.array([[3.0, 1.0]])).round(4)
      Array([[ 3., -2.]], dtype=float32)

    Reference:
      Kapishnikov, Venugopalan, Avci, Wedin, Terry, Bolukbasi: Guided Integrated Gradients. CVPR 2021, arXiv:2106.09788.
    """
    require_positive(steps=steps)
    if not (0 < fraction <= 1 and 0 <= max_distance <= 1):
        raise ValueError(f"{fraction=} must be in (0, 1] and {max_distance=} in [0, 1]")

    @full_precision
    @explainer(apply)
    def explain(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        slope = slope_of(scores(f, x, target))
        x0 = reference(baseline, x)
        guided = functools.partial(_guided_step, fraction=fraction, max_distance=max_distance, steps=steps)
        move = jax.vmap(guided, in_axes=(0, 0, 0, 0, None))

        def step(state: tuple[Array, Array], t: Array) -> tuple[tuple[Array, Array], None]:
            now, total = state
            grad = slope(now)
            then = move(now, x0, x, grad, t)
            return (then, total + grad * (then - now)), None

        (_, total), _ = jax.lax.scan(step, (x0, jnp.zeros_like(x)), jnp.arange(1, steps + 1))
        return total

    return explain


def _guided_step(
    now: Array,
    x0: Array,
    x: Array,
    grad: Array,
    step: Array,
    fraction: float,
    max_distance: float,
    steps: int,
) -> Array:
    """Move one example towards the input, the features of small gradient first, until the step's distance is spent."""
    alpha = step / steps
    lower, upper = (x0 + jnp.clip(alpha + d, 0, 1).astype(x.dtype) * (x - x0) for d in (-max_distance, max_distance))
    behind = jnp.abs(x - now) > jnp.abs(x - lower)
    now = jnp.where(behind, lower, now)
    spend = jnp.abs(x - now).sum() - (1 - alpha) * jnp.abs(x - x0).sum()

    room = jnp.abs(upper - now)
    order = jnp.argsort(jnp.where(room > 0, jnp.abs(grad), jnp.inf), axis=None)
    size = max(1, round(fraction * x.size))
    group = jnp.zeros(x.size, int).at[order].set(jnp.arange(x.size) // size)
    rooms = jax.ops.segment_sum(room.reshape(-1), group, -(-x.size // size))
    spent_before = jnp.cumsum(rooms) - rooms
    share = jnp.clip((spend - spent_before) / jnp.where(rooms > 0, rooms, 1), 0, 1)
    share = share[group].reshape(x.shape).astype(x.dtype)
    return jnp.where(share == 1, upper, now + share * (upper - now))  # exactly, so that no room is left by rounding


# ------------------------------------------------------------------------------------------------------------- paths


def straight(x0: Array, x: Array, t: Array) -> Array:
    """The point of the straight line."""
    return x0 + t * (x - x0)


def path_integral(
    score: Function,
    path: Callable[[Array], Array],
    nodes: tuple[np.ndarray, np.ndarray],
    chunk: int | None,
    dtype: jnp.dtype,
) -> Array:
    """``Σ_i w_i ∂score/∂x (γ(t_i)) · γ'(t_i)`` for a path γ from [0, 1] to the inputs, its derivative by `jax.jvp`.

    The network sees ``dtype``; the path and the sum are in at least float32.
    """
    slope = slope_of(score)

    def term(node: tuple[Array, Array]) -> Array:
        t, weight = node
        point, velocity = jax.jvp(path, (t,), (jnp.ones_like(t),))
        return weight * velocity * slope(point.astype(dtype))

    precise = jnp.promote_types(dtype, jnp.float32)
    return chunked_sum(term, tuple(jnp.asarray(a, precise) for a in nodes), chunk).astype(dtype)


def slope_of(score: Function) -> Function:
    """The gradient of each example's own score."""
    return jax.grad(lambda x: score(x).sum())


def quadrature(rule: Quadrature, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1]."""
    require_positive(steps=steps)
    if rule == "riemann_trapezoid" and steps == 1:
        raise ValueError("the rule 'riemann_trapezoid' takes two steps or more")
    i = np.arange(steps)
    if rule == "gauss_legendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        return (nodes + 1) / 2, weights / 2
    if rule == "riemann_trapezoid":
        return i / (steps - 1), np.where((i == 0) | (i == steps - 1), 0.5, 1.0) / (steps - 1)
    shifts = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}
    if rule not in shifts:
        raise ValueError(f"unknown rule {rule!r}: choose gauss_legendre, riemann_trapezoid, {', '.join(shifts)}")
    return (i + shifts[rule]) / steps, np.full(steps, 1 / steps)
