"""Which axis of an image holds the channels: said by the user, or read off the network's first convolutions.

Flax keeps channels last, ``(N, H, W, C)``; Equinox and networks converted from PyTorch have them first,
``(N, C, H, W)``. The axes of the input are followed through the operations of the network. The first convolutions tell
which of them are positions, whatever lies before: transposes, a normalisation, patches, `jax.vmap` of single examples.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import primitives as P

from ._graph.origins import CONVOLVED, KEYS, MARKS, NONE, QUERIES, Origins, follow, of_input
from ._graph.trace import Graph, Op, trace

__all__ = ["layout"]

Channels: TypeAlias = Literal["first", "last"]


def layout(apply: Callable[..., Any], *, channels: Channels) -> Callable[..., Any]:
    """Say where the channels of a network's input are, where no convolution tells.

    Explainers and metrics read the layout off the first convolutions. A network without any is taken to have its
    channels last, unless it is wrapped here: one of dense layers, a transformer whose patches are cut by reshaping.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function; the last argument is the input.
      channels: ``"first"`` for ``(N, C, H, W)``, ``"last"`` for ``(N, H, W, C)``.

    Returns:
      The same function, to make explainers and metrics from; they raise a ValueError where its first convolution
      disagrees.

    Raises:
      ValueError: if ``channels`` is neither.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x.reshape(len(x), -1).sum(axis=1)
      >>> x = jnp.arange(12.0).reshape(1, 3, 2, 2)
      >>> jaxplain.heatmap(jaxplain.gradient(jaxplain.layout(f, channels="first")))(x).shape
      (1, 2, 2)
    """
    require_channels(channels)

    @functools.wraps(apply)
    def laid_out(*args: Any, **options: Any) -> Any:
        *context, x = args
        return apply(*context, checkpoint_name(x, MARKS[channels]), **options)

    return laid_out


def channel_axis(f: Callable[[Any], Any], x: Any, channels: Channels | None = None) -> int:
    """The axis of the channels of a network's input.

    Args:
      f: ``x -> outputs``.
      x: the input, the batch in front.
      channels: what the user says, if anything.

    Returns:
      Its number; the last one where nothing tells.

    Raises:
      ValueError: where convolutions disagree with each other or with what was said, or where nothing tells and the
        shape looks like channels first.
    """
    read = channels_read(trace(f, x, keep_call=lambda eqn: False)[0])
    if read is None:
        return said_axis(x.shape, channels, 'wrap the network, jaxplain.layout(apply, channels="first")')
    if channels is not None and said_axis(x.shape, channels) != read:
        raise ValueError(f"the network reads the channels of its input from axis {read}: leave out {channels=}")
    return read


def said_axis(shape: Sequence[int], channels: Channels | None, remedy: str = 'say channels="first"') -> int:
    """The axis of the channels of an array of that shape, by what the user says; where that is nothing, the last."""
    require_channels(channels)
    if channels is None and len(shape) == 4 and shape[1] <= 4 < min(shape[2:]):
        raise ValueError(
            f"images of shape {tuple(shape)} look as if their channels were first, and nothing tells: {remedy}, or "
            '"last"'
        )
    return 1 if channels == "first" else len(shape) - 1


def require_channels(channels: Channels | None) -> None:
    """Check the option."""
    if channels not in (None, "first", "last"):
        raise ValueError(f"unknown {channels=}: choose first, (N, C, H, W), or last, (N, H, W, C)")


def channels_read(graph: Graph) -> int | None:
    """The axis of the channels of a network's input, by what was said of it and by its first convolutions."""
    rank, found = len(graph.avals[graph.inputs[0]].shape), {}

    def read(op: Op, operands: list[Origins | None]) -> None:
        axis = told(op, operands[0], rank) if operands and operands[0] else None
        if axis is not None:
            found.setdefault(axis, op)

    follow(graph, of_input(graph), read)
    if len(found) > 1:
        (one, first), (other, second), *_ = found.items()
        raise ValueError(
            f"{words(first)} has the channels of the input at axis {one}, {words(second)} at axis {other}: one of them "
            "is wrong"
        )
    return next(iter(found), None)


def words(op: Op) -> str:
    """What says where the channels are."""
    return f"the convolution at {op.place}" if op.primitive is P.conv_general_dilated_p else "jaxplain.layout"


def told(op: Op, labels: Origins, rank: int) -> int | None:
    """The axis of the input's channels as a mark or a convolution says, the one that is no position; None of others."""
    if op.primitive is P.name_p and op.params["name"] in MARKS.values():
        marked = labels[1 if op.params["name"] == MARKS["first"] else -1]
        return next(iter(marked)) if len(marked) == 1 else None
    if op.primitive is not P.conv_general_dilated_p or CONVOLVED in NONE.union(*labels):
        return None
    space = NONE.union(*(labels[axis] for axis in op.params["dimension_numbers"].lhs_spec[2:]))
    others = set(range(1, rank)) - space
    return others.pop() if len(others) == 1 else None


def axis_of_channels(labels: Origins | None, channels: int) -> int | None:
    """The axis of a value that holds the input's channels, the last one where several do."""
    return next((i for i in reversed(range(1, len(labels or ()))) if labels and channels in labels[i]), None)


def is_picture(labels: Origins | None, axis: int, channels: int, rank: int) -> bool:
    """Whether the axes of a value, but for the batch and its channels, may be positions, as far as is known.

    They are not where some are parts of the channels, as the heads of an attention, or its queries and keys,
    or where one of them is all positions.

    Args:
      labels: what its axes are made of.
      axis: that of its channels.
      channels: the axis of the input's channels.
      rank: how many axes the input has.
    """
    if labels is None:
        return True
    own = [label for i, label in enumerate(labels) if i not in (0, axis % len(labels))]
    everywhere = set(range(1, rank)) - {channels}
    parts = {channels in label for label in own if label} == {True, False}
    weights = NONE.union(*own) >= {QUERIES, KEYS}
    tokens = rank > 3 and any(label >= everywhere for label in own) and not all(own)
    return not (parts or weights or tokens)


# --------------------------------------------------------------------------------------- following the input's axes
