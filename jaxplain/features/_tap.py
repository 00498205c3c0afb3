"""Reading a network's features: what a layer returned, and the rest of the network as a function of that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from .._channels import axis_of_channels, channels_read, is_picture
from .._convention import Apply, Array, Function, outputs_of, split
from .._graph.names import Site, find, last_feature_map, marked_trace, sites_by_name
from .._graph.origins import Origins
from .._graph.trace import Graph, Op, evaluate, read, run, scan_split

__all__ = ["tap"]


class Tapped(NamedTuple):
    """What `tap` returns.

    Attributes:
      outputs: what the network returns.
      features: what the layer returned, its channels last.
      pullback: the derivative, from a cotangent of the outputs to one of the features; a pytree, as that of `jax.vjp`,
        so that `jax.jit` can return it.
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
      layer: the name of the layer (see `jaxplain.layers`); None takes the last convolutional feature map, before the
        network pools or flattens it.

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
        return Tapped(outputs, features, Partial(pulled_back, pullback))

    return tapped


def pulled_back(pullback: Function, cotangent: Array) -> Array:
    """The one result of a pull-back; closed over nothing traced, so that `jax.jit` returns it."""
    return pullback(cotangent)[0]


def features_of(f: Function, x: Array, layer: str | None) -> tuple[Array, Function]:
    """The features of a layer, channels last, and the rest of the network: ``head(features) == f(x)``."""
    features, head, _ = layer_of(f, x, layer)
    return features, head


def layer_of(f: Function, x: Array, layer: str | None) -> tuple[Array, Function, bool]:
    """`features_of`, and whether the features may be a picture."""
    graph = marked_trace(f, x)
    site = last_feature_map(graph) if layer is None else find(graph, layer)
    layout = site.layout(graph)
    values, rest = cut(graph, [x], site)
    if values.shape[:1] != x.shape[:1]:
        raise ValueError(
            f"layer {layer!r} has shape {values.shape} for an input of shape {x.shape}: it needs the batch in front"
        )
    labels, read = site.origins(graph), channels_read(graph)
    channels = x.ndim - 1 if read is None else read
    known = layout.channels if layout else axis_of_channels(labels, channels)
    axis = values.ndim - 1 if known is None else known
    picture = is_picture(labels, axis, channels, x.ndim)
    order = (*places_in_order(labels, values.ndim, axis, set(range(1, x.ndim)) - {channels}), axis)
    features = values.transpose(order)
    back = lambda features: rest(features.transpose([order.index(i) for i in range(len(order))]))[0]
    if features.ndim > x.ndim and features.shape[1] == 1:  # examples in batches of one, vmap(lambda x: f(x[None])[0])
        return features[:, 0], lambda features: back(features[:, None]), picture
    return features, back, picture


def places_in_order(labels: Origins | None, rank: int, channels: int, places: set[int]) -> list[int]:
    """The axes of a value but for its channels, those made of one axis of the image each in the order of the image's.

    Args:
      labels: what the axes are made of, if that is known.
      rank: how many there are.
      channels: the axis of the channels.
      places: the axes of the image that are no channels.
    """
    axes = [axis for axis in range(rank) if axis != channels]
    known = {axis: min(found) for axis in axes if labels and len(found := labels[axis] & places) == 1}
    if len(set(known.values())) == len(known):  # else two of them share one
        ordered = iter(sorted(known, key=known.__getitem__))
        return [next(ordered) if axis in known else axis for axis in axes]
    return axes


def values_of_layers(f: Function, x: Array, layers: Sequence[str] | None) -> tuple[Array, list[Array]]:
    """The outputs, and in the same pass the values of the named layers, or of all that have a name and the batch."""
    graph = marked_trace(f, x)
    if layers is None:
        named = [(name, site) for name, sites in sites_by_name(graph).items() for site in sites]
        named = [(name, site) for name, site in named if site.shape[:1] == x.shape[:1]]
    else:
        named = [(name, find(graph, name)) for name in layers]
    if not named:
        raise ValueError("no layer: name some in layers=; jaxplain.layers(apply)(*args) lists those that have a name")
    env = run(graph.ops, {**graph.constants, graph.inputs[0]: x})
    values = {}
    for name, site in named:
        inside = site.inner is not None
        value = cut(graph, [x], site)[0] if inside else env[graph.ops[site.op].outputs[site.output]]
        if value.shape[:1] != x.shape[:1]:
            raise ValueError(f"layer {name!r} has shape {value.shape}: it needs the batch in front, {x.shape[:1]}")
        values[site] = value  # once, whatever it is called
    return read(graph.outputs, env)[0], list(values.values())


def cut(graph: Graph, args: Sequence[Any], site: Site) -> tuple[Array, Callable[[Array], list[Any]]]:
    """Evaluate a graph as far as a value, and return that and what is left: a function of the value."""
    env = run(graph.ops[: site.op], {**graph.constants, **dict(zip(graph.inputs, args, strict=True))})
    op = graph.ops[site.op]
    if site.inner is None:
        run([op], env)
        value, resume = env[op.outputs[site.output]], lambda value: [value]
        outputs = op.outputs[site.output : site.output + 1]
    else:
        operands = read(op.inputs, env)
        value, resume = cut_loop(op, operands, site.turn, site.inner)
        outputs = op.outputs

    def rest(value: Array) -> list[Any]:
        after = run(graph.ops[site.op + 1 :], {**env, **dict(zip(outputs, resume(value), strict=True))})
        return read(graph.outputs, after)

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
