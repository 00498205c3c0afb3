"""Where a layer is: the values of a traced network that have a name.

A layer is a value of the traced network that has a name:

* the output of a Flax Linen module, by the module's path, ``"layer4.1/conv2"``: while the network is traced, an
  interceptor of Flax's own marks every array that a module returns;
* an array marked by `jax.ad_checkpoint.checkpoint_name(x, "name")`, in any framework;
* what leaves a `jax.named_scope`, by its path; Equinox's layers have one.

Where a name stands for several values, since a module is shared, lies in a loop or returns several arrays, they are
numbered in the order of evaluation: ``"block[0]"`` is the first, and ``"block"`` the last one.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import primitives as P

from . import origins
from .layout import Layout, inside_loop, layouts, pools, positions, same_positions
from .origins import MARKS, Origins, follow, of_input
from .trace import Graph, Op, names_inside, scan_split, trace


@dataclass(frozen=True)
class Site:
    """The value of a layer: what an operation returns, or, inside a loop, an operation of one of its turns.

    Attributes:
      op: the number of the operation in the graph.
      output: which of its results.
      shape: the value's shape.
      turn: for a loop, the turn that is meant, counted as they are evaluated.
      inner: and the value in its body.
    """

    op: int
    output: int
    shape: tuple[int, ...]
    turn: int = 0
    inner: Site | None = None

    @property
    def order(self) -> tuple[float, ...]:
        """Sorts sites in the order of evaluation."""
        return (self.op, self.turn, *self.inner.order) if self.inner else (self.op, math.inf, self.output)

    def layout(self, graph: Graph, given: dict[int, Layout] | None = None) -> Layout | None:
        """Where its channels are, if that is known."""
        op, known = graph.ops[self.op], layouts(graph, given)
        if self.inner:
            return self.inner.layout(op.bodies[0], inside_loop(op, known))
        return known.get(op.outputs[self.output])

    def origins(self, graph: Graph, given: dict[int, Origins] | None = None) -> Origins | None:
        """What its axes are made of, if that is known."""
        op, known = graph.ops[self.op], follow(graph, of_input(graph) if given is None else given)
        if self.inner:
            return self.inner.origins(op.bodies[0], origins.inside_loop(op, known))
        return known.get(op.outputs[self.output])


def marked_trace(f: Callable[[jax.Array], Any], x: jax.Array) -> Graph:
    """Trace a network; where it is written in Flax Linen, what each module returns is marked with the module's path."""
    linen = sys.modules.get("flax.linen")  # nobody has a Linen network who has not imported it

    def mark(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        y = call(*args, **kwargs)
        path = context.module.path
        if context.method_name != "__call__" or not path:
            return y
        return jax.tree.map(lambda a: checkpoint_name(a, "/".join(path)) if isinstance(a, jax.Array) else a, y)

    with linen.intercept_methods(mark) if linen else contextlib.nullcontext():
        return trace(f, x, keep_call=lambda eqn: True)[0]


def find(graph: Graph, layer: str) -> Site:
    """The value that a name stands for."""
    sites = sites_by_name(graph)
    name, _, number = layer.rpartition("[") if layer.endswith("]") and layer not in sites else (layer, "", "")
    if name in sites:
        calls = sites[name]
        index = number.removesuffix("]") or str(len(calls) - 1)
        if index.isdecimal() and int(index) < len(calls):
            return calls[int(index)]
        raise ValueError(f"layer {layer!r}: {name} is called {len(calls)} times, choose [0] to [{len(calls) - 1}]")
    for op in uncut(graph):
        if any(f"/{name}/" in f"/{inside}/" for inside in names_inside(op.eqn, op.path)):
            where = "a branch of a `cond`, which may not be taken"
            if op.primitive is not P.cond_p:
                where = f"`{op.primitive}` at {op.place}, which cannot be cut"
            raise ValueError(f"layer {layer!r} lies in {where}: name a layer outside it")
    known = list(sites)
    if not known:
        raise ValueError(
            f"no layer {layer!r}: the network's values have no names; give one to its features by "
            f"jax.ad_checkpoint.checkpoint_name(x, {layer!r})"
        )
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or known[-3:]
    raise ValueError(f"no layer {layer!r}: the nearest are {', '.join(near)}; jaxplain.layers(apply)(*args) lists all")


def sites_by_name(graph: Graph) -> dict[str, list[Site]]:
    """Every named value that depends on the input, in the order of evaluation; a name may stand for several."""
    marked: dict[str, list[Site]] = {}
    scoped: dict[str, list[Site]] = {}
    for op, leaves, site in values_of(graph, dependent(graph, set(graph.inputs)), ""):
        if op.primitive is P.name_p and op.params["name"] not in MARKS.values():
            marked.setdefault(op.params["name"], []).append(site)
        for scope in leaves:
            scoped.setdefault(scope, []).append(site)
    roots = {scope.split("/")[0] for scope in scoped}
    if len(roots) == 1 and len(scoped) > 1:  # the class of the whole network, which nobody writes
        scoped = {scope.partition("/")[2]: sites for scope, sites in scoped.items() if "/" in scope}
    taken = {site for sites in marked.values() for site in sites}
    found = marked | {scope: s for scope, s in scoped.items() if scope not in marked and not taken.issuperset(s)}
    return dict(sorted(found.items(), key=lambda item: item[1][0].order))


def values_of(graph: Graph, varying: set[int], owner: str) -> Iterator[tuple[Op, list[str], Site]]:
    """Each value that depends on the input: its operation, the scopes that it leaves, and its place.

    A scope is left by what an operation outside uses, or what the graph of the ``owner`` returns.
    """
    users: dict[Any, list[str]] = {a: [owner] for a in graph.outputs if isinstance(a, int)}
    for op in graph.ops:
        for a in op.reads:
            users.setdefault(a, []).append(op.path)
    for number, op in enumerate(graph.ops):
        if op.primitive is P.scan_p and varying.intersection(op.reads):
            body = op.bodies[0]
            inner = list(values_of(body, dependent(body, varying_in_loop(op, varying)), op.path))
            for turn in range(op.params["length"]):
                for op_inside, leaves, site in inner:
                    yield op_inside, leaves, Site(number, 0, site.shape, turn, site)
        for i, out in enumerate(op.outputs):
            if out in varying and jnp.issubdtype(graph.avals[out].dtype, jnp.floating):
                parts = op.path.split("/")
                scopes = ["/".join(parts[: n + 1]) for n in range(len(parts)) if op.path]
                leaves = [s for s in scopes if any(not f"{user}/".startswith(f"{s}/") for user in users.get(out, ()))]
                yield op, leaves, Site(number, i, graph.avals[out].shape)


def dependent(graph: Graph, inputs: set[int]) -> set[int]:
    """The values that depend on some of the inputs."""
    found = set(inputs)
    for op in graph.ops:
        if found.intersection(op.reads):
            found.update(op.outputs)
    return found


def varying_in_loop(op: Op, varying: set[int]) -> set[int]:
    """The inputs of a loop's body that depend on the network's input; whatever is carried may, from the second turn."""
    consts, carries = scan_split(op)
    pairs = enumerate(zip(op.inputs, op.bodies[0].inputs, strict=True))
    from_input = lambda a: isinstance(a, int) and a in varying
    return {inner for i, (a, inner) in pairs if from_input(a) or consts <= i < consts + carries}


def uncut(graph: Graph) -> Iterator[Op]:
    """The operations in which no layer is found: all but loops of known length."""
    for op in graph.ops:
        yield from uncut(op.bodies[0]) if op.primitive is P.scan_p else [op]


def last_feature_map(graph: Graph) -> Site:
    """The last value with the height and width that a convolution gave, and more than one position."""
    known, needed = layouts(graph), {a for a in graph.outputs if isinstance(a, int)}
    for op in reversed(graph.ops):
        if any(out in needed for out in op.outputs):
            needed.update(op.reads)
    spread = lambda a: a in known and math.prod(positions(graph.avals[a].shape, known[a].channels)) > 1
    found = None
    for number, op in enumerate(graph.ops):
        if op.primitive is P.convert_element_type_p:  # means and norms convert for themselves what is there already
            continue
        for i, out in enumerate(op.outputs):
            if out in needed and spread(out) and same_positions(graph.avals[out].shape, known[out]):
                found = Site(number, i, graph.avals[out].shape)
    if found is None:
        raise ValueError(
            "the network has no convolutional feature map with more than one position, or only in a branch, a `while` "
            "or a custom derivative: name a layer, layer=...; jaxplain.layers(apply)(*args) lists them"
        )
    for op in graph.ops[found.op + 1 :]:
        if op.primitive not in (P.dot_general_p, P.scan_p) or not needed & set(op.outputs):
            continue
        if any(map(spread, op.reads)) and not pools(op, known):
            raise ValueError(
                f"behind its last convolution the network goes on with many positions (attention?) at {op.place}: "
                "name a layer, layer=...; jaxplain.layers(apply)(*args) lists them"
            )
    return found
