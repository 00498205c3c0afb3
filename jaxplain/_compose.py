"""Explainers from explainers: whatever follows the convention goes in, and an explainer comes out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ._channels import Channels, require_channels, said_axis
from ._chunking import chunked_sum
from ._convention import (
    Apply,
    Array,
    Explain,
    Target,
    as_array,
    attributed_axis,
    chosen_class,
    example_keys,
    fix_target,
    inherit,
    network,
    outputs_of,
    require_logits,
    require_positive,
    scorer,
    split,
)
from ._gradients import gradient
from ._reductions import largest, norm, over_largest

__all__ = ["chunked", "contrast", "ensemble", "heatmap", "multiply", "smooth", "smoothgrad", "vargrad"]

Statistic = Literal["mean", "square", "variance"]


def transformed(*explainers: Explain) -> Callable[[Callable[..., Array]], Explain]:
    """Decorate the calling function of a transform: it explains the network that its explainers explain."""
    for explain in explainers:
        if not callable(explain):
            raise TypeError(
                f"{type(explain).__name__} is no explainer: pass what a method returns, like jaxplain.gradient(apply)"
            )
    return lambda explain: inherit(explain, explain, getattr(explainers[0], "apply", None))


def smooth(
    explain: Explain,
    *,
    samples: int = 50,
    stdev: float = 0.15,
    statistic: Statistic = "mean",
    chunk: int | None = 10,
) -> Explain:
    """Explain noisy copies of the input and take a statistic of the maps.

    ``mean: A = E[a(x + n)],  square: A = E[a(x + n)²],  variance: A = E[a(x + n)²] - E[a(x + n)]²``

    with ``n ~ N(0, s²)`` and ``s = stdev · (max x - min x)`` of each example. With ``target=None`` every copy explains
    the class that is predicted for the input itself.

    Args:
      explain: any explainer.
      samples: the number of noisy copies.
      stdev: the noise as a share of the example's range.
      statistic: ``"mean"``, ``"square"`` or ``"variance"`` (population), pixel by pixel.
      chunk: how many copies are explained at once; memory does not depend on ``samples``.

    Returns:
      An explainer that needs ``key``; its maps have the shape of ``explain``'s.

    Raises:
      ValueError: if ``key`` is missing, an option is out of range, or ``target=None`` and ``explain`` does not say
        which network it explains.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> explain = jaxplain.smooth(jaxplain.gradient(lambda x: (x**2).sum(axis=1)), samples=500)
      >>> explain(jnp.array([[1.0, 2.0]]), key=jax.random.key(0)).round(1)
      Array([[2., 4.]], dtype=float32)

    Reference:
      Smilkov, Thorat, Kim, Viégas, Wattenberg: SmoothGrad. arXiv:1706.03825, 2017; the squares: Hooker, Erhan,
      Kindermans, Kim, NeurIPS 2019; the variance: Adebayo, Gilmer, Goodfellow, Kim, ICLR workshop 2018.
    """
    require_positive(samples=samples)
    if statistic not in ("mean", "square", "variance"):
        raise ValueError(f"unknown statistic {statistic!r}: choose mean, square or variance")
    if not stdev >= 0:
        raise ValueError(f"stdev={stdev} must not be negative")

    @transformed(explain)
    def smoothed(*args: Any, target: Target = None, key: Array | None = None) -> Array:
        context, x = split(args)
        keys = example_keys(key, x, "smooth")
        target = fix_target(explain, args, target)
        axes = tuple(range(1, x.ndim))
        scale = stdev * (x.max(axis=axes, keepdims=True) - x.min(axis=axes, keepdims=True))

        def noisy(sample: Array) -> Array:
            draw, inner = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, sample)), out_axes=1)(keys)
            noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], jnp.float32))(draw).astype(x.dtype)
            return explain(*context, x + scale * noise, target=target, key=inner)

        if statistic == "mean":
            return mean(noisy, samples, chunk)
        if statistic == "square":
            return mean(lambda sample: noisy(sample) ** 2, samples, chunk)
        centre = explain(
            *context, x, target=target, key=keys
        )  # any constant will do; one near the mean does not cancel
        deviations = lambda sample: ((d := noisy(sample) - centre), d**2)
        first, second = mean(deviations, samples, chunk)
        return second - first**2

    return smoothed


def mean(fn: Callable[[Array], Any], samples: int, chunk: int | None) -> Any:
    """The mean of ``fn(0), ..., fn(samples - 1)``, in the dtype of its values."""
    shapes = jax.eval_shape(fn, jnp.zeros((), int))
    total = chunked_sum(fn, jnp.arange(samples), chunk)
    return jax.tree.map(lambda a, s: (a / samples).astype(s.dtype), total, shapes)


def smoothgrad(
    apply: Apply,
    *,
    samples: int = 50,
    stdev: float = 0.15,
    statistic: Statistic = "mean",
    chunk: int | None = 10,
) -> Explain:
    """The mean gradient over noisy copies of the input: ``smooth(gradient(apply))``.

    ``A = E[∂z_c/∂x (x + n)],  n ~ N(0, (stdev · (max x - min x))²)``

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      samples: the number of noisy copies.
      stdev: the noise as a share of the example's range.
      statistic: ``"mean"``, as in the paper, ``"square"`` (SmoothGrad squared) or ``"variance"``. Squares were measured
        to be better than the mean in insertion and deletion on every network (``benchmarks/results/defaults.md``).
      chunk: how many copies are evaluated at once.

    Returns:
      An explainer that needs ``key``; the attribution has the input's shape.

    Raises:
      ValueError: as `smooth`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> explain = jaxplain.smoothgrad(lambda x: x @ jnp.array([[2.0], [3.0]]), samples=4)
      >>> explain(jnp.array([[1.0, -1.0]]), key=jax.random.key(0))
      Array([[2., 3.]], dtype=float32)

    Reference:
      Smilkov, Thorat, Kim, Viégas, Wattenberg: SmoothGrad. arXiv:1706.03825, 2017.
    """
    return smooth(gradient(apply), samples=samples, stdev=stdev, statistic=statistic, chunk=chunk)


def vargrad(apply: Apply, *, samples: int = 50, stdev: float = 0.15, chunk: int | None = 10) -> Explain:
    """The variance of the gradient over noisy copies: ``smooth(gradient(apply), statistic="variance")``.

    ``A = Var[∂z_c/∂x (x + n)],  n ~ N(0, (stdev · (max x - min x))²)``

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      samples: the number of noisy copies.
      stdev: the noise as a share of the example's range.
      chunk: how many copies are evaluated at once.

    Returns:
      An explainer that needs ``key``; the attribution has the input's shape and is not negative.

    Raises:
      ValueError: as `smooth`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> explain = jaxplain.vargrad(lambda x: x @ jnp.array([[2.0], [3.0]]), samples=4)
      >>> explain(jnp.array([[1.0, -1.0]]), key=jax.random.key(0))  # the gradient of a linear function does not vary
      Array([[0., 0.]], dtype=float32)

    Reference:
      Adebayo, Gilmer, Goodfellow, Kim: Local Explanation Methods for Deep Neural Networks Lack Sensitivity to Parameter
      Values. ICLR workshop 2018, arXiv:1810.03307.
    """
    return smooth(gradient(apply), samples=samples, stdev=stdev, statistic="variance", chunk=chunk)


def multiply(*explainers: Explain) -> Explain:
    """The product of several maps, pixel by pixel: ``A = Π_i a_i``.

    Maps without a channel axis, ``(N, H, W)``, multiply every channel of maps that have one.

    Args:
      explainers: two or more, called with the same arguments.

    Returns:
      An explainer with the largest of the maps' shapes.

    Raises:
      ValueError: if there is none, or the maps' shapes do not match.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: (x**2).sum(axis=1)
      >>> jaxplain.multiply(jaxplain.gradient(f), jaxplain.input_x_gradient(f))(jnp.array([[1.0, 2.0]]))
      Array([[ 4., 32.]], dtype=float32)
    """

    def product(maps: list[Array]) -> Array:
        result, *others = maps
        for other in others:
            result = result * other
        return result

    return combined(explainers, product)


def ensemble(
    explainers: Sequence[Explain], *, statistic: Literal["mean", "variance"] = "mean", normalize: bool = False
) -> Explain:
    """The mean, or the disagreement, of several explainers' maps.

    ``mean: A = (1/M) Σ_i a_i,  variance: A = (1/M) Σ_i (a_i - mean)²``

    Methods differ in scale by orders of magnitude; with ``normalize`` each map is first divided by its largest absolute
    value, example by example. Without it, the mean of complete attributions is complete.

    Args:
      explainers: one or more, called with the same arguments.
      statistic: ``"mean"`` or ``"variance"`` (population).
      normalize: whether each map is scaled to a largest absolute value of 1.

    Returns:
      An explainer with the largest of the maps' shapes.

    Raises:
      ValueError: if there is none, the maps' shapes do not match, or the statistic is unknown.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: (x**2).sum(axis=1)
      >>> jaxplain.ensemble([jaxplain.gradient(f), jaxplain.input_x_gradient(f)])(jnp.array([[1.0, 2.0]]))
      Array([[2., 6.]], dtype=float32)

    Reference:
      Rieger, Hansen: Aggregating explanation methods for stable and robust explainability. arXiv:1903.00519, 2019.
    """
    if statistic not in ("mean", "variance"):
        raise ValueError(f"unknown statistic {statistic!r}: choose mean or variance")
    if callable(explainers):
        raise TypeError("an ensemble is made of several explainers: pass them in a list")

    def aggregate(maps: list[Array]) -> Array:
        stack = jnp.stack(jnp.broadcast_arrays(*(map(over_largest, maps) if normalize else maps)))
        return stack.mean(axis=0) if statistic == "mean" else stack.var(axis=0)

    return combined(tuple(explainers), aggregate)


def combined(explainers: Sequence[Explain], combine: Callable[[list[Array]], Array]) -> Explain:
    """Explain with each and combine the maps, those of ``(N, H, W)`` with an axis of channels where others have one."""
    if not explainers:
        raise ValueError("no explainer to combine: pass at least one")
    network_of_all = next((explain for explain in explainers if hasattr(explain, "apply")), explainers[0])

    @transformed(*explainers)
    def explain(*args: Any, target: Target = None, key: Array | None = None) -> Array:
        _, x = split(args)
        keys = None if key is None else example_keys(key, x, "combine")
        draw = lambda i: None if keys is None else jax.vmap(lambda key: jax.random.fold_in(key, i))(keys)
        maps = [explain(*args, target=target, key=draw(i)) for i, explain in enumerate(explainers)]
        rank = max(a.ndim for a in maps)
        if any(a.ndim == rank - 1 for a in maps):
            attribution = next(a for a in maps if a.ndim == rank)
            axis = attributed_axis(network_of_all, args, attribution)
            maps = [jnp.expand_dims(a, axis) if a.ndim == rank - 1 else a for a in maps]
        try:
            jnp.broadcast_shapes(*(a.shape for a in maps))
        except ValueError:
            raise ValueError(f"maps of shapes {[a.shape for a in maps]} do not combine: upsample them first") from None
        return combine(maps)

    return explain


def contrast(explain: Explain, against: Literal["others", "runner_up", "softmax"] = "others") -> Explain:
    """Explain what speaks for the target *rather than* for the other classes.

    The target becomes weights over the outputs, ``w = e_c - v``:

    * ``"others"``: ``v_j = 1 / (K - 1)`` on every other class, the margin to their mean;
    * ``"runner_up"``: ``v`` is the strongest other class;
    * ``"softmax"``: ``v_j = p_j / (1 - p_c)``, so that the gradient is that of ``log p_c``, divided by ``1 - p_c``.

    Finer-CAM (Zhang et al., CVPR 2025) is a CAM of ``z_c - γ z_d``, d the most similar class: with γ = 1
    ``contrast(grad_cam(apply), "runner_up")``, with another γ a CAM with the weights ``target=e_c - γ e_d``.

    Args:
      explain: an explainer that says which network it explains (all of jaxplain's do).
      against: the weights of the other classes.

    Returns:
      An explainer; its target is a class, or `None` for the predicted one.

    Raises:
      ValueError: if ``against`` is unknown, the network has fewer than two classes, or the target is no class.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> w = jnp.array([[1.0, 1.0], [2.0, 0.0]])  # the first input speaks for both classes
      >>> jaxplain.contrast(jaxplain.gradient(lambda x: x @ w))(jnp.array([[1.0, 1.0]]))
      Array([[0., 2.]], dtype=float32)
    """
    if against not in ("others", "runner_up", "softmax"):
        raise ValueError(f"unknown against={against!r}: choose others, runner_up or softmax")

    @transformed(explain)
    def contrasted(*args: Any, target: Target = None, key: Array | None = None) -> Array:
        outputs = outputs_of(network(explain), args)
        chosen = chosen_class("contrast", target, outputs)
        if against == "softmax":
            require_logits(outputs)
        rest = jnp.where(chosen == 1, -jnp.inf, outputs)
        others = {
            "others": lambda: (1 - chosen) / (outputs.shape[1] - 1),
            "runner_up": lambda: jax.nn.one_hot(rest.argmax(axis=1), outputs.shape[1], dtype=outputs.dtype),
            "softmax": lambda: jax.nn.softmax(rest, axis=1),
        }[against]()
        return explain(*args, target=chosen - others, key=key)

    return contrasted


def chunked(explain: Explain, size: int) -> Explain:
    """Explain a large batch ``size`` examples at a time, one after the other, so that memory stays constant.

    Args:
      explain: any explainer.
      size: how many examples are explained at once.

    Returns:
      An explainer with the same values: keys and targets go with their examples. A callable target sees the outputs of
      one chunk.

    Raises:
      ValueError: if ``size`` is not positive.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> explain = jax.jit(jaxplain.chunked(jaxplain.gradient(lambda x: (x**2).sum(axis=1)), 2))
      >>> explain(jnp.array([[1.0], [2.0], [3.0]]))
      Array([[2.], [4.], [6.]], dtype=float32)
    """
    require_positive(size=size)

    @transformed(explain)
    def by_chunks(*args: Any, target: Target = None, key: Array | None = None) -> Array:
        context, x = split(args)
        n, at_once = x.shape[0], fitting(size, x)
        keys = None if key is None else example_keys(key, x, "chunked")
        each = None if target is None or callable(target) else each_target(explain, args, target)
        part = lambda e: explain(*context, e[0], target=target if e[2] is None else e[2], key=e[1])
        maps = jax.lax.map(part, jax.tree.map(lambda a: dealt(a, at_once), (x, keys, each))).swapaxes(0, 1)
        return maps.reshape(-1, *maps.shape[2:])[:n]

    return by_chunks


def fitting(size: int, x: Array) -> int:
    """The size of chunks, of which every device has an equal part where the type of ``x`` says that it is sharded."""
    sharding = jax.typeof(x).sharding
    names = sharding.spec[0] if sharding.spec else None
    if names is None:
        return size
    devices = math.prod(sharding.mesh.shape[name] for name in ((names,) if isinstance(names, str) else names))
    own = x.shape[0] // devices
    return devices * max(part for part in range(1, max(1, size // devices) + 1) if own % part == 0)


def dealt(examples: Array, size: int) -> Array:
    """Deal examples out to chunks of at most ``size``, ``(chunks, size, ...)``, the last ones repeated to fill them.

    In turn, so that every device keeps a part of every chunk where the batch is sharded.
    """
    n = examples.shape[0]
    count = -(-n // size)
    size = -(-n // count)
    if n != count * size:
        examples = examples[jnp.minimum(jnp.arange(count * size), n - 1)]
    return examples.reshape(size, count, *examples.shape[1:]).swapaxes(0, 1)


def each_target(explain: Explain, args: tuple[Any, ...], target: ArrayLike) -> Array:
    """One target per example, checked before the loop over the examples hides its values."""
    classes, n = as_array(target), args[-1].shape[0]
    if apply := getattr(explain, "apply", None):
        scorer(target, jax.eval_shape(lambda x: outputs_of(apply, (*args[:-1], x)), args[-1]))
    return jnp.broadcast_to(classes, (n, *classes.shape[1:]))


Reduction = Literal["sum", "norm", "max_abs"]


@overload
def heatmap(attribution: Array, reduce: Reduction = "sum", *, channels: Channels | None = None) -> Array: ...
@overload
def heatmap(attribution: Explain, reduce: Reduction = "sum", *, channels: Channels | None = None) -> Explain: ...
def heatmap(
    attribution: Array | Explain, reduce: Reduction = "sum", *, channels: Channels | None = None
) -> Array | Explain:
    """Reduce the channels of an attribution to one value per pixel.

    ``sum: Σ_c A_c (signed; keeps completeness),  norm: (Σ_c A_c²)^½,  max_abs: max_c |A_c|``

    Args:
      attribution: ``(N, H, W, C)`` or ``(N, C, H, W)``, or an explainer that returns such maps. ``(N, H, W)`` counts as
        one channel.
      reduce: ``"sum"``, ``"norm"`` or ``"max_abs"``.
      channels: ``"first"`` or ``"last"``; without it, those of an explainer's maps are where its network has them, and
        those of an array are last.

    Returns:
      ``(N, H, W)``; or an explainer that returns that.

    Raises:
      ValueError: if ``reduce`` is unknown, the attribution has another rank, the network has its channels elsewhere, or
        an array looks as if its channels were first and nothing says where they are.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> a = jnp.array([3.0, -4.0]).reshape(1, 1, 1, 2)
      >>> [jaxplain.heatmap(a, how).item() for how in ("sum", "norm", "max_abs")]
      [-1.0, 5.0, 4.0]
    """
    reductions: dict[str, Callable[[Array, int], Array]] = {
        "sum": lambda a, axis: a.sum(axis=axis),
        "norm": norm,
        "max_abs": lambda a, axis: largest(jnp.abs(jnp.moveaxis(a, axis, -1)))[..., 0],
    }
    if reduce not in reductions:
        raise ValueError(f"unknown reduce={reduce!r}: choose {', '.join(reductions)}")

    require_channels(channels)

    def reduced(a: Array, axis_of: Callable[[Array], int]) -> Array:
        a = jnp.asarray(a)
        if a.ndim not in (3, 4):
            raise ValueError(f"a heat map is made of an attribution (N, H, W, C) or (N, H, W), got shape {a.shape}")
        return reductions[reduce](a, axis_of(a)) if a.ndim == 4 else reductions[reduce](a[..., None], -1)

    if not callable(attribution):
        return reduced(attribution, lambda a: said_axis(a.shape, channels))

    @transformed(attribution)
    def explain(*args: Any, target: Target = None, key: Array | None = None) -> Array:
        a = attribution(*args, target=target, key=key)
        return reduced(a, lambda a: attributed_axis(attribution, args, a, channels))

    return explain
