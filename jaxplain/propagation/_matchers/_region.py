"""Softmax, normalisation and branching activations: all between one value and another one of the same shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from jax.extend.core import primitives as P

from ..._graph.primitives import REDUCTIONS, ROOTS, SHIFTS
from ..._graph.trace import Op
from .._units import SIZES, Unit, element_by_element, linear_steps
from ._view import View

EXPONENTIALS = (P.exp_p, P.exp2_p)


def match(view: View, last: Op) -> Unit | None:
    """The region that ends in an operation of several explained operands: all that lies behind one value."""
    # The region begins where all of the operands come from; exp(log_softmax(z)) has them one operation earlier.
    is_exp = last.primitive is P.exp_p and view.makers.normalised_axis(last) is not None
    joins = (is_exp and view.makers.made(last.inputs[0], P.sub_p)) or last
    root = view.dominator.get(joins.outputs[0])
    if len(set(view.explained(joins))) < 2 or root is None or not view.is_float(last.outputs[0]):
        return None
    root = softmax_root(view, joins, root)
    if view.size(root) != view.size(last.outputs[0]):
        return None
    # Everything between is inside, and what it computes says what it is.
    ops = leading_to(last, view.graph.ops, lambda op: set(view.explained(op)) - {root})
    kind = kind_of_region(view, ops, root)
    if kind is None or (kind != "activation" and not view.regions):
        return None
    # Only a softmax may have its axes in another order than what it is made of: JAX's own attention transposes inside.
    moves_axes = any(op.primitive is P.transpose_p for op in ops) or view.shape(root) != view.shape(last.outputs[0])
    if moves_axes and kind != "softmax":
        return None
    return view.new_unit(kind, ops, (root,), last.outputs)


def leading_to(last: Op, ops: Sequence[Op], through: Callable[[Op], Iterable[int]]) -> list[Op]:
    """The operations that make what another one reads, by way of these operands, and that one."""
    needed, found = set(last.outputs), []
    for op in reversed(ops):
        if not needed.isdisjoint(op.outputs):
            needed.update(through(op))
            found.append(op)
    return found[::-1]


def softmax_root(view: View, last: Op, root: int) -> int:
    """Where a softmax begins that ends in ``last``: before its exp, and before its maximum is subtracted."""
    maker = view.producer.get(root)
    if last.primitive is P.div_p and maker and maker.primitive in EXPONENTIALS:
        root = view.dominator[root]
    elif last.primitive is not P.sub_p:
        return root
    maker = view.producer.get(root)
    subtracts = (
        maker and maker.primitive is P.sub_p and (len(view.explained(maker)) == 2 or view.shifts_by_stopped(maker))
    )
    return view.dominator.get(root, root) if subtracts else root


def kind_of_region(view: View, ops: Sequence[Op], root: int) -> str | None:
    """What operations from one value to one value are; None where they are no function with a name.

    A softmax divides by a sum of exp of every element, or subtracts the logarithm of one. A normalisation divides, or
    takes a root, and what it divides has gone through linear operations alone.
    """
    primitives = {op.primitive for op in ops}
    if not primitives & REDUCTIONS:
        return None if all(is_jointly_linear(view, op) for op in ops) else "activation"
    rich = element_by_element(ops, root, view.size(root))
    exponentials = any(op.primitive in EXPONENTIALS and not rich.isdisjoint(op.reads) for op in ops)
    if exponentials and P.reduce_sum_p in primitives and ops[-1].primitive in (P.div_p, P.sub_p, P.exp_p):
        return "softmax"
    divides = any(op.primitive in ROOTS or (op.primitive is P.div_p and view.depends(op.inputs[1])) for op in ops)
    # The operations through which the root's elements pass one by one on their way to the end.
    path = leading_to(ops[-1], ops, lambda op: rich.intersection(op.reads))
    linear = {op for op, _ in linear_steps(ops, root, view.size(root)) if op.primitive not in SIZES}
    return "norm" if divides and linear.issuperset(path) else None


def is_jointly_linear(view: View, op: Op) -> bool:
    """Whether an operation is linear in its explained operands together."""
    adds = op.primitive in SHIFTS and all(map(view.is_float, op.outputs))
    return adds or view.is_linear(op) or not view.explained(op)
