"""The attentions of a network: the weights with which tokens read each other, and the way back to them.

They are found by data flow, in any framework: weights between tokens that are divided by their own sum. The network is
traced, and evaluated again with a zero added to the weights of each attention, in which it can be derived.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import jax
from jax.extend.core import primitives as P
from jax.tree_util import Partial

from .._channels import channels_read
from .._convention import Apply, Array, Function, outputs_of, split, zeros_by_example
from .._graph.canonical import canonical
from .._graph.dependence import DEPENDENCE, dependents
from .._graph.equations import called_jaxpr, has_own_derivative, unclose
from .._graph.forward import forward
from .._graph.makers import Makers
from .._graph.names import Site, dependent_inside
from .._graph.origins import CONVOLVED, KEYS, QUERIES, Origins, follow, inside_loop, of_input
from .._graph.trace import Graph, Op, numbered, read, scan_split, trace
from ._tap import cut

__all__ = ["attentions"]


class Attentions(NamedTuple):
    """What `attentions` returns.

    Attributes:
      outputs: what the network returns.
      weights: those of each attention, in the order of evaluation, ``(N, heads, queries, keys)``; they sum to 1 over
        the keys.
      pullback: the derivative, from a cotangent of the outputs to those of all weights; a pytree, as that of `jax.vjp`,
        so that `jax.jit` can return it.
    """

    outputs: Array
    weights: tuple[Array, ...]
    pullback: Callable[[Array], tuple[Array, ...]]


def attentions(apply: Apply) -> Callable[..., Attentions]:
    """Read the weights of all attentions of a network, in one pass with the outputs and the way back from them.

    ``A = softmax(Q Kᵀ / sqrt(d))`` of every head,  ``pullback(v) = vᵀ ∂outputs/∂A``

    An attention is what divides weights between tokens by their own sum over the tokens that are read. It is found by
    data flow, whatever module it is in, in loops as well (`jax.lax.scan` over blocks), and nothing is hooked. The
    derivative counts all ways from an attention to the outputs, later attentions included.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function. An attention that is one compiled kernel has no weights to
        read: choose the implementation in plain JAX, as ``jax.nn.dot_product_attention(..., implementation="xla")``.

    Returns:
      A function ``(*args) -> Attentions(outputs, weights, pullback)``.

    Raises:
      ValueError: if there is no attention between tokens, or one within windows.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> f = lambda x: (jax.nn.softmax(x @ x.swapaxes(1, 2)) @ x).mean(axis=1)
      >>> outputs, weights, pullback = jaxplain.attentions(f)(jnp.array([[[1.0, 0.0], [0.0, 1.0]]]))
      >>> print((100 * weights[0]).round())
      [[[[73. 27.]
         [27. 73.]]]]
      >>> pullback(jnp.array([[1.0, 0.0]]))[0].shape
      (1, 1, 2, 2)
    """

    def attended(*args: Any) -> Attentions:
        context, x = split(args)
        net = AttentionNetwork(lambda x: outputs_of(apply, (*context, x)), x)
        outputs, pullback, weights = net.vjp()
        return Attentions(outputs, weights, pullback)

    return attended


# ---------------------------------------------------------------------------------------------------- where they are


@dataclass(frozen=True)
class Place:
    """An operation of a graph that makes an attention's weights, or the tokens behind its block, or a loop over such.

    Attributes:
      op: the number of the operation.
      axes: of an attention's weights: that of the examples, of the queries and of the keys.
      inner: the places in the body of a loop.
      turns: of a loop, in the order of evaluation.
    """

    op: int
    axes: tuple[int, int, int] | None = None
    inner: tuple[Place, ...] = ()
    turns: tuple[int, ...] = ()

    def arranged(self, weights: Array) -> Array:
        """The weights as ``(N, heads, queries, keys)``; tokens as they are."""
        if self.axes is None:
            return weights
        n, queries, keys = self.axes
        heads = [axis for axis in range(weights.ndim) if axis not in self.axes]
        moved = weights.transpose(n, *heads, queries, keys)
        return moved.reshape(moved.shape[0], -1, *moved.shape[-2:])


def places_in(graph: Graph, given: dict[int, Origins], channels: int, rank: int) -> tuple[Place, ...]:
    """The attentions of a graph, in the order of evaluation.

    Args:
      graph: a network, or the body of a loop.
      given: what the axes of its inputs are made of.
      channels: the axis of the channels of the network's input.
      rank: how many axes that has.
    """
    known, makers = follow(graph, given), Makers(graph)
    found = []
    for number, op in enumerate(graph.ops):
        if op.primitive is P.scan_p:
            inner = places_in(op.bodies[0], inside_loop(op, known), channels, rank)
            turns = range(op.params["length"])
            found += (
                [Place(number, inner=inner, turns=(*turns[:: -1 if op.params["reverse"] else 1],))] if inner else []
            )
        elif (keys := makers.normalised_axis(op)) is not None:
            axes = attention_axes(op, known.get(op.outputs[0]), keys, channels, rank)
            again = makers.behind_moves(op.inputs[0])  # weights that are normalised twice are those of one attention
            found = [it for it in found if it.inner or makers.behind_moves(graph.ops[it.op].outputs[0]) != again]
            found += [Place(masked(graph, makers, number), axes)] if axes else []
    return tuple(found)


def masked(graph: Graph, makers: Makers, number: int) -> int:
    """The operation that sets what another one makes to zero where it is masked, if nothing else reads it."""
    (out,) = graph.ops[number].outputs
    readers = [reader for reader, op in enumerate(graph.ops) for a in op.reads if a == out]
    is_mask = len(readers) == 1 and makers.kept_by_mask(graph.ops[readers[0]]) is not None
    return readers[0] if is_mask else number


def require_sequence(graph: Graph, places: Sequence[Place]) -> None:
    """Raise where an attention does not read what the one before it made: they lie beside each other in a block."""
    for place, later in itertools.pairwise(places):
        behind = forward(graph, dict.fromkeys(graph.ops[place.op].outputs, True), DEPENDENCE)
        if not any(out in behind for out in graph.ops[later.op].outputs):
            raise ValueError(
                f"the attentions at {graph.ops[place.op].place} and {graph.ops[later.op].place} lie beside each other: "
                "a rollout needs one behind the other; jaxplain.attentions reads both"
            )
    for place in places:
        if place.inner:
            require_sequence(graph.ops[place.op].bodies[0], place.inner)


def with_blocks(graph: Graph, places: Sequence[Place], varying: set[int]) -> tuple[Place, ...]:
    """The places, each attention followed by that of the tokens that leave its block.

    They are the last sum before the next attention through which all that depends on the input passes, of the shape of
    the first one: the stream of a residual network, to which attention and dense layers are added.
    """
    number_of = {out: number for number, op in enumerate(graph.ops) for out in op.outputs}
    passed = [number_of[a] for a in bottlenecks(graph, varying) if a in number_of]
    is_sum = lambda op: op.primitive is P.add_p and len(op.reads) == 2 and varying.issuperset(op.reads)
    found: list[Place] = []
    for place, end in zip(places, [*(place.op for place in places[1:]), len(graph.ops)], strict=True):
        op = graph.ops[place.op]
        if place.inner:
            found.append(replace(place, inner=with_blocks(op.bodies[0], place.inner, dependent_inside(op, varying))))
            continue
        sums = [number for number in passed if place.op < number < end and is_sum(graph.ops[number])]
        if not sums:
            raise ValueError(f"the tokens behind the attention at {op.place} are not added to those before it")
        shape_of = lambda number: graph.aval(graph.ops[number].outputs[0]).shape
        found += [place, Place([number for number in sums if shape_of(number) == shape_of(sums[0])][-1])]
    return tuple(found)


def bottlenecks(graph: Graph, varying: set[int]) -> list[int]:
    """The values through which all that depends on the input passes, in the order of evaluation."""
    last_read = {a: number for number, op in enumerate(graph.ops) for a in op.reads}
    last_read |= {a: len(graph.ops) for a in numbered(graph.outputs)}
    waiting, found = varying.intersection(graph.inputs), dict.fromkeys(())
    for number, op in enumerate(graph.ops):
        waiting = {a for a in (*waiting, *varying.intersection(op.outputs)) if last_read.get(a, -1) > number}
        found |= dict.fromkeys(waiting if len(waiting) == 1 else ())
    return list(found)


def attention_axes(op: Op, labels: Origins | None, keys: int, channels: int, rank: int) -> tuple[int, int, int] | None:
    """The axes of examples, queries and keys, if an operation's result are weights between tokens.

    Tokens are made of positions, as channels that read each other are not. Heads may be made of all that a patch holds,
    its positions and its channels, where patches are cut by reshaping.
    """
    of_positions = lambda label: any(i > 0 and i != channels for i in label)
    of_patches = lambda label: label.issuperset(range(1, rank))
    is_token = lambda label: not label.isdisjoint({QUERIES, KEYS}) and of_positions(label)
    tokens = [i for i, label in enumerate(labels or ()) if is_token(label)]
    if len(tokens) != 2 or keys not in tokens or labels is None:
        return None
    (queries,) = (i for i in tokens if i != keys)
    others = [i for i in range(len(labels)) if i not in tokens]
    shape = op.eqn.outvars[0].aval.shape
    # Of one example alone, any axis of size 1 will do.
    examples = [i for i in others if labels[i] - {CONVOLVED} == {0}] or [i for i in others if shape[i] == 1]
    if not examples or any(of_positions(labels[i]) and not of_patches(labels[i]) for i in others):
        raise ValueError(
            f"the attention at {op.place} reads tokens within windows, or along rows: its weights are no map of the "
            "image"
        )
    return examples[0], queries, keys


def has_no_attention(eqn: Any) -> bool:
    """Whether a function with a derivative of its own may stay one operation: it divides nothing by a sum."""
    if not has_own_derivative(eqn):
        return True

    def divides(jaxpr: Any) -> bool:
        eqns = unclose(jaxpr)[0].eqns
        names = {inner.primitive for inner in eqns}
        inside = (called_jaxpr(inner) for inner in eqns)
        return {P.div_p, P.reduce_sum_p} <= names or any(divides(jaxpr) for jaxpr in inside if jaxpr is not None)

    return not divides(called_jaxpr(eqn))


# ------------------------------------------------------------------------------------------ evaluated, and walked back


Tree: TypeAlias = list[Any]  # an array for each place of a graph; for a loop a list of stacks, one slice per turn


class AttentionNetwork:
    """A network traced at an input, with the places of its attentions."""

    def __init__(self, f: Function, x: Array):
        self.x = x
        self.graph, _ = trace(f, x, keep_call=has_no_attention, rewrite=canonical)
        read = channels_read(self.graph)
        channels = x.ndim - 1 if read is None else read
        self.places = places_in(self.graph, of_input(self.graph), channels, x.ndim)
        if not self.places:
            raise ValueError(
                "the network has no attention between tokens, no weights that are divided by their sum over tokens; "
                'where it has one in a compiled kernel, choose its implementation in plain JAX, such as "xla"'
            )

    def vjp(self) -> tuple[Array, Callable[[Array], tuple[Array, ...]], tuple[Array, ...]]:
        """The outputs, the pull-back to the weights of all attentions, and these."""

        def run(changes: Tree) -> tuple[Array, Tree]:
            (outputs,), weights = evaluate_through(self.graph, [self.x], self.places, changes)
            return outputs, weights

        outputs, pullback, weights = jax.vjp(run, nothing(self.graph, self.places, self.x), has_aux=True)
        arranged = functools.partial(attentions_of, self.places)
        return outputs, Partial(functools.partial(pulled_back, arranged), pullback), arranged(weights)

    def vjp_by_block(self) -> tuple[Array, list[Array], Callable[[list[Array]], tuple[Array, ...]]]:
        """The outputs; those of every block, its tokens read by what is behind the last one; and the pull-back.

        It leads from cotangents of each block's outputs to the weights of that block's attention alone.
        """
        places = with_blocks(self.graph, self.places, dependents(self.graph, [True]))
        _, head = cut(self.graph, [self.x], last_site(self.graph, places))

        def run(changes: Tree) -> tuple[list[Array], Array]:
            (outputs,), values = evaluate_through(self.graph, [self.x], places, changes)
            tokens = [array for place, array in listed(places, values) if place.axes is None]
            return [head(array)[0] for array in tokens], outputs

        by_block, pullback, outputs = jax.vjp(run, nothing(self.graph, places, self.x), has_aux=True)
        return outputs, by_block, lambda cotangents: attentions_of(places, pullback(cotangents)[0])


def last_site(graph: Graph, places: Sequence[Place]) -> Site:
    """The last place of a graph, as something that the network can be cut at."""
    op = graph.ops[places[-1].op]
    if places[-1].inner:
        inner = last_site(op.bodies[0], places[-1].inner)
        return Site(places[-1].op, 0, inner.shape, op.params["length"] - 1, inner)
    return Site(places[-1].op, 0, graph.aval(op.outputs[0]).shape)


def nothing(graph: Graph, places: Sequence[Place], x: Array, turns: tuple[int, ...] = ()) -> Tree:
    """A zero for the weights at each place, on the devices where their examples are; None for tokens."""
    changes: Tree = []
    for place in places:
        op = graph.ops[place.op]
        aval = graph.aval(op.outputs[0])
        if place.inner:
            changes.append(nothing(op.bodies[0], place.inner, x, (*turns, op.params["length"])))
        elif place.axes is None:
            changes.append(None)
        else:
            changes.append(zeros_by_example(x, aval.shape, aval.dtype, place.axes[0], turns))
    return changes


def evaluate_through(
    graph: Graph, args: Sequence[Any], places: Sequence[Place], changes: Tree
) -> tuple[list[Array], Tree]:
    """What a graph returns when something is added to the weights of its attentions, and the values at all places.

    Tokens behind a block are taken as constants by what comes behind them.
    """
    env = {**graph.constants, **dict(zip(graph.inputs, args, strict=True))}
    at: dict[int, tuple[Place | None, Any]] = {
        place.op: (place, change) for place, change in zip(places, changes, strict=True)
    }
    found: Tree = []
    for number, op in enumerate(graph.ops):
        operands = read(op.inputs, env)
        place, change = at.get(number, (None, None))
        if place is None:
            results = op.bind(*operands)
        elif place.inner:
            results, values = loop_through(op, operands, place.inner, change)
            found.append(values)
        else:
            (value,) = op.bind(*operands)
            results = [value + change if place.axes else jax.lax.stop_gradient(value)]
            found.append(value)
        env.update(zip(op.outputs, results, strict=True))
    return read(graph.outputs, env), found


def loop_through(op: Op, operands: Sequence[Any], places: Sequence[Place], changes: Tree) -> tuple[list[Array], Tree]:
    """The same for a loop: each turn takes what is added to its weights beside its slices."""
    (body,), (consts, carries) = op.bodies, scan_split(op)
    fixed, start, slices = operands[:consts], operands[consts : consts + carries], operands[consts + carries :]

    def turn(carry: list[Any], xs: tuple[list[Any], Tree]) -> tuple[list[Any], tuple[list[Any], Tree]]:
        results, values = evaluate_through(body, [*fixed, *carry, *xs[0]], places, xs[1])
        return results[:carries], (results[carries:], values)

    length, reverse = op.params["length"], op.params["reverse"]
    carry, (stacked, values) = jax.lax.scan(turn, list(start), (list(slices), changes), length, reverse)
    return [*carry, *stacked], values


def listed(places: Sequence[Place], values: Tree) -> list[tuple[Place, Array]]:
    """The places with their values, or with derivatives of these, in the order of evaluation; of loops every turn."""
    found: list[tuple[Place, Array]] = []
    for place, value in zip(places, values, strict=True):
        found += [] if place.inner else [(place, place.arranged(value))]
        for turn in place.turns:
            found += listed(place.inner, [jax.tree.map(lambda a, t=turn: a[t], it) for it in value])
    return found


def attentions_of(places: Sequence[Place], values: Tree) -> tuple[Array, ...]:
    """The weights among the values at all places, or their derivatives."""
    return tuple(array for place, array in listed(places, values) if place.axes)


def pulled_back(arranged: Callable[[Tree], tuple[Array, ...]], pullback: Callable[[Any], Any], cotangent: Array) -> Any:
    """A pull-back to the weights, these arranged; with it closed over nothing traced, `jax.jit` returns it."""
    return arranged(pullback(cotangent)[0])
