"""LRP and its relatives: explainers that walk back through a network by rules."""

from __future__ import annotations

import warnings
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._convention import (
    Apply,
    Array,
    Explain,
    Function,
    Target,
    class_weights,
    concrete,
    explainer,
    full_precision,
    heed_logits,
    require_several,
    score_gradient,
    scorer,
)
from .._migration import takes_old_options
from . import composites, rules
from ._engine import TracedNetwork, no_rule, refuse_training_mode, trace_network
from ._unit_call import Composite, Rule, UnitCall
from ._unit_of_layer import UnitOfLayer, unit_of_layer
from ._units import Unit
from .composites import NamedComposite

__all__ = ["contrastive_lrp", "deep_taylor", "lrp", "softmax_gradient_lrp"]


def complete_composite(composite: Composite) -> Composite:
    """The composite's rules, else the defaults of LRP, else an error."""

    def rule_of(unit: Unit) -> Rule | None:
        if unit.kind == "shape":
            return None
        rule = composite(unit)
        rules.require_rule(rule)
        rule = rule or composites.lrp_defaults(unit)
        if rule is None:
            raise no_rule(unit)
        return rule

    return rule_of


def start(outputs: Array, target: Target) -> Array:
    """The relevance of the outputs: ``z · ∂score/∂z``, which is z_c at the target and 0 elsewhere."""
    return outputs * score_gradient(target, outputs)


@takes_old_options
def lrp(apply: Apply, composite: NamedComposite = "epsilon_plus", *, layer: str | None = None) -> Explain:
    """Layer-wise relevance propagation.

    ``R_in = rule(unit, x, y, R_out)`` from the outputs, where ``R = z_c`` at the target and 0 elsewhere, to the input.
    The papers start from logits; a softmax at the end of the network is a unit like others, with its rule.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function: sequential, residual, branching, attention.
      composite: the name of one of `jaxplain.composites`, or a function ``unit -> rule or None``. By default z+ for
        convolutions and ε for dense layers: none of six others was measured to be better in insertion, deletion and
        mosaics on all convolutional networks; on a vision transformer ``"epsilon"`` and ``"cp_lrp"`` insert and delete
        better (``benchmarks/results/defaults.md``). Where the composite answers None: ε for conv, dense and BatchNorm,
        proportional for averages, sums and other linear operations, the winner for maxima, half each for products, the
        dividend of divisions, pass for activations, ε with a fixed deviation for normalisation, the first order for
        softmax.
      layer: the name of a layer, such as ``"layer4.1/conv2"`` (see `jaxplain.layers`): return the relevance of its
        output in place of the input's, so that ``relevance[:, i, j, k]`` is that of one neuron; in a loop, of
        one of its turns. A layer and the BatchNorm that is folded into it have one output, the BatchNorm's.

    Returns:
      An explainer; the relevance has the shape of the input, or of the layer's output, and the unit of the score.

    Raises:
      ValueError: if a value that depends on the input meets an operation that has no rule, or ``layer`` names none, or
        ``composite`` names none.
      TypeError: if ``composite`` is neither a name nor a function.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> w = jnp.array([[1.0, -1.0], [2.0, 1.0]])
      >>> jaxplain.lrp(lambda x: jnp.maximum(x @ w, 0).sum(axis=1))(jnp.array([[1.0, 1.0]])).round(3)
      Array([[1., 2.]], dtype=float32)

    Reference:
      Bach, Binder, Montavon, Klauschen, Müller, Samek: On pixel-wise explanations for non-linear classifier decisions
      by layer-wise relevance propagation. PLoS ONE 2015.
    """
    rules_of = composites.resolve(composite)

    @full_precision
    @explainer(apply)
    def explain(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        outputs, pullback = walk(f, x, rules_of, layer)
        return pullback(start(outputs, target))

    return explain


def walk(f: Function, x: Array, composite: Composite, layer: str | None = None) -> tuple[Array, Function]:
    """The outputs of a network, and the walk from their relevance back to the input's, or to that at a layer."""
    network, rule_of = prepared(f, x, composite, names=layer is not None)
    if layer is None:
        outputs, pullback = jax.vjp(lambda x: network(rule_of, x), x)
        return outputs, lambda relevance: pullback(relevance)[0]
    return walk_to(network, rule_of, x, unit_of_layer(network, layer))


def walk_to(network: TracedNetwork, rule_of: Composite, x: Array, at: UnitOfLayer) -> tuple[Array, Function]:
    """The outputs of a network, and the walk from their relevance back to that of a layer."""
    run = lambda x, probe: network(rule_of, x, probes={at.unit.position: probe})
    # In the input as well: what lies before the layer is then differentiated as the values that it has, not by rules.
    outputs, pullback = jax.vjp(run, x, at.zeros(x))
    return outputs, lambda relevance: pullback(relevance)[1][at.index]


def prepared(f: Function, x: Array, composite: Composite, *, names: bool = False) -> tuple[TracedNetwork, Composite]:
    """The traced network and the rules of its units."""
    network = trace_network(f, x, names=names)
    refuse_training_mode(network, x)
    composites.require_paths(composite, network.plan.units())
    return network, complete_composite(composite)


def deep_taylor(apply: Apply, low: ArrayLike | None = None, high: ArrayLike | None = None) -> Explain:
    """Deep Taylor decomposition of a ReLU network.

    z+ in every layer, sum and average; in the first layer, zᴮ where pixels are bounded and w² where they are not.
    Biases take no share, and the relevance starts as ``max(z_c, 0)``. Behind attention, gates and activations of both
    signs the rules are LRP's: maps may have negative values there, and nothing of the paper is claimed.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      low: the lowest value of the input, in the network's (normalised) units; broadcasts against it.
      high: the highest one; pass both or neither.

    Returns:
      An explainer; the relevance has the input's shape and is not negative on ReLU networks. It is zero where the score
      is not positive; that raises a warning, as far as the values are known.

    Raises:
      ValueError: if only one bound is given.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: jnp.maximum(x @ jnp.array([[1.0], [2.0]]), 0)
      >>> jaxplain.deep_taylor(f)(jnp.array([[1.0, 1.0]])).round(3)  # 3, divided as 1 : 4
      Array([[0.6, 2.4]], dtype=float32)

    Reference:
      Montavon, Lapuschkin, Binder, Samek, Müller: Explaining nonlinear classification decisions with deep Taylor
      decomposition. Pattern Recognition 2017, arXiv:1512.02479.
    """
    if (low is None) != (high is None):
        raise ValueError("deep_taylor needs both bounds of the pixels, low= and high=, or neither")
    first = rules.w_square(bias=False) if low is None or high is None else rules.z_box(low, high)
    layer = rules.z_plus(bias=False)
    composite = composites.positive_sums(conv=layer, dense=layer, first=first)

    @full_precision
    @explainer(apply, heed=heed_positive)
    def explain(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        outputs, pullback = walk(f, x, composite)
        return pullback(jnp.maximum(start(outputs, target), 0))

    return explain


def heed_positive(outputs: Array, target: Target) -> None:
    """Warn where relevance starts as zero, so that the map will be."""
    relevance = start(outputs, target)
    if concrete(relevance) and (nothing := (relevance <= 0).reshape(len(relevance), -1).all(axis=1)).any():
        warnings.warn(
            f"deep_taylor divides positive scores, and that of example {nothing.argmax()} is not: its map is zero; "
            "explain a class with a positive score, or use jaxplain.lrp",
            stacklevel=2,
        )


def softmax_gradient_lrp(apply: Apply, composite: NamedComposite = "epsilon_plus") -> Explain:
    """LRP that starts from the gradient of the softmax: what speaks for the class rather than for the others.

    ``R_c = p_c (1 - p_c)`` at the target and ``R_n = -p_c p_n`` elsewhere, ``p = softmax(z)``.

    Args:
      apply: ``apply(*args) -> logits (N, K)``.
      composite: as for `lrp`.

    Returns:
      An explainer; the relevance has the input's shape. The score is the target's probability.

    Raises:
      ValueError: if ``apply`` returns something else than ``(N, K)``; otherwise as `lrp`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> jaxplain.softmax_gradient_lrp(lambda x: x @ jnp.eye(2))(jnp.array([[1.0, 1.0]])).round(3)
      Array([[ 0.25, -0.25]], dtype=float32)

    Reference:
      Iwana, Kuroki, Uchida: Explaining Convolutional Neural Networks using Softmax Gradient Layer-wise Relevance
      Propagation. ICCV workshop 2019, arXiv:1908.04351.
    """
    rules_of = composites.resolve(composite)

    @full_precision
    @explainer(apply, heed=heed_logits())
    def explain(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        outputs, pullback = walk(f, x, rules_of)
        if outputs.ndim != 2:
            raise ValueError(f"softmax_gradient_lrp needs logits (N, K), got shape {outputs.shape}")
        require_several(outputs, "use jaxplain.lrp")
        score = scorer(target, outputs)
        return pullback(jax.grad(lambda z: score(jax.nn.softmax(z)).sum())(outputs))

    return explain


def last_layer_negated(composite: Composite) -> Composite:
    """The composite's rules, those of the last layer as if its weights had the opposite sign."""
    rule_of = complete_composite(composite)

    def negated(unit: Unit) -> Rule | None:
        rule = rule_of(unit)
        if rule is None or not composites.last_layer(unit):
            return rule

        def opposite(call: UnitCall, x: Array, y: Array, r: Array) -> Array:
            return rule(call.negated(), x, -y, r)

        return opposite

    return negated


def contrastive_lrp(
    apply: Apply, composite: NamedComposite = "z_plus", *, dual: Literal["others", "logits", "weights"] = "others"
) -> Explain:
    """Contrastive LRP: the target's relevance less that of a dual concept, both divided by their sums.

    ``A = max(0, R / Σ R - R_dual / Σ R_dual)``, where the dual starts

    * ``"others"``: from ``z_c / (K - 1)`` on every class but the target;
    * ``"logits"``: from ``|z|``, 0 at the target;
    * ``"weights"``: as the target's, with the last layer's weights negated.

    Args:
      apply: ``apply(*args) -> logits (N, K)``.
      composite: as for `lrp`, by name one of positive shares only: ``"z_plus"`` in every layer, as in the paper, or
        ``"excitation_backprop"``. With ε in the dense layers the dual starts regardless of the logits that divide it:
        of a small VGG's mosaics 0.28 of the map lies in the right cell with ``epsilon_plus_flat``, 0.53 with z+, and
        0.25 by chance. Pass the composite itself to insist.
      dual: the dual concept.

    Returns:
      An explainer; the attribution has the input's shape and is not negative.

    Raises:
      ValueError: if ``dual`` is unknown, the target is a callable, or the name is of a composite with negative shares.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x @ jnp.array([[1.0, 0.0], [1.0, 2.0]])
      >>> jaxplain.contrastive_lrp(f)(jnp.ones((1, 2)), target=0).round(2)  # (1/2, 1/2) less (0, 1)
      Array([[0.5, 0. ]], dtype=float32)

    Reference:
      Gu, Yang, Tresp: Understanding Individual Decisions of CNNs via Contrastive Backpropagation. ACCV 2018,
      arXiv:1812.02100.
    """
    if dual not in ("others", "logits", "weights"):
        raise ValueError(f"unknown dual={dual!r}: choose others, logits or weights")
    rules_of = composites.resolve(composite)
    if isinstance(composite, str) and composite not in ("z_plus", "excitation_backprop"):
        raise ValueError(
            f"contrastive_lrp divides by the sum of relevance, and by {composite} its parts cancel: choose z_plus or "
            f"excitation_backprop, or pass jaxplain.composites.{composite}() itself to insist"
        )

    @full_precision
    @explainer(apply)
    def explain(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        outputs, pullback = walk(f, x, rules_of)
        if callable(target) or outputs.ndim != 2 or outputs.shape[1] < 2:
            raise ValueError(
                "contrastive_lrp contrasts a class with others: it needs logits (N, K), K > 1, and a class"
            )
        relevance = start(outputs, target)
        chosen = class_weights(target, outputs)
        if dual == "weights":
            dual_map = walk(f, x, last_layer_negated(rules_of))[1](relevance)
        else:
            others = {
                "others": relevance.sum(axis=1, keepdims=True) / (outputs.shape[1] - 1),
                "logits": jnp.abs(outputs),
            }
            dual_map = pullback(jnp.where(chosen != 0, 0, others[dual]).astype(outputs.dtype))
        return jnp.maximum(normalised(pullback(relevance)) - normalised(dual_map), 0)

    return explain


def normalised(a: Array) -> Array:
    """Each example's map divided by its sum, zero where that is zero."""
    total = a.sum(axis=tuple(range(1, a.ndim)), keepdims=True)
    return jnp.where(total == 0, 0, a / jnp.where(total == 0, 1, total))
