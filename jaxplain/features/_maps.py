"""From features to a map: what all methods that look at a layer share."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypedDict

import jax
import jax.numpy as jnp

from .._convention import (
    Apply,
    Array,
    Explain,
    Function,
    Heed,
    OfImages,
    Target,
    channels_last,
    explainer,
    score_gradient,
)
from .._images import enlarge
from .._reductions import divide, largest, largest_of_each
from ._tap import layer_of

Layers: TypeAlias = str | Sequence[str | None] | None
Combine: TypeAlias = Literal["mean", "sum", "max", "product"] | Callable[[Array], Array]

COMBINATIONS: dict[str, Callable[[Array], Array]] = {
    "mean": lambda maps: maps.mean(axis=0),
    "sum": lambda maps: maps.sum(axis=0),
    "max": lambda maps: largest(jnp.moveaxis(maps, 0, -1))[..., 0],
    "product": lambda maps: functools.reduce(operator.mul, list(maps)),
}


@dataclass(frozen=True)
class LayerView:
    """What a map is made of: the network and its input, and both again as seen from the layer.

    Attributes:
      f: the network.
      x: its input.
      target: what is explained, in a form of the convention.
      features: ``(N, h, w, K)``.
      head: the rest of the network, ``head(features) == f(x)``.
    """

    f: Function
    x: Array
    target: Target
    features: Array
    head: Function

    @property
    def gradient(self) -> Array:
        """The derivative of the score in the features."""
        return gradient_at(self.features, self.head, self.target)


class MapOptions(TypedDict, total=False):
    """The options of every method that makes a map of a layer.

    Attributes:
      upsample: whether the map is enlarged to the input's height and width, bilinearly; else it has the layer's.
      grid: rows and columns of the tokens of a vision transformer, ``(N, T, K)``; where there are more than ``rows ·
        columns`` tokens, the first ones, as a class token, are left out.
      combine: how the maps of several layers become one: ``"mean"``, ``"sum"``, ``"max"``, ``"product"``, or a function
        of the stacked maps ``(layers, N, H, W)``.
    """

    upsample: bool
    grid: tuple[int, int] | None
    combine: Combine


def layer_map(
    apply: Apply,
    layer: Layers,
    attribute: Callable[[LayerView], Array],
    *,
    upsample: bool = True,
    grid: tuple[int, int] | None = None,
    combine: Combine = "mean",
    heed: Heed | None = None,
) -> Explain:
    """An explainer that returns ``attribute(at) -> (N, h, w)``, enlarged and combined."""
    names = list(layer) if isinstance(layer, Sequence) and not isinstance(layer, str) else [layer]
    if wrong := [name for name in names if not isinstance(name, str | None)]:
        raise TypeError(
            f"layer={wrong[0]!r} is no name: jaxplain.layers(apply)(*args) lists the names; give one, or a list of them"
        )
    merge = COMBINATIONS.get(combine) if isinstance(combine, str) else combine
    if merge is None:
        raise ValueError(f"unknown combine={combine!r}: choose {', '.join(COMBINATIONS)}, or pass a function")
    if not names:
        raise ValueError("layer=[] names no layer: pass at least one")

    @explainer(apply, heed=heed)
    @channels_last
    def explain(f: OfImages, x: Array, target: Target, key: Array | None) -> Array:
        maps = []
        for name in names:
            features, head = on_grid(f, x, name, grid)
            raw = attribute(LayerView(f, x, target, features, head))
            maps.append(enlarge(raw, x) if upsample else raw.astype(x.dtype))
        if len({a.shape for a in maps}) > 1:
            raise ValueError(f"layers of different shapes {[a.shape[1:] for a in maps]} combine at the input's only")
        return maps[0] if len(maps) == 1 else merge(jnp.stack(maps))

    return explain


def on_grid(f: Function, x: Array, layer: str | None, grid: tuple[int, int] | None) -> tuple[Array, Function]:
    """A layer's features, with as many axes as the input, tokens laid out as a grid; the head takes them back."""
    features, head, picture = layer_of(f, x, layer)
    if grid is None:
        require_positions(features, x, picture)
        return features, head
    count = grid[0] * grid[1]
    if features.ndim != 3 or features.shape[1] < count:
        raise ValueError(
            f"grid={grid} needs tokens (N, T, K), T at least {count}; the layer has shape {features.shape}"
        )
    n, tokens, channels = features.shape
    others = features[:, : tokens - count]
    laid_out = features[:, tokens - count :].reshape(n, *grid, channels)
    return laid_out, lambda a: head(jnp.concatenate([others, a.reshape(n, count, channels)], axis=1))


def require_positions(features: Array, x: Array, picture: bool) -> None:
    """Raise where features are not laid out like the input."""
    if features.ndim == x.ndim and not picture:
        raise ValueError(
            f"the layer's features have shape {features.shape}, but no picture's positions (tokens x heads?): name the "
            "layer after the attention, its tokens laid out with grid=(rows, columns)"
        )
    if features.ndim != x.ndim:
        raise ValueError(
            f"the layer's features have shape {features.shape} for an input of shape {x.shape}: tokens need "
            "grid=(rows, columns), and features without positions make no map"
        )


def gradient_at(features: Array, head: Function, target: Target) -> Array:
    """The derivative of the score in the features."""
    outputs, pullback = jax.vjp(head, features)
    return pullback(score_gradient(target, outputs))[0]


def spatial_axes(features: Array) -> tuple[int, ...]:
    """The axes of the positions, between the batch and the channels."""
    return tuple(range(1, features.ndim - 1))


def unit_range(a: Array) -> Array:
    """Scale every example to [0, 1]."""
    low, high = -largest_of_each(-a), largest_of_each(a)
    return divide(a - low, high - low)
