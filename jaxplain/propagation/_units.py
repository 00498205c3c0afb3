"""The units of a network: what a rule is about.

A *unit* is the smallest piece that a rule can be written for: a convolution with its bias and BatchNorm, an activation
function however it is spelled, a residual sum, a softmax. `_search.py` finds them by the matchers of `_matchers/`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import jax.numpy as jnp
from jax.extend import core as jexc
from jax.extend.core import primitives as P

from .._graph.primitives import MOVES, PIECEWISE, REDUCTIONS, SHIFTS
from .._graph.trace import Atom, Graph, Op, numbered

WEIGHTED = ("conv", "dense")
KINDS = (
    *(*WEIGHTED, "scale", "pool", "max_pool", "sum", "product", "division", "activation", "norm", "softmax"),
    *("linear", "sort", "select", "complex", "shape"),
)
SIZES = frozenset([P.abs_p, P.max_p, P.min_p])  # linear where elements keep order and signs


@dataclass(frozen=True, eq=False)
class Unit:
    """A piece of a network that one rule handles.

    Attributes:
      kind: ``"conv"``, ``"dense"``, ``"scale"`` (constant factors and shifts by themselves, as a BatchNorm before an
        activation), ``"pool"`` (averages and sums), ``"max_pool"``, ``"sum"``, ``"product"``, ``"division"``,
        ``"activation"``, ``"norm"``, ``"softmax"``, ``"linear"`` (other linear operations, as a triangular system that
        is solved), ``"sort"``, ``"select"`` (a choice among values that the explained input decides), ``"complex"``
        (complex numbers, as of an FFT), ``"shape"``; for what the engine does not know, the operation's name.
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
      output_shape: the shape of the result.
      is_float: whether the result is of floating point, and not a predicate or an index.
      affine: how an affine unit is put together.
      gates: which operands of a product are gates (see `jaxplain.rules.signal`).
      attention: which operands of a product are weights that a softmax made.
      inverses: which operands of a product are one over a sum or a root of one, so that the product is a division.
    """

    kind: str
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    constants: tuple[int, ...]
    outputs: tuple[int, ...]
    nonnegative: bool
    nonpositive: bool
    input_shapes: tuple[tuple[int, ...], ...]
    output_shape: tuple[int, ...]
    path: str
    place: str
    is_float: bool = True
    affine: Affine | None = None
    gates: tuple[bool, ...] = ()
    attention: tuple[bool, ...] = ()
    inverses: tuple[bool, ...] = ()
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
    """

    base: Op | None
    operand: int
    before: tuple[Op, ...]
    after: tuple[Op, ...]


@dataclass(frozen=True, eq=False)
class ControlFlow:
    """Control flow, its bodies as plans; ``flags`` tells which operands depend on the explained input."""

    op: Op
    plans: tuple[Plan, ...]
    flags: tuple[bool, ...]

    @property
    def inputs(self) -> tuple[Atom, ...]:
        """What the operation reads."""
        return self.op.inputs

    @property
    def outputs(self) -> tuple[int, ...]:
        """And what it returns."""
        return self.op.outputs


Step: TypeAlias = "Op | Unit | ControlFlow"


@dataclass(frozen=True, eq=False)
class Plan:
    """A graph whose operations are sorted into units.

    Attributes:
      graph: the graph.
      steps: units, control flow, and operations that no relevance passes: those that do not depend on the explained
        input, and what is behind `jax.lax.stop_gradient`, with all that is computed for it alone.
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


def linear_steps(ops: Sequence[Op], root: int, size: int) -> list[tuple[Op, list[bool]]]:
    """The operations of a normalisation that are linear with its statistics held, and which operands vary.

    What multiplies or divides an element is held. A mean or a maximum that is subtracted is linear itself.
    """
    elements, linear, steps = element_by_element(ops, root, size), {root}, []
    for op in ops:
        scales = op.primitive in (P.mul_p, P.div_p) and not elements.isdisjoint(op.reads)
        varies = [isinstance(a, int) and a in linear and (a in elements or not scales) for a in op.inputs]
        if op.primitive is P.div_p:
            varies[1] = False
        if is_linear(op, varies):
            linear.update(op.outputs)
            steps.append((op, varies))
    return steps


def is_linear(op: Op, varies: Sequence[bool]) -> bool:
    """Whether an operation is linear, up to a shift, in the operands that vary, where they keep order and signs."""
    if not all(jnp.issubdtype(v.aval.dtype, jnp.floating) for v in op.eqn.outvars):
        return False
    if op.primitive in (P.mul_p, P.div_p):
        return sum(varies) == 1
    chooses = op.primitive is P.select_n_p and not varies[0]
    return any(varies) and (chooses or op.primitive in SHIFTS | MOVES | REDUCTIONS | SIZES)


def element_by_element(ops: Sequence[Op], root: int, size: int) -> set[int]:
    """The values of a region that are made of its root's elements one by one, and not of statistics that were spread.

    A statistic is smaller, and is spread by a broadcast or by the operation that applies it: a learned scale times the
    inverse of a deviation is as large as the root, and no less a statistic.
    """
    rich = {root}
    for op in ops:
        is_as_large = all(math.prod(v.aval.shape) == size for v in op.eqn.outvars)
        if is_as_large and not rich.isdisjoint(op.reads):
            rich.update(op.outputs)
    return rich


# ---------------------------------------------------------------------------------------------------- first and last


def number_units(plan: Plan) -> Plan:
    """Number the units, and find the first and the last layers by data flow."""
    return _number(plan, before=False, behind=False, counters=(itertools.count(), itertools.count()))


def _number(plan: Plan, *, before: bool, behind: bool, counters: tuple[Iterator[int], Iterator[int]]) -> Plan:
    """Tell each unit whether a weighted one lies before or behind it, given whether one does around the graph."""
    # Upwards: what a weighted unit reads, by whatever lies between. A step is the last one if nothing it makes is.
    read: set[int] = set(numbered(plan.graph.outputs) if behind else ())
    lasts: dict[Step, bool] = {}
    for step in reversed(plan.steps):
        lasts[step] = read.isdisjoint(step.outputs)
        if is_weighted(step) or not lasts[step]:
            read.update(numbered(step.inputs))
    # Downwards: what is made of a weighted unit's result.
    made: set[int] = set(plan.graph.inputs if before else ())
    positions, layers = counters
    steps: list[Step] = []
    for step in plan.steps:
        first, last, weighted = made.isdisjoint(numbered(step.inputs)), lasts[step], is_weighted(step)
        if weighted or not first:
            made.update(step.outputs)
        if isinstance(step, Unit):
            layer = next(layers) if weighted else -1
            step = dataclasses.replace(step, position=next(positions), layer=layer, first=first, last=last)
        elif isinstance(step, ControlFlow):
            around = weighted and step.op.primitive is P.scan_p  # a loop's own units come before and behind each other
            inside = {"before": around or not first, "behind": around or not last, "counters": counters}
            step = dataclasses.replace(step, plans=tuple(_number(body, **inside) for body in step.plans))
        steps.append(step)
    return dataclasses.replace(plan, steps=tuple(steps))


def is_weighted(step: Step) -> bool:
    """Whether a step is a convolution or dense unit, or contains one."""
    if isinstance(step, ControlFlow):
        return any(is_weighted(unit) for plan in step.plans for unit in plan.units())
    return isinstance(step, Unit) and step.kind in WEIGHTED
