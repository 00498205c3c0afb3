"""Sign analysis: which values provably have no negative element, as behind a ReLU, and which no positive one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from jax.extend import core as jexc
from jax.extend.core import primitives as P

from .forward import Analysis, forward
from .primitives import TRAITS
from .trace import Graph, Op

Sign: TypeAlias = frozenset[str]  # what holds of every element: both of these, of zero
NONNEGATIVE, NONPOSITIVE = "nonnegative", "nonpositive"
NONE: Sign = frozenset()
ZERO: Sign = frozenset([NONNEGATIVE, NONPOSITIVE])
FLIPPED = {NONNEGATIVE: NONPOSITIVE, NONPOSITIVE: NONNEGATIVE}


def signs(graph: Graph) -> dict[int, Sign]:
    """What is known of the signs of a network's values."""
    return forward(graph, {}, SIGNS)


def sign_of(value: Any) -> Sign:
    """The sign of a number."""
    value = np.asarray(value)
    holds = {NONNEGATIVE: np.all(value >= 0), NONPOSITIVE: np.all(value <= 0)}
    return frozenset(sign for sign, is_so in holds.items() if is_so)


def sign_behind(op: Op, operands: Sequence[Sign | None]) -> list[Sign | None]:
    """The sign of an operation's results."""
    signs = [sign or NONE for sign in operands]
    traits, params = TRAITS.get(op.primitive, NONE), op.params
    if op.primitive is P.gather_p and params["fill_value"] is not None:
        signs = [signs[0] & sign_of(params["fill_value"])]
    return [sign_by(traits, signs, op, params) or None] * len(op.outputs)


def sign_by(traits: frozenset[str], signs: list[Sign], op: Op, params: Any) -> Sign:
    """The sign of a result, by what the table of primitives says of it."""
    common, any_of = lambda signs: frozenset.intersection(*signs) if signs else NONE, NONE.union(*signs)
    if "positive" in traits:
        return frozenset([NONNEGATIVE])
    if "keeps-sign" in traits:
        return common(signs)
    if "keeps-sign:first" in traits:
        return signs[0]
    if "keeps-sign:others" in traits:
        return common(signs[1:])
    if "flips" in traits:
        return frozenset(FLIPPED[sign] for sign in signs[0])
    if "largest" in traits:
        return common(signs) | (any_of & {NONNEGATIVE})
    if "smallest" in traits:
        return common(signs) | (any_of & {NONPOSITIVE})
    if "clamped" in traits:  # between a lower and an upper bound
        return (signs[0] & {NONNEGATIVE}) | (signs[2] & {NONPOSITIVE})
    if "times" in traits:
        if op.inputs[0] == op.inputs[1] and not isinstance(op.inputs[0], jexc.Literal):
            return frozenset([NONNEGATIVE])
        if ZERO in (signs if op.primitive is P.mul_p else signs[:1]):
            return ZERO
        return frozenset(product_of(a, b) for a in signs[0] for b in signs[1])
    if "integer-power" in traits:
        return frozenset([NONNEGATIVE]) if params["y"] % 2 == 0 else signs[0]
    return NONE


def product_of(a: str, b: str) -> str:
    """The sign of a product or a quotient."""
    return NONNEGATIVE if a == b else NONPOSITIVE


def both(a: Sign | None, b: Sign | None) -> Sign | None:
    """What holds of either of two values."""
    return ((a or NONE) & (b or NONE)) or None


SIGNS: Analysis[Sign] = Analysis(sign_behind, join=both, literal=sign_of)
