"""What a layer is: its kind and the number of its parameters."""

from __future__ import annotations

from collections.abc import Iterator

from jax.extend.core import primitives as P

from .names import Site
from .primitives import RELABEL
from .trace import Graph, Weight

KINDS = {P.conv_general_dilated_p: "conv", P.dot_general_p: "dense", P.gather_p: "embedding"}


def parameters_of(graph: Graph, layer: str) -> int:
    """How many numbers the weights of a layer have, loops and branches included."""
    return sum({w.leaf: w.size for w in weights_of(graph, layer)}.values())


def weights_of(graph: Graph, layer: str) -> Iterator[Weight]:
    """The weights that a graph reads for a layer, or for what is inside it."""
    for op in graph.ops:
        yield from (w for w in op.weights if f"{w.layer}/".startswith(f"{layer}/"))
        for body in op.bodies:
            yield from weights_of(body, layer)


def kind_of(graph: Graph, layer: str, site: Site) -> str:
    """What a layer does with its weights: a convolution, a product, else the operation that its value comes from.

    Empty for a module whose weights belong to layers inside it.
    """
    if site.inner is not None:
        return kind_of(graph.ops[site.op].bodies[0], layer, site.inner)
    read = [(op.primitive, w.layer) for op in graph.ops for w in op.weights if f"{w.layer}/".startswith(f"{layer}/")]
    if any(path != layer for _, path in read):
        return ""
    if kind := next((KINDS[primitive] for primitive, _ in read if primitive in KINDS), ""):
        return kind
    makers = {out: op for op in graph.ops for out in op.outputs}
    op = graph.ops[site.op]
    while op.primitive in RELABEL and op.reads and op.reads[0] in makers:
        op = makers[op.reads[0]]
    return "scale" if read else str(op.primitive)
