"""Reading a network's features: where a layer is, what it returned, and the rest of the network as a function of that.

A layer is a value of the traced network that has a name:

* the output of a Flax Linen module, by the module's path, ``"layer4.1/conv2"``: while the network is traced, an
  interceptor of Flax's own marks what every module returns;
* an array marked by `jax.ad_checkpoint.checkpoint_name(x, "name")`, in any framework;
* what leaves a `jax.named_scope`, by its path; Equinox's layers have one.

Where a name stands for several values, since a module is shared or lies in a loop, they are numbered in the order of
evaluation: ``"block[0]"`` is the first, and ``"block"`` the last one.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import primitives as P

from ..explainer import Apply, Array, Function, outputs_of, split
from ..graph import Graph, Op, run, scan_split, trace
from .layout import Layout, inside_loop, layouts, positions, same_positions


class Tapped(NamedTuple):
    """What `tap` returns.

    Attributes:
      outputs: what the network returns.
      features: what the layer returned, its channels last.
      pullback: the derivative, from a cotangent of the outputs to one of the features.
    """

    outputs: Array
    features: Array
    pullback: Function


def tap(apply: Apply, layer: str | None = None) -> Callable[..., Tapped]:
    """Read the features of a layer, in one pass with the outputs and the way back from them.

    ``outputs = head(features)``,  ``pullback(v) = vᵀ ∂head/∂features``

    Nothing is hooked or left behind: the network is traced and evaluated again, and what lies before the layer takes no
    part in the way back.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      layer: the name of the layer (see `layers`); None takes the last convolutional feature map, before the network
        pools or flattens it.

    Returns:
      A function ``(*args) -> Tapped(outputs, features, pullback)``; the features have their channels last.

    Raises:
      ValueError: if no layer has that name, or there is no convolutional feature map.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: checkpoint_name(x**2, "squares") @ jnp.ones((2, 1))
      >>> outputs, features, pullback = jaxplain.tap(f, "squares")(jnp.array([[2.0, 3.0]]))
      >>> print(outputs, features, pullback(jnp.ones((1, 1))))
      [[13.]] [[4. 9.]] [[1. 1.]]
    """

    def tapped(*args: Any) -> Tapped:
        context, x = split(args)
        features, head = features_of(lambda x: outputs_of(apply, (*context, x)), x, layer)
        outputs, pullback = jax.vjp(head, features)
        return Tapped(outputs, features, lambda cotangent: pullback(cotangent)[0])

    return tapped


def layers(apply: Apply) -> Callable[..., dict[str, tuple[int, ...]]]:
    """The names of a network's layers, for the ``layer=`` of methods that look at one.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.

    Returns:
      A function ``(*args) -> {name: shape of its output}``, in the order of evaluation. Layers that are called several
      times, or lie in a loop, appear as ``"name[0]"``, ``"name[1]"``, ...

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain, flax.linen as nn
      >>> net = nn.Sequential([nn.Conv(4, (3, 3)), nn.relu, nn.Conv(8, (3, 3), strides=2)])
      >>> x = jnp.ones((1, 6, 6, 3))
      >>> jaxplain.layers(net.apply)(net.init(jax.random.key(0), x), x)
      {'layers_0': (1, 6, 6, 4), 'layers_2': (1, 3, 3, 8)}
    """

    def listed(*args: Any) -> dict[str, tuple[int, ...]]:
        context, x = split(args)
        graph = marked_trace(lambda x: outputs_of(apply, (*context, x)), x)
        named: dict[str, tuple[int, ...]] = {}
        for name, sites in sites_by_name(graph).items():
            for i, site in enumerate(sites):
                named[f"{name}[{i}]" if len(sites) > 1 else name] = site.shape
        return named

    return listed


def features_of(f: Function, x: Array, layer: str | None) -> tuple[Array, Function]:
    """The features of a layer, channels last, and the rest of the network: ``head(features) == f(x)``."""
    graph = marked_trace(f, x)
    site = last_feature_map(graph) if layer is None else find(graph, layer)
    layout = site.layout(graph)
    values, rest = cut(graph, [x], site)
    if values.shape[:1] != x.shape[:1]:
        raise ValueError(
            f"layer {layer!r} has shape {values.shape} for an input of shape {x.shape}: it needs the batch in front"
        )
    axis = layout.channels if layout else values.ndim - 1
    head = lambda features: rest(jnp.moveaxis(features, -1, axis))[0]
    return jnp.moveaxis(values, axis, -1), head


# ---------------------------------------------------------------------------------------------- a place in the network


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

    def layout(self, graph: Graph, given: dict[int, Layout] | None = None) -> Layout | None:
        """Where its channels are, if that is known."""
        op, known = graph.ops[self.op], layouts(graph, given)
        if self.inner:
            return self.inner.layout(op.bodies[0], inside_loop(op, known))
        return known.get(op.outputs[self.output])


def cut(graph: Graph, args: Sequence[Any], site: Site) -> tuple[Array, Callable[[Array], list[Any]]]:
    """Evaluate a graph as far as a value, and return that and what is left: a function of the value."""
    env = run(graph.ops[: site.op], {**graph.constants, **dict(zip(graph.inputs, args, strict=True))})
    op = graph.ops[site.op]
    if site.inner is None:
        run([op], env)
        value, resume = env[op.outputs[site.output]], lambda value: [value]
        outputs = op.outputs[site.output : site.output + 1]
    else:
        operands = [env[a] if isinstance(a, int) else a.val for a in op.inputs]
        value, resume = cut_loop(op, operands, site.turn, site.inner)
        outputs = op.outputs

    def rest(value: Array) -> list[Any]:
        after = run(graph.ops[site.op + 1 :], {**env, **dict(zip(outputs, resume(value), strict=True))})
        return [after[a] if isinstance(a, int) else a.val for a in graph.outputs]

    return value, rest


def cut_loop(op: Op, operands: Sequence[Any], turn: int, inner: Site) -> tuple[Array, Callable[[Array], list[Any]]]:
    """Cut a loop in one of its turns: those before it are done, those after it belong to what is left."""
    (body,), (consts, carries) = op.bodies, scan_split(op)
    first, last = consts, consts + carries
    flip = (lambda a: a[::-1]) if op.params["reverse"] else (lambda a: a)
    xs = [flip(a) for a in operands[last:]]

    def loop(carry: Sequence[Any], start: int, stop: int) -> tuple[Sequence[Any], Sequence[Any]]:
        def step(carry: Sequence[Any], x: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
            out = evaluate(body, [*operands[:first], *carry, *x])
            return out[:carries], out[carries:]

        return jax.lax.scan(step, list(carry), [a[start:stop] for a in xs], length=stop - start)

    carry, before = loop(operands[first:last], 0, turn)
    value, resume = cut(body, [*operands[:first], *carry, *(a[turn] for a in xs)], inner)

    def rest(value: Array) -> list[Any]:
        here = resume(value)
        carry, after = loop(here[:carries], turn + 1, op.params["length"])
        parts = zip(before, here[carries:], after, strict=True)
        return [*carry, *(flip(jnp.concatenate([b, y[None], a])) for b, y, a in parts)]

    return value, rest


def evaluate(graph: Graph, args: Sequence[Any]) -> list[Any]:
    """Evaluate a graph."""
    env = run(graph.ops, {**graph.constants, **dict(zip(graph.inputs, args, strict=True))})
    return [env[a] if isinstance(a, int) else a.val for a in graph.outputs]


# ------------------------------------------------------------------------------------------------------------- names


def marked_trace(f: Function, x: Array) -> Graph:
    """Trace a network; where it is written in Flax Linen, what each module returns is marked with the module's path."""
    linen = sys.modules.get("flax.linen")  # nobody has a Linen network who has not imported it

    def mark(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        y = call(*args, **kwargs)
        path = context.module.path
        if context.method_name == "__call__" and path and isinstance(y, jax.Array):
            return checkpoint_name(y, "/".join(path))
        return y

    with linen.intercept_methods(mark) if linen else contextlib.nullcontext():
        return trace(f, x, whole=lambda eqn: True)[0]


def find(graph: Graph, layer: str) -> Site:
    """The value that a name stands for."""
    sites = sites_by_name(graph)
    name, _, number = layer.partition("[") if layer.endswith("]") and layer not in sites else (layer, "", "")
    if name in sites:
        calls = sites[name]
        index = number.removesuffix("]") or str(len(calls) - 1)
        if index.isdecimal() and int(index) < len(calls):
            return calls[int(index)]
        raise ValueError(f"layer {layer!r}: {name} is called {len(calls)} times, choose [0] to [{len(calls) - 1}]")
    if any(f"/{name}/" in f"/{op.path}/" for body in branches(graph) for op in body.ops):
        raise ValueError(
            f"layer {layer!r} lies in a branch of a `cond`, which may not be taken: name a layer outside it"
        )
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
        if op.primitive is P.name_p:
            marked.setdefault(op.params["name"], []).append(site)
        for scope in leaves:
            scoped.setdefault(scope, []).append(site)
    roots = {scope.split("/")[0] for scope in scoped}
    if len(roots) == 1 and len(scoped) > 1:  # the class of the whole network, which nobody writes
        scoped = {scope.partition("/")[2]: sites for scope, sites in scoped.items() if "/" in scope}
    taken = {site for sites in marked.values() for site in sites}
    return marked | {scope: s for scope, s in scoped.items() if scope not in marked and not taken.issuperset(s)}


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


def branches(graph: Graph) -> Iterator[Graph]:
    """The bodies of all branches."""
    for op in graph.ops:
        for body in op.bodies:
            if op.primitive is P.cond_p:
                yield body
            yield from branches(body)


def last_feature_map(graph: Graph) -> Site:
    """The last value with the height and width that a convolution gave, and more than one position."""
    known, needed = layouts(graph), {a for a in graph.outputs if isinstance(a, int)}
    for op in reversed(graph.ops):
        if any(out in needed for out in op.outputs):
            needed.update(op.reads)
    spread = lambda a: a in known and math.prod(positions(graph.avals[a].shape, known[a].channels)) > 1
    found = None
    for number, op in enumerate(graph.ops):
        for i, out in enumerate(op.outputs):
            if out in needed and spread(out) and same_positions(graph.avals[out].shape, known[out]):
                found = Site(number, i, graph.avals[out].shape)
    if found is None:
        raise ValueError(
            "the network has no convolutional feature map with more than one position: name a layer, layer=...; "
            "jaxplain.layers(apply)(*args) lists them"
        )
    for op in graph.ops[found.op + 1 :]:
        if op.primitive in (P.dot_general_p, P.scan_p) and any(map(spread, op.reads)) and needed & set(op.outputs):
            raise ValueError(
                f"behind its last convolution the network goes on with many positions (attention?) at {op.place}: "
                "name a layer, layer=...; jaxplain.layers(apply)(*args) lists them"
            )
    return found
