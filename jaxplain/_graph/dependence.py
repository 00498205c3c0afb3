"""Which values depend on the explained input, and on which the outputs depend, through loops and branches."""

from __future__ import annotations

from collections.abc import Sequence

from jax.extend.core import primitives as P

from .trace import Graph, Op, scan_split


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
    if op.primitive is P.ne_p and op.inputs[0] == op.inputs[1]:
        return [False]  # whether a value is NaN: the same for the input and for all that it is compared with
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


def live_ops(graph: Graph) -> list[Op]:
    """The operations that the outputs depend on, those of control flow included."""
    return traced_back(graph, [True] * len(graph.outputs))[0]


def traced_back(graph: Graph, wanted: Sequence[bool]) -> tuple[list[Op], list[bool]]:
    """The operations that the wanted outputs depend on, and for each input whether they do."""
    needed = {a for a, want in zip(graph.outputs, wanted, strict=True) if want and isinstance(a, int)}
    ops: list[Op] = []
    for op in reversed(graph.ops):
        if not needed.isdisjoint(op.outputs):
            inside, reads = traced_back_into(op, [out in needed for out in op.outputs])
            ops += [*inside[::-1], *([] if op.bodies else [op])]
            needed.update(a for a, read in zip(op.inputs, reads, strict=True) if read and isinstance(a, int))
    return ops[::-1], [a in needed for a in graph.inputs]


def traced_back_into(op: Op, wanted: list[bool]) -> tuple[list[Op], list[bool]]:
    """The same for an operation: those in its bodies, and which of its operands are needed."""
    if op.primitive is P.scan_p:
        (body,), (consts, carries) = op.bodies, scan_split(op)
        while True:
            ops, reads = traced_back(body, wanted)
            carried = [a or b for a, b in zip(wanted[:carries], reads[consts : consts + carries], strict=True)]
            if carried == wanted[:carries]:
                return ops, reads
            wanted = carried + wanted[carries:]
    if op.primitive is P.cond_p:
        found = [traced_back(body, wanted) for body in op.bodies]
        return [o for ops, _ in found for o in ops], [
            True,
            *(any(r) for r in zip(*(reads for _, reads in found), strict=True)),
        ]
    return [], [True] * len(op.inputs)
