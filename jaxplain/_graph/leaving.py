"""Where the values that a layer makes leave it: by data flow alone, from the operations that read its weights.

A layer is a path in front of weights: ``blocks/0/conv``, ``blocks/0``, ``blocks``. All that its weights make leaves it
through one value, the nearest one through which every way from them to the outputs leads. Where such a value is only
found beyond other layers, as with an encoder whose stages are all read by a decoder, the layer has none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import jax.numpy as jnp
from jax.extend.core import primitives as P

from .primitives import RELABEL
from .trace import Graph, Op, numbered

Users: TypeAlias = dict[int, list[int]]
BRANCHES = (P.cond_p, P.while_p)  # which cannot be cut inside


def layers_of(op: Op) -> set[str]:
    """The paths of all layers whose weights an operation reads."""
    return {layer for weight in op.weights for layer in modules_around(weight.layer)}


def modules_around(layer: str) -> list[str]:
    """A path and all that are in front of it: ``a``, ``a/b``, ``a/b/c``."""
    parts = layer.split("/")
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def endings(graph: Graph) -> Iterator[tuple[str, int, bool]]:
    """For each call of each layer: its path, the operation that it ends in, and whether that is a loop to enter."""
    readers: dict[str, list[int]] = {}
    for number, op in enumerate(graph.ops):
        for layer in layers_of(op):
            readers.setdefault(layer, []).append(number)
    behind, users = post_dominators(graph), users_of(graph)
    for layer, numbers in readers.items():
        kinds = {graph.ops[n].primitive for n in numbers}
        if kinds == {P.scan_p}:
            yield from ((layer, n, True) for n in numbers)
        elif kinds.isdisjoint(BRANCHES):
            ends = [end(graph, layer, call, behind, users) for call in calls(graph, layer, numbers)]
            yield from ((layer, n, False) for n in ends if n is not None and None not in ends)


def calls(graph: Graph, layer: str, numbers: Sequence[int]) -> list[list[int]]:
    """The operations of each call of a layer: a new one begins where a weight is read again."""
    read = lambda n: [w.leaf for w in graph.ops[n].weights if f"{w.layer}/".startswith(f"{layer}/")]
    counts = Counter(leaf for n in numbers for leaf in read(n))
    times = min(counts.values())
    found, seen = [[]], Counter[str]()
    for n in numbers:
        if len(found) < times and any(seen[leaf] == counts[leaf] // times for leaf in read(n)):
            found.append([])
            seen.clear()
        found[-1].append(n)
        seen.update(read(n))
    return found


def end(graph: Graph, layer: str, call: Sequence[int], behind: dict[int, int], users: Users) -> int | None:
    """The operation through which all that some operations make leaves; None where there is none."""
    alive = [n for n in call if n in behind]
    if not alive:
        return None
    last = alive[0]
    for n in alive:
        last = meeting(last, n, behind)
    if last == len(graph.ops):
        return None
    made = {out for n in alive for out in graph.ops[n].outputs}
    for op in graph.ops[alive[0] : last + 1]:
        if not made.isdisjoint(op.reads):
            made.update(op.outputs)
            if op.weights and layer not in layers_of(op):
                return None
    return relabelled(graph, last, users)


def relabelled(graph: Graph, number: int, users: Users) -> int:
    """Where a value only moves its axes, in the same scope or line of code, as behind an einsum, the end of that."""
    while True:
        op = graph.ops[number]
        readers = {n for out in op.outputs for n in users.get(out, ())}
        if len(readers) != 1 or len(graph.ops) in readers:
            return number
        (next_number,) = readers
        user = graph.ops[next_number]
        scope = op.scope if op.scope is not None else op.path
        in_scope = bool(scope) and f"{user.path}/".startswith(f"{scope}/")
        in_line = user.line == op.line and user.primitive is not P.reshape_p
        if user.primitive not in RELABEL or user.weights or not (in_scope or in_line):
            return number
        number = next_number


def post_dominators(graph: Graph) -> dict[int, int]:
    """For each operation that the outputs depend on: the nearest one that every way to them leads through.

    The end of all is the number behind the last operation. Cooper, Harvey, Kennedy: A simple, fast dominance algorithm.
    """
    users = users_of(graph)
    behind: dict[int, int] = {}
    for number in reversed(range(len(graph.ops))):
        readers = [n for out in graph.ops[number].outputs for n in users.get(out, ())]
        followers = [n for n in readers if n == len(graph.ops) or n in behind]
        if not followers:
            continue
        nearest = followers[0]
        for n in followers[1:]:
            nearest = meeting(nearest, n, behind)
        behind[number] = nearest
    return behind


def users_of(graph: Graph) -> Users:
    """The operations that read each value, by number; the number behind the last one for what is returned."""
    users: Users = {a: [len(graph.ops)] for a in numbered(graph.outputs)}
    for number, op in enumerate(graph.ops):
        for a in op.reads:
            users.setdefault(a, []).append(number)
    return users


def meeting(a: int, b: int, behind: dict[int, int]) -> int:
    """The nearest operation that every way from two others leads through; either may be it."""
    while a != b:
        a, b = (behind[a], b) if a < b else (a, behind[b])
    return a


def floating_result(graph: Graph, op: Op) -> int | None:
    """Which of an operation's results is a layer's value: the first of floating point."""
    return next((i for i, a in enumerate(op.outputs) if jnp.issubdtype(graph.avals[a].dtype, jnp.floating)), None)
