"""Relative stability: how much the explanation changes per change of the input, of the output or of what lies between.

All changes are relative, value by value, except that of the output. A value of 0 is taken for ``eps`` where something
is divided by it, so that an explanation, or a layer behind a ReLU, that has zeros makes these numbers large.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, Unpack, get_args

import jax
import jax.numpy as jnp

from .._convention import (
    AS_OUTPUT,
    Array,
    Explain,
    Function,
    Score,
    is_probability,
    require_logits,
    require_score,
)
from .._reductions import norm as norm_along
from ..features._tap import values_of_layers
from ._robustness import NeighbourOptions, Seen, in_a_box, neighbourhood, norm

__all__ = ["relative_input_stability", "relative_output_stability", "relative_representation_stability"]

IfChanged: TypeAlias = Literal["nan", "skip", "keep"]


def relative_input_stability(
    explain: Explain,
    *,
    radius: float = 0.2,
    eps: float = 1e-6,
    if_prediction_changes: IfChanged = "nan",
    **options: Unpack[NeighbourOptions],
) -> Callable[..., Array]:
    """The largest relative change of the explanation per relative change of the input, nearby; lower is better.

    ``max over δ of ||(A(x + δ) - A(x)) / A(x)|| / ||δ / x||,  δ ~ U(-radius, radius)``

    The paper counts neighbours with the same prediction alone (``"skip"``), and where the denominator is less than
    ``eps`` takes ``eps``; in Quantus, and here, it does where it is 0. The default of Quantus draws δ from 0.02 to 0.2,
    so that all its neighbours are brighter.

    Args:
      explain: any explainer; one that says which network it explains, unless predictions do not matter.
      radius: half the side of the box, in the input's units.
      eps: what stands for 0 in denominators.
      if_prediction_changes: what becomes of a neighbour with another prediction than the input: ``"nan"``, so that the
        example has no answer, as in Quantus; ``"skip"``, it does not count; ``"keep"``, it does.
      **options: see `NeighbourOptions`.

    Returns:
      A metric ``(*args, target=None, key=None) -> (N,)``; NaN where no neighbour counts. Networks without classes have
      no prediction that could change.

    Raises:
      ValueError: if ``key`` is missing, an option is out of range, or ``explain`` does not say which network it
        explains.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> explain = jaxplain.gradient(lambda x: (x**2).sum(axis=1))  # 2 x changes by the same share as x
      >>> metric = jaxplain.metrics.relative_input_stability(explain, noise=jnp.array([[0.5, 0.0], [0.3, -2.0]]))
      >>> metric(jnp.array([[3.0, 4.0]])).round(4)
      Array([1.], dtype=float32)

    Reference:
      Agarwal, Johnson, Pawelczyk, Krishna, Saxena, Zitnik, Lakkaraju: Rethinking Stability for Attribution-based
      Explanations. 2022, arXiv:2203.06877.
    """
    look = None if if_prediction_changes == "keep" else outputs_alone
    distance = lambda here, there: relative_distance(here.x, there.x, eps)
    return stability(explain, radius, eps, if_prediction_changes, look, distance, **options)


def relative_output_stability(
    explain: Explain,
    *,
    radius: float = 0.2,
    of: Score = "output",
    eps: float = 1e-6,
    if_prediction_changes: IfChanged = "nan",
    **options: Unpack[NeighbourOptions],
) -> Callable[..., Array]:
    """The largest relative change of the explanation per change of the outputs, nearby; lower is better.

    ``max over δ of ||(A(x + δ) - A(x)) / A(x)|| / ||z(x + δ) - z(x)||,  δ ~ U(-radius, radius)``

    Where the paper and Quantus differ, see `relative_input_stability`.

    Args:
      explain: an explainer that says which network it explains (all of jaxplain's do).
      radius: half the side of the box, in the input's units.
      of: whether z is the ``"output"``, or the ``"probability"``, its softmax.
      eps: what stands for 0 in denominators.
      if_prediction_changes: see `relative_input_stability`.
      **options: see `NeighbourOptions`.

    Returns:
      A metric ``(*args, target=None, key=None) -> (N,)``, in the inverse units of the outputs.

    Raises:
      ValueError: as `relative_input_stability`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> explain = jaxplain.gradient(lambda x: (x**2).sum(axis=1))
      >>> metric = jaxplain.metrics.relative_output_stability(explain, noise=jnp.array([[1.0, 0.0]]))
      >>> metric(jnp.array([[2.0, 4.0]]))  # the explanation changes by 1/2, the output by 9 - 4
      Array([0.1], dtype=float32)

    Reference:
      Agarwal, Johnson, Pawelczyk, Krishna, Saxena, Zitnik, Lakkaraju: Rethinking Stability for Attribution-based
      Explanations. 2022, arXiv:2203.06877.
    """
    require_score(of)

    def distance(here: Seen, there: Seen) -> Array:
        return norm(of_outputs(there.network[0], of) - of_outputs(here.network[0], of))

    return stability(explain, radius, eps, if_prediction_changes, outputs_alone, distance, **options)


def relative_representation_stability(
    explain: Explain,
    *,
    layers: Sequence[str] | None = None,
    radius: float = 0.2,
    eps: float = 1e-6,
    if_prediction_changes: IfChanged = "nan",
    **options: Unpack[NeighbourOptions],
) -> Callable[..., Array]:
    """The largest relative change of the explanation per relative change of the network's layers; lower is better.

    ``max over δ of ||(A(x + δ) - A(x)) / A(x)|| / ||(L(x + δ) - L(x)) / L(x)||,  δ ~ U(-radius, radius)``

    L are the values of all chosen layers, one after the other. Where the paper and Quantus differ, see
    `relative_input_stability`.

    Args:
      explain: an explainer that says which network it explains (all of jaxplain's do).
      layers: their names (see `jaxplain.layers`); by default all that have one, as in Quantus. Their values are held
        for ``chunk`` neighbours at once.
      radius: half the side of the box, in the input's units.
      eps: what stands for 0 in denominators.
      if_prediction_changes: see `relative_input_stability`.
      **options: see `NeighbourOptions`.

    Returns:
      A metric ``(*args, target=None, key=None) -> (N,)``.

    Raises:
      ValueError: as `relative_input_stability`, and if there is no such layer, or none has a name.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> explain = jaxplain.gradient(lambda x: checkpoint_name(x**2, "squares").sum(axis=1))
      >>> metric = jaxplain.metrics.relative_representation_stability(explain, noise=jnp.array([[1.0, 0.0]]))
      >>> metric(jnp.array([[2.0, 4.0]]))  # the explanation changes by 1/2, the first square from 4 to 9
      Array([0.4], dtype=float32)

    Reference:
      Agarwal, Johnson, Pawelczyk, Krishna, Saxena, Zitnik, Lakkaraju: Rethinking Stability for Attribution-based
      Explanations. 2022, arXiv:2203.06877.
    """
    names = None if layers is None else list(layers)

    def distance(here: Seen, there: Seen) -> Array:
        pairs = zip(here.network[1], there.network[1], strict=True)
        return norm_along(jnp.stack([relative_distance(a, b, eps) for a, b in pairs]), 0)

    look = lambda f, x: values_of_layers(f, x, names)
    return stability(explain, radius, eps, if_prediction_changes, look, distance, **options)


def stability(
    explain: Explain,
    radius: float,
    eps: float,
    if_prediction_changes: IfChanged,
    look: Callable[[Function, Array], tuple[Array, Any]] | None,
    distance: Callable[[Seen, Seen], Array],
    **options: Unpack[NeighbourOptions],
) -> Callable[..., Array]:
    """The largest relative change of the explanation over a distance; ``look`` returns the outputs, and anything."""
    if if_prediction_changes not in get_args(IfChanged):
        raise ValueError(f"unknown {if_prediction_changes=}: choose nan, skip or keep")

    def change(here: Seen, there: Seen) -> Array:
        far = distance(here, there)
        value = relative_distance(here.map, there.map, eps) / jnp.where(far == 0, eps, far)
        if if_prediction_changes == "keep" or here.network[0].ndim != 2:
            return value
        changed = here.network[0].argmax(axis=1) != there.network[0].argmax(axis=1)
        return jnp.where(changed, jnp.nan if if_prediction_changes == "nan" else -jnp.inf, value)

    def largest(values: Array, axis: int) -> Array:
        found = values.max(axis=axis)
        return jnp.where(found == -jnp.inf, jnp.nan, found)

    return neighbourhood(explain, in_a_box(radius), change, largest, look=look, **options)


def outputs_alone(f: Function, x: Array) -> tuple[Array, None]:
    """What the network returns, and nothing else of it."""
    return f(x), None


def of_outputs(outputs: Array, of: Score) -> Array:
    """The outputs, or their softmax."""
    if not is_probability(outputs, of):
        return outputs
    require_logits(outputs, AS_OUTPUT)
    return jax.nn.softmax(outputs)


def relative_distance(a: Array, b: Array, eps: float) -> Array:
    """``||(b - a) / a||`` of each example, ε in place of zeros."""
    return norm((b - a) / jnp.where(a == 0, eps, a))
