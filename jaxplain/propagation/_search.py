"""Find the units of a network by data flow; nothing here looks at the name of a module or a function.

The walk goes from the outputs to the inputs. At each value that is needed it asks which operations make it one unit:

1. several elementwise operations, one after another: an activation however it is spelled;
2. a weight operation (convolution, dense, einsum), a pooling sum, or nothing, with the constant scales and shifts
   behind and before it: an affine map, whose effective weight and bias the rules see;
3. all operations between one value and one value of the same shape: an activation, a softmax, a normalisation;
4. a single operation: a sum, a product, a maximum, or one that only moves numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from jax.extend.core import primitives as P

from .._graph.dependence import carried_flags
from .._graph.trace import Graph, Op
from ._matchers import _affine, _chain, _region, _single
from ._matchers._view import View
from ._units import ControlFlow, Plan, Step, Unit, number_units

MATCHERS = (_chain.match, _affine.match, _region.match, _single.match)


def find_units(graph: Graph, flags: Sequence[bool], *, regions: bool = True) -> Plan:
    """Sort a graph into units.

    Args:
      graph: the network.
      flags: which of its inputs are explained.
      regions: whether softmax and normalisation are units; without, they fall into their operations.

    Raises:
      ValueError: where a ``while`` loop depends on the explained input.
    """
    return number_units(walk(View(graph, flags, regions)))


def walk(view: View) -> Plan:
    """From the outputs to the inputs: the unit of each value that is needed, which says what is needed before it."""
    needed = {a for a in view.graph.outputs if view.depends(a)}
    read: set[int] = set()  # by what counts as a constant, as a maximum that is subtracted behind stop_gradient
    steps: list[Step] = []
    for op in reversed(view.graph.ops):
        is_constant = not view.explained(op) or (op.outputs and view.dependent.isdisjoint(op.outputs))
        is_inside = needed.isdisjoint(op.outputs) and view.dependent.issuperset(op.outputs)
        if is_constant or (is_inside and not read.isdisjoint(op.outputs)):
            steps.append(op)  # which of them a unit reads is not asked
            read.update(view.explained(op))
        elif is_inside:
            continue  # of a unit, or for nothing; constants that a loop makes as well are not
        elif op.bodies and not _single.is_one_function(view, op):
            steps.append(control_flow(view, op))
            needed.update(view.explained(op))
        else:
            units = units_ending_in(view, op)
            steps += units
            needed.update(a for unit in units for a in unit.inputs)
    return Plan(view.graph, tuple(reversed(steps)), view.dependent)


def control_flow(view: View, op: Op) -> ControlFlow:
    """A loop or a branch, the units of its bodies found in the same way."""
    flags = tuple(map(view.depends, op.inputs))
    if op.primitive is P.scan_p:
        flags = carried_flags(op, flags, stops=True)
    into = flags[1:] if op.primitive is P.cond_p else flags
    return ControlFlow(op, tuple(walk(View(body, into, view.regions)) for body in op.bodies), flags)


def units_ending_in(view: View, op: Op) -> list[Unit]:
    """The unit that ends in an operation; indices that it returns beside values, as top_k does, are another."""
    if op.primitive is P.while_p:
        raise ValueError(
            f"a `while` loop depends on the explained input at {op.place}, and cannot be walked backwards: "
            "use jax.lax.scan, or fori_loop with a number of steps known before tracing"
        )
    values = tuple(out for out in op.outputs if view.is_float(out))
    indices = tuple(out for out in op.outputs if not view.is_float(out))
    if values and indices:
        return [_single.match(view, op, outputs) for outputs in (indices, values)]
    return [next(unit for match in MATCHERS if (unit := match(view, op)) is not None)]
