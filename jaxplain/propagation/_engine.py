"""The engine: a network evaluated forward with every unit's rule as its backward, so that `jax.vjp` walks back.

Each unit becomes a `jax.custom_vjp` function with the unit's own forward value. Every operand is an explicit argument,
constants included, so that units work inside ``scan`` and ``cond`` and the result is differentiable in the parameters.

A value that depends on the explained input may travel in several *lanes*: DeepLIFT carries the reference along with the
input. A rule sees one lane as an array, several as a tuple, and answers None for a lane that takes no relevance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jexc
from jax.extend.core import primitives as P

from .._convention import Array
from .._graph.canonical import canonical
from .._graph.dependence import random_source
from .._graph.modules import trace_with_names
from .._graph.primitives import LINEAR_IN, REFUSED
from .._graph.remedies import INFERENCE
from .._graph.trace import Graph, Op, run, scan_split, trace, without_dead
from .._graph.weights import name_weights
from ._ledger import Account, Entry
from ._search import find_units
from ._unit_call import Composite, Rule, TwoWayRule, UnitCall
from ._units import ControlFlow, Plan, Unit

Lanes: TypeAlias = tuple[Array, ...]
Values: TypeAlias = dict[int, Array]
Entries: TypeAlias = dict[int, Entry]
Recorded: TypeAlias = tuple[UnitCall, Array, Array]


@dataclass(frozen=True)
class TracedNetwork:
    """A traced network, ready to be evaluated with rules.

    Attributes:
      plan: its units.
      tree: the structure of what it returns.
    """

    plan: Plan
    tree: Any

    def __call__(
        self, rule_of: Composite, *lanes: Array, probes: Values | None = None, entries: Entries | None = None
    ) -> Any:
        """Evaluate the network with rules.

        Args:
          rule_of: the rule of each unit; None leaves it as it is, with its own gradient.
          lanes: the input, and whatever else travels with it.
          probes: zeros to add to units' results, by position, so that `jax.vjp` returns the relevance there; for units
            in loops, one for every turn, stacked in the order in which the loop's slices are.
          entries: `no_entry`, by position, for which `jax.vjp` returns the unit's ledger.

        Returns:
          What the network returns; a tuple of that where there are several lanes.
        """
        run = _Evaluation(rule_of, len(lanes), probes or {}, entries or {})
        outputs = run.plan(self.plan, [tuple(lanes)])
        trees = [jax.tree.unflatten(self.tree, [out[i] for out in outputs]) for i in range(len(lanes))]
        return trees[0] if len(lanes) == 1 else tuple(trees)

    def without_regions(self) -> TracedNetwork:
        """The same network, its softmax and normalisation fallen into their operations, `stop_gradient` an identity."""
        return dataclasses.replace(self, plan=find_units(without_stops(self.plan.graph), [True], regions=False))

    def value_of(self, unit: Unit, rule_of: Composite, x: Array) -> Array:
        """What a unit outside loops returns, so that `jax.vjp` walks back from there."""
        return self._recorded(rule_of, x)[unit.position][2]

    def affine_values(self, x: Array) -> dict[int, Recorded]:
        """The affine units outside loops with their input and output, by position."""
        recorded = self._recorded(lambda unit: None, x)
        return {position: values for position, values in recorded.items() if values[0].unit.affine is not None}

    def _recorded(self, rule_of: Composite, x: Array) -> dict[int, Recorded]:
        """The units outside loops with their first input and result, by position."""
        recorded: dict[int, Recorded] = {}
        _Evaluation(rule_of, 1, {}, {}, recorded).plan(self.plan, [(x,)])
        return recorded


def trace_network(f: Callable[[Array], Any], x: Any, *, regions: bool = True, names: bool = False) -> TracedNetwork:
    """Trace a function of the explained input, and find its units.

    Args:
      f: any JAX function of one array.
      x: an input, or its shape and dtype.
      regions: whether softmax and normalisation are units, and what is behind `stop_gradient` a constant; without, they
        fall into their operations, and it depends on the input.
      names: whether the names of all values are needed, and not only those of the units' weights.

    Returns:
      A `TracedNetwork`; ``trace_network(f, x)(lambda unit: None, x)`` is ``f(x)``, with the same gradients.
    """
    if names:
        graph, tree = trace_with_names(f, x, rewrite=canonical)
    else:
        graph, tree = trace(f, x, rewrite=canonical)
        graph = name_weights(graph, f)
    graph = without_dead(graph)
    return TracedNetwork(find_units(graph if regions else without_stops(graph), [True], regions=regions), tree)


def without_stops(graph: Graph) -> Graph:
    """The same network, its `stop_gradient` an identity: what a reference changes passes it."""

    def passing(op: Op) -> Op:
        copies = op.primitive is P.stop_gradient_p
        eqn = op.eqn.replace(primitive=P.copy_p, params={}) if copies else op.eqn
        return dataclasses.replace(op, eqn=eqn, bodies=tuple(map(without_stops, op.bodies)))

    return dataclasses.replace(graph, ops=tuple(map(passing, graph.ops)))


def no_rule(unit: Unit, instead: str = "") -> ValueError:
    """The error of a unit that a method has no rule for; what to do instead, where it takes none of the user's."""
    if unit.kind == "integer":
        remedy = (
            "write a choice of its values as jnp.where with a comparison, or hold what only gates, as an expert's "
            "mask, by jax.lax.stop_gradient"
        )
        return ValueError(
            f"the explained input turns into integers before {unit.place}, where no relevance can follow: explain a "
            f"part of the network without it, {f'or {instead}' if instead else remedy}"
        )
    why = REFUSED.get("real" if unit.kind == "complex" else unit.ops[-1].primitive.name)
    if unit.ops[-1].primitive in LINEAR_IN:
        why = "it is linear in one operand, and another one depends on the explained input as well"
    # Input times derivative: exact where it is linear, of the first order elsewhere.
    example = f"lambda unit: rules.proportional() if unit.kind == {unit.kind!r} else None"
    remedy = f"give it one in the composite, for example {example}"
    if unit.kind == "complex":
        remedy = "explain by a method that needs none, such as jaxplain.integrated_gradients"
    elif instead:
        remedy = f"write it by operations that have one, or {instead}"
    return ValueError(f"no rule for `{unit.kind}` at {unit.place}{f', where {why}' if why else ''}: {remedy}")


def refuse_training_mode(network: TracedNetwork, x: Any) -> None:
    """Raise where a network draws random numbers, or normalises with the statistics of its batch."""
    if op := random_source(network.plan.graph):
        raise ValueError(
            f"the network draws random numbers at {op.place}, as dropout does in training: switch it to inference, "
            f"{INFERENCE}"
        )
    for unit in network.plan.units():
        if unit.kind == "norm" and len(x) != 1 and unit.input_shapes[0][:1] == x.shape[:1]:
            reduced = [op for op in unit.ops if op.primitive is P.reduce_sum_p and 0 in op.params["axes"]]
            if any(op.eqn.invars[0].aval.shape == unit.input_shapes[0] for op in reduced):
                raise ValueError(
                    f"the normalisation at {unit.place} takes its statistics from the batch, as BatchNorm does in "
                    f"training, so that examples depend on each other: switch it to inference, {INFERENCE}"
                )


@dataclass(frozen=True)
class _Evaluation:
    """One evaluation. A value that depends on the explained input is a tuple of lanes."""

    rule_of: Composite
    lanes: int
    probes: Values
    entries: Entries
    recorded: dict[int, Recorded] | None = None
    in_loop: bool = False

    def plan(self, plan: Plan, args: Sequence[Any]) -> list[Lanes]:
        """Evaluate a plan; every output comes in lanes."""
        env: dict[int, Any] = {**plan.graph.constants, **dict(zip(plan.graph.inputs, args, strict=True))}

        def lanes_of(atom: Any) -> Lanes:
            if not isinstance(atom, int):
                return (atom.val,) * self.lanes
            return env[atom] if atom in plan.dependent else (env[atom],) * self.lanes

        rules = {step: self.rule_of(step) for step in plan.steps if isinstance(step, Unit)}
        for step in plan.steps:
            if isinstance(step, Op) and step.primitive is P.stop_gradient_p:
                env[step.outputs[0]] = without_relevance(lanes_of(step.inputs[0])[0])
            elif isinstance(step, Op):
                values = run([step], {a: lanes_of(a)[0] for a in step.reads})  # in the input's lane
                for out in step.outputs:
                    env[out] = (values[out],) * self.lanes if out in plan.dependent else values[out]
            elif isinstance(step, ControlFlow):
                evaluate = self.cond if step.op.primitive is P.cond_p else self.scan
                results = evaluate(step, [lanes_of(a) for a in step.op.inputs])
                for out, lanes in zip(step.op.outputs, results, strict=True):
                    env[out] = lanes if out in plan.dependent else lanes[0]
            else:
                self.unit(step, rules[step], env)
        return [lanes_of(a) for a in plan.graph.outputs]

    def unit(self, unit: Unit, rule: Rule | None, env: dict[int, Any]) -> None:
        constants = {a: env[a] for a in unit.constants}
        inputs = tuple(env[a] for a in unit.inputs)
        if rule is None or not unit.is_float:  # beside indices, as of top_k, only the gradient is defined
            call = UnitCall(unit, constants)
            each = [call.results(lane) for lane in zip(*inputs, strict=True)]
            env.update(zip(unit.outputs, zip(*each, strict=True), strict=True))
        else:
            lanes = apply_with_rule(unit, rule, inputs, constants, self.entries.get(unit.position), self.in_loop)
            several = len(unit.outputs) > 1
            env.update({out: tuple(y[i] if several else y for y in lanes) for i, out in enumerate(unit.outputs)})
        if self.recorded is not None:
            self.recorded[unit.position] = UnitCall(unit, constants), inputs[0][0], env[unit.outputs[0]][0]
        if unit.position in self.probes:
            probe = self.probes[unit.position]
            env[unit.outputs[0]] = tuple(y + probe for y in env[unit.outputs[0]])

    def cond(self, step: ControlFlow, operands: list[Lanes]) -> list[Lanes]:
        """A branch: both of its sides are plans, and take the lanes of what depends on the input."""
        index_varies, *varies = step.flags
        if index_varies and self.lanes > 1:
            raise ValueError(
                f"a `cond` at {step.op.place} is decided by the explained input, so that an input and its reference "
                "may take different branches: explain it by a method without a reference"
            )
        inner = dataclasses.replace(self, in_loop=True, recorded=None)
        branches = [lambda *args, plan=plan: inner.plan(plan, as_values(args, varies)) for plan in step.plans]
        return list(jax.lax.switch(operands[0][0], branches, *as_operands(operands[1:], varies)))

    def scan(self, step: ControlFlow, operands: list[Lanes]) -> list[Lanes]:
        """A loop: what is constant, what is carried and what is sliced are scanned in the lanes that they have."""
        op, varies, (body,) = step.op, step.flags, step.plans
        consts, carries = scan_split(op)
        inside = {unit.position for unit in body.units()}
        probes = {position: probe for position, probe in self.probes.items() if position in inside}
        # A result is in lanes where what is carried is, from the second turn on, or where what is stacked is.
        stacked = body.graph.outputs[carries:]
        out_varies = [*varies[consts : consts + carries], *(a in body.dependent for a in stacked)]
        given = as_operands(operands, varies)
        const, carry, slices = given[:consts], given[consts : consts + carries], given[consts + carries :]

        def scan_body(carry: Any, slices_and_probes: Any) -> tuple[Any, Any]:
            slices, probes = slices_and_probes
            inner = dataclasses.replace(self, in_loop=True, probes=probes, recorded=None)
            results = inner.plan(body, as_values((*const, *carry, *slices), varies))
            results = as_operands(results, out_varies)
            return results[:carries], results[carries:]

        options = {name: op.params[name] for name in ("length", "reverse", "unroll")}
        carry, stacks = jax.lax.scan(scan_body, carry, (slices, probes), **options)
        return [lanes if len(lanes) == self.lanes else lanes * self.lanes for lanes in (*carry, *stacks)]


@jax.custom_vjp
def without_relevance(x: Array) -> Array:
    """The value itself, which no relevance passes; the derivative of an explanation does, as it is one of values."""
    return x


without_relevance.defvjp(lambda x: (x, None), lambda _, relevance: (jnp.zeros_like(relevance),))


def as_operands(values: Sequence[Lanes], varies: Sequence[bool]) -> tuple[Lanes, ...]:
    """Values as control flow takes them: all lanes of what varies with the input, one of what does not."""
    return tuple(lanes if flag else lanes[:1] for lanes, flag in zip(values, varies, strict=True))


def as_values(operands: Sequence[Lanes], varies: Sequence[bool]) -> list[Any]:
    """And as a plan takes them: what does not vary without lanes."""
    return [lanes if flag else lanes[0] for lanes, flag in zip(operands, varies, strict=True)]


def apply_with_rule(
    unit: Unit,
    rule: Rule,
    inputs: tuple[Lanes, ...],
    constants: dict[int, Any],
    entry: Entry | None,
    in_loop: bool,
) -> Lanes:
    """Evaluate one unit, with its rule as its backward pass.

    The derivative in ``entry``, a dummy, is the unit's ledger; without one nothing is summed for it.
    """

    def forward(inputs: tuple[Lanes, ...], constants: dict[int, Any]) -> Lanes:
        call = UnitCall(unit, constants)
        if isinstance(rule, TwoWayRule):
            return rule.forward(call, inputs[0] if len(inputs) == 1 else inputs)
        return tuple(call.forward(*lane) for lane in zip(*inputs, strict=True))

    def backward(inputs: tuple[Lanes, ...], constants: dict[int, Any], outputs: Lanes, relevance: Lanes) -> Any:
        account = Account(is_kept=entry is not None)
        call = UnitCall(unit, constants, account)
        # A rule sees one lane, and one operand, as an array, several as a tuple.
        unwrap = lambda lanes: lanes[0] if len(outputs) == 1 else lanes
        operands = tuple(map(unwrap, inputs))
        result = rule(call, operands[0] if len(operands) == 1 else operands, unwrap(outputs), unwrap(relevance))
        # Its answer goes back into lanes, zeros where there is none, in the dtype of the operand.
        results = (result,) if len(operands) == 1 else tuple(result)
        lanes = tuple((r,) if len(outputs) == 1 else tuple(r) for r in results)
        lanes = jax.tree.map(cotangent_like, lanes, inputs, is_leaf=lambda r: r is None)
        return lanes, account.entry(relevance, lanes)

    backward_fn, closed_over = lambda *args: backward(*args[:-1]), []
    if in_loop:  # there, a rule must not close over traced values, such as an ε that is vmapped: they become operands
        outputs = jax.eval_shape(forward, inputs, constants)
        backward_fn, closed_over = without_closure(backward, inputs, constants, outputs, outputs)

    @jax.custom_vjp
    def f(inputs: Any, constants: Any, entry: Any, closed_over: Any) -> Lanes:
        return forward(inputs, constants)

    def f_forward(inputs: Any, constants: Any, entry: Any, closed_over: Any) -> Any:
        outputs = forward(inputs, constants)  # not f: an explanation is differentiated through its values as they are
        return outputs, (inputs, constants, outputs, closed_over)

    def f_backward(residuals: Any, relevance: Lanes) -> Any:
        *values, closed_over = residuals
        lanes, ledger = backward_fn(*values, relevance, closed_over)
        return lanes, None, ledger, None

    f.defvjp(f_forward, f_backward)
    return f(inputs, constants, entry, closed_over)


def without_closure(f: Callable[..., Any], *examples: Any) -> tuple[Callable[..., Any], list[Any]]:
    """``f`` as a function of one more argument, the list of all arrays that it closes over, and that list."""
    closed, shape = jax.make_jaxpr(f, return_shape=True)(*examples)

    def converted(*args_and_closed_over: Any) -> Any:
        *args, closed_over = args_and_closed_over
        out = jexc.jaxpr_as_fun(closed.replace(consts=closed_over))(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), out)

    return converted, list(closed.consts)


def cotangent_like(relevance: Any, x: Array) -> Any:
    """Relevance in the dtype of the value it belongs to; none for predicates and indices."""
    if jnp.issubdtype(x.dtype, jnp.inexact):
        return jnp.zeros_like(x) if relevance is None else jnp.asarray(relevance, x.dtype)
    return np.zeros(x.shape, jax.dtypes.float0)
