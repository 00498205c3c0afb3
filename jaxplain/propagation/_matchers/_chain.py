"""Activations spelled as a chain of elementwise operations, as ``1 / (1 + exp(-x))``."""

from __future__ import annotations

from jax.extend.core import primitives as P

from ..._graph.clipping import clip_bounds
from ..._graph.primitives import MOVES
from ..._graph.trace import Op
from .._units import Unit
from ._view import View, is_elementwise


def match(view: View, last: Op) -> Unit | None:
    """The activation of two or more elementwise operations that ends in an operation.

    Numbers that are added before the first curved operation count as a bias, which is the affine unit's.
    """
    ops, _ = view.chain(last, lambda op: takes_one_value(view, op))
    curved = [i for i, op in enumerate(ops) if not view.is_linear(op)]
    if len(ops) < 2 or not curved:
        return None
    first, end = curved[0], len(ops)
    if all(clips(ops[i]) for i in curved):  # a ReLU and its like: the factors around it are factors
        end = curved[-1] + 1
    else:
        while first and ops[first - 1].primitive in (P.neg_p, P.mul_p, P.div_p):
            first -= 1
    if end < len(ops) or end - first < 2:
        return None
    return view.new_unit("activation", ops[first:], view.explained(ops[first]), last.outputs)


def takes_one_value(view: View, op: Op) -> bool:
    """Whether an elementwise operation takes one explained value and numbers, and keeps its shape and sort."""
    operands = view.explained(op)
    ends_softmax = view.regions and op.primitive is P.exp_p and view.makers.normalised_axis(op) is not None
    if ends_softmax or not is_elementwise(op) or op.primitive in MOVES:
        return False
    are_numbers = all(view.depends(a) or not view.shape(a) for a in op.inputs)
    return len(operands) == 1 and are_numbers and view.is_float(operands[0]) and view.is_float(op.outputs[0])


def clips(op: Op) -> bool:
    """Whether an operation keeps its operand above or below numbers, as a ReLU does."""
    operands = sorted(op.inputs, key=lambda a: not isinstance(a, int))  # max(0, x) is max(x, 0)
    return op.primitive is P.clamp_p or clip_bounds(op.eqn.replace(invars=operands)) is not None
