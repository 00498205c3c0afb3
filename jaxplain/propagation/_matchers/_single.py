"""Single operations: a sum, a product, a maximum, or one that only moves numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.extend.core import primitives as P

from ..._graph.primitives import INDEXED, LINEAR_IN, MAXIMA, MOVES, ORDERS, PRODUCTS, ROOTS, SUMS
from ..._graph.trace import Atom, Op, scan_split
from .._units import Unit
from ._view import View, is_elementwise

SEVERAL = {  # what an operation of several explained operands is
    **dict.fromkeys((P.add_p, P.sub_p, P.add_jaxvals_p), "sum"),
    **dict.fromkeys((P.mul_p, P.dot_general_p, P.conv_general_dilated_p), "product"),
    **dict.fromkeys((P.max_p, P.min_p), "max_pool"),
    P.div_p: "division",
}
TOTALS = SUMS | MAXIMA | PRODUCTS  # of many elements


def match(view: View, op: Op, outputs: tuple[int, ...] | None = None) -> Unit:
    """The unit of one operation, or of some of its results."""
    operands, outputs = view.explained(op), outputs or op.outputs
    kind, inputs = kind_of(view, op, operands, outputs), tuple(dict.fromkeys(operands))
    gates = tuple(is_gate(view, a, op) for a in operands)
    attention = tuple(map(view.by_softmax, operands))
    inverses = tuple(op.primitive is P.mul_p and is_inverse(view, a) for a in operands)
    return view.new_unit(kind, (op,), inputs, outputs, gates=gates, attention=attention, inverses=inverses)


def is_gate(view: View, atom: Atom, op: Op) -> bool:
    """Whether a factor is broadcast over the other, or squashed: what is usually called a gate."""
    if view.size(atom) < view.size(op.outputs[0]):
        return True
    maker = view.producer.get(atom) if isinstance(atom, int) else None
    while maker is not None and maker.primitive in MOVES and view.explained(maker):
        if maker.primitive is P.broadcast_in_dim_p:
            return True
        maker = view.producer.get(view.explained(maker)[0])
    return maker is not None and maker.primitive in (P.logistic_p, P.clamp_p)


def is_inverse(view: View, atom: Atom) -> bool:
    """Whether a factor is one over a sum or a root of one, times constants, so that who multiplies by it divides."""
    op = view.maker_behind(atom, lambda op: view.is_shift_or_scale(op) and op.primitive not in (P.add_p, P.sub_p))
    base = None if op is None else inverted(view, op)
    if base is None:
        return False
    # An activation, as a sigmoid is one over a shifted exponential, is a gate and no divisor.
    is_root = lambda op: op.primitive in ROOTS | {P.max_p} and view.explained(op) == op.inputs[:1]
    total = view.maker_behind(base, lambda op: is_root(op) or view.is_shift_or_scale(op))
    return total is not None and total.primitive in TOTALS


def inverted(view: View, op: Op) -> Atom | None:
    """What an operation is one over, or one over a power or a root of; None where it is no inverse."""
    if op.primitive is P.div_p:
        return None if view.depends(op.inputs[0]) else op.inputs[1]
    if op.primitive is P.pow_p:
        exponent = getattr(op.inputs[1], "val", 0)
    else:
        exponent = {P.rsqrt_p: -0.5, P.integer_pow_p: op.params.get("y", 0)}.get(op.primitive, 0)
    return op.inputs[0] if np.all(np.less(exponent, 0)) else None


def kind_of(view: View, op: Op, operands: tuple[int, ...], outputs: Sequence[int]) -> str:
    """What an operation is to the values that depend on the input."""
    if any(map(view.is_complex, (*operands, *outputs))):
        return "complex"
    if not any(map(view.is_float, outputs)):
        return "shape"  # predicates and indices carry no relevance
    if not any(map(view.is_float, operands)):
        return "integer"
    if op.primitive in ORDERS:
        return kind_of_order(view, op, operands)
    if op.primitive in INDEXED and not all(map(view.is_float, operands)):
        return "select"  # which of the values is chosen depends on the explained input
    if op.primitive in MAXIMA:
        return "max_pool"
    if op.primitive is P.select_n_p:
        return "select" if view.depends(op.inputs[0]) else "shape"
    if op.primitive in MOVES:
        return "shape"
    if op.primitive is P.scatter_add_p:
        return "sum"
    if op.primitive in LINEAR_IN and operands == (op.inputs[LINEAR_IN[op.primitive]],):
        return "linear"
    if is_one_function(view, op) or (is_elementwise(op) and len(set(operands)) == 1):
        return "activation"
    return SEVERAL.get(op.primitive, op.primitive.name) if len(operands) > 1 else op.primitive.name


def kind_of_order(view: View, op: Op, operands: tuple[int, ...]) -> str:
    """What a sort is: the order of values by themselves, or by others, which depend on the input or do not."""
    keys = op.inputs[: op.params.get("num_keys", 1)]
    if not any(map(view.depends, keys)):
        return "shape"
    values = tuple(a for a in op.inputs if view.is_float(a))
    if len(values) == 1 and values == operands == keys:
        return "sort"
    return "select" if set(values) <= set(operands) else "integer"


def is_one_function(view: View, op: Op) -> bool:
    """Whether a loop computes one function of each element, with numbers, as a polynomial by Horner's rule."""
    if op.primitive is not P.scan_p or len(op.outputs) != 1 or len(set(view.explained(op))) != 1:
        return False
    (body,), (consts, carries) = op.bodies, scan_split(op)
    shapes = [body.avals[a].shape for a in body.inputs]
    start = range(consts, consts + carries)
    are_numbers = all(view.depends(a) or i in start or not shapes[i] for i, a in enumerate(op.inputs))
    keep_shape = {*shapes} <= {(), view.shape(op.outputs[0])}
    return are_numbers and keep_shape and all(map(is_elementwise, body.ops))
