"""The units of a network: what a rule is about.

A *unit* is the smallest piece that a rule can be written for: a convolution with its bias and BatchNorm, an activation
function however it is spelled, a residual sum, a softmax. `_search.py` finds them by the matchers of `_matchers/`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from jax.extend import core as jexc
from jax.extend.core import primitives as P

from .._graph.primitives import PIECEWISE
from .._graph.trace import Graph, Op

WEIGHTED = ("conv", "dense")
KINDS = (
    *(*WEIGHTED, "scale", "pool", "max_pool", "sum", "product", "division", "activation", "norm", "softmax"),
    *("sort", "select", "complex", "shape"),
)
UNIFORM = ("uniform",)  # in place of axes: a scale by one number


@dataclass(frozen=True, eq=False)
class Unit:
    """A piece of a network that one rule handles.

    Attributes:
      kind: ``"conv"``, ``"dense"``, ``"scale"`` (constant factors and shifts by themselves, as a BatchNorm before an
        activation), ``"pool"`` (averages and sums), ``"max_pool"``, ``"sum"``, ``"product"``, ``"division"``,
        ``"activation"``, ``"norm"``, ``"softmax"``, ``"sort"``, ``"select"`` (a choice among values that the explained
        input decides), ``"complex"`` (complex numbers, as of an FFT), ``"shape"``; for what the engine does not know,
        the operation's name.
      path: the names of the modules it was called in, such as ``ResNet/layer4.1/conv2``, or the path of its weights,
        ``layers/0``; empty where there are none.
      place: the path with the source line.
      position: its number in the order of evaluation.
      layer: its number among the conv and dense units, -1 for others.
      first: whether no conv or dense unit lies between the input and it; the first layer has this.
      last: whether no conv or dense unit lies behind it.
      nonnegative: whether its input provably has no negative value, as behind a ReLU.
      nonpositive: whether its result provably has no positive value, as the negative of a ReLU.
      input_shapes: the shapes of the operands that depend on the explained input.
      input_dtypes: and their dtypes.
      output_shape: the shape of the result.
      is_float: whether the result is of floating point, and not a predicate or an index.
      affine: how an affine unit is put together.
      gates: which operands of a product are gates (see `jaxplain.rules.signal`).
      attention: which operands of a product are weights that a softmax made.
    """

    kind: str
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    constants: tuple[int, ...]
    outputs: tuple[int, ...]
    nonnegative: bool
    nonpositive: bool
    input_shapes: tuple[tuple[int, ...], ...]
    input_dtypes: tuple[Any, ...]
    output_shape: tuple[int, ...]
    path: str
    place: str
    is_float: bool = True
    affine: Affine | None = None
    gates: tuple[bool, ...] = ()
    attention: tuple[bool, ...] = ()
    position: int = -1
    layer: int = -1
    first: bool = False
    last: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths that name the unit: its own, and those of what is folded into it, such as a BatchNorm."""
        folded = (path for op in self.ops for path in (*(weight.layer for weight in op.weights), op.path))
        return tuple(dict.fromkeys((self.path, *folded)))

    @property
    def is_piecewise_linear(self) -> bool:
        """Whether this is an activation made of sums, factors, comparisons and choices, such as a ReLU."""
        factors = (op.inputs[op.primitive is P.div_p :] for op in self.ops if op.primitive in (P.mul_p, P.div_p))
        by_numbers = all(any(isinstance(a, jexc.Literal) for a in operands) for operands in factors)
        return self.kind == "activation" and by_numbers and all(op.primitive in PIECEWISE for op in self.ops)


@dataclass(frozen=True, eq=False)
class Affine:
    """How an affine unit is put together.

    Attributes:
      base: the weight operation or pooling sum; None where the unit only scales and shifts.
      operand: which operand of the base is explained.
      before: scales and shifts before the base.
      after: scales, shifts and reshapes behind it.
      weight_axes: for each scale, the axis of the weight that each of its axes belongs to.
    """

    base: Op | None
    operand: int
    before: tuple[Op, ...]
    after: tuple[Op, ...]
    weight_axes: dict[Op, tuple[Any, ...]]


@dataclass(frozen=True, eq=False)
class ControlFlow:
    """Control flow, its bodies as plans; ``flags`` tells which operands depend on the explained input."""

    op: Op
    plans: tuple[Plan, ...]
    flags: tuple[bool, ...]


Step: TypeAlias = "Op | Unit | ControlFlow"


@dataclass(frozen=True, eq=False)
class Plan:
    """A graph whose operations are sorted into units.

    Attributes:
      graph: the graph.
      steps: units, control flow, and the operations that do not depend on the explained input.
      dependent: the values that do.
    """

    graph: Graph
    steps: tuple[Step, ...]
    dependent: frozenset[int]

    def units(self) -> Iterator[Unit]:
        """Every unit, in the order of evaluation, those of control flow included."""
        for step in self.steps:
            if isinstance(step, Unit):
                yield step
            elif isinstance(step, ControlFlow):
                for plan in step.plans:
                    yield from plan.units()


# ---------------------------------------------------------------------------------------------------- first and last


def number_units(plan: Plan) -> Plan:
    """Number the units, and find the first and the last layers by data flow."""
    counters = itertools.count(), itertools.count()
    return _number(plan, [False] * len(plan.graph.inputs), [False] * len(plan.graph.outputs), counters)


def _number(plan: Plan, before: Sequence[bool], behind: Sequence[bool], counters: Any) -> Plan:
    """Tell each unit whether a weighted one lies before or behind it, given what lies around the graph."""
    graph = plan.graph
    any_of = lambda marks, atoms: any(isinstance(a, int) and marks.get(a, False) for a in atoms)
    weighted: Callable[[Step], bool] = lambda step: (
        (isinstance(step, Unit) and step.kind in WEIGHTED)
        or (isinstance(step, ControlFlow) and any(u.kind in WEIGHTED for p in step.plans for u in p.units()))
    )
    ends: Callable[[Step], tuple[Sequence[Any], Sequence[int]]] = lambda step: (
        (step.inputs, step.outputs) if isinstance(step, Unit | Op) else (step.op.inputs, step.op.outputs)
    )
    later: dict[Any, bool] = {}
    for atom, mark in zip(graph.outputs, behind, strict=True):
        later[atom] = later.get(atom, False) or mark
    lasts: dict[int, bool] = {}
    for i, step in reversed(list(enumerate(plan.steps))):
        inputs, outputs = ends(step)
        lasts[i] = any_of(later, outputs)
        for a in inputs:
            if isinstance(a, int):
                later[a] = later.get(a, False) or lasts[i] or weighted(step)
    earlier = dict(zip(graph.inputs, before, strict=True))
    steps: list[Step] = []
    for i, step in enumerate(plan.steps):
        inputs, outputs = ends(step)
        mark = any_of(earlier, inputs)
        if isinstance(step, Unit):
            positions, layers = counters
            layer = next(layers) if weighted(step) else -1
            step = dataclasses.replace(step, position=next(positions), layer=layer, first=not mark, last=not lasts[i])
        elif isinstance(step, ControlFlow):
            loop = step.op.primitive is P.scan_p and weighted(step)
            plans = tuple(
                _number(p, [mark or loop] * len(p.graph.inputs), [lasts[i] or loop] * len(p.graph.outputs), counters)
                for p in step.plans
            )
            step = dataclasses.replace(step, plans=plans)
        steps.append(step)
        earlier.update(dict.fromkeys(outputs, mark or weighted(step)))
    return dataclasses.replace(plan, steps=tuple(steps))
