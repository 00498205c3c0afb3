"""Robustness: whether similar inputs get similar explanations.

An explainer that draws random numbers gets the same ones for the input and for its neighbours, so that only the
difference of the inputs is measured.

Jit the metric rather than the explainer: what a metric that is not jitted runs is compiled anew at every call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypedDict, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .. import _reductions as reductions
from .._chunking import chunked_map
from .._compose import transformed
from .._convention import (
    Array,
    Explain,
    Function,
    Target,
    attributed_axis,
    example_keys,
    fix_target,
    network,
    outputs_of,
    reference,
    require_positive,
    split,
)
from .._execution import executable
from .._reductions import at_least_float32, divide
from ._common import flat

__all__ = ["avg_sensitivity", "continuity", "local_lipschitz_estimate", "max_sensitivity"]

CALL = """Measure how an explainer answers at the last positional argument and around it.

Args:
  *args: the arguments of the explainer; the last one is the input.
  target: the target to explain; `None` for the class predicted for the input itself, for its neighbours as well.
  key: one PRNG key, or ``(N,)``.

Returns:
  One number per example, ``(N,)``, in at least float32.
"""


class NeighbourOptions(TypedDict, total=False):
    """The options of every metric of explanations around the input.

    Attributes:
      samples: how many neighbours are drawn for each example, 200 by default.
      noise: ``(S, ...)``, differences δ to take instead of drawing them, each of which broadcasts against the input;
        needs no key.
      chunk: how many neighbours are explained at once, 10 by default; memory does not depend on ``samples``.
    """

    samples: int
    noise: ArrayLike | None
    chunk: int | None


def max_sensitivity(
    explain: Explain,
    *,
    radius: float = 0.2,
    **options: Unpack[NeighbourOptions],
) -> Callable[..., Array]:
    """The largest relative change of the explanation in a box around the input; lower is better.

    ``max over δ of ||A(x + δ) - A(x)|| / ||A(x)||,  δ ~ U(-radius, radius)``

    Args:
      explain: any explainer.
      radius: half the side of the box, in the input's units.
      **options: see `NeighbourOptions`.

    Returns:
      A metric ``(*args, target=None, key=None) -> (N,)``; NaN where the explanation of the input is 0.

    Raises:
      ValueError: if ``key`` is missing, an option is out of range, or ``target=None`` and ``explain`` does not say
        which network it explains.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> explain = jaxplain.gradient(lambda x: (x**2).sum(axis=1))
      >>> metric = jaxplain.metrics.max_sensitivity(explain, noise=jnp.array([[0.5, 0.0], [0.0, -2.0]]))
      >>> metric(jnp.array([[3.0, 4.0]]))  # from (6, 8) to (7, 8) and to (6, 4)
      Array([0.4], dtype=float32)

    Reference:
      Yeh, Hsieh, Suggala, Inouye, Ravikumar: On the (In)fidelity and Sensitivity of Explanations. NeurIPS 2019,
      arXiv:1901.09392.
    """
    return neighbourhood(explain, in_a_box(radius), relative_change, jnp.max, **options)


def avg_sensitivity(
    explain: Explain,
    *,
    radius: float = 0.2,
    **options: Unpack[NeighbourOptions],
) -> Callable[..., Array]:
    """The mean relative change of the explanation in a box around the input; lower is better.

    ``E over δ of ||A(x + δ) - A(x)|| / ||A(x)||,  δ ~ U(-radius, radius)``

    Args:
      explain: any explainer.
      radius: half the side of the box, in the input's units.
      **options: see `NeighbourOptions`.

    Returns:
      A metric ``(*args, target=None, key=None) -> (N,)``; NaN where the explanation of the input is 0.

    Raises:
      ValueError: as `max_sensitivity`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> explain = jaxplain.gradient(lambda x: (x**2).sum(axis=1))
      >>> metric = jaxplain.metrics.avg_sensitivity(explain, noise=jnp.array([[0.5, 0.0], [0.0, -2.0]]))
      >>> metric(jnp.array([[3.0, 4.0]])).round(4)  # (0.1 + 0.4) / 2
      Array([0.25], dtype=float32)

    Reference:
      Yeh, Hsieh, Suggala, Inouye, Ravikumar: On the (In)fidelity and Sensitivity of Explanations. NeurIPS 2019,
      arXiv:1901.09392.
    """
    return neighbourhood(explain, in_a_box(radius), relative_change, jnp.mean, **options)


def local_lipschitz_estimate(
    explain: Explain,
    *,
    stdev: float = 0.1,
    **options: Unpack[NeighbourOptions],
) -> Callable[..., Array]:
    """The largest change of the explanation per change of the input, nearby; lower is better.

    ``max over δ of ||A(x + δ) - A(x)|| / ||δ||,  δ ~ N(0, stdev²)``

    Quantus divides every batch of explanations by its largest absolute value first; here they keep their units, score
    per squared input unit for gradients.

    Args:
      explain: any explainer.
      stdev: the standard deviation of the noise, in the input's units.
      **options: see `NeighbourOptions`.

    Returns:
      A metric ``(*args, target=None, key=None) -> (N,)``.

    Raises:
      ValueError: as `max_sensitivity`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> explain = jaxplain.gradient(lambda x: (x**2).sum(axis=1))
      >>> metric = jaxplain.metrics.local_lipschitz_estimate(explain)
      >>> metric(jnp.array([[3.0, 4.0]]), key=jax.random.key(0)).round(2)
      Array([2.], dtype=float32)

    Reference:
      Alvarez-Melis, Jaakkola: On the Robustness of Interpretability Methods. ICML workshop 2018, arXiv:1806.08049.
    """
    draw = lambda key, shape: stdev * jax.random.normal(key, shape, jnp.float32)
    change = lambda here, there: norm(there.map - here.map) / norm(there.x - here.x)
    return neighbourhood(explain, draw, change, jnp.max, **options)


def continuity(
    explain: Explain,
    *,
    steps: int = 28,
    baseline: ArrayLike = 0.0,
    absolute: bool = True,
    chunk: int | None = 10,
) -> Callable[..., Array]:
    """The largest change of the explanation per change of the image, while it moves sideways; lower is better.

    ``max over t of || |A(x_t)| - |A(x)| ||_1 / ||x_t - x||_2,  x_t = x moved by t pixels,  t = k d - W``

    with ``d = (2 W + 1) / steps`` rounded down and k = 1 ... steps, from left to right out of the frame. The paper
    takes any two inputs and signed explanations. Quantus divides every batch of explanations by its largest absolute
    value first; here they keep their units. With more steps than the ``2 W + 1`` translations it does not move, it
    blackens the image, and it fails where ``steps`` divides them.

    Args:
      explain: any explainer of images.
      steps: how many translations, at most ``2 W + 1``.
      baseline: what comes in at the border, anything that broadcasts against the input. That of Quantus is the image's
        smallest value.
      absolute: whether to compare absolute values.
      chunk: how many translations are explained at once; memory does not depend on ``steps``.

    Returns:
      A metric ``(*args, target=None, key=None) -> (N,)``; 0 for an image that looks the same wherever it is moved.

    Raises:
      ValueError: if there are more steps than translations, or the input is no image.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> explain = jaxplain.gradient(lambda x: (x**2).sum(axis=(1, 2, 3)))
      >>> x = jnp.array([3.0, 0.0]).reshape(1, 1, 2, 1)
      >>> jaxplain.metrics.continuity(explain, steps=5)(x).round(4)  # to (0, 3): from (6, 0) to (0, 6), 12 / √18
      Array([2.8284], dtype=float32)

    Reference:
      Montavon, Samek, Müller: Methods for Interpreting and Understanding Deep Neural Networks. Digital Signal
      Processing 2018, arXiv:1706.07979.
    """
    require_positive(steps=steps)

    @transformed(explain)
    def measured(*args: Any, target: Target = None, key: Array | None = None) -> Array:
        context, x = split(args)
        if x.ndim != 4:
            raise ValueError(f"continuity moves images (N, H, W, C), got shape {x.shape}")
        along = 2 if attributed_axis(explain, args, x) == 3 else 3
        width, fixed = x.shape[along], fix_target(explain, args, target)
        if steps > 2 * width + 1:
            raise ValueError(f"{steps=} is more than an image {width} pixels wide has translations, {2 * width + 1}")
        shown = lambda y: at_least_float32(explain(*context, y, target=fixed, key=key))
        signless = jnp.abs if absolute else lambda a: a
        x0, a = reference(baseline, x), signless(shown(x))

        def moved(shift: Array) -> Array:
            places = jax.lax.broadcasted_iota(jnp.int32, x.shape, along) - shift
            inside = (places >= 0) & (places < width)
            return jnp.where(inside, jnp.take(x, jnp.clip(jnp.arange(width) - shift, 0, width - 1), axis=along), x0)

        def change(shift: Array) -> Array:
            y = moved(shift)
            difference = flat(jnp.abs(signless(shown(y)) - a)).sum(axis=1)
            return divide(difference, norm(at_least_float32(y - x)))

        shifts = jnp.arange(1, steps + 1) * ((2 * width + 1) // steps) - width
        return chunked_map(change, shifts, chunk).max(axis=0)

    measured.__doc__ = CALL
    return measured


# ------------------------------------------------------------------------------------------------------ the machinery


class Seen(NamedTuple):
    """What is known of an input, in at least float32.

    Attributes:
      x: the input.
      map: its explanation.
      network: what was looked up in the network, if anything was.
    """

    x: Array
    map: Array
    network: Any


def neighbourhood(
    explain: Explain,
    draw: Callable[[Array, tuple[int, ...]], Array],
    change: Callable[[Seen, Seen], Array],
    statistic: Callable[..., Array],
    *,
    look: Callable[[Function, Array], Any] | None = None,
    samples: int = 200,
    noise: ArrayLike | None = None,
    chunk: int | None = 10,
) -> Callable[..., Array]:
    """A metric of explanations around the input: a statistic of ``change(here, there)`` over neighbours.

    Args:
      explain: the explainer.
      draw: ``(key, shape) ->`` the difference of a neighbour.
      change: of what is seen at the input and at a neighbour, ``(N,)``.
      statistic: over the neighbours.
      look: ``(f, x) ->`` what else is seen, of the network ``f: x -> outputs``.
      samples: see `NeighbourOptions`.
      noise: see `NeighbourOptions`.
      chunk: see `NeighbourOptions`.
    """
    require_positive(samples=samples)

    @transformed(explain)
    def measured(*args: Any, target: Target = None, key: Array | None = None) -> Array:
        context, x = split(args)
        fixed = fix_target(explain, args, target)
        if noise is None:
            keys = example_keys(key, x, "a metric of random neighbours")
            around, key = jax.vmap(jax.random.split, out_axes=1)(keys)
            fresh = lambda key, index: draw(jax.random.fold_in(key, index), x.shape[1:])
            number, difference = samples, lambda index: jax.vmap(fresh, (0, None))(around, index).astype(x.dtype)
        else:
            shifts = jnp.asarray(noise, x.dtype)
            if not (shifts.ndim and shifts.size and broadcasts(shifts.shape[1:], x.shape)):
                raise ValueError(
                    f"noise has shape {shifts.shape}: stack differences along a first axis, each of which broadcasts "
                    f"against the input {x.shape}"
                )
            number, difference = len(shifts), lambda index: jnp.broadcast_to(shifts[index], x.shape)

        def looked_up(y: Array) -> Any:
            if look is None:
                return None
            apply = network(explain)
            f = lambda y: outputs_of(apply, (*context, y))
            return executable(apply, functools.partial(look, f))(y)

        def seen(y: Array) -> Seen:
            shown = explain(*context, y, target=fixed, key=key)
            return jax.tree.map(at_least_float32, Seen(y, shown, looked_up(y)))

        here = seen(x)
        changes = chunked_map(lambda i: change(here, seen(x + difference(i))), jnp.arange(number), chunk)
        return statistic(changes, axis=0)

    measured.__doc__ = CALL
    return measured


def broadcasts(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether an array of one shape broadcasts to the other, without adding axes to that."""
    pairs = zip(shape[::-1], other[::-1], strict=False)
    return len(shape) <= len(other) and all(size in (1, wanted) for size, wanted in pairs)


def in_a_box(radius: float) -> Callable[[Array, tuple[int, ...]], Array]:
    """Draws differences between ``-radius`` and ``radius``."""
    return lambda key, shape: jax.random.uniform(key, shape, jnp.float32, -radius, radius)


def relative_change(here: Seen, there: Seen) -> Array:
    """``||A(y) - A(x)|| / ||A(x)||``."""
    return norm(there.map - here.map) / norm(here.map)


def norm(a: Array) -> Array:
    """The Euclidean norm of what belongs to each example, ``(N,)``."""
    return reductions.norm(flat(a))
