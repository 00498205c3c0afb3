"""What the matchers ask of a graph: how its values depend on the explained input, who makes them, and their signs."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import jax.numpy as jnp
from jax.extend.core import primitives as P

from ..._graph.dependence import dependents
from ..._graph.equations import is_elementwise_call
from ..._graph.makers import Makers
from ..._graph.primitives import ELEMENTWISE, MOVES, REDUCTIONS, RELABEL, SHIFTS
from ..._graph.signs import NONE, NONNEGATIVE, NONPOSITIVE, Sign, signs
from ..._graph.trace import Atom, Graph, Op, numbered
from .._units import Unit

LOCAL = ELEMENTWISE | REDUCTIONS | frozenset([P.broadcast_in_dim_p, P.reshape_p, P.squeeze_p, P.transpose_p])


class View:
    """A graph, and what follows from which of its inputs are explained.

    Attributes:
      graph: the graph.
      flags: which of its inputs are explained.
      regions: whether softmax and normalisation are units.
      dependent: the values that depend on the explained inputs.
      producer: the operation that makes each value.
    """

    def __init__(self, graph: Graph, flags: Sequence[bool], regions: bool):
        self.graph, self.flags, self.regions = graph, flags, regions
        self.dependent = frozenset(dependents(graph, flags, stops=True))
        self.makers = Makers(graph)
        self.producer = self.makers.producer

    @cached_property
    def uses(self) -> Counter[int]:
        """How often each value is read, by operations and as a result."""
        return Counter(itertools.chain(*(op.reads for op in self.graph.ops), numbered(self.graph.outputs)))

    @cached_property
    def stopped(self) -> set[int]:
        """The values that depend on the input by way of `jax.lax.stop_gradient` alone, and count as constants."""
        return dependents(self.graph, self.flags) - self.dependent

    @cached_property
    def signs(self) -> dict[int, Sign]:
        """What is known of the signs of values."""
        return signs(self.graph)

    @cached_property
    def dominator(self) -> dict[int, int]:
        """For values made by local operations: the nearest one through which all of it depends on the input."""
        dominator: dict[int, int] = {}
        for op in self.graph.ops:
            operands = set(self.explained(op))
            common = nearest_common(operands, dominator) if operands and is_local(op) else None
            if common is not None:
                dominator[op.outputs[0]] = common
        return dominator

    # ---------------------------------------------------------------------------------------------------- values

    def depends(self, atom: Atom) -> bool:
        """Whether an operand depends on the explained input."""
        return isinstance(atom, int) and atom in self.dependent

    def explained(self, op: Op) -> tuple[int, ...]:
        """The operands that depend on the explained input."""
        return tuple(a for a in op.reads if a in self.dependent)

    def shape(self, atom: Atom) -> tuple[int, ...]:
        """The shape of a value."""
        return self.graph.aval(atom).shape

    def size(self, atom: Atom) -> int:
        """How many numbers a value has."""
        return math.prod(self.shape(atom))

    def is_float(self, atom: Atom) -> bool:
        """Whether a value is of real floating point."""
        return jnp.issubdtype(self.graph.aval(atom).dtype, jnp.floating)

    def is_complex(self, atom: Atom) -> bool:
        """Whether a value is complex."""
        return jnp.issubdtype(self.graph.aval(atom).dtype, jnp.complexfloating)

    def only_use_of(self, value: int) -> Op | None:
        """The operation that makes a value, if nothing but the one operation that is looked at reads it."""
        return self.producer.get(value) if self.uses[value] == 1 else None

    def maker_behind(self, atom: Atom, passing: Callable[[Op], bool]) -> Op | None:
        """The operation that makes a value, but for moves and for these operations of one explained value."""
        op = self.makers.maker(self.makers.behind_moves(atom))
        while op is not None and passing(op):
            op = self.makers.maker(self.makers.behind_moves(*self.explained(op)))
        return op

    def chain(self, last: Op | None, belongs: Callable[[Op], bool]) -> tuple[list[Op], Op | None]:
        """The operations up to one that belong together, each read by the next one alone; and what lies before them."""
        ops: list[Op] = []
        while last and belongs(last):
            ops.insert(0, last)
            last = self.only_use_of(*self.explained(last))
        return ops, last

    # ------------------------------------------------------------------------------------------------ operations

    def keeps_shape(self, op: Op) -> bool:
        """Whether the result has the shape of the one explained operand."""
        (value,) = self.explained(op)
        return self.shape(value) == self.shape(op.outputs[0])

    def by_softmax(self, value: int) -> bool:
        """Whether a value was divided by its own sum, as by a softmax, wherever its numbers have been moved since."""
        maker = self.makers.maker(self.makers.behind_moves(value))
        return maker is not None and self.makers.normalised_axis(maker) is not None

    def is_shift_or_scale(self, op: Op) -> bool:
        """Whether an operation is ``v + c``, ``v - c``, ``c - v``, ``v · c``, ``v / c`` or ``-v``, c a constant."""
        operands = self.explained(op)
        if len(operands) != 1 or not self.is_float(op.outputs[0]):
            return False
        if op.primitive is P.div_p:
            return self.depends(op.inputs[0])
        return op.primitive is P.mul_p or (op.primitive in SHIFTS and not self.shifts_by_stopped(op))

    def shifts_by_stopped(self, op: Op) -> bool:
        """Whether an operation shifts a value by one behind `stop_gradient`, as a softmax does by its maximum.

        That is no bias, which would absorb relevance: its purpose is the value, or the derivative, of the result.
        """
        return op.primitive in SHIFTS and not self.stopped.isdisjoint(op.reads)

    def is_relabel(self, op: Op) -> bool:
        """Whether an operation moves axes or changes the precision, and no integer comes of it."""
        return op.primitive in RELABEL and self.is_float(op.outputs[0])

    def is_linear(self, op: Op) -> bool:
        """Whether an operation is linear in what depends on the input, up to a shift."""
        chooses = op.primitive is P.select_n_p and not self.depends(op.inputs[0])
        return self.is_shift_or_scale(op) or chooses or (op.primitive in MOVES and self.is_float(op.outputs[0]))

    # ----------------------------------------------------------------------------------------------------- units

    def new_unit(
        self,
        kind: str,
        ops: Sequence[Op],
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        named_by: Op | None = None,
        **more: Any,
    ) -> Unit:
        """A unit of operations, from these explained operands to these results; its name is its last operation's."""
        inside = {out for op in ops for out in op.outputs}
        outer = {a for op in ops for a in op.reads} - inside - set(inputs)
        named_by = named_by or ops[-1]
        return Unit(
            kind=kind,
            ops=tuple(ops),
            inputs=tuple(inputs),
            constants=tuple(sorted(outer)),
            outputs=tuple(outputs),
            nonnegative=all(NONNEGATIVE in self.signs.get(a, NONE) for a in inputs),
            nonpositive=all(NONPOSITIVE in self.signs.get(a, NONE) for a in outputs),
            input_shapes=tuple(map(self.shape, inputs)),
            output_shape=self.shape(outputs[0]),
            path=named_by.path,
            place=named_by.place,
            is_float=all(map(self.is_float, outputs)),
            **more,
        )


def is_elementwise(op: Op) -> bool:
    """Whether each element of the result depends on that element of the operands alone."""
    return op.primitive in ELEMENTWISE or is_elementwise_call(op.eqn)


def is_local(op: Op) -> bool:
    """Whether an operation may be part of an activation, a softmax or a normalisation."""
    return op.primitive in LOCAL or is_elementwise(op)


def nearest_common(values: set[int], dominator: dict[int, int]) -> int | None:
    """The nearest value that lies above all of these, or is one of them."""

    def upwards(value: int) -> list[int]:
        chain = [value]
        while chain[-1] in dominator:
            chain.append(dominator[chain[-1]])
        return chain

    first, *others = map(upwards, values)
    return next((value for value in first if all(value in chain for chain in others)), None)
