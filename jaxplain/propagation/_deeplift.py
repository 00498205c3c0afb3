"""DeepLIFT: multipliers that account for the difference from a reference, complete on every network.

The network is evaluated on the input and on the reference at once, two lanes of the engine. What travels back is the
multiplier m of ``Σ_i m_i Δx_i = Δy``, so that every unit's rule only has to be complete by itself: affine units and
moves have their own transpose for a rule. Softmax and normalisation fall into their operations, each of which is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.extend.core import primitives as P
from jax.typing import ArrayLike

from .._chunking import chunked_sum
from .._convention import Apply, Array, Explain, Function, Target, explainer, full_precision, reference, scorer
from ._engine import Lanes, no_rule, refuse_training_mode, trace_network
from ._unit_call import Composite, Rule, TwoWayRule, UnitCall
from ._units import Unit

__all__ = ["deep_shap", "deeplift"]

NEARLY_ZERO = 1e-10
TIE = 1e-4  # of the change of a maximum: how near to it a value counts as equal
LOPSIDED = 100.0  # how much larger at one end a factor may be whose mean is taken


def deeplift(
    apply: Apply, *, baseline: ArrayLike = 0.0, rule: Literal["rescale", "reveal_cancel"] = "rescale"
) -> Explain:
    """DeepLIFT: the difference of the score from a reference's, divided over the input.

    ``A = (x - x0) · m``, with multipliers m that follow the chain rule; Δ is a value less the reference's.

    * Affine units: the weights.
    * Activations, rescale: ``m = Δy / Δz``, the derivative where ``|Δz| < 1e-10``.
    * Activations, reveal-cancel: ``m± = Δy± / Δz±`` for the positive and negative parts of Δz, each ``Δy±`` the mean
      effect of adding that part before and after the other.
    * Maxima: what the output gains goes to the input's winner, what it loses to the reference's, summed over windows.
    * Products of two explained values: each factor's difference times the other's mean; or times the smaller of its
      values, where one is over a hundred times the other, as the inverse of a norm that vanishes in the reference.

    Complete: the attribution of an example sums to ``z_c(x) - z_c(x0)`` to float precision, on every network. The
    differences lose digits where input and reference nearly agree: prefer float32 to bfloat16 here. A reference that
    all examples share is evaluated once, as far as the network works on each example by itself.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      baseline: the reference x0, a number or anything that broadcasts against the input. 0, the mean image of usual
        preprocessing, was measured to be better than black in insertion and deletion on all of seven networks
        (``benchmarks/results/defaults.md``); deletion itself goes to the mean.
      rule: ``"rescale"`` or ``"reveal_cancel"``.

    Returns:
      An explainer; the attribution has the input's shape and the unit of the score.

    Raises:
      ValueError: if the rule is unknown, the baseline does not broadcast, or an operation has no rule.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: 1 - jnp.maximum(1 - x.sum(axis=1), 0)  # saturates: the gradient at (1, 1) is zero
      >>> jaxplain.deeplift(f)(jnp.array([[1.0, 1.0]]))
      Array([[0.5, 0.5]], dtype=float32)

    Reference:
      Shrikumar, Greenside, Kundaje: Learning Important Features Through Propagating Activation Differences. ICML 2017,
      arXiv:1704.02685.
    """
    if rule not in ("rescale", "reveal_cancel"):
        raise ValueError(f"unknown rule {rule!r}: choose rescale or reveal_cancel")

    @full_precision
    @explainer(apply)
    def explain(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        return attribution(f, x, reference(baseline, x), target, rule)

    return explain


def deep_shap(
    apply: Apply,
    *,
    baselines: ArrayLike,
    rule: Literal["rescale", "reveal_cancel"] = "rescale",
    chunk: int | None = 1,
) -> Explain:
    """The mean of DeepLIFT over a set of references, an approximation of Shapley values.

    ``A = (1/B) Σ_b (x - x_b) · m_b``; it sums to ``z_c(x)`` less the mean score of the references.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      baselines: ``(B, ...)``, examples shaped like one input.
      rule: as in `deeplift`.
      chunk: how many references are evaluated at once.

    Returns:
      An explainer; the attribution has the input's shape and the unit of the score.

    Raises:
      ValueError: if the baselines have another shape than the examples; otherwise as `deeplift`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> jaxplain.deep_shap(lambda x: x.sum(axis=1), baselines=jnp.array([[0.0], [1.0]]))(jnp.array([[2.0]]))
      Array([[1.5]], dtype=float32)

    Reference:
      Lundberg, Lee: A Unified Approach to Interpreting Model Predictions. NeurIPS 2017, arXiv:1705.07874.
    """

    @full_precision
    @explainer(apply)
    def explain(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        data = jnp.asarray(baselines, x.dtype)
        if data.ndim != x.ndim or data.shape[1:] != x.shape[1:]:
            raise ValueError(
                f"baselines have shape {data.shape}: stack examples of shape {x.shape[1:]} in a first axis"
            )
        fixed = f(x).argmax(axis=1) if target is None and jax.eval_shape(f, x).ndim == 2 else target
        one = lambda x0: attribution(f, x, reference(x0, x), fixed, rule)
        return (chunked_sum(one, data, chunk) / len(data)).astype(x.dtype)

    return explain


def attribution(f: Function, x: Array, x0: Array, target: Target, rule: str) -> Array:
    """DeepLIFT, with a reference per example: ``Σ over lanes of difference · multiplier``."""
    network = trace_network(f, x)
    refuse_training_mode(network, x)  # which asks for normalisation as a unit
    network = network.without_regions()

    def scored(composite: Composite, *lanes: Array) -> tuple[Array, ...]:
        outputs = network(composite, *lanes)
        return trace_network(scorer(target, outputs[0]), outputs[0], regions=False)(composite, *outputs)

    difference = x - x0
    if rule == "rescale":
        score, pullback = jax.vjp(lambda x: scored(rescale_rule, x, x0)[0], x)
        return difference * pullback(jnp.ones_like(score))[0]
    parts = (jnp.maximum(difference, 0), jnp.minimum(difference, 0))
    (gain, loss), pullback = jax.vjp(lambda *parts: scored(cancel_rule, x, x0, *parts)[2:], *parts)
    multipliers = pullback((jnp.ones_like(gain), jnp.ones_like(loss)))
    return parts[0] * multipliers[0] + parts[1] * multipliers[1]


# --------------------- multipliers of one unit: rule(unit, x, x0, y, y0, m) -> m of its inputs


def rescale(call: UnitCall, x: Array, x0: Array, y: Array, y0: Array, m: Array) -> Array:
    """``m Δy / Δx``, and the derivative where ``Δx`` nearly vanishes."""
    return m * ratio(y - y0, x - x0) + call.vjp(x, jnp.where(vanishes(x - x0), m, 0))


def vanishes(difference: Array) -> Array:
    """Whether a difference is nearly zero, or that of two infinities of a mask."""
    return ~(jnp.abs(difference) >= NEARLY_ZERO)


def ratio(numerator: Array, denominator: Array) -> Array:
    """The quotient, 0 where the denominator nearly vanishes."""
    small = vanishes(denominator)
    return jnp.where(small, 0, numerator / jnp.where(small, 1, denominator))


def winners(call: UnitCall, x: Any, x0: Any, y: Array, y0: Array, m: Array) -> Any:
    """What a maximum gains goes to the input's winner, what it loses to the reference's; a minimum the reverse.

    Where all of the reference's values were equal, as in a constant one, the input's winner takes the loss as well. Not
    wherever it was one of several: of equal inputs, two operations may take two different ones for the winner.
    """
    minimum = call.unit.ops[0].primitive in (P.min_p, P.reduce_min_p, P.reduce_window_min_p, P.cummin_p)
    other_extreme = -call.forward(*jax.tree.map(jnp.negative, as_tuple(x0)))
    constant = jnp.abs(y0 - other_extreme) <= TIE * jnp.abs(y - y0)
    to_input = (y < y0 if minimum else y > y0) | constant
    change = m * (y - y0)
    contributions = jax.tree.map(
        jnp.add, call.vjp(x, jnp.where(to_input, change, 0)), call.vjp(x0, jnp.where(to_input, 0, change))
    )
    return jax.tree.map(lambda c, x, x0: ratio(c, x - x0), contributions, x, x0)  # it moved at least as far


def ordered(call: UnitCall, x: Array, x0: Array, y: Array, y0: Array, m: Array) -> Array:
    """Sorting, as if each value went through one function G: ``m_i = (G(x_i) - G(x0_i)) / (x_i - x0_i)``.

    Its slope ``G'(v)`` is the mean multiplier of the places between v's own in the order of the input and in that of
    the reference: as many results move past v there as inputs do, less those that move back. Where v's place is the
    same in both it is the mean of the two next to it. A value that moves past no other has its place's multiplier.
    """
    op = call.unit.ops[0]
    axis = op.params["dimension" if "dimension" in op.params else "axis"]
    x, x0, m = (jnp.moveaxis(v, axis, -1) for v in (x, x0, m))
    n, m = x.shape[-1], m if op.primitive is P.sort_p else m[..., ::-1]  # from the lowest place to the highest
    m = jnp.concatenate([jnp.zeros((*m.shape[:-1], n - m.shape[-1]), m.dtype), m], -1)
    sums = jnp.concatenate([jnp.zeros_like(m[..., :1]), jnp.cumsum(m, -1)], -1)  # of the k lowest places
    around = jnp.concatenate([m[..., :1], (m[..., 1:] + m[..., :-1]) / 2, m[..., -1:]], -1)
    both = jnp.concatenate([x, x0], -1)
    order = jnp.argsort(both, -1)
    at = lambda values, places: jnp.take_along_axis(values, places, -1)
    levels = at(both, order)
    place, place0 = jnp.cumsum(order < n, -1), jnp.cumsum(order >= n, -1)  # how many lie there or below
    sum_between = at(sums, place) - at(sums, place0)
    slope = jnp.where(place == place0, at(around, place), sum_between / jnp.where(place == place0, 1, place - place0))
    width = jnp.diff(levels, axis=-1)
    areas = jnp.cumsum(jnp.where(jnp.isfinite(width), slope[..., :-1] * width, 0), -1)
    position = jnp.argsort(order, -1)
    g = at(jnp.concatenate([jnp.zeros_like(m[..., :1]), areas], -1), position)
    means = jnp.clip(ratio(g[..., :n] - g[..., n:], x - x0), slope.min(-1, keepdims=True), slope.max(-1, keepdims=True))
    return jnp.moveaxis(jnp.where(vanishes(x - x0), at(slope, position[..., :n]), means), -1, axis)


def midpoint(call: UnitCall, x: Any, x0: Any, y: Array, y0: Array, m: Array) -> Any:
    """The derivative half-way, which is exact for products: each factor's difference times the other's mean."""
    if call.unit.ops[-1].primitive is P.mul_p and isinstance(x, tuple):
        return tuple(m * factor for factor in factors(*x, *x0))
    return call.vjp(jax.tree.map(lambda a, a0: (a + a0) / 2, x, x0), m)


def factors(a: Array, v: Array, a0: Array, v0: Array) -> tuple[Array, Array]:
    """The multipliers of both factors of ``a v``: ``λ v + (1 - λ) v0`` and ``(1 - λ) a + λ a0``, λ = 1/2.

    They are complete for any λ. Where a factor is far larger at one end, as the inverse of a norm that vanishes there,
    halves would cancel to their last digit: there λ is 1 or 0, so that its smaller value is taken.
    """
    leaps = lambda large, small: (jnp.abs(large) > LOPSIDED * jnp.abs(small)) & (small != 0)
    ahead, behind = leaps(v0, v) | leaps(a, a0), leaps(v, v0) | leaps(a0, a)
    of_end = jnp.where(ahead == behind, 0.5, jnp.where(ahead, 1.0, 0.0)).astype(v.dtype)
    return of_end * v + (1 - of_end) * v0, (1 - of_end) * a + of_end * a0


def quotient(call: UnitCall, x: Any, x0: Any, y: Array, y0: Array, m: Array) -> Any:
    """A division as the product of the dividend with the reciprocal."""
    (a, b), (a0, b0) = x, x0
    v, v0 = 1 / b, 1 / b0
    m_a, m_v = factors(a, v, a0, v0)
    small = vanishes(b - b0)
    return m * m_a, m * m_v * jnp.where(small, -v * v, ratio(v - v0, b - b0))


Multipliers = Callable[..., Any]
LINEAR = ("conv", "dense", "scale", "pool", "sum", "linear", "shape")
MULTIPLIERS: dict[str, Multipliers] = {
    "activation": rescale,
    "max_pool": winners,
    "sort": ordered,
    "product": midpoint,
    "division": quotient,
}


def multipliers_of(unit: Unit) -> Multipliers | None:
    """How a unit's multipliers are found; None for linear units, by their own transpose."""
    if unit.kind in LINEAR:
        return None
    if unit.kind == "select":
        raise ValueError(
            f"the explained input chooses among values at {unit.place} (`{unit.ops[-1].primitive.name}`), so that it "
            "and its reference may take different ones: take sorted values as they are (jnp.sort, jax.lax.top_k), or "
            "explain by a method without a reference"
        )
    if unit.kind not in MULTIPLIERS:
        raise no_rule(unit, "explain by a method that needs none, such as jaxplain.integrated_gradients")
    return MULTIPLIERS[unit.kind]


def rescale_rule(unit: Unit) -> Rule | None:
    """The rule of a unit in two lanes: input and reference."""
    multipliers = multipliers_of(unit)
    if multipliers is None:
        return None

    def rule(call: UnitCall, x: Any, y: Any, m: Any) -> Any:
        x, x0 = lanes_first(x)
        result = multipliers(call, x, x0, y[0], y[1], m[0])
        return in_lanes(result, lambda m: (m, None))

    return rule


# ------- reveal-cancel in four lanes: the input, the reference, and the two parts of the difference


def cancel_rule(unit: Unit) -> Rule:
    """The rule of a unit in four lanes; the parts of the difference are computed by what it has for a forward."""
    if unit.kind in ("shape", "sum"):
        return in_parts(moved_parts, moved_multipliers)
    if unit.affine is not None:
        return in_parts(affine_parts, affine_multipliers)
    if unit.kind == "activation":
        return in_parts(activation_parts, activation_multipliers)
    multipliers = multipliers_of(unit) or midpoint

    def net(call: UnitCall, x: Any, x0: Any, p: Any, n: Any, outputs: Lanes, m_p: Array, m_n: Array) -> Any:
        y, y0, *_ = outputs
        m = jnp.where(y > y0, m_p, jnp.where(y < y0, m_n, (m_p + m_n) / 2))
        result = multipliers(call, x, x0, y, y0, m)
        return result, result

    return in_parts(lambda call, x, x0, p, n, y, y0: (jnp.maximum(y - y0, 0), jnp.minimum(y - y0, 0)), net)


def in_parts(parts: Callable[..., Any], multipliers: Callable[..., Any]) -> TwoWayRule:
    """A rule in four lanes: ``parts(...) -> (Δy+, Δy-)`` forward, ``multipliers(...) -> (m+, m-)`` backward."""

    def forward(call: UnitCall, x: Any) -> Any:
        x, x0, p, n = lanes_first(x)
        y, y0 = (call.forward(*as_tuple(v)) for v in (x, x0))
        return (y, y0, *parts(call, x, x0, p, n, y, y0))

    def backward(call: UnitCall, x: Any, y: Any, m: Any) -> Any:
        x, x0, p, n = lanes_first(x)
        m_p, m_n = multipliers(call, x, x0, p, n, y, m[2], m[3])
        if isinstance(x, tuple):  # none in the lanes of the input and the reference
            return tuple((None, None, *m) for m in zip(m_p, m_n, strict=True))
        return None, None, m_p, m_n

    return TwoWayRule(forward, backward)


def moved_parts(call: UnitCall, x: Any, x0: Any, p: Any, n: Any, y: Array, y0: Array) -> tuple[Array, Array]:
    """The linear part of the unit, without the constants it may put in."""
    linear = lambda v: jax.jvp(lambda *x: call.forward(*x), as_tuple(x), as_tuple(v))[1]
    return linear(p), linear(n)


def moved_multipliers(call: UnitCall, x: Any, x0: Any, p: Any, n: Any, y: Lanes, m_p: Array, m_n: Array) -> Any:
    """The transpose, of each part by itself."""
    pull = call.pullback(x)
    return pull(m_p), pull(m_n)


def affine_parts(call: UnitCall, x: Array, x0: Array, p: Array, n: Array, y: Array, y0: Array) -> tuple[Array, Array]:
    """The sums of the positive and of the negative contributions to the difference."""
    up, down = jnp.maximum(x - x0, 0), jnp.minimum(x - x0, 0)
    apply, plus, minus = call.affine.apply, jnp.maximum(call.affine.weight, 0), jnp.minimum(call.affine.weight, 0)
    return apply(up, plus) + apply(down, minus), apply(up, minus) + apply(down, plus)


def affine_multipliers(call: UnitCall, x: Array, x0: Array, p: Any, n: Any, y: Lanes, m_p: Array, m_n: Array) -> Any:
    """Each contribution by the part it belongs to."""
    transpose, weight = call.affine.transpose, call.affine.weight
    plus, minus = jnp.maximum(weight, 0), jnp.minimum(weight, 0)
    up, down = transpose(m_p, plus) + transpose(m_n, minus), transpose(m_n, plus) + transpose(m_p, minus)
    m = jnp.where(x > x0, up, jnp.where(x < x0, down, (up + down) / 2))
    return m, m


def activation_parts(
    call: UnitCall, x: Array, x0: Array, p: Array, n: Array, y: Array, y0: Array
) -> tuple[Array, Array]:
    """Each part's effect, the mean of adding it before and after the other."""
    f = call.forward
    y_p, y_n = f(x0 + p), f(x0 + n)
    gain, loss = (y_p - y0 + y - y_n) / 2, (y_n - y0 + y - y_p) / 2
    slope, defined = ratio(y - y0, x - x0), jnp.isfinite(y_p) & jnp.isfinite(y_n)  # a root of one part may not exist
    return jnp.where(defined, gain, p * slope), jnp.where(defined, loss, n * slope)


def activation_multipliers(
    call: UnitCall, x: Array, x0: Array, p: Array, n: Array, y: Lanes, m_p: Array, m_n: Array
) -> Any:
    """``m± Δy± / Δz±``, the derivative where a part nearly vanishes."""
    _, _, gain, loss = y
    pull = call.pullback(x)
    derivative = lambda part, m: pull(jnp.where(vanishes(part), m, 0))
    return m_p * ratio(gain, p) + derivative(p, m_p), m_n * ratio(loss, n) + derivative(n, m_n)


# ---------------------------------------------------------------------------------------------------- lanes


def as_tuple(values: Any) -> tuple[Any, ...]:
    """One operand as a tuple of one."""
    return values if isinstance(values, tuple) else (values,)


def lanes_first(x: Any) -> tuple[Any, ...]:
    """Operands in lanes, as lanes of operands."""
    return tuple(zip(*x, strict=True)) if isinstance(x[0], tuple) else x


def in_lanes(result: Any, lanes: Callable[[Array], tuple[Any, ...]]) -> Any:
    """The multipliers of one operand or several, each in lanes."""
    return tuple(map(lanes, result)) if isinstance(result, tuple) else lanes(result)
