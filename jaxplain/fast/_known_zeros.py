"""Values that are zero whatever the input is: relevance of negative sums, in front of a ReLU.

What a rule hands on is mostly a multiple of the layer's input, and behind a ReLU that is zero where the sum was
negative. So nothing arrives at negative sums, and products of what arrives there need not be computed. Zero times
infinity counts as zero here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jax.extend import core as jexc
from jax.extend.core import primitives as P

from .._graph.clipping import clip_bounds
from .._graph.equations import PLAIN_CALLS, called_jaxpr, unclose
from .._graph.primitives import MOVES, PRODUCTS

LINEAR = MOVES | PRODUCTS | {P.reduce_sum_p, P.reduce_window_sum_p, P.cumsum_p, P.neg_p, P.abs_p}
ALIKE = (P.neg_p, P.abs_p, P.convert_element_type_p, P.copy_p, P.stop_gradient_p, P.name_p)
Facts = frozenset[tuple[int, str]]  # of values, by their numbers: (v, "positive"), (v, "not zero")


@dataclass
class Known:
    """What is known of values, by their numbers.

    Attributes:
      zero: those that are zero everywhere.
      facts: what holds of others wherever a value is not zero.
      below: for a predicate the value that is negative, or zero, wherever it holds.
      pooled: for the maxima of windows what they were taken of, and the windows.
    """

    zero: set[int] = field(default_factory=set)
    facts: dict[int, Facts] = field(default_factory=dict)
    below: dict[int, int] = field(default_factory=dict)
    pooled: dict[int, tuple[Any, ...]] = field(default_factory=dict)

    def is_zero(self, atom: Any) -> bool:
        """Whether a value, or a literal, is zero everywhere."""
        return not np.any(np.asarray(atom.val)) if isinstance(atom, jexc.Literal) else atom in self.zero

    def if_not_zero(self, atom: Any) -> Facts:
        """What holds wherever a value is not zero, that included."""
        if isinstance(atom, jexc.Literal):
            return frozenset()
        return self.facts.get(atom, frozenset()) | {(atom, "not zero")}


def known_zeros(jaxpr: Any) -> set[Any]:
    """The values of a jaxpr that are zero everywhere."""
    known, numbers = Known(), itertools.count()
    names = {v: next(numbers) for v in (*jaxpr.constvars, *jaxpr.invars)}
    follow(jaxpr, names, known, numbers)
    return {out for eqn in jaxpr.eqns for out in eqn.outvars if known.is_zero(names[out])}


def follow(jaxpr: Any, names: dict[Any, Any], known: Known, numbers: Iterator[int]) -> None:
    """Go through a jaxpr and what it calls, naming each value by a number of its own, or by the number that it is."""
    for eqn in jaxpr.eqns:
        operands = [v if isinstance(v, jexc.Literal) else names[v] for v in eqn.invars]
        if eqn.primitive in PLAIN_CALLS and not clip_bounds(eqn):
            # The same jaxpr may be called again with other operands, so that its values get new numbers for each call.
            inside, _ = unclose(called_jaxpr(eqn))
            within = {v: next(numbers) for v in inside.constvars} | dict(zip(inside.invars, operands, strict=True))
            follow(inside, within, known, numbers)
            results = [v if isinstance(v, jexc.Literal) else within[v] for v in inside.outvars]
            names.update(zip(eqn.outvars, results, strict=True))
        else:
            names.update((out, next(numbers)) for out in eqn.outvars)
            if len(eqn.outvars) == 1:
                learn(eqn, operands, names[eqn.outvars[0]], known)


def learn(eqn: Any, operands: Sequence[Any], out: int, known: Known) -> None:
    """What an equation tells of its result."""
    primitive, zeros, facts = eqn.primitive, list(map(known.is_zero, operands)), list(map(known.if_not_zero, operands))
    is_zero, holds, is_literal = False, frozenset(), lambda v: isinstance(v, jexc.Literal)
    if all(map(is_literal, operands)):  # as in a function that is called with a number
        is_zero = primitive in LINEAR and all(zeros)
    elif is_relu(eqn):
        (x,) = (v for v in operands if not is_literal(v))
        holds = known.if_not_zero(x) | {(x, "positive")}
    elif primitive in (P.lt_p, P.le_p, P.gt_p, P.ge_p):
        small, large = operands if primitive in (P.lt_p, P.le_p) else operands[::-1]
        if is_literal(large) and known.is_zero(large):
            known.below[out] = small
    elif primitive is P.select_n_p and len(operands) == 3:
        below = None if is_literal(operands[0]) else known.below.get(operands[0])
        is_zero = zeros[1] and (zeros[2] or (below, "positive") in facts[2])
        holds = common(zeros[1:], facts[1:])
    elif primitive is P.mul_p:
        is_zero, holds = any(zeros), facts[0] | facts[1]
    elif primitive is P.div_p:
        is_zero, holds = zeros[0], facts[0]
    elif primitive in (P.add_p, P.sub_p, P.add_jaxvals_p):
        is_zero, holds = all(zeros), common(zeros, facts)
    elif primitive is P.reduce_window_max_p:
        known.pooled[out] = operands[0], *windows(eqn)
    elif primitive is P.select_and_scatter_add_p:  # to the largest of each window, which is then not zero either
        pooled = operands[1], *windows(eqn)
        is_maximum = any(known.pooled.get(v) == pooled for v, what in facts[0] if what == "not zero")
        is_zero, holds = zeros[0], facts[1] if is_maximum else frozenset()
    elif primitive in LINEAR:
        is_zero = (any if primitive in PRODUCTS else all)(zeros)
        holds = facts[0] if primitive in ALIKE else frozenset()
    known.facts[out] = holds
    if is_zero:
        known.zero.add(out)


def windows(eqn: Any) -> tuple[Any, ...]:
    """Where the windows of a pooling lie, or of its derivative, which knows no dilations."""
    dilations = [eqn.params.get(name, ()) for name in ("base_dilation", "window_dilation")]
    places = [tuple(map(tuple, eqn.params["padding"])), tuple(n for n in sum(map(tuple, dilations), ()) if n != 1)]
    return (*places, tuple(eqn.params["window_dimensions"]), tuple(eqn.params["window_strides"]))


def is_relu(eqn: Any) -> bool:
    """Whether an equation is a ReLU, or one with a bound above: zero, and nothing else, wherever it takes no more."""
    operands = sorted(eqn.invars, key=lambda v: isinstance(v, jexc.Literal))  # max(0, x) is max(x, 0)
    kept = clip_bounds(eqn.replace(invars=operands))
    return kept is not None and kept[0] == 0 < kept[1]


def common(zeros: Sequence[bool], facts: Sequence[Facts]) -> Facts:
    """What holds wherever any of several values is not zero; those that are zero everywhere say nothing against it."""
    said = [fact for zero, fact in zip(zeros, facts, strict=True) if not zero]
    return frozenset.intersection(*said) if said else frozenset()
