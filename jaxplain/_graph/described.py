"""What the layers of a graph are: their kinds and the numbers of their parameters."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from jax.extend.core import Primitive
from jax.extend.core import primitives as P

from .leaving import modules_around
from .names import Site
from .primitives import RELABEL
from .trace import Graph, Op, Weight

KINDS = {P.conv_general_dilated_p: "conv", P.dot_general_p: "dense", P.gather_p: "embedding"}


@dataclass(frozen=True, eq=False)
class Description:
    """A graph, asked for many layers: its operations are looked through once.

    Attributes:
      graph: a network, or the body of a loop.
    """

    graph: Graph

    @functools.cached_property
    def read(self) -> dict[str, list[tuple[Primitive, Weight]]]:
        """What is done with the weights of each layer, and of every module around it, outside loops and branches."""
        found: dict[str, list[tuple[Primitive, Weight]]] = {}
        for op in self.graph.ops:
            for weight in op.weights:
                for layer in modules_around(weight.layer):
                    found.setdefault(layer, []).append((op.primitive, weight))
        return found

    @functools.cached_property
    def bodies(self) -> dict[Op, list[Description]]:
        """The bodies of loops and branches, likewise."""
        return {op: [Description(body) for body in op.bodies] for op in self.graph.ops if op.bodies}

    @functools.cached_property
    def sizes(self) -> dict[str, dict[str, int]]:
        """How many numbers each weight of a layer has, loops and branches included."""
        found = {layer: {w.leaf: w.size for _, w in read} for layer, read in self.read.items()}
        for body in (body for bodies in self.bodies.values() for body in bodies):
            for layer, sizes in body.sizes.items():
                found.setdefault(layer, {}).update(sizes)
        return found

    @functools.cached_property
    def makers(self) -> dict[int, Op]:
        """The operation that each value comes from."""
        return {out: op for op in self.graph.ops for out in op.outputs}

    def parameters(self, layer: str) -> int:
        """How many numbers the weights of a layer have."""
        return sum(self.sizes.get(layer, {}).values())

    def kind(self, layer: str, site: Site) -> str:
        """What a layer does with its weights: a convolution, a product, else the operation that its value comes from.

        Empty for a module whose weights belong to layers inside it.
        """
        op = self.graph.ops[site.op]
        if site.inner is not None:
            return self.bodies[op][0].kind(layer, site.inner)
        read = self.read.get(layer, [])
        if any(weight.layer != layer for _, weight in read):
            return ""
        if kind := next((KINDS[primitive] for primitive, _ in read if primitive in KINDS), ""):
            return kind
        while op.primitive in RELABEL and op.reads and op.reads[0] in self.makers:
            op = self.makers[op.reads[0]]
        return "scale" if read else str(op.primitive)
