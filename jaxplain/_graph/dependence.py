"""Which values depend on the explained input, and on which the outputs depend, through loops and branches."""

from __future__ import annotations

from collections.abc import Sequence

from jax.extend.core import primitives as P

from .forward import Analysis, entering, forward
from .trace import Graph, Op, scan_split


def dependents(graph: Graph, flags: Sequence[bool]) -> set[int]:
    """The values that depend on the flagged inputs."""
    return set(forward(graph, {a: True for a, flag in zip(graph.inputs, flags, strict=True) if flag}, DEPENDENCE))


def dependent_results(op: Op, operands: Sequence[bool | None]) -> list[bool | None]:
    """All results depend on what any operand does."""
    if op.primitive is P.ne_p and op.inputs[0] == op.inputs[1]:
        return [None]  # whether a value is NaN: the same for the input and for all that it is compared with
    return [any(operands) or None] * len(op.outputs)


either = lambda a, b: a or b
DEPENDENCE = Analysis(dependent_results, join=either, choose=either)


def carried_flags(op: Op, flags: Sequence[bool]) -> tuple[bool, ...]:
    """Which operands of a scan's body depend on the input, once what is carried has gone round."""
    return tuple(map(bool, entering(op, [flag or None for flag in flags], DEPENDENCE)))


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
