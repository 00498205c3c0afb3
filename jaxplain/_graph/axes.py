"""Along which axes of its operands the axes of an operation's result run.

An axis of a result is *made of* axes of operands, as the axis of all positions is of height and width. It *runs along*
them if index i of it comes of index i of those alone: behind a transpose, or a concatenation along another axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives as P

from .primitives import ELEMENTWISE, TRAITS
from .trace import Atom, Graph, Op


class Axis(NamedTuple):
    """An axis of a result.

    Attributes:
      sources: the axes of operands that it is made of, ``(operand, axis)``.
      is_aligned: whether it runs along them, index by index.
    """

    sources: frozenset[tuple[int, int]] = frozenset()
    is_aligned: bool = True


def axes_of(eqn: Any, result: int = 0) -> list[Axis] | None:
    """What the axes of one of an equation's results are made of; None where that is not known.

    Of an operation that is not in the table, an axis is taken to be made of that axis of operands of the same rank.
    """
    if not eqn.outvars or not hasattr(eqn.outvars[result].aval, "shape"):
        return None
    rank = len(eqn.outvars[result].aval.shape)
    words = [word for word in TRAITS.get(eqn.primitive, ()) if word.startswith("axes:")]
    if words == ["axes:each"]:  # every operand is a result
        return [Axis(frozenset([(result, i)]), is_aligned=False) for i in range(rank)]
    if words:
        return AXES[words[0].removeprefix("axes:")](eqn)
    return same(eqn, () if eqn.primitive in ELEMENTWISE else range(rank), result)


def same(eqn: Any, but: Iterable[int] = (), result: int = 0) -> list[Axis] | None:
    """The axes of operands of the result's rank; those excepted are made of them, but do not run along them."""
    rank, but = len(eqn.outvars[result].aval.shape), set(but)
    operands = [k for k, v in enumerate(eqn.invars) if len(getattr(v.aval, "shape", ())) == rank]
    return [Axis(frozenset((k, i) for k in operands), i not in but) for i in range(rank)] if operands else None


def but(eqn: Any) -> list[Axis] | None:
    """All axes but the one along which something happens."""
    return same(eqn, named_axes(eqn.params))


def named_axes(params: dict[str, Any]) -> tuple[int, ...]:
    """The axes that an equation's parameters name."""
    names = ("axes", "axis", "dimensions", "dimension")
    axes = next((params[name] for name in names if params.get(name) is not None), ())
    return tuple(map(int, np.atleast_1d(axes)))


def without(eqn: Any) -> list[Axis]:
    """The operand's axes, some of them gone."""
    gone = named_axes(eqn.params)
    return [Axis(frozenset([(0, i)])) for i in range(len(eqn.invars[0].aval.shape)) if i not in gone]


def with_new(eqn: Any) -> list[Axis]:
    """The operands' axes, a new one among them."""
    (new,), operands = named_axes(eqn.params), range(len(eqn.invars))
    axes = [Axis(frozenset((k, i) for k in operands)) for i in range(len(eqn.invars[0].aval.shape))]
    return [*axes[:new], Axis(is_aligned=False), *axes[new:]]


def permuted(eqn: Any) -> list[Axis]:
    """A transpose."""
    return [Axis(frozenset([(0, i)])) for i in eqn.params["permutation"]]


def broadcast(eqn: Any) -> list[Axis]:
    """The operand's axes, those of size 1 perhaps stretched, and new ones."""
    placed = {to: i for i, to in enumerate(eqn.params["broadcast_dimensions"])}
    shape, out = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    return [
        Axis(frozenset([(0, placed[to])] if to in placed else []), is_aligned=to in placed and shape[placed[to]] == n)
        for to, n in enumerate(out)
    ]


def regrouped(eqn: Any) -> list[Axis]:
    """A reshape: each block of axes is made of the block of as many elements that it was.

    Axes of size 1, of which a grey image's channels are one, stay where they are between the others.
    """
    before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    fronts = [[math.prod(shape[:axis]) for axis in range(len(shape))] for shape in (before, after)]
    common = {1, *fronts[0]} & {1, *fronts[1]}  # where a block starts

    def blocks(shape: Sequence[int], fronts: Sequence[int]) -> list[tuple[int, bool]]:
        starts = [next(f for f in reversed(fronts[: i + 1]) if f in common) for i in range(len(shape))]
        return [(f, True) if n == 1 else (first, False) for n, f, first in zip(shape, fronts, starts, strict=True)]

    of_operand, of_result = blocks(before, fronts[0]), blocks(after, fronts[1])
    axes = []
    for block, n in zip(of_result, after, strict=True):
        sources = [i for i, b in enumerate(of_operand) if b == block]
        is_whole = len(sources) == 1 and before[sources[0]] == n and of_result.count(block) == 1
        axes.append(Axis(frozenset((0, i) for i in sources), is_whole))
    return axes


def sliced(eqn: Any) -> list[Axis] | None:
    """All axes but those of which only a part is kept."""
    return same(eqn, but=(i for i, n in enumerate(eqn.outvars[0].aval.shape) if n != eqn.invars[0].aval.shape[i]))


def padded(eqn: Any) -> list[Axis] | None:
    """All axes but those that are padded."""
    return same(eqn, but=(i for i, config in enumerate(eqn.params["padding_config"]) if tuple(config) != (0, 0, 0)))


def tiled(eqn: Any) -> list[Axis] | None:
    """All axes but those that are repeated."""
    return same(eqn, but=(i for i, n in enumerate(eqn.params["reps"]) if n != 1))


def windows(eqn: Any) -> list[Axis] | None:
    """All axes but those along which windows are longer than one."""
    params, names = eqn.params, ("window_dimensions", "window_strides", "base_dilation", "window_dilation")
    is_one = lambda i: all(params[name][i] == 1 for name in names) and tuple(params["padding"][i]) == (0, 0)
    return same(eqn, but=(i for i in range(len(params["window_dimensions"])) if not is_one(i)))


def gathered(eqn: Any) -> list[Axis]:
    """Axes that are kept whole stay what they are; the others are made of those that were chosen from."""
    numbers, rank = eqn.params["dimension_numbers"], len(eqn.invars[0].aval.shape)
    chosen = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    kept = iter(i for i in range(rank) if i not in chosen)
    others = frozenset((0, i) for i in chosen)
    is_kept = [i in numbers.offset_dims for i in range(len(eqn.outvars[0].aval.shape))]
    return [Axis(frozenset([(0, next(kept))]) if flag else others, is_aligned=False) for flag in is_kept]


def convolved(eqn: Any) -> list[Axis]:
    """Examples stay apart, positions are made of positions, and channels of channels, and of the kernel's own."""
    numbers = eqn.params["dimension_numbers"]
    own = {to: (0, i) for to, i in zip(numbers.out_spec, numbers.lhs_spec, strict=True)}
    is_apart = eqn.params["batch_group_count"] == 1
    return [Axis(frozenset([own[i]]), is_aligned=is_apart and i == numbers.out_spec[0]) for i in range(len(own))]


def multiplied(eqn: Any) -> list[Axis]:
    """The axes that both operands share, and the free ones of the first and the second."""
    contracted, batch = eqn.params["dimension_numbers"]
    shared = [Axis(frozenset([(0, i), (1, j)])) for i, j in zip(*batch, strict=True)]
    ranks = [len(v.aval.shape) for v in eqn.invars]
    taken = [{*contracted[k], *batch[k]} for k in (0, 1)]
    return [*shared, *(Axis(frozenset([(k, i)])) for k in (0, 1) for i in range(ranks[k]) if i not in taken[k])]


AXES: dict[str, Callable[[Any], list[Axis] | None]] = {  # by the words of the table of primitives
    rule.__name__: rule
    for rule in (
        *(same, but, without, with_new, permuted, broadcast, regrouped, sliced, padded, tiled, windows, gathered),
        *(convolved, multiplied),
    )
}


# -------------------------------------------------------------------------------------- along the axes of a weight


def weight_axes_of_output(base: Op, operand: int) -> tuple[int | None, ...]:
    """For each axis of a weight operation's result, the axis of the weight it runs along, or None."""
    if base.primitive is P.conv_general_dilated_p:
        numbers = base.params["dimension_numbers"]
        return along_channels(base, operand, numbers.out_spec, numbers.rhs_spec[0])
    of_weight = ({i for k, i in axis.sources if k == 1 - operand} for axis in multiplied(base.eqn))
    return tuple(next(iter(axes), None) for axes in of_weight)


def weight_axes_of_input(base: Op, operand: int) -> tuple[int | None, ...]:
    """For each axis of the explained operand, the axis of the weight it is contracted with, or None."""
    if base.primitive is P.conv_general_dilated_p:
        numbers = base.params["dimension_numbers"]
        return along_channels(base, operand, numbers.lhs_spec, numbers.rhs_spec[1])
    axes: list[int | None] = [None] * len(base.eqn.invars[operand].aval.shape)
    for sides in base.params["dimension_numbers"]:  # those that are contracted, and those that both have
        for i, j in zip(sides[operand], sides[1 - operand], strict=True):
            axes[i] = j
    return tuple(axes)


def along_channels(base: Op, operand: int, layout: Sequence[int], axis: int) -> tuple[int | None, ...]:
    """For each axis of a convolution's input or output in this layout: the kernel's axis at its channels, else None."""
    is_known = operand == 0 and base.params["batch_group_count"] == 1
    return tuple(axis if is_known and i == layout[1] else None for i in range(len(layout)))


def along_weight(values: Any, axes: Sequence[int | None], rank: int) -> Any:
    """Values with one axis for each of these that is the weight's, in the weight's order, to broadcast against it."""
    kept = [axis for axis in axes if axis is not None]
    ordered = values.transpose(sorted(range(len(kept)), key=kept.__getitem__))
    return jnp.expand_dims(ordered, [axis for axis in range(rank) if axis not in kept])


def relabel(op: Op, labels: tuple[Any, ...]) -> tuple[Any, ...]:
    """The labels of an operand's axes behind an operation that moves them; None for an axis that stays not whole."""
    moved = zip(axes_of(op.eqn) or (), op.eqn.outvars[0].aval.shape, strict=True)
    is_whole = lambda axis, n: axis.is_aligned and len(axis.sources) == 1 and n != 1
    return tuple(labels[min(axis.sources)[1]] if is_whole(axis, n) else None for axis, n in moved)


def varying(constant: Atom, graph: Graph, producer: dict[int, Op]) -> tuple[int, ...]:
    """The axes along which a constant may have different values."""
    shape = graph.aval(constant).shape
    op = producer.get(constant) if isinstance(constant, int) else None
    if op is not None and op.primitive is P.broadcast_in_dim_p:
        mapped = op.params["broadcast_dimensions"]
        return tuple(mapped[i] for i in varying(op.inputs[0], graph, producer) if shape[mapped[i]] != 1)
    if op is not None and op.primitive in ELEMENTWISE:
        ranked = [a for a in op.inputs if len(graph.aval(a).shape) == len(shape)]
        return tuple(sorted({i for a in ranked for i in varying(a, graph, producer)}))
    return tuple(i for i, n in enumerate(shape) if n != 1)
