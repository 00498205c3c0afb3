"""One row that stands for many: what a network makes of examples that are all the same, computed once.

A value whose shape begins with 1 where the network was traced with n stands for n equal rows. It stays that short as
long as operations work on every row by itself and in the same way. Any other operation gets all n rows, so that the
values are those of the whole batch, whatever the network does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives as P

from .._graph.primitives import ELEMENTWISE, SPLIT, STACK, TILE, UNSTACK
from .._graph.trace import Graph, Op, callee, flatten, is_elementwise_call, read


def run_short(ops: Sequence[Op], env: dict[int, Any], alike: Collection[int]) -> dict[int, Any]:
    """Evaluate operations in order, adding what they return to ``env``, in one row wherever that stands for all.

    Args:
      ops: the operations.
      env: the values known so far.
      alike: those that have equal rows, all of them.
    """
    for op in ops:
        values = read(op.inputs, env)
        short = shortened(op, values, [isinstance(a, int) and a in alike for a in op.inputs])
        if short is None:
            outputs = op.bind(*(all_rows(v, a.aval.shape) for v, a in zip(values, op.eqn.invars, strict=True)))
        elif is_elementwise_call(op.eqn):
            outputs = called(op, short)
        else:
            name = OF_RESULT.get(op.primitive)
            outputs = op.bind(*short, **({name: (1, *op.params[name][1:])} if name else {}))
        env.update(zip(op.outputs, outputs, strict=True))
    return env


def all_rows(value: Any, shape: tuple[int, ...]) -> Any:
    """All the rows of a value."""
    return value if np.shape(value) == shape else jnp.broadcast_to(value, shape)


def shortened(op: Op, values: Sequence[Any], alike: Sequence[bool]) -> list[Any] | None:
    """The operands for one row of the result; None where there is no such row, or it does not stand for all."""
    shapes = [a.aval.shape for a in op.eqn.invars]
    short = [np.shape(v) != shape for v, shape in zip(values, shapes, strict=True)]
    if not any(short):
        return None
    by_row = operands_by_row(op, shapes[short.index(True)][0])
    if by_row is None or any(s and not row for s, row in zip(short, by_row, strict=True)):
        return None
    if not all(s or a for s, a, row in zip(short, alike, by_row, strict=True) if row):
        return None
    return [v[:1] if row and not s else v for v, s, row in zip(values, short, by_row, strict=True)]


def called(op: Op, short: Sequence[Any]) -> list[Any]:
    """A function with a derivative of its own, evaluated for all rows to keep that: the row that stands for them."""
    values = (all_rows(v, a.aval.shape) for v, a in zip(short, op.eqn.invars, strict=True))
    found = jax.eval_shape(lambda: inside(op, short))  # it may hold constants that tell rows apart
    return [y[: len(row)] for y, row in zip(op.bind(*values), found, strict=True)]


def inside(op: Op, values: Sequence[Any]) -> list[Any]:
    """The elementwise operations within a function that has a derivative of its own, without that derivative."""
    never = lambda eqn: False
    graph = flatten(callee(op.eqn, never), whole=never)
    env = {**graph.constants, **dict(zip(graph.inputs, values, strict=True))}
    return graph.returned(run_short(graph.ops, env, equal_rows(graph)))


def equal_rows(graph: Graph, constant: Callable[[Op], bool] = lambda op: True) -> frozenset[int]:
    """The results of constant operations whose rows are provably equal, such as a bias that is broadcast."""
    found: set[int] = set()
    for op in filter(constant, graph.ops):
        shapes = [a.aval.shape for a in op.eqn.invars]
        if op.primitive in (P.broadcast_in_dim_p, TILE) and is_repeated(op, shapes[0]):
            found.update(op.outputs)
            continue
        equal = [isinstance(a, int) and a in found for a in op.inputs]
        known = any(equal) and op.primitive in BY_ROW  # a function may hold constants of its own
        by_row = operands_by_row(op, shapes[equal.index(True)][0]) if known else None
        if by_row and all(e for e, row in zip(equal, by_row, strict=True) if row):
            found.update(op.outputs)
    return frozenset(found)


def is_repeated(op: Op, shape: tuple[int, ...]) -> bool:
    """Whether the first axis of the result only repeats."""
    if op.primitive is TILE:
        return shape[:1] == (1,)
    kept = op.params["broadcast_dimensions"]
    return 0 not in kept or shape[0] == 1


# --------------------------------------------------------------------------------------- operations on rows


def operands_by_row(op: Op, n: int) -> tuple[bool, ...] | None:
    """Which operands are taken row by row, where row i of the result comes of their rows i and of the others alone.

    Args:
      op: the operation.
      n: the number of rows.

    Returns:
      One flag per operand; None where rows meet, change their place, or are told apart.
    """
    params, shapes = op.params, [a.aval.shape for a in op.eqn.invars]
    if params.get("sharding") or params.get("out_sharding"):
        return None
    if op.primitive is P.conv_general_dilated_p:
        axes = params["dimension_numbers"]
        batch_first = axes.lhs_spec[0] == axes.out_spec[0] == 0 and params["batch_group_count"] == 1
        return (True, False) if batch_first else None
    if op.primitive is P.dot_general_p:
        (contracted, _), (batch, other) = params["dimension_numbers"]
        if tuple(batch[:1]) == tuple(other[:1]) == (0,):
            return True, True
        return (True, False) if not batch and 0 not in contracted else None
    if not is_elementwise_call(op.eqn) and not (op.primitive in BY_ROW and BY_ROW[op.primitive](params, n)):
        return None
    return tuple(shape[:1] == (n,) for shape in shapes) if all(s[:1] in ((), (1,), (n,)) for s in shapes) else None


BY_ROW: dict[Any, Callable[[dict[str, Any], int], bool]] = {
    **dict.fromkeys(ELEMENTWISE, lambda p, n: True),
    **dict.fromkeys((P.reduce_sum_p, P.reduce_max_p, P.reduce_min_p, P.argmax_p), lambda p, n: 0 not in p["axes"]),
    **dict.fromkeys((P.cumsum_p, P.cummax_p, P.cummin_p, SPLIT, STACK, UNSTACK, P.top_k_p), lambda p, n: p["axis"] > 0),
    **dict.fromkeys((P.reduce_window_sum_p, P.reduce_window_max_p, P.reduce_window_min_p), lambda p, n: row_window(p)),
    P.sort_p: lambda p, n: p["dimension"] > 0,
    TILE: lambda p, n: p["reps"][0] == 1,
    P.reshape_p: lambda p, n: p["dimensions"] is None and p["new_sizes"][:1] == (n,),
    P.broadcast_in_dim_p: lambda p, n: p["broadcast_dimensions"][:1] == (0,) and p["shape"][0] == n,
    P.slice_p: lambda p, n: (p["start_indices"][0], p["limit_indices"][0], (p["strides"] or (1,))[0]) == (0, n, 1),
    P.transpose_p: lambda p, n: p["permutation"][0] == 0,
    P.squeeze_p: lambda p, n: 0 not in p["dimensions"],
    P.rev_p: lambda p, n: 0 not in p["dimensions"],
    P.concatenate_p: lambda p, n: p["dimension"] > 0,
    P.pad_p: lambda p, n: tuple(p["padding_config"][0]) == (0, 0, 0),
}
OF_RESULT = {P.reshape_p: "new_sizes", P.broadcast_in_dim_p: "shape", P.slice_p: "limit_indices"}


def row_window(params: dict[str, Any]) -> bool:
    """Whether a pooling window is one row high."""
    ones = ("window_dimensions", "window_strides", "base_dilation", "window_dilation")
    return all(params[name][0] == 1 for name in ones) and tuple(params["padding"][0]) == (0, 0)
