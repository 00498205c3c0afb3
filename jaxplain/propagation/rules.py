"""Rules: how a unit hands the relevance of its output to its inputs.

A rule is a function ``rule(call, inputs, outputs, relevance) -> relevance of the inputs``. ``inputs`` is an array, or
a tuple of arrays where several operands of the unit depend on the explained input. The call says what the unit is,
``call.unit.kind``, and has its values: ``call.forward(x)`` and ``call.vjp(x, c)``, its true backward pass. Affine units
(``y = x w + b``: convolution, dense, BatchNorm, average pooling) have ``call.affine`` with ``weight``, ``bias``,
``apply(x, w)`` and ``transpose(c, w)``. ``call.account.divide(R, z, ε, b)`` is ``R / (z + ε sign z)``, kept in the
ledger.

Symbols: x inputs, w weight, b bias, R relevance of the outputs, ``v+ = max(v, 0)``, ``v- = min(v, 0)``, sign(0) = 1.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._convention import Array
from ._unit_call import Rule, UnitCall
from ._units import Unit

__all__ = [
    "alpha_beta",
    "backward",
    "epsilon",
    "flat",
    "forward",
    "gamma",
    "gradient",
    "half",
    "layer_norm",
    "named",
    "negative",
    "numerator",
    "parts",
    "pass_through",
    "positive",
    "proportional",
    "signal",
    "softmax",
    "values",
    "w_square",
    "winner",
    "z_box",
    "z_plus",
    "zero",
]

STABILIZER = 1e-6
Terms: TypeAlias = "Sequence[tuple[Array | None, Array]]"


def named(make: Callable[..., Rule]) -> Callable[..., Rule]:
    """Name a rule after the call that made it, as `jaxplain.summary` prints it."""

    @functools.wraps(make)
    def makes(*args: Any, **options: Any) -> Rule:
        rule = make(*args, **options)
        shown = [short(a) for a in args] + [f"{name}={short(value)}" for name, value in options.items()]
        rule.__name__ = f"{make.__name__}({', '.join(shown)})"
        vars(rule)["is_rule"] = True  # and no composite, for which it might be taken
        return rule

    vars(makes)["makes_rules"] = True
    return makes


def require_rule(rule: Any) -> None:
    """Refuse what only makes rules, and what is none."""
    if getattr(rule, "makes_rules", False):
        raise TypeError(f"rules.{rule.__name__} makes rules: call it, rules.{rule.__name__}()")
    if not (rule is None or callable(rule)):
        raise TypeError(f"{rule!r} is no rule: pass a function (call, inputs, outputs, relevance) -> relevance")


def short(value: Any) -> str:
    """A number as it is, an array by its shape."""
    if isinstance(value, bool):
        return str(value)
    return f"{value:g}" if isinstance(value, int | float) else f"array{jnp.shape(value)}"


def positive(v: Array) -> Array:
    """``v+``."""
    return jnp.maximum(v, 0)


def negative(v: Array) -> Array:
    """``v-``."""
    return jnp.minimum(v, 0)


def parts(call: UnitCall, x: Array) -> tuple[Array, Array | None]:
    """``x+`` and ``x-``, which is None where it is provably zero, so that its terms are not computed."""
    return (x, None) if call.unit.nonnegative else (positive(x), negative(x))


def forward(call: UnitCall, terms: Terms) -> Array:
    """``Σ_t x_t w_t`` over the terms that are not provably zero."""
    return sum(call.affine.apply(x, w) for x, w in terms if x is not None)  # type: ignore[return-value]


def backward(call: UnitCall, terms: Terms, share: Array) -> Array:
    """``Σ_t x_t (shareᵀ w_t)``."""
    return sum(x * call.affine.transpose(share, w) for x, w in terms if x is not None)  # type: ignore[return-value]


@named
def zero(*, bias: bool = True) -> Rule:
    """LRP-0: ``R_i = x_i Σ_j w_ij R_j / z_j``, ``z = x w + b``; nothing flows where ``z = 0``.

    Reference:
      Bach et al.: On pixel-wise explanations by layer-wise relevance propagation. PLoS ONE 2015.
    """
    return epsilon(0.0, bias=bias)


@named
def epsilon(epsilon: ArrayLike = STABILIZER, *, bias: bool = True) -> Rule:
    """LRP-ε: ``R_i = x_i Σ_j w_ij R_j / (z_j + ε sign z_j)``, ``z = x w + b``.

    Args:
      epsilon: absorbs relevance where the output is small; may be traced.
      bias: whether the bias takes its share.

    Reference:
      Bach et al.: On pixel-wise explanations by layer-wise relevance propagation. PLoS ONE 2015.
    """

    def rule(call: UnitCall, x: Array, y: Array, r: Array) -> Array:
        b = call.affine.bias if bias else 0.0
        z = y if bias else y - call.affine.bias
        return x * call.affine.transpose(call.account.divide(r, z, epsilon, b), call.affine.weight)

    return rule


@named
def gamma(gamma: ArrayLike = 0.25, *, bias: bool = True, stabilizer: float = STABILIZER) -> Rule:
    """LRP-γ, generalised to inputs of both signs: what agrees with the output's sign counts 1 + γ times.

    Where ``z > 0``: ``x+ (w + γ w+) + x- (w + γ w-)``; where ``z < 0``: ``x+ (w + γ w-) + x- (w + γ w+)``; the bias is
    modified like the weight of ``x+``. With p the sum of the positive contributions, the denominators are ``z + γ p``
    and ``z + γ (z - p)``.

    Args:
      gamma: may be traced; 0 is LRP-0.
      bias: whether the bias takes its share.
      stabilizer: of the denominators.

    Reference:
      Montavon et al.: Layer-wise relevance propagation, an overview. 2019; generalised: Andéol et al., 2021.
    """

    def rule(call: UnitCall, x: Array, y: Array, r: Array) -> Array:
        w, b = call.affine.weight, call.affine.bias if bias else jnp.zeros((), y.dtype)
        z = y if bias else y - call.affine.bias
        plus, minus = parts(call, x)
        p = forward(call, [(plus, positive(w)), (minus, negative(w))]) + positive(b)
        result = jnp.zeros_like(x)
        for favoured, other, active, same in ((positive, negative, z > 0, p), (negative, positive, z < 0, z - p)):
            terms = [(plus, w + gamma * favoured(w)), (minus, w + gamma * other(w))]
            share = call.account.divide(jnp.where(active, r, 0), z + gamma * same, stabilizer, b + gamma * favoured(b))
            result = result + backward(call, terms, share)
        call.account.record(dead=jnp.where(z == 0, r, 0))
        return result

    return rule


@named
def alpha_beta(
    alpha: ArrayLike = 2.0, beta: ArrayLike = 1.0, *, bias: bool = True, stabilizer: float = STABILIZER
) -> Rule:
    """LRP-αβ: ``α`` times the positive contributions' shares less ``β`` times the negative ones', ``α - β = 1``.

    ``R = α (x+ w+ + x- w-) R / z+ - β (x+ w- + x- w+) R / z-``, ``z± = Σ`` of the contributions of that sign and
    ``b±``.

    Args:
      alpha: weight of the positive part.
      beta: weight of the negative part; 0 computes none.
      bias: whether the bias takes its share.
      stabilizer: of the denominators.

    Reference:
      Bach et al.: On pixel-wise explanations by layer-wise relevance propagation. PLoS ONE 2015.
    """

    def rule(call: UnitCall, x: Array, y: Array, r: Array) -> Array:
        w, b = call.affine.weight, call.affine.bias if bias else jnp.zeros((), y.dtype)
        plus, minus = parts(call, x)
        result = jnp.zeros_like(x)
        for factor, same, other in ((alpha, positive, negative), (-jnp.asarray(beta), negative, positive)):
            if isinstance(beta, int | float) and beta == 0 and same is negative:
                continue
            terms = [(plus, same(w)), (minus, other(w))]
            share = call.account.divide(jnp.asarray(factor * r), forward(call, terms) + same(b), stabilizer, same(b))
            result = result + backward(call, terms, share)
        return result

    return rule


@named
def z_plus(*, bias: bool = True, stabilizer: float = STABILIZER) -> Rule:
    """LRP-z+: ``R = (x+ w+ + x- w-) R / z+``: `alpha_beta` with α = 1 and β = 0.

    Args:
      bias: whether the positive part of the bias takes its share.
      stabilizer: of the denominator.

    Reference:
      Montavon et al.: Explaining nonlinear classification decisions with deep Taylor decomposition. 2017.
    """
    return alpha_beta(1.0, 0.0, bias=bias, stabilizer=stabilizer)


@named
def z_box(low: ArrayLike, high: ArrayLike, *, stabilizer: float = STABILIZER) -> Rule:
    """The zᴮ rule for inputs in a box: ``R = (x w - l w+ - h w-) R / (the sum of that)``.

    As ``w- = w - w+``, that is ``(x - h) w + (h - l) w+``.

    Args:
      low: the lowest value of the unit's input; broadcasts against it. For the first layer in the units of the
        explained array, also where the network normalises it before that layer alone: that is folded into the weight.
      high: the highest one.
      stabilizer: of the denominator.

    Reference:
      Montavon et al.: Explaining nonlinear classification decisions with deep Taylor decomposition. 2017.
    """

    def rule(call: UnitCall, x: Array, y: Array, r: Array) -> Array:
        w = call.affine.weight
        lowest, highest = (jnp.broadcast_to(jnp.asarray(bound, x.dtype), x.shape) for bound in (low, high))
        terms = [(x - highest, w), (highest - lowest, positive(w))]
        return backward(call, terms, call.account.divide(r, forward(call, terms), stabilizer))

    return rule


@named
def w_square(*, bias: bool = True, stabilizer: float = STABILIZER) -> Rule:
    """The w² rule: ``R_i = Σ_j w_ij² R_j / Σ_i w_ij²``, whatever the input.

    Args:
      bias: whether the square of the bias takes its share.
      stabilizer: of the denominator.

    Reference:
      Montavon et al.: Explaining nonlinear classification decisions with deep Taylor decomposition. 2017.
    """

    def rule(call: UnitCall, x: Array, y: Array, r: Array) -> Array:
        b = call.affine.bias**2 if bias else jnp.zeros((), y.dtype)
        terms = [(jnp.ones_like(x), call.affine.weight**2)]
        return backward(call, terms, call.account.divide(r, forward(call, terms) + b, stabilizer, b))

    return rule


@named
def flat(*, stabilizer: float = STABILIZER) -> Rule:
    """The flat rule: every input of a neuron gets the same share, ``w_square`` with ``w = 1`` and no bias.

    Reference:
      Lapuschkin et al.: Unmasking Clever Hans predictors. Nature Communications 2019.
    """

    def rule(call: UnitCall, x: Array, y: Array, r: Array) -> Array:
        terms = [(jnp.ones_like(x), jnp.ones_like(call.affine.weight))]
        return backward(call, terms, call.account.divide(r, forward(call, terms), stabilizer))

    return rule


@named
def pass_through() -> Rule:
    """The output's relevance is the input's: ``R_in = R_out``; several operands of the same shape get equal parts."""

    def rule(call: UnitCall, x: Any, y: Array, r: Array) -> Any:
        return r if not isinstance(x, tuple) else tuple(r / len(x) for _ in x)

    return rule


@named
def gradient() -> Rule:
    """The true backward pass: ``R_in = Jᵀ R_out``."""
    return lambda call, x, y, r: call.vjp(x, r)


@named
def proportional(stabilizer: float = STABILIZER, *, positive: bool = False) -> Rule:
    """Each operand of a linear operation gets its share: ``R_i = x_i Jᵀ R / z``; for sums, pooling and products.

    A product is linear in each operand by itself, so that each gets all of R; `half` divides it.

    Args:
      stabilizer: of the denominator.
      positive: whether the positive contributions alone take part, as in `z_plus`.
    """

    def rule(call: UnitCall, x: Any, y: Array, r: Array) -> Any:
        if positive:
            x = jax.tree.map(lambda a, c: jnp.where(a * c > 0, a, 0), x, call.vjp(x, jnp.ones_like(y)))
            y = call.forward(*(x if isinstance(x, tuple) else (x,)))
        if call.unit.affine is not None:
            b = call.affine.bias
        else:  # a constant may be among what is summed, as in y.at[0].add(1)
            b = call.forward(*jax.tree.leaves(jax.tree.map(jnp.zeros_like, x))) if call.unit.constants else 0.0
        pulled = call.vjp(x, call.account.divide(r, y, stabilizer, b))
        return tuple(a * c for a, c in zip(x, pulled, strict=True)) if isinstance(x, tuple) else x * pulled

    return rule


@named
def half(stabilizer: float = STABILIZER) -> Rule:
    """A product of two explained operands: half of the relevance to each.

    A factor that is one over a sum or a root of one, as in ``a · rsqrt(Σ b²)``, is held as a divisor is.

    Reference:
      Achtibat et al.: AttnLRP. ICML 2024, arXiv:2402.05602.
    """
    return product(lambda unit: (), stabilizer)


@named
def signal(stabilizer: float = STABILIZER) -> Rule:
    """A product of a signal and a gate: all of the relevance to the signal.

    The gate is the factor that is broadcast over the other, as in squeeze-and-excitation, or squashed by a sigmoid.
    Where none or both are gates, each gets half, and inverses are held, as by `half`.

    Reference:
      Arras et al.: Explaining and interpreting LSTMs. 2019, arXiv:1909.12114.
    """
    return product(lambda unit: unit.gates, stabilizer)


@named
def values(stabilizer: float = STABILIZER) -> Rule:
    """An attention's weights applied to its values: all of the relevance to the values, the weights held fixed.

    The weights are the factor that softmax made. Other products as by `half`.

    Reference:
      Ali et al.: XAI for Transformers: Better Explanations through Conservative Propagation. ICML 2022.
    """
    return product(lambda unit: unit.attention, stabilizer)


def product(fixed: Callable[[Unit], Sequence[bool]], stabilizer: float) -> Rule:
    """A product of two operands: ``R_i = c_i x_i Jᵀ R / y``, c = 0 for the one that is held fixed, 1 for the other.

    Where none or both are, ``c = 1/2`` for each. An inverse, as in ``a · rsqrt(Σ b²)``, is held as a divisor is.

    Args:
      fixed: which factors of a unit are.
      stabilizer: of the denominator.
    """

    def rule(call: UnitCall, x: Any, y: Array, r: Array) -> Any:
        pulled = call.vjp(x, call.account.divide(r, y, stabilizer))
        if not isinstance(x, tuple):  # a square: one operand, twice
            return x * pulled / 2
        is_fixed = call.unit.inverses if sum(call.unit.inverses) == 1 else fixed(call.unit)
        if sum(is_fixed) != 1:
            return tuple(a * c / 2 for a, c in zip(x, pulled, strict=True))
        return tuple(jnp.zeros_like(a) if f else a * c for a, c, f in zip(x, pulled, is_fixed, strict=True))

    return rule


@named
def numerator() -> Rule:
    """A division of two explained operands: all of the relevance to the dividend."""

    def rule(call: UnitCall, x: Any, y: Array, r: Array) -> Any:
        divisor = jnp.zeros_like(x[1])
        return (call.vjp((x[0] * 0, jnp.ones_like(x[1])), r)[0], divisor)

    return rule


@named
def layer_norm(epsilon: ArrayLike = STABILIZER) -> Rule:
    """ε for a normalisation whose standard deviation is held fixed: ``R_i = x_i Σ_j c_ij R_j / (y_j + ε sign y_j)``.

    ``y = x c`` is then linear, ``c = (I - 1/d) / σ`` for LayerNorm, ``I / σ`` for RMSNorm, where the rule is the
    identity; for GroupNorm over its groups. Whatever statistics scale by is held, also in the squash of a capsule. The
    identity, `pass_through`, leaves out how the mean is subtracted.

    In a small vision transformer, of two garments in an image and of four, the maximum of `jaxplain.lrp` was in the
    one that was asked for in 73 % and 42 %, with the identity in 19 % of both; of the other older methods lime
    found most, 94 % and 54 % (24 images) (``benchmarks/results/planted_evidence.md``).

    Args:
      epsilon: absorbs relevance where the output is small; may be traced.

    Reference:
      Ali et al.: XAI for Transformers: Better Explanations through Conservative Propagation. ICML 2022.
    """

    def rule(call: UnitCall, x: Array, y: Array, r: Array) -> Array:
        normalise = call.with_fixed_scale(x)
        shift = normalise(jnp.zeros_like(x))  # a learned one, where the network adds it before the mean is subtracted
        _, pull = jax.vjp(normalise, x)
        return x * pull(call.account.divide(r, y, epsilon, shift))[0]

    return rule


@named
def winner() -> Rule:
    """The largest element takes all, as in the true backward pass of a maximum."""
    return gradient()


@named
def softmax() -> Rule:
    """``R_i = x_i (R_i - s_i Σ_j R_j)``, the first order of a softmax ``s`` around its input.

    Reference:
      Achtibat et al.: AttnLRP. ICML 2024, arXiv:2402.05602, equation 13.
    """

    def rule(call: UnitCall, x: Array, y: Array, r: Array) -> Array:
        pulled = call.vjp(x, r / jnp.where(y == 0, 1, y))
        result = jnp.where(pulled == 0, 0, x * pulled)  # masked logits are infinite
        call.account.record(bias=jnp.sum(r) - jnp.sum(result))
        return result

    return rule
