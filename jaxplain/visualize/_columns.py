"""The columns of a panel or a figure: maps with their scales, overlays, and pictures that are shown as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .._channels import Channels
from ._colours import Scaled, scale
from ._overlay import maps_of
from ._photographs import Photograph, as_photographs


@dataclass(frozen=True)
class Column:
    """What stands below one title.

    Attributes:
      title: a line, and below it smaller lines.
      content: scaled maps, one for each image, or pictures.
      over: whether the maps are laid over the photographs.
    """

    title: str
    content: Scaled | list[Photograph]
    over: bool = False


def columns_of(
    photographs: Sequence[Photograph],
    maps: Mapping[str, ArrayLike],
    *,
    overlays: bool,
    shared: bool,
    percentile: float,
    channels: Channels | None,
) -> list[Column]:
    """The columns of the maps: title -> maps of any unit, or pictures of bytes."""
    columns = []
    for title, values in maps.items():
        if not isinstance(values, list | tuple) and np.asarray(values).dtype != np.uint8:
            scaled = scale(maps_of(values, len(photographs), channels), None, percentile, shared)
            columns.append(Column(title, scaled))
            columns += [Column(overlay_title(title), scaled, over=True)] if overlays else []
        else:
            pictures = as_photographs(values)
            if len(pictures) != len(photographs):
                raise ValueError(
                    f"there are {len(photographs)} images and {len(pictures)} pictures of {title!r}: pass one for each"
                )
            columns.append(Column(title, pictures))
    return columns


def overlay_title(title: str) -> str:
    """The title of an overlay: that of its map, said to be one."""
    first, newline, rest = title.strip().partition("\n")
    return f"{first}, overlay{newline}{rest}"


def notes_of(columns: Sequence[Column], percentile: float, shared: bool, is_cropped: bool) -> str:
    """What one has to know to read the colours."""
    notes = []
    if any(isinstance(column.content, Scaled) for column in columns):
        whose = "The maps of a column have one scale" if shared else "Each map has its own scale"
        end = (
            "the largest absolute value" if percentile == 100 else f"the {percentile:g}th percentile of absolute values"
        )
        notes.append(f"{whose}; its colours end at {end}.")
    if is_cropped:
        notes.append("Hatched: not seen by the network.")
    return " ".join(notes)


def require_captions(captions: Sequence[str], n: int) -> None:
    """Check that there is a caption for each image, or none at all."""
    if captions and len(captions) != n:
        raise ValueError(f"there are {n} images and {len(captions)} captions: pass one for each, or none")
