"""Where a layer is: the values of a traced network that have a name.

A layer is a value of the traced network that has a name, and every ``layer=`` asks `find` for it:

* the output of a module of Flax Linen or NNX, by the module's path, ``"layer4.1/conv2"`` (see `modules.py`);
* an array marked by `jax.ad_checkpoint.checkpoint_name(x, "name")`, in any framework;
* what a network captured of its own, by `capture_intermediates`, `nnx.capture`, `sow`;
* the value through which all that is made with some weights leaves, by the weights' path, in any framework
  (`weights.py`, `leaving.py`);
* what leaves a `jax.named_scope`, by its path.

The name of the whole network, as Haiku and scopes have it in front, may be left out or added.

Where a name stands for several values, since a module is shared, lies in a loop or returns several arrays, they are
numbered in the order of evaluation: ``"block[0]"`` is the first, and ``"block"`` the last one.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core as jexc
from jax.extend.core import primitives as P

from . import origins
from .dependence import carried_flags, dependents
from .equations import unclose
from .layout import Layout, inside_loop, layouts, pools, positions, same_positions
from .leaving import BRANCHES, endings, floating_result, layers_of
from .modules import trace_with_names
from .origins import MARKS, Origins, follow, of_input
from .trace import NAMES, Graph, Op, numbered, path_inside


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
    """Trace a network so that it can be cut at every value that has a name."""
    return trace_with_names(f, x, as_operations=True, keep_call=lambda eqn: True)[0]


def find(graph: Graph, layer: str) -> Site:
    """The value that a name stands for, with or without the name of the whole network in front.

    Raises:
      ValueError: where no value has that name, or several names fit it, or it lies where the network cannot be cut.
    """
    if not isinstance(layer, str):
        raise TypeError(f"{layer=} is no name of a layer: jaxplain.layers(apply)(*args) lists them")
    sites = sites_by_name(graph)
    name, _, number = layer.rpartition("[") if layer.endswith("]") and not fitting(layer, sites) else (layer, "", "")
    fits, shapes = fitting(name, sites), {name: calls[-1].shape for name, calls in sites.items()}
    if len(fits) > 1:
        raise ValueError(f"layer {layer!r} may be {listed(fits, shapes)}: name one of them")
    if fits:
        calls = sites[fits[0]]
        index = number.removesuffix("]") or str(len(calls) - 1)
        if index.isdecimal() and int(index) < len(calls):
            return calls[int(index)]
        raise ValueError(f"layer {layer!r}: {name} is called {len(calls)} times, choose [0] to [{len(calls) - 1}]")
    for op in uncut(graph):
        inside = [*names_inside(op.eqn, op.path), *(layers_of(op) if op.primitive in BRANCHES else ())]
        if any(f"/{name}/" in f"/{path}/" for path in inside):
            where = "a branch of a `cond`, which may not be taken"
            if op.primitive is not P.cond_p:
                where = f"`{op.primitive}` at {op.place}, which cannot be cut"
            raise ValueError(f"layer {layer!r} lies in {where}: name a layer outside it")
        if name in layers_of(op):
            inner = [other for other in sites if other.startswith(f"{name}/")]
            raise ValueError(
                f"what layer {layer!r} makes leaves it through several values: name one of {listed(inner, shapes)}"
            )
    if not sites:
        raise ValueError(
            f"no layer {layer!r}: the network's values have no names; pass the model as an argument in front of the "
            f"input, or give a name to its features by jax.ad_checkpoint.checkpoint_name(x, {layer!r})"
        )
    near = nearest(name, sites)
    raise ValueError(
        f"no layer {layer!r}: the nearest are {listed(near, shapes)}; jaxplain.layers(apply)(*args) lists all"
    )


def names_inside(eqn: Any, path: str) -> Iterator[str]:
    """The module paths, and the names given by `checkpoint_name`, in everything that an equation runs."""
    for jaxpr in jexc.jaxprs_in_params(eqn.params):
        for inner in unclose(jaxpr)[0].eqns:
            here = path_inside(path, inner)
            yield inner.params["name"].removeprefix(NAMES) if inner.primitive is P.name_p else here
            yield from names_inside(inner, here)


def fitting(name: str, known: Iterable[str]) -> list[str]:
    """The known names that a name stands for: itself, else those that differ by the whole network's in front."""
    known = list(known)
    if name in known:
        return [name]
    below = lambda path: path.partition("/")[2]
    return [other for other in known if below(other) == name] or [other for other in known if other == below(name)]


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The names that look most like one that is none."""
    known = list(known)
    return difflib.get_close_matches(name, known, n=3, cutoff=0.3) or known[-3:]


def listed(names: Iterable[str], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Names with the shapes of their values."""
    return ", ".join(f"{name} {shapes[name]}" for name in names)


def sites_by_name(graph: Graph) -> dict[str, list[Site]]:
    """Every named value that depends on the input, in the order of evaluation; a name may stand for several.

    What modules return comes first, then the user's own intermediates, then the layers of weights; a scope is listed
    where none of those names its values.
    """
    varying = dependents(graph, [True] * len(graph.inputs))
    marked, scoped = marks_and_scopes(graph, varying)
    found = noted_values(graph, varying) | marked
    weighted = weighted_values(graph)
    below = without_root(scoped)
    scope_of_layer = below | scoped  # a module's scope knows what it returns, the data flow only where weights end
    found |= {layer: scope_of_layer.get(layer, sites) for layer, sites in weighted.items() if layer not in found}
    taken = {site for sites in found.values() for site in sites}
    found |= {scope: s for scope, s in below.items() if scope not in found and not taken.issuperset(s)}
    in_order = {name: sorted(sites, key=lambda site: site.order) for name, sites in found.items()}
    return dict(sorted(in_order.items(), key=lambda item: item[1][0].order))


def marks_and_scopes(graph: Graph, varying: set[int]) -> tuple[dict[str, list[Site]], dict[str, list[Site]]]:
    """The values that operations give a name to, and those that leave a scope."""
    marked: dict[str, list[Site]] = {}
    scoped: dict[str, list[Site]] = {}
    for op, leaves, site in values_of(graph, varying, ""):
        if op.primitive is P.name_p and op.params["name"] not in MARKS.values():
            marked.setdefault(op.params["name"], []).append(site)
        for scope in leaves:
            scoped.setdefault(scope, []).append(site)
    return marked, scoped


def without_root(scoped: dict[str, list[Site]]) -> dict[str, list[Site]]:
    """Scopes without the name that all have in front, the class of the whole network, which nobody writes."""
    roots = {scope.split("/")[0] for scope in scoped}
    if len(roots) > 1 or len(scoped) < 2:
        return scoped
    return {scope.partition("/")[2]: sites for scope, sites in scoped.items() if "/" in scope}


def noted_values(graph: Graph, varying: set[int]) -> dict[str, list[Site]]:
    """The values that the graph itself has names for, in the order in which they were named; in loops, by turn."""
    places = {out: (n, i) for n, op in enumerate(graph.ops) for i, out in enumerate(op.outputs) if out in varying}
    found: dict[str, list[Site]] = {}
    for number, op in enumerate(graph.ops):
        if op.primitive is P.scan_p and varying.intersection(op.reads):
            body = op.bodies[0]
            for name, sites in noted_values(body, dependent_inside(op, varying)).items():
                found.setdefault(name, []).extend(by_turn(op, number, sites))
    for name, a in graph.names:
        if a in places and jnp.issubdtype(graph.avals[a].dtype, jnp.floating):
            site = Site(*places[a], graph.avals[a].shape)
            if site not in found.setdefault(name, []):  # a module's result, captured as well
                found[name].append(site)
    return found


def weighted_values(graph: Graph) -> dict[str, list[Site]]:
    """The values through which what is made with a layer's weights leaves it, by call; in loops, by turn."""
    found: dict[str, list[Site]] = {}
    inside: dict[int, dict[str, list[Site]]] = {}
    for layer, number, is_loop in endings(graph):
        op = graph.ops[number]
        if is_loop:
            if number not in inside:
                inside[number] = weighted_values(op.bodies[0])
            found.setdefault(layer, []).extend(by_turn(op, number, inside[number].get(layer, ())))
        elif (i := floating_result(graph, op)) is not None:
            found.setdefault(layer, []).append(Site(number, i, graph.avals[op.outputs[i]].shape))
    return {layer: sites for layer, sites in found.items() if sites}


def by_turn(op: Op, number: int, sites: Iterable[Site]) -> list[Site]:
    """Values in a loop's body as values of the loop, turn by turn."""
    sites = list(sites)
    return [Site(number, 0, site.shape, turn, site) for turn in range(op.params["length"]) for site in sites]


def values_of(graph: Graph, varying: set[int], owner: str) -> Iterator[tuple[Op, list[str], Site]]:
    """Each value that depends on the input: its operation, the scopes that it leaves, and its place.

    A scope is left by what an operation outside uses, or what the graph of the ``owner`` returns.
    """
    users: dict[Any, list[str]] = {a: [owner] for a in numbered(graph.outputs)}
    for op in graph.ops:
        for a in op.reads:
            users.setdefault(a, []).append(scope_of(op))
    for number, op in enumerate(graph.ops):
        if op.primitive is P.scan_p and varying.intersection(op.reads):
            body = op.bodies[0]
            inner = list(values_of(body, dependent_inside(op, varying), scope_of(op)))
            for turn in range(op.params["length"]):
                for op_inside, leaves, site in inner:
                    yield op_inside, leaves, Site(number, 0, site.shape, turn, site)
        for i, out in enumerate(op.outputs):
            if out in varying and jnp.issubdtype(graph.avals[out].dtype, jnp.floating):
                parts = scope_of(op).split("/")
                scopes = ["/".join(parts[: n + 1]) for n in range(len(parts)) if scope_of(op)]
                leaves = [s for s in scopes if any(not f"{user}/".startswith(f"{s}/") for user in users.get(out, ()))]
                yield op, leaves, Site(number, i, graph.avals[out].shape)


def scope_of(op: Op) -> str:
    """The names of the modules that an operation was called in, whatever its weights are called."""
    return op.path if op.scope is None else op.scope


def dependent_inside(op: Op, varying: set[int]) -> set[int]:
    """The values of a loop's body that depend on the network's input, at one of its turns."""
    return dependents(op.bodies[0], carried_flags(op, [isinstance(a, int) and a in varying for a in op.inputs]))


def uncut(graph: Graph) -> Iterator[Op]:
    """The operations in which no layer is found: all but loops of known length."""
    for op in graph.ops:
        yield from uncut(op.bodies[0]) if op.primitive is P.scan_p else [op]


def last_feature_map(graph: Graph) -> Site:
    """The last value with the height and width that a convolution gave, and more than one position."""
    known, needed = layouts(graph), set(numbered(graph.outputs))
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
