"""From values to colours: the scale of a map, and what its colours mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._channels import Channels, said_axis

__all__ = ["colorize"]

Maps: TypeAlias = NDArray[np.float64]
Pictures: TypeAlias = NDArray[np.uint8]

DIVERGING = "RdBu_r"
SEQUENTIAL = "inferno"


def colorize(
    maps: ArrayLike,
    *,
    signed: bool | None = None,
    cmap: str | None = None,
    percentile: float = 99.5,
    channels: Channels | None = None,
) -> Pictures:
    """Colour explanation maps.

    Args:
      maps: ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)``, in any unit.
      signed: True puts zero in the middle of the colours, False at their lower end, where negative values are
        shown as well; None asks whether any value is negative.
      cmap: the name of a Matplotlib colour map; None takes "RdBu_r" for signed maps and "inferno" for others.
      percentile: of each map's absolute values, shown in the outermost colour; 100 is the maximum.
      channels: ``"first"`` for ``(N, C, H, W)``, ``"last"`` for ``(N, H, W, C)``; None takes the last axis, and
        refuses shapes that look like the first.

    Returns:
      ``(N, H, W, 3)`` uint8. A map that is zero everywhere has the colour of zero.

    Raises:
      ValueError: for maps of another shape, or with NaN or infinite values.

    Example:
      >>> import numpy as np, jaxplain.visualize as visualize
      >>> visualize.colorize(np.array([[[-2.0, 0.0, 2.0]]]))[0, 0].tolist()
      [[5, 48, 97], [247, 247, 247], [103, 0, 31]]
    """
    scaled = scale(as_maps(maps, channels), signed, percentile)
    return colours(scaled.values, scaled.signed, cmap)


@dataclass(frozen=True)
class Scaled:
    """Maps as they are coloured.

    Attributes:
      values: ``(N, H, W)`` from -1 to 1, or from 0 to 1 where they are not signed.
      limits: ``(N,)``, the value in the map's own unit that became 1: beyond it, values are clipped.
      signed: whether zero is in the middle of the colours.
    """

    values: Maps
    limits: Maps
    signed: bool


def as_maps(maps: ArrayLike, channels: Channels | None = None) -> Maps:
    """Check maps and sum their channels: ``(N, H, W)``."""
    maps = np.asarray(maps).astype(np.float64)
    if maps.ndim not in (3, 4) or 0 in maps.shape[1:]:
        raise ValueError(
            f"maps have shape {maps.shape}, not (N, H, W), (N, H, W, C) or (N, C, H, W): a single one is map[None]"
        )
    axis = said_axis(maps.shape, channels if maps.ndim == 4 else None, 'say channels="first"')
    if not (finite := np.isfinite(maps)).all():
        raise ValueError(f"map {np.argwhere(~finite)[0, 0]} holds NaN or infinite values, which have no colour")
    return maps if maps.ndim == 3 else maps.sum(axis=axis)


def scale(maps: Maps, signed: bool | None, percentile: float, shared: bool = False) -> Scaled:
    """Bring each map ``(N, H, W)`` to [-1, 1], or to [0, 1] where it is not signed; ``shared`` by one scale for all."""
    signed = bool((maps < 0).any()) if signed is None else signed
    maps = maps if signed else maps.clip(0)
    size = np.abs(maps).reshape(len(maps), maps.shape[1] * maps.shape[2])
    if shared and len(maps):
        size = size.reshape(1, -1).repeat(len(maps), axis=0)
    limits = np.percentile(size, percentile, axis=1)
    limits = np.where(limits > 0, limits, size.max(axis=1))  # where nearly all of the map is zero
    divisor = np.where(limits > 0, limits, 1)[:, None, None]
    return Scaled(maps.clip(-divisor, divisor) / divisor, limits, signed)


def colours(scaled: Maps, signed: bool, cmap: str | None = None) -> Pictures:
    """Look up scaled values in a table with an odd number of colours: zero is exactly its middle or its start."""
    position = (scaled + 1) / 2 if signed else scaled
    return colour_map(signed, cmap)(np.rint(510 * position).astype(int), bytes=True)[..., :3]


def colour_map(signed: bool, cmap: str | None = None):
    """Matplotlib's colour map of 511 colours."""
    require_matplotlib()
    from matplotlib import colormaps

    return colormaps.get_cmap(cmap or (DIVERGING if signed else SEQUENTIAL)).resampled(511)


def require_matplotlib() -> None:
    """Raise an error that names the extra, where Matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError("pictures need Matplotlib's colour maps: pip install 'jaxplain[plot]'") from None
