"""PatternNet and PatternAttribution: what a neuron's weights filter out is not what its signal looks like.

A linear neuron ``y = wᵀx + b`` sees ``x = a y + distractor``. The pattern a is estimated from data without labels,
and takes the weight's place in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from .._convention import Apply, Array, Explain, Function, full_precision, outputs_of, split
from .._execution import executable
from .._graph.axes import along_weight, weight_axes_of_output
from ._affine_map import AffineMap
from ._engine import refuse_training_mode, trace_network
from ._guided import modified_gradient
from ._unit_call import Rule, UnitCall
from ._units import WEIGHTED, Unit

__all__ = ["fit_patterns", "pattern_attribution", "pattern_net"]

Patterns = dict[str, Array]
Sums = dict[str, dict[str, Array]]


def fit_patterns(apply: Apply, *context: Any, batches: Iterable[Any]) -> Patterns:
    """Estimate the pattern of every neuron of a network's convolutions and dense layers.

    ``a+ = (E+[x y] - E+[x] E[y]) / wᵀ(E+[x y] - E+[x] E[y])``, with E+ over the samples where ``y > 0`` and E over
    all; every patch under a convolution is a sample. Then ``wᵀ a+ = 1``; a neuron that is never active has the
    pattern 0.

    The batches are read once, each in one compiled pass.

    Args:
      apply: ``apply(*context, x) -> outputs``, any JAX function.
      context: what comes before the input: variables, state.
      batches: inputs ``(N, ...)``, all of the same shape but for N; no labels.

    Returns:
      The patterns by the layer's number in the order of evaluation, ``"0"``, ``"1"``, ..., each shaped like the weight;
      arrays in a dict, to be saved as any.

    Raises:
      ValueError: if there is no batch, or a convolution or dense layer lies in a loop.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> s, d = jax.random.normal(jax.random.key(0), (2, 2000, 1))
      >>> x = s * jnp.array([[1.0, 0.0]]) + d * jnp.array([[1.0, 1.0]])  # the signal s along (1, 0), and a distractor
      >>> w = jnp.array([[1.0], [-1.0]])  # filters the distractor out
      >>> patterns = jaxplain.fit_patterns(lambda x: x @ w, batches=[x])
      >>> jnp.abs(next(iter(patterns.values())).ravel() - jnp.array([1.0, 0.0])).max() < 0.1
      Array(True, dtype=bool)

    Reference:
      Kindermans, Schütt, Alber, Müller, Erhan, Kim, Dähne: Learning how to explain neural networks: PatternNet and
      PatternAttribution. ICLR 2018, arXiv:1705.05598.
    """
    total: Sums | None = None
    weights: dict[str, Array] = {}
    for batch in batches:
        _, x = split((*context, batch))
        gather = full_precision(lambda context, x: statistics(lambda x: outputs_of(apply, (*context, x)), x))
        sums, weights = jax.jit(executable(apply, gather))(context, x)
        total = sums if total is None else jax.tree.map(jnp.add, total, sums)
    if total is None:
        raise ValueError("fit_patterns got no batch to estimate patterns from")
    return {name: pattern(sums, weights[name]) for name, sums in total.items()}


def statistics(f: Function, x: Array) -> tuple[Sums, dict[str, Array]]:
    """Sums over one batch, and the weights, by unit."""
    network = trace_network(f, x)
    refuse_training_mode(network, x)
    values = network.affine_values(x)
    for unit in network.plan.units():
        if unit.kind in WEIGHTED and unit.position not in values:
            raise ValueError(
                f"the {unit.kind} at {unit.place} lies in a loop, where patterns are not estimated: unroll the loop"
            )
    sums: Sums = {}
    weights: dict[str, Array] = {}
    for call, x_in, y in values.values():
        if call.unit.kind in WEIGHTED:
            weight, active = call.affine.weight, (y > 0).astype(y.dtype)
            with_inputs = jax.linear_transpose(lambda w, call=call, x=x_in: call.affine.apply(x, w), weight)
            sums[str(call.unit.layer)] = {
                "xy": with_inputs(active * y)[0],
                "x": with_inputs(active)[0],
                "active": by_neuron(call.affine, active),
                "y": by_neuron(call.affine, y),
                "all": by_neuron(call.affine, jnp.ones_like(y)),
            }
            weights[str(call.unit.layer)] = weight
    return sums, weights


def pattern(sums: dict[str, Array], weight: Array) -> Array:
    """The pattern from the sums of all batches; those by neuron have size 1 along the weight's input axes."""
    active = jnp.maximum(sums["active"], 1)
    covariance = sums["xy"] / active - sums["x"] / active * (sums["y"] / sums["all"])
    inputs = tuple(i for i, n in enumerate(sums["all"].shape) if n == 1)
    along = (weight * covariance).sum(axis=inputs, keepdims=True)
    return jnp.where((along == 0) | (sums["active"] == 0), 0, covariance / jnp.where(along == 0, 1, along))


def by_neuron(affine: AffineMap, values: Array) -> Array:
    """Sum values of the output's shape over all that one neuron makes of its samples; broadcasts against the weight."""
    base = affine.parts.base
    assert base is not None
    aval = base.eqn.outvars[0].aval
    values = jax.linear_transpose(affine.relayout, jax.ShapeDtypeStruct(aval.shape, aval.dtype))(values)[0]
    axes = weight_axes_of_output(base, affine.parts.operand)
    values = values.sum(axis=tuple(i for i, axis in enumerate(axes) if axis is None))
    return along_weight(values, axes, affine.weight.ndim)


def pattern_net(apply: Apply, patterns: Patterns) -> Explain:
    """PatternNet: the backward pass with patterns in place of weights, an estimate of the signal in the input.

    ``R_in = aᵀ R`` at convolutions and dense layers; the forward gates of activations and maxima are kept.

    Args:
      apply: ``apply(*args) -> outputs``, the network that the patterns were fitted to.
      patterns: from `fit_patterns`.

    Returns:
      An explainer; the map has the input's shape.

    Raises:
      ValueError: if a layer has no pattern.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x @ jnp.array([[1.0], [-1.0]])
      >>> jaxplain.pattern_net(f, {"0": jnp.array([[1.0], [0.0]])})(jnp.ones((1, 2)))
      Array([[1., 0.]], dtype=float32)

    Reference:
      Kindermans et al.: Learning how to explain neural networks. ICLR 2018, arXiv:1705.05598.
    """
    return _with_patterns(apply, patterns, lambda weight, pattern: pattern)


def pattern_attribution(apply: Apply, patterns: Patterns) -> Explain:
    """PatternAttribution: the backward pass with ``w · a`` in place of weights, what the signal contributes.

    ``R_in = (w · a)ᵀ R`` at convolutions and dense layers; the forward gates of activations and maxima are kept.

    Args:
      apply: ``apply(*args) -> outputs``, the network that the patterns were fitted to.
      patterns: from `fit_patterns`.

    Returns:
      An explainer; the attribution has the input's shape.

    Raises:
      ValueError: if a layer has no pattern.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x @ jnp.array([[2.0], [-1.0]])
      >>> jaxplain.pattern_attribution(f, {"0": jnp.array([[0.5], [0.0]])})(jnp.ones((1, 2)))
      Array([[ 1., -0.]], dtype=float32)

    Reference:
      Kindermans et al.: Learning how to explain neural networks. ICLR 2018, arXiv:1705.05598.
    """
    return _with_patterns(apply, patterns, jnp.multiply)


def _with_patterns(apply: Apply, patterns: Patterns, combine: Callable[[Array, Array], Array]) -> Explain:
    def composite(unit: Unit) -> Rule | None:
        if unit.kind not in (*WEIGHTED, "scale"):
            return None
        if unit.kind in WEIGHTED and str(unit.layer) not in patterns:
            raise ValueError(f"no pattern for the {unit.kind} at {unit.place}: fit the patterns to this network")

        def rule(call: UnitCall, x: Array, y: Array, r: Array) -> Array:
            pattern = patterns[str(call.unit.layer)] if call.unit.kind in WEIGHTED else reciprocal(call.affine.weight)
            return call.affine.transpose(r, combine(call.affine.weight, pattern))

        return rule

    return modified_gradient(apply, composite)


def reciprocal(weight: Array) -> Array:
    """The pattern of a neuron with one input."""
    return jnp.where(weight == 0, 0, 1 / jnp.where(weight == 0, 1, weight))
