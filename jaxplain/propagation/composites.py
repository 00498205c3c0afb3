"""Composites: which rule each unit gets.

A composite is a function ``unit -> rule or None``; `None` leaves the choice to the method's defaults. `first_match`
makes one from pairs of a matcher and a rule; the ready-made ones below are nothing else. Their names, rules and
numbers are those in use in the field (Kohlbrenner et al. 2020; Montavon et al. 2019; Anders et al. 2021).

Wherever a composite goes, the name of a ready-made one may stand for it with its default numbers:
``jaxplain.lrp(apply, "epsilon_plus_flat")``.
"""

from __future__ import annotations

import fnmatch
import functools
import inspect
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp
from jax.typing import ArrayLike

from .._convention import Array
from .._graph.names import listed, nearest
from .._graph.primitives import POWERS, is_known
from .._text import choose
from . import rules
from ._unit_call import Composite, Rule, UnitCall
from ._units import KINDS, WEIGHTED, Unit

__all__ = [
    "attn_lrp",
    "beta_smooth",
    "by_gradient",
    "cp_lrp",
    "deconvnet",
    "epsilon",
    "epsilon_alpha2_beta1",
    "epsilon_alpha2_beta1_flat",
    "epsilon_gamma_box",
    "epsilon_plus",
    "epsilon_plus_flat",
    "excitation_backprop",
    "first_layer",
    "first_match",
    "guided_backprop",
    "last_layer",
    "layered",
    "lrp_defaults",
    "sequential_preset_a",
    "sequential_preset_a_flat",
    "sequential_preset_b",
    "sequential_preset_b_flat",
    "uniform",
    "z_plus",
]

NEXT_TO_NOTHING = 1e-16  # a stabiliser that takes no part of a sum; 1 over its square, in derivatives, is finite

Matcher: TypeAlias = "str | Callable[[Unit], bool]"
NamedComposite: TypeAlias = "str | Composite"


def matches(matcher: Matcher, unit: Unit) -> bool:
    """Whether a unit is what a matcher asks for.

    Args:
      matcher: a kind (``"conv"``), a path (``"*/layer4.*/conv?"``, with or without the network's own name in front),
        or a function ``unit -> bool``. A path is that of a layer (see `jaxplain.layers`), or of a module, which stands
        for all units in it; a unit that is made of several layers, such as a convolution and its BatchNorm, answers to
        each of them. A word that is a kind is no path: ``"[n]orm"`` is the layer of that name.
      unit: the unit.
    """
    if callable(matcher):
        return bool(matcher(unit))
    if matcher in KINDS:
        return matcher == unit.kind
    return matcher == unit.kind or any(path_matches(matcher, path) for path in unit.paths)


def path_matches(pattern: str, path: str) -> bool:
    """Whether a module path, with or without its first name, fits a pattern or lies in the module of that name."""
    paths = [p for p in (path, path.partition("/")[2]) if p]
    return any(p.startswith(f"{pattern}/") for p in paths) or any(fnmatch.fnmatchcase(p, pattern) for p in paths)


def first_match(*pairs: tuple[Matcher, Rule], strict: bool = True) -> Composite:
    """The composite that answers with the rule of the first matcher that fits.

    Args:
      pairs: ``(matcher, rule)``, in the order in which they are asked; see `matches`.
      strict: whether a path that no unit of the network has is an error, which names the nearest paths. A kind, such as
        ``"conv"``, may be missing.

    Returns:
      A composite.

    Raises:
      TypeError: for what is no pair, or no rule.

    Example:
      >>> import jaxplain
      >>> from jaxplain import composites, rules
      >>> mine = composites.first_match((composites.first_layer, rules.flat()), ("conv", rules.gamma(0.1)))
    """
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(
                f"first_match takes pairs (matcher, rule), as first_match(('conv', rules.gamma())): got {pair!r}"
            )
        rules.require_rule(pair[1])

    def composite(unit: Unit) -> Rule | None:
        return next((rule for matcher, rule in pairs if matches(matcher, unit)), None)

    composite.paths = [m for m, _ in pairs if strict and isinstance(m, str) and m not in KINDS]  # type: ignore[attr-defined]
    return composite


def require_paths(composite: Composite, units: Iterable[Unit]) -> None:
    """Raise where a composite asks for a path that no unit has."""
    units = list(units)
    for pattern in getattr(composite, "paths", ()):
        if any(matches(pattern, unit) for unit in units):
            continue
        shapes = {path: unit.output_shape for unit in units for path in shortest(unit.paths)}
        near = nearest(pattern, shapes)
        hint = f"the nearest paths are {listed(near, shapes)}" if near else "the network's operations carry no names"
        raise ValueError(
            f"the composite's {pattern!r} is no kind and fits the path of no unit; {hint}; jaxplain.summary lists all, "
            "and first_match(..., strict=False) allows it"
        )


def shortest(paths: Sequence[str]) -> list[str]:
    """Paths without those that say the same with the network's name in front."""
    return [path for path in paths if path and not any(path.endswith(f"/{other}") for other in paths if other)]


def first_layer(unit: Unit) -> bool:
    """Matches the first convolutions or dense layers by data flow, several where the network branches at once."""
    return unit.first and unit.kind in WEIGHTED


def last_layer(unit: Unit) -> bool:
    """Matches the last convolutions or dense layers by data flow."""
    return unit.last and unit.kind in WEIGHTED


def uniform(rule: Rule) -> Composite:
    """One rule for every conv and dense unit."""
    return first_match((lambda unit: unit.kind in WEIGHTED, rule))


def layered(*, conv: Rule, dense: Rule, first: Rule | None = None) -> Composite:
    """One rule for convolutions, one for dense layers, maybe another for the first layer."""
    start: list[tuple[Matcher, Rule]] = [] if first is None else [(first_layer, first)]
    return first_match(*start, ("conv", conv), ("dense", dense))


def epsilon(epsilon: ArrayLike = 1e-6) -> Composite:
    """Convolutions and dense layers by ε, so that on a network of ReLUs LRP is nearly input times gradient."""
    return uniform(rules.epsilon(epsilon))


def z_plus() -> Composite:
    """Convolutions and dense layers by z+."""
    return uniform(rules.z_plus())


def epsilon_plus(epsilon: ArrayLike = 1e-6) -> Composite:
    """Dense layers by ε, convolutions by z+."""
    return layered(conv=rules.z_plus(), dense=rules.epsilon(epsilon))


def epsilon_plus_flat(epsilon: ArrayLike = 1e-6) -> Composite:
    """`epsilon_plus` with the flat rule in the first layer."""
    return layered(conv=rules.z_plus(), dense=rules.epsilon(epsilon), first=rules.flat())


def epsilon_alpha2_beta1(epsilon: ArrayLike = 1e-6) -> Composite:
    """Dense layers by ε, convolutions by α2β1."""
    return layered(conv=rules.alpha_beta(2.0, 1.0), dense=rules.epsilon(epsilon))


def epsilon_alpha2_beta1_flat(epsilon: ArrayLike = 1e-6) -> Composite:
    """`epsilon_alpha2_beta1` with the flat rule in the first layer."""
    return layered(conv=rules.alpha_beta(2.0, 1.0), dense=rules.epsilon(epsilon), first=rules.flat())


def epsilon_gamma_box(
    low: ArrayLike, high: ArrayLike, *, epsilon: ArrayLike = 1e-6, gamma: ArrayLike = 0.25
) -> Composite:
    """Dense layers by ε, convolutions by γ, the first layer by zᴮ with the input's bounds."""
    return layered(conv=rules.gamma(gamma), dense=rules.epsilon(epsilon), first=rules.z_box(low, high))


def sequential_preset_a(epsilon: ArrayLike = 0.1) -> Composite:
    """Dense layers by ε = 0.1, convolutions by α1β0."""
    return layered(conv=rules.alpha_beta(1.0, 0.0), dense=rules.epsilon(epsilon))


def sequential_preset_a_flat(epsilon: ArrayLike = 0.1) -> Composite:
    """`sequential_preset_a` with the flat rule in the first layer."""
    return layered(conv=rules.alpha_beta(1.0, 0.0), dense=rules.epsilon(epsilon), first=rules.flat())


def sequential_preset_b(epsilon: ArrayLike = 0.1) -> Composite:
    """Dense layers by ε = 0.1, convolutions by α2β1."""
    return layered(conv=rules.alpha_beta(2.0, 1.0), dense=rules.epsilon(epsilon))


def sequential_preset_b_flat(epsilon: ArrayLike = 0.1) -> Composite:
    """`sequential_preset_b` with the flat rule in the first layer."""
    return layered(conv=rules.alpha_beta(2.0, 1.0), dense=rules.epsilon(epsilon), first=rules.flat())


def attn_lrp(gamma: ArrayLike = 0.05, *, conv_gamma: ArrayLike = 0.25) -> Composite:
    """AttnLRP: dense layers and convolutions by γ, softmax by its first order, products half each.

    Normalisations are the identity, as in the paper, and relevance of both signs may grow from layer to layer: on a
    small vision transformer of Fashion-MNIST its absolute values sum to 69 times the score at γ = 0.05, to 1.5 times at
    γ = 1 (medians of 64 images). `cp_lrp` keeps to 1.4 times at γ = 0.05.

    In a small vision transformer, of two garments in an image and of four, the maximum of the map was in the one
    that was asked for in 17 % and 27 %; of the older methods lime found most, 94 % and 54 % (24 images)
    (``benchmarks/results/planted_evidence.md``).

    Args:
      gamma: of dense layers; 0 is ε.
      conv_gamma: of convolutions, such as that of the patches.

    Reference:
      Achtibat et al.: AttnLRP: Attention-Aware Layer-wise Relevance Propagation for Transformers. ICML 2024.
    """
    return first_match(("conv", rules.gamma(conv_gamma)), ("dense", rules.gamma(gamma)), ("norm", rules.pass_through()))


def cp_lrp(gamma: ArrayLike = 0.05, *, conv_gamma: ArrayLike = 0.25) -> Composite:
    """`attn_lrp` with attention's weights held fixed, and the standard deviations of normalisations.

    In a small vision transformer, of two garments in an image and of four, the maximum of the map was in the one
    that was asked for in 69 % and 42 %; of the older methods lime found most, 94 % and 54 % (24 images)
    (``benchmarks/results/planted_evidence.md``).

    Args:
      gamma: of dense layers; 0 is ε.
      conv_gamma: of convolutions.

    Reference:
      Ali et al.: XAI for Transformers: Better Explanations through Conservative Propagation. ICML 2022.
    """
    fixed = (("product", rules.values()), ("norm", rules.layer_norm()))
    return first_match(("conv", rules.gamma(conv_gamma)), ("dense", rules.gamma(gamma)), *fixed)


# ------------------------------------------------- composites that change activations only, the rest by its gradient


def by_gradient(*pairs: tuple[Matcher, Rule]) -> Composite:
    """The given rules, and the true gradient everywhere else."""
    composite = first_match(*pairs)

    def rule_of(unit: Unit) -> Rule:
        rule = composite(unit)
        if rule is None and not is_known(unit.ops[-1].primitive):
            warnings.warn(
                f"jaxplain does not know the operation `{unit.kind}` at {unit.place}: its gradient passes as it is, "
                "even if it is an activation; write it by JAX's own operations, in a jax.custom_jvp if need be",
                stacklevel=2,
            )
        return rule or rules.gradient()

    return rule_of


def guided_backprop() -> Composite:
    """The positive part of what arrives at an activation times its true derivative; the gradient elsewhere."""

    def rule(call: UnitCall, x: Array, y: Array, r: Array) -> Array:
        return call.vjp(x, positive_part(call.unit, r))

    return by_gradient((is_activation, rule))


def deconvnet() -> Composite:
    """The positive part of what arrives at an activation, whatever its input; the gradient elsewhere.

    A ReLU that is spelled with a factor, such as ``x + |x|``, hands on the part times the factor.
    """

    def rule(call: UnitCall, x: Array, y: Array, r: Array) -> Array:
        part = positive_part(call.unit, r)
        if not call.unit.is_piecewise_linear:
            return part
        slopes = [call.vjp(jnp.full_like(x, at), jnp.ones_like(y)) for at in (1e-3, -1e-3, 1e3, -1e3)]
        return part * functools.reduce(lambda a, b: jnp.where(jnp.abs(b) > jnp.abs(a), b, a), slopes)

    return by_gradient((is_activation, rule))


def is_activation(unit: Unit) -> bool:
    """Matches activations; powers and roots by themselves, of which statistics are made, are none."""
    return unit.kind == "activation" and not all(op.primitive in POWERS for op in unit.ops)


def positive_part(unit: Unit, r: Array) -> Array:
    """``max(R, 0)`` of an activation's output; where that is the negative of a ReLU, R is turned round as well."""
    return jnp.minimum(r, 0) if unit.nonpositive else jnp.maximum(r, 0)


def excitation_backprop(*, bias: bool = False) -> Composite:
    """Every weighted sum by z+: without biases as in the paper, with them as in some other libraries.

    Sums and averages as well, so that operands of both signs, as a linear bottleneck adds them, give no negative share.
    Without biases a BatchNorm that no layer absorbs has one input for each output, and hands on what arrives. The
    stabiliser keeps nothing: probabilities sum to 1, however small the activations are.
    """
    z_plus = rules.z_plus(bias=bias, stabilizer=NEXT_TO_NOTHING)
    return positive_sums(conv=z_plus, dense=z_plus, bias=bias, stabilizer=NEXT_TO_NOTHING)


def positive_sums(
    *, conv: Rule, dense: Rule, first: Rule | None = None, bias: bool = False, stabilizer: float = rules.STABILIZER
) -> Composite:
    """`layered`, with averages, sums and other linear operations divided over positive terms, scales without a bias."""
    weighted = layered(conv=conv, dense=dense, first=first)
    z_plus, summed = rules.z_plus(bias=bias, stabilizer=stabilizer), rules.proportional(stabilizer, positive=True)
    scale = rules.epsilon(stabilizer) if bias else rules.pass_through()
    norm = rules.pass_through()  # whose relevance stays positive
    others = first_match(("pool", z_plus), ("sum", summed), ("linear", summed), ("scale", scale), ("norm", norm))
    return lambda unit: weighted(unit) or others(unit)


def beta_smooth(beta: float = 10.0) -> Composite:
    """At activations the derivative of a softplus of sharpness β in place of the true one; the gradient elsewhere.

    Reference:
      Dombrowski et al.: Explanations can be manipulated and geometry is to blame. NeurIPS 2019.
    """

    def rule(call: UnitCall, x: Array, y: Array, r: Array) -> Array:
        return r / (1 + jnp.exp(-beta * x))

    return by_gradient(("activation", rule))


def lrp_defaults(unit: Unit) -> Rule | None:
    """What a unit gets where the composite of LRP answers `None`."""
    return DEFAULTS.get(unit.kind)


DEFAULTS: dict[str, Any] = {
    "conv": rules.epsilon(),
    "dense": rules.epsilon(),
    "scale": rules.epsilon(),
    "pool": rules.proportional(),
    "sum": rules.proportional(),
    "linear": rules.proportional(),
    "max_pool": rules.winner(),
    "product": rules.half(),
    "division": rules.numerator(),
    "activation": rules.pass_through(),
    "norm": rules.layer_norm(),
    "softmax": rules.softmax(),
    "sort": rules.winner(),
    "select": rules.gradient(),
}


# ------------------------------------------------------------------------------------------------------ by their names

READY_MADE: dict[str, Callable[..., Composite]] = {
    make.__name__: make
    for make in (
        *(epsilon, z_plus, epsilon_plus, epsilon_plus_flat, epsilon_gamma_box),
        *(epsilon_alpha2_beta1, epsilon_alpha2_beta1_flat),
        *(sequential_preset_a, sequential_preset_a_flat, sequential_preset_b, sequential_preset_b_flat),
        *(attn_lrp, cp_lrp),
        *(excitation_backprop, guided_backprop, deconvnet, beta_smooth),
    )
}


def resolve(composite: NamedComposite) -> Composite:
    """The composite that a name stands for, with its default numbers; a composite stands for itself.

    Raises:
      ValueError: for an unknown name, or that of a composite that cannot be made without numbers.
      TypeError: for what is neither a name nor a function.
    """
    if callable(composite):
        name = getattr(composite, "__name__", "")
        if getattr(composite, "makes_rules", False):
            rules.require_rule(composite)
        if composite in READY_MADE.values():
            raise TypeError(f"composites.{name} makes composites: call it, or pass its name")
        if getattr(composite, "is_rule", False):
            raise TypeError(f"{name} is a rule: pass composites.uniform(rules.{name})")
        return composite
    if not isinstance(composite, str):
        raise TypeError(
            f"composite={composite!r} is neither the name of a composite nor a function unit -> rule: pass "
            '"epsilon_plus", or "epsilon" for the ε rule in every layer'
        )
    make = READY_MADE[choose(composite, READY_MADE, "composite")]
    if needed := [p.name for p in inspect.signature(make).parameters.values() if p.default is p.empty]:
        raise ValueError(
            f"the composite {composite!r} needs {' and '.join(needed)}, in the units of the network's input: pass "
            f"jaxplain.composites.{composite}({', '.join(needed)})"
        )
    return make()
