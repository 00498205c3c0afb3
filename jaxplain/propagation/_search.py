"""Find the units of a network by data flow; nothing here looks at the name of a module or a function.

The walk goes from the outputs to the inputs. At each value that is needed it asks which operations make it one unit:

1. a weight operation (convolution, dense, einsum), a pooling sum, or nothing, with the constant scales and shifts
   behind and before it: an affine map, whose effective weight and bias the rules see;
2. operations between one value and one value of the same shape, elementwise or with reductions: an activation,
   a softmax, a normalisation;
3. a single operation: a sum, a product, a maximum, or one that only moves numbers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend.core import primitives as P

from .._graph.axes import relabel, varying, weight_axes_of_input, weight_axes_of_output
from .._graph.clipping import clip_bounds
from .._graph.dependence import carried_flags, dependents
from .._graph.equations import is_elementwise_call
from .._graph.primitives import ELEMENTWISE, INDEXED, MAXIMA, MOVES, ORDERS, RELABEL
from .._graph.signs import nonnegative_values, nonpositive_values
from .._graph.trace import Atom, Graph, Op, scan_split
from ._units import UNIFORM, WEIGHTED, Affine, Branching, Plan, Step, Unit, located

REDUCTIONS = frozenset([P.reduce_sum_p, P.reduce_max_p, P.reduce_min_p])
ROOTS = frozenset([P.sqrt_p, P.rsqrt_p, P.cbrt_p, P.pow_p])
LOCAL = ELEMENTWISE | REDUCTIONS | frozenset([P.broadcast_in_dim_p, P.reshape_p, P.squeeze_p])


def find_units(graph: Graph, flags: Sequence[bool], *, regions: bool = True) -> Plan:
    """Sort a graph into units.

    Args:
      graph: the network.
      flags: which of its inputs are explained.
      regions: whether softmax and normalisation are units; without, they fall into their operations.

    Raises:
      ValueError: where a ``while`` loop depends on the explained input.
    """
    return located(_Search(graph, flags, regions).plan())


class _Search:
    """The walk through one graph."""

    def __init__(self, graph: Graph, flags: Sequence[bool], regions: bool):
        self.graph, self.flags, self.regions = graph, flags, regions
        self.dependent = frozenset(dependents(graph, flags))
        self.producer = {out: op for op in graph.ops for out in op.outputs}
        self.uses = Counter(a for op in graph.ops for a in op.inputs if isinstance(a, int))
        self.uses.update(a for a in graph.outputs if isinstance(a, int))
        self.nonnegative = nonnegative_values(graph)
        self.nonpositive = nonpositive_values(graph, self.nonnegative)
        self.dominator = self.dominators()

    # ----------------------------------------------------------------------------------------------- the walk

    def plan(self) -> Plan:
        needed = {a for a in self.graph.outputs if self.depends(a)}
        steps: list[Step] = []
        for op in reversed(self.graph.ops):
            if not self.explained(op) or (op.outputs and self.dependent.isdisjoint(op.outputs)):
                steps.append(op)
                needed.update(self.explained(op))
            elif needed.intersection(op.outputs):
                if op.bodies and not self.is_one_function(op):
                    steps.append(self.branching(op))
                    needed.update(self.explained(op))
                else:
                    steps += (units := self.units(op))
                    needed.update(a for unit in units for a in unit.inputs)
        return Plan(self.graph, tuple(reversed(steps)), self.dependent)

    def depends(self, atom: Atom) -> bool:
        return isinstance(atom, int) and atom in self.dependent

    def explained(self, op: Op) -> tuple[int, ...]:
        """The operands that depend on the explained input."""
        return tuple(a for a in op.inputs if isinstance(a, int) and a in self.dependent)

    def branching(self, op: Op) -> Branching:
        flags = tuple(map(self.depends, op.inputs))
        if op.primitive is P.scan_p:
            flags = carried_flags(op, flags)
        bodies = (flags[1:] if op.primitive is P.cond_p else flags,) * len(op.bodies)
        plans = tuple(_Search(b, f, self.regions).plan() for b, f in zip(op.bodies, bodies, strict=True))
        return Branching(op, plans, flags)

    def is_one_function(self, op: Op) -> bool:
        """Whether a loop computes one function of each element, with numbers, as a polynomial by Horner's rule."""
        if op.primitive is not P.scan_p or len(op.outputs) != 1 or len(set(self.explained(op))) != 1:
            return False
        (body,), (consts, carries) = op.bodies, scan_split(op)
        shapes = [body.avals[a].shape for a in body.inputs]
        start = range(consts, consts + carries)
        numbers = all(self.depends(a) or i in start or not shapes[i] for i, a in enumerate(op.inputs))
        return (
            numbers and {*shapes} <= {(), self.graph.avals[op.outputs[0]].shape} and all(map(is_elementwise, body.ops))
        )

    def units(self, op: Op) -> list[Unit]:
        """The unit that ends in an operation; indices that it returns beside values, as top_k does, are another."""
        indices = tuple(out for out in op.outputs if not self.is_float(out))
        if op.primitive is P.while_p or not 0 < len(indices) < len(op.outputs):
            return [self.unit(op)]
        values = tuple(out for out in op.outputs if self.is_float(out))
        return [self.single(op, outputs) for outputs in (indices, values)]

    def unit(self, op: Op) -> Unit:
        if op.primitive is P.while_p:
            raise ValueError(
                f"a `while` loop depends on the explained input at {op.place}, and cannot be walked backwards: "
                "use jax.lax.scan, or fori_loop with a number of steps known before tracing"
            )
        return self.chain(op) or self.affine(op) or self.region(op) or self.single(op)

    def make(self, kind: str, ops: Sequence[Op], inputs: Sequence[int], outputs: Sequence[int], **more: Any) -> Unit:
        inside = {out for op in ops for out in op.outputs}
        outer = {a for op in ops for a in op.inputs if isinstance(a, int)} - inside - set(inputs)
        named = more.pop("named", ops[-1])
        shapes = tuple(self.graph.avals[a].shape for a in inputs)
        return Unit(
            kind,
            tuple(ops),
            tuple(inputs),
            tuple(sorted(outer)),
            tuple(outputs),
            all(a in self.nonnegative for a in inputs),
            all(a in self.nonpositive for a in outputs),
            shapes,
            tuple(self.graph.avals[a].dtype for a in inputs),
            self.graph.avals[outputs[0]].shape,
            named.path,
            named.place,
            all(map(self.is_float, outputs)),
            **more,
        )

    # ----------------------------------------------------------------------------------------- 1. affine maps

    def affine(self, last: Op) -> Unit | None:
        chain: list[Op] = []
        op: Op | None = last
        while op and (self.is_shift_or_scale(op) or (chain and self.is_relabel(op))):
            chain.append(op)
            (value,) = self.explained(op)
            op = self.producer.get(value) if self.uses[value] == 1 else None
        base = op and self.base_kind(op)
        if op and base:
            chain.reverse()
            labels, absorbed = self.fold(op, base, chain)
            if absorbed == len(chain):
                return self.based(op, base, chain, labels)
            chain = chain[absorbed:][::-1]
        run = []  # scales and shifts by themselves, up to the next operation of another sort
        for op in chain:
            if not self.is_shift_or_scale(op):
                break
            run.insert(0, op)
        if not run:
            return None
        (value,) = self.explained(run[0])
        parts = Affine(None, 0, (), tuple(run), dict.fromkeys(run, ()))
        return self.make("scale", run, (value,), run[-1].outputs, affine=parts, named=run[0])

    def based(self, op: Op, kind: str, after: list[Op], labels: dict[Op, tuple[Any, ...]]) -> Unit:
        (value,) = self.explained(op)
        operand = op.inputs.index(value)
        before = self.run_before(value) if kind in WEIGHTED else []
        if before:
            axes = weight_axes_of_input(op, operand)
            if all(self.fits(s, axes) for s in before):
                labels = labels | dict.fromkeys(before, axes)
                (value,) = self.explained(before[0])
            else:
                before = []
        ops = [*before, op, *after]
        parts = Affine(op, operand, tuple(before), tuple(after), labels)
        return self.make(kind, ops, (value,), ops[-1].outputs, affine=parts, named=op)

    def run_before(self, value: int) -> list[Op]:
        """Scales and shifts that only this operation uses and that no earlier weight absorbs."""
        run: list[Op] = []
        op = self.producer.get(value) if self.uses[value] == 1 else None
        while op and self.is_shift_or_scale(op):
            run.insert(0, op)
            (value,) = self.explained(op)
            op = self.producer.get(value) if self.uses[value] == 1 else None
        if not run:
            return []
        unit = self.affine(run[-1])
        absorbed = unit is not None and unit.affine is not None and unit.affine.base is not None
        return [] if absorbed else run

    def is_shift_or_scale(self, op: Op) -> bool:
        """Whether an operation is ``v + c``, ``v - c``, ``c - v``, ``v · c``, ``v / c`` or ``-v``, c a constant."""
        operands = self.explained(op)
        if len(operands) != 1 or not self.is_float(op.outputs[0]):
            return False
        if op.primitive is P.div_p:
            return self.depends(op.inputs[0])
        return op.primitive in (P.add_p, P.sub_p, P.mul_p, P.neg_p, P.add_jaxvals_p)

    def is_relabel(self, op: Op) -> bool:
        """Whether an operation moves axes or changes the precision, and no integer comes of it."""
        return op.primitive in RELABEL and self.is_float(op.outputs[0])

    def is_float(self, atom: Atom) -> bool:
        return jnp.issubdtype(self.graph.aval(atom).dtype, jnp.floating)

    def is_complex(self, atom: Atom) -> bool:
        return jnp.issubdtype(self.graph.aval(atom).dtype, jnp.complexfloating)

    def base_kind(self, op: Op) -> str | None:
        if len(self.explained(op)) != 1 or not self.is_float(op.outputs[0]):
            return None
        return {
            P.conv_general_dilated_p: "conv",
            P.dot_general_p: "dense",
            P.reduce_sum_p: "pool",
            P.reduce_window_sum_p: "pool",
            P.cumsum_p: "pool",
        }.get(op.primitive)

    def fold(self, base: Op, kind: str, chain: list[Op]) -> tuple[dict[Op, tuple[Any, ...]], int]:
        """Follow the axes of the weight through the operations behind it, as far as every scale belongs to them.

        Returns:
          The axis of the weight for each axis of each scale, and how many operations are absorbed.
        """
        if kind not in WEIGHTED:
            scales = [op for op in chain if self.is_shift_or_scale(op)]
            if not all(map(self.keeps_shape, scales)):
                return {}, 0
            if len(scales) == len(chain):  # the scales, of the result's shape, are the weight
                return dict.fromkeys(scales, ()), len(chain)
            uniform = all(self.fits(op, (None,) * 64) for op in scales)
            return (dict.fromkeys(scales, UNIFORM), len(chain)) if uniform else ({}, 0)
        axes = weight_axes_of_output(base, base.inputs.index(self.explained(base)[0]))
        labels: dict[Op, tuple[Any, ...]] = {}
        for i, op in enumerate(chain):
            if op.primitive in RELABEL:
                axes = relabel(op, axes, self.graph)
            elif self.fits(op, axes):
                labels[op] = axes
            else:
                return labels, i
        return labels, len(chain)

    def keeps_shape(self, op: Op) -> bool:
        (value,) = self.explained(op)
        return self.graph.avals[value].shape == self.graph.avals[op.outputs[0]].shape

    def fits(self, op: Op, axes: tuple[Any, ...]) -> bool:
        """Whether the constant of a scale varies along axes of the weight only; a shift always fits."""
        if op.primitive in (P.neg_p, P.add_p, P.sub_p, P.add_jaxvals_p):
            return self.keeps_shape(op)
        (constant,) = (a for a in op.inputs if not self.depends(a))
        return self.keeps_shape(op) and all(axes[i] is not None for i in varying(constant, self.graph, self.producer))

    # ------------------------------------------------------------------ 2. from one value to one of the same shape

    def chain(self, last: Op) -> Unit | None:
        """One function spelled as a chain, as ``1 / (1 + exp(-x))``: elementwise operations one after another.

        Numbers that are added before the first curved operation count as a bias, which is the affine unit's.
        """
        ops: list[Op] = []
        op: Op | None = last
        while op and is_elementwise(op) and op.primitive not in MOVES and self.takes_one_value(op):
            ops.insert(0, op)
            (value,) = self.explained(op)
            op = self.producer.get(value) if self.uses[value] == 1 else None
        curved = [i for i, op in enumerate(ops) if not self.is_linear(op)]
        if len(ops) < 2 or not curved:
            return None
        start = curved[0]
        if all(clips(ops[i]) for i in curved):  # a ReLU and its like: the factors around it are factors
            ops = ops[: curved[-1] + 1] if last in ops[: curved[-1] + 1] else []
        else:
            while start and ops[start - 1].primitive in (P.neg_p, P.mul_p, P.div_p):
                start -= 1
        ops = ops[start:]
        return self.make("activation", ops, self.explained(ops[0]), last.outputs) if len(ops) > 1 else None

    def is_linear(self, op: Op) -> bool:
        """Whether an operation is linear in what depends on the input, up to a shift."""
        chooses = op.primitive is P.select_n_p and not self.depends(op.inputs[0])
        return self.is_shift_or_scale(op) or chooses or (op.primitive in MOVES and self.is_float(op.outputs[0]))

    def takes_one_value(self, op: Op) -> bool:
        """Whether an operation takes one explained value and numbers, and keeps its shape and sort."""
        operands = self.explained(op)
        numbers = all(self.depends(a) or not self.graph.aval(a).shape for a in op.inputs)
        return len(operands) == 1 and numbers and self.is_float(operands[0]) and self.is_float(op.outputs[0])

    def dominators(self) -> dict[int, int]:
        """For each value made by local operations: the nearest value through which all of it depends on the input."""
        result: dict[int, int] = {}
        for op in self.graph.ops:
            operands = set(self.explained(op))
            if operands and is_local(op):
                common = self.common(operands, result)
                if common is not None:
                    result[op.outputs[0]] = common
        return result

    @staticmethod
    def common(values: set[int], dominator: dict[int, int]) -> int | None:
        def upwards(value: int) -> list[int]:
            chain = [value]
            while chain[-1] in dominator:
                chain.append(dominator[chain[-1]])
            return chain

        first, *others = map(upwards, values)
        rest = [set(chain) for chain in others]
        return next((v for v in first if all(v in chain for chain in rest)), None)

    def region(self, op: Op) -> Unit | None:
        operands = set(self.explained(op))
        root = self.dominator.get(op.outputs[0])
        if len(operands) < 2 or root is None or not self.is_float(op.outputs[0]):
            return None
        root = self.softmax_root(op, root)
        if self.graph.avals[root].shape != self.graph.avals[op.outputs[0]].shape:
            return None
        inside: dict[Op, None] = {}
        stack = [op]
        while stack:
            member = stack.pop()
            inside[member] = None
            for value in self.explained(member):
                if value != root and self.producer[value] not in inside:
                    stack.append(self.producer[value])
        ops = [o for o in self.graph.ops if o in inside]
        kind = self.region_kind(ops, root)
        if kind is None or (kind != "activation" and not self.regions):
            return None
        return self.make(kind, ops, (root,), op.outputs)

    def region_kind(self, ops: Sequence[Op], root: int) -> str | None:
        """What operations from one value to one value are; None where they are no function with a name.

        A softmax divides by a sum of exp (its logarithm subtracts one). A normalisation divides, or takes a root, and
        what it divides has gone through linear operations alone.
        """
        primitives = {op.primitive for op in ops}
        if not primitives & REDUCTIONS:
            return None if all(map(self.is_linear_in_all, ops)) else "activation"
        if {P.exp_p, P.reduce_sum_p} <= primitives and ops[-1].primitive in (P.div_p, P.sub_p):
            return "softmax"
        divides = any(op.primitive in ROOTS or (op.primitive is P.div_p and self.depends(op.inputs[1])) for op in ops)
        linear = all(self.scales_linearly(op, root) for op in self.signal(ops, root))
        return "norm" if divides and linear else None

    def is_linear_in_all(self, op: Op) -> bool:
        """Whether an operation is linear in its explained operands together."""
        sums = op.primitive in (P.add_p, P.sub_p, P.add_jaxvals_p) and all(map(self.is_float, op.outputs))
        return sums or self.is_linear(op) or not self.explained(op)

    def signal(self, ops: Sequence[Op], root: int) -> list[Op]:
        """The operations of a region through which a value passes element by element, and not by way of a statistic."""
        found, reached = [], set(ops[-1].outputs)
        for op in reversed(ops):
            if reached.intersection(op.outputs):
                found.append(op)
                reached.update(a for a in self.explained(op) if self.is_as_rich(a, root))
        return found

    def is_as_rich(self, value: int, root: int) -> bool:
        """Whether a value has as many numbers as the root of a region, and is no statistic that was broadcast."""
        op = self.producer.get(value)
        while value != root and op and op.primitive in RELABEL and self.explained(op):
            (value,) = self.explained(op)
            op = self.producer.get(value)
        spread = value != root and op is not None and op.primitive is P.broadcast_in_dim_p
        return not spread and math.prod(self.graph.avals[value].shape) == math.prod(self.graph.avals[root].shape)

    def scales_linearly(self, op: Op, root: int) -> bool:
        """Whether an operation adds values, or multiplies or divides one by a statistic or a constant."""
        if op.primitive in (P.mul_p, P.div_p):
            rich = [isinstance(a, int) and self.depends(a) and self.is_as_rich(a, root) for a in op.inputs]
            return sum(rich) == 1 and (rich[0] or op.primitive is P.mul_p)
        return self.is_linear_in_all(op)

    def softmax_root(self, op: Op, root: int) -> int:
        """Where a softmax begins that ends in ``op``: before its exp, and before its maximum is subtracted."""
        maker = self.producer.get(root)
        if op.primitive is P.div_p and maker and maker.primitive is P.exp_p:
            root = self.dominator[root]
        elif op.primitive is not P.sub_p:
            return root
        maker = self.producer.get(root)
        if maker and maker.primitive is P.sub_p and len(self.explained(maker)) == 2 and root in self.dominator:
            root = self.dominator[root]
        return root

    # -------------------------------------------------------------------------------------- 3. single operations

    def single(self, op: Op, outputs: tuple[int, ...] | None = None) -> Unit:
        operands, outputs = self.explained(op), outputs or op.outputs
        gates = tuple(self.is_gate(a, op) for a in operands)
        kind = self.kind(op, operands, outputs)
        return self.make(kind, (op,), tuple(dict.fromkeys(operands)), outputs, gates=gates)

    def is_gate(self, atom: Atom, op: Op) -> bool:
        """Whether a factor is broadcast over the other, or squashed: what is usually called a gate."""
        if math.prod(self.graph.aval(atom).shape) < math.prod(self.graph.avals[op.outputs[0]].shape):
            return True
        maker = self.producer.get(atom) if isinstance(atom, int) else None
        while maker is not None and maker.primitive in MOVES and self.explained(maker):
            if maker.primitive is P.broadcast_in_dim_p:
                return True
            maker = self.producer.get(self.explained(maker)[0])
        return maker is not None and maker.primitive in (P.logistic_p, P.clamp_p)

    def kind(self, op: Op, operands: tuple[int, ...], outputs: Sequence[int]) -> str:
        primitive = op.primitive
        if any(map(self.is_complex, (*operands, *outputs))):
            return "complex"
        if not any(map(self.is_float, outputs)):
            return "shape"  # predicates and indices carry no relevance
        if not any(map(self.is_float, operands)):
            return "integer"
        if primitive in ORDERS:
            return self.kind_of_order(op, operands)
        if primitive in INDEXED and not all(map(self.is_float, operands)):
            return "select"  # which of the values is chosen depends on the explained input
        if primitive in MAXIMA:
            return "max_pool"
        if primitive in MOVES or (primitive is P.select_n_p and not self.depends(op.inputs[0])):
            return "shape"
        if primitive is P.select_n_p:
            return "select"
        if primitive is P.scatter_add_p:
            return "sum"
        if len(operands) > 1 and len(set(operands)) == 1 and is_elementwise(op):
            return "activation"
        if len(operands) > 1:
            several = {
                **dict.fromkeys((P.add_p, P.sub_p, P.add_jaxvals_p), "sum"),
                **dict.fromkeys((P.mul_p, P.dot_general_p, P.conv_general_dilated_p), "product"),
                **dict.fromkeys((P.max_p, P.min_p), "max_pool"),
                P.div_p: "division",
            }
            return several.get(primitive, primitive.name)
        return "activation" if is_elementwise(op) or self.is_one_function(op) else primitive.name

    def kind_of_order(self, op: Op, operands: tuple[int, ...]) -> str:
        """What a sort is: the order of values by themselves, or by others, which depend on the input or do not."""
        keys = op.inputs[: op.params.get("num_keys", 1)]
        if not any(map(self.depends, keys)):
            return "shape"
        values = tuple(a for a in op.inputs if self.is_float(a))
        if len(values) == 1 and values == operands == keys:
            return "sort"
        return "select" if set(values) <= set(operands) else "integer"


# ------------------------------------------------------------------------------------------------- sorts of operations


def is_elementwise(op: Op) -> bool:
    """Whether each element of the result depends on that element of the operands alone."""
    return op.primitive in ELEMENTWISE or is_elementwise_call(op.eqn)


def is_local(op: Op) -> bool:
    """Whether an operation may be part of an activation, a softmax or a normalisation."""
    return op.primitive in LOCAL or is_elementwise_call(op.eqn)


def clips(op: Op) -> bool:
    """Whether an operation keeps its operand above or below numbers, as a ReLU does."""
    operands = sorted(op.inputs, key=lambda a: not isinstance(a, int))  # max(0, x) is max(x, 0)
    return op.primitive is P.clamp_p or clip_bounds(op.eqn.replace(invars=operands)) is not None
