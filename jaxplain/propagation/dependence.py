"""Which values of a graph depend on the explained input, through loops and branches."""

from __future__ import annotations

from collections.abc import Sequence

from jax.extend.core import primitives as P

from ..graph import Graph, Op, scan_split


def dependents(graph: Graph, flags: Sequence[bool]) -> set[int]:
    """The values that depend on the flagged inputs."""
    found = {i for i, flag in zip(graph.inputs, flags, strict=True) if flag}
    for op in graph.ops:
        inputs = [isinstance(a, int) and a in found for a in op.inputs]
        if any(inputs):
            found.update(out for out, flag in zip(op.outputs, dependent_outputs(op, inputs), strict=True) if flag)
    return found


def dependent_outputs(op: Op, flags: Sequence[bool]) -> list[bool]:
    """Which results of an operation depend on its flagged operands."""
    if op.primitive is P.scan_p:
        flags = carried_flags(op, flags)
    elif op.primitive is P.cond_p and not flags[0]:
        flags = flags[1:]
    if not op.bodies or len(flags) != len(op.bodies[0].inputs):
        return [True] * len(op.outputs)
    found = [dependents(body, flags) for body in op.bodies]
    return [
        any(isinstance(body.outputs[i], int) and body.outputs[i] in f for body, f in zip(op.bodies, found, strict=True))
        for i in range(len(op.outputs))
    ]


def carried_flags(op: Op, flags: Sequence[bool]) -> tuple[bool, ...]:
    """Which operands of a scan's body depend on the input, once what is carried has gone round."""
    (body,), (consts, carries) = op.bodies, scan_split(op)
    flags = list(flags)
    while True:
        found = dependents(body, flags)
        carried = [isinstance(a, int) and a in found for a in body.outputs[:carries]]
        before = flags[consts : consts + carries]
        after = [a or b for a, b in zip(before, carried, strict=True)]
        if after == before:
            return tuple(flags)
        flags[consts : consts + carries] = after
