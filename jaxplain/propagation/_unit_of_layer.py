"""Where relevance at a layer is read: at the unit whose result is its value, in one turn of the loops around it."""

from __future__ import annotations

from dataclasses import dataclass

from .._convention import Array, zeros_by_example
from .._graph.names import Site, find, last_feature_map
from .._graph.origins import CONVOLVED, Origins, follow, inside_loop, of_input
from ._engine import TracedNetwork
from ._units import ControlFlow, Plan, Unit


@dataclass(frozen=True)
class UnitOfLayer:
    """Where the relevance of a layer is read.

    Attributes:
      unit: the unit whose result is the layer's value.
      labels: what the axes of that are made of, if it is known.
      lengths: of the loops that it lies in, from the outermost on.
      index: the turn of each that is meant, as the loop's slices are counted.
    """

    unit: Unit
    labels: Origins | None
    lengths: tuple[int, ...] = ()
    index: tuple[int, ...] = ()

    def zeros(self, x: Array) -> Array:
        """Zeros of the shape of the layer's value, in all turns, on the devices where the examples of ``x`` are."""
        shape, dtype = self.unit.output_shape, self.unit.ops[-1].eqn.outvars[0].aval.dtype
        axis = next((i for i, label in enumerate(self.labels or ()) if label - {CONVOLVED} == {0}), 0)
        is_apart = axis < len(shape) and shape[axis] == x.shape[0]
        return zeros_by_example(x, shape, dtype, axis if is_apart else None, self.lengths)


def unit_of_layer(network: TracedNetwork, layer: str | None) -> UnitOfLayer:
    """The unit whose result is the value of a layer: where it absorbs what is behind, as a BatchNorm, that included.

    Without a name, of the last convolutional feature map.

    Raises:
      ValueError: where no layer has that name, or its value is no unit's result.
    """
    graph = network.plan.graph
    site = last_feature_map(graph) if layer is None else find(graph, layer)
    return unit_of_site(network.plan, site, layer, of_input(graph))


def unit_of_site(plan: Plan, site: Site, layer: str | None, given: dict[int, Origins]) -> UnitOfLayer:
    """`unit_of_layer`, of the value in a graph, or in the body of a loop."""
    op, known = plan.graph.ops[site.op], follow(plan.graph, given)
    if site.inner is not None:
        (body,) = next(step.plans for step in plan.steps if isinstance(step, ControlFlow) and step.op is op)
        inner = unit_of_site(body, site.inner, layer, inside_loop(op, known))
        length = op.params["length"]
        turn = length - 1 - site.turn if op.params["reverse"] else site.turn
        return UnitOfLayer(inner.unit, inner.labels, (length, *inner.lengths), (turn, *inner.index))
    unit = next((s for s in plan.steps if isinstance(s, Unit) and op in s.ops), None)
    if unit is None:
        raise ValueError(f"layer {layer!r} is what the loop or branch at {op.place} returns: name one behind it")
    absorbs = unit.affine is not None and op not in unit.affine.before and unit.output_shape == site.shape
    if op.outputs[site.output] != unit.outputs[0] and not absorbs:
        raise ValueError(
            f"layer {layer!r} lies inside the unit `{unit.kind}` at {unit.place}, which has one rule: name a layer "
            "before or behind it"
        )
    return UnitOfLayer(unit, known.get(unit.outputs[0]))
