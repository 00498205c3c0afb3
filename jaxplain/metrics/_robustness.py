"""Robustness: whether similar inputs get similar explanations.

An explainer that draws random numbers gets the same ones for the input and for its neighbours, so that only the
difference of the inputs is measured.

Jit the metric rather than the explainer: what a metric that is not jitted runs is compiled anew at every call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .. import _reductions as reductions
from .._chunking import chunked_map
from .._compose import transformed
from .._convention import Array, Explain, Target, example_keys, fix_target, require_positive, split
from .._reductions import at_least_float32
from ._common import flat

__all__ = ["avg_sensitivity", "local_lipschitz_estimate", "max_sensitivity"]

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
    change = lambda a, b, x, y: norm(b - a) / norm(y - x)
    return neighbourhood(explain, draw, change, jnp.max, **options)


def neighbourhood(
    explain: Explain,
    draw: Callable[[Array, tuple[int, ...]], Array],
    change: Callable[[Array, Array, Array, Array], Array],
    statistic: Callable[..., Array],
    *,
    samples: int = 200,
    noise: ArrayLike | None = None,
    chunk: int | None = 10,
) -> Callable[..., Array]:
    """A metric of explanations around the input: a statistic of ``change(A(x), A(y), x, y)`` over neighbours y."""
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
            number, difference = len(shifts), lambda index: jnp.broadcast_to(shifts[index], x.shape)
        at = lambda y: explain(*context, y, target=fixed, key=key)
        a = at(x)

        def sample(index: Array) -> Array:
            y = x + difference(index)
            return change(*(at_least_float32(v) for v in (a, at(y), x, y)))

        return statistic(chunked_map(sample, jnp.arange(number), chunk), axis=0)

    measured.__doc__ = CALL
    return measured


def in_a_box(radius: float) -> Callable[[Array, tuple[int, ...]], Array]:
    """Draws differences between ``-radius`` and ``radius``."""
    return lambda key, shape: jax.random.uniform(key, shape, jnp.float32, -radius, radius)


def relative_change(a: Array, b: Array, x: Array, y: Array) -> Array:
    """``||A(y) - A(x)|| / ||A(x)||``."""
    return norm(b - a) / norm(a)


def norm(a: Array) -> Array:
    """The Euclidean norm of what belongs to each example, ``(N,)``."""
    return reductions.norm(flat(a))
