"""Where everything stands in a panel: boxes of titles, tiles, legends, captions and notes, none over another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

What = Literal["title", "tile", "legend", "caption", "notes"]


class Box(NamedTuple):
    """A rectangle of pixels, without its right and lower edge."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.right - self.left, self.bottom - self.top


class Placed(NamedTuple):
    """One part of a panel: what it is, of which image and which column, and where it stands."""

    what: What
    row: int
    column: int
    box: Box


@dataclass(frozen=True)
class Layout:
    """Where everything stands."""

    width: int
    height: int
    parts: tuple[Placed, ...]


@dataclass(frozen=True)
class Sizes:
    """What a layout is made of, in pixels.

    Attributes:
      column: width of a column.
      tiles: width and height of each image's tiles.
      titles: height of each column's title.
      legends: height of the legend beneath each column's tiles, 0 where it has none.
      legend: the least width of a legend.
      captions: height of the caption beneath each image.
      notes: height of the notes at the end.
      gap: between columns, rows, and a tile and its text.
    """

    column: int
    tiles: Sequence[tuple[int, int]]
    titles: Sequence[int]
    legends: Sequence[int]
    legend: int
    captions: Sequence[int]
    notes: int
    gap: int


def blocks_of(columns: Sequence[int], n: int, most: int | None) -> list[list[int]]:
    """Share columns among blocks that stand below each other, as evenly as possible.

    Args:
      columns: the columns, without that of the images.
      n: the number of images.
      most: how many stand side by side; None takes 5, or more for many images, so that panels are no towers.
    """
    if most is not None and most < 1:
        raise ValueError(f"{most} columns: pass a positive number, or None")
    most = max(5, round(1.5 * n)) if most is None else most
    count = max(1, math.ceil(len(columns) / most))
    each = math.ceil(len(columns) / count)
    return [list(columns[i * each : (i + 1) * each]) for i in range(count)]


def lay_out(blocks: Sequence[Sequence[int]], sizes: Sizes) -> Layout:
    """Place the blocks below each other; the first column of each is that of the images, number 0."""
    gap, margin = sizes.gap, 2 * sizes.gap
    step = sizes.column + 2 * gap
    width = 2 * margin + max(len(block) for block in blocks) * step - 2 * gap
    parts: list[Placed] = []
    top = margin
    for block in blocks:
        lefts = {column: margin + i * step for i, column in enumerate(block)}
        heading = max(sizes.titles[column] for column in block)
        for column, left in lefts.items():
            box = Box(left, top, left + sizes.column, top + sizes.titles[column])
            parts.append(Placed("title", 0, column, box))
        top += heading + gap
        for row, (tile_width, tile_height) in enumerate(sizes.tiles):
            under = top + tile_height + gap // 2
            below = [sizes.captions[row] if column == 0 else sizes.legends[column] for column in block]
            for (column, left), height in zip(lefts.items(), below, strict=True):
                parts.append(Placed("tile", row, column, Box(left, top, left + tile_width, top + tile_height)))
                what: What = "legend" if column else "caption"
                right = left + (max(tile_width, sizes.legend) if column else sizes.column)
                parts.append(Placed(what, row, column, Box(left, under, right, under + height)))
            top = under + max(below) + gap
        top += gap
    if sizes.notes:
        parts.append(Placed("notes", 0, 0, Box(margin, top, width - margin, top + sizes.notes)))
        top += sizes.notes + gap
    shown = [part for part in parts if part.box.bottom > part.box.top]
    return Layout(width, top + gap, tuple(shown))
