"""Panels: photographs beside their maps, with titles, legends and captions, in one picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from .._channels import Channels
from . import _tiles as tiles
from ._colours import Scaled, colours
from ._columns import Column, columns_of, notes_of, require_captions
from ._layout import Box, Layout, Placed, Sizes, blocks_of, lay_out
from ._photographs import Boxes, Photograph, Photographs, are_channels_first, as_boxes, as_photographs
from ._text import number, typeface, wrap

__all__ = ["panel"]

PIXELS_PER_INCH = 96
MOST_PIXELS = 4  # a side of a tile is at most so many times `size`


def panel(
    images: Photographs,
    maps: Mapping[str, ArrayLike],
    *,
    captions: Sequence[str] = (),
    boxes: ArrayLike | None = None,
    overlays: bool = False,
    shared: bool = False,
    percentile: float = 99.5,
    channels: Channels | None = None,
    columns: int | None = None,
    size: float = 320,
    resolution: float = 2,
) -> Image.Image:
    """Show images beside their maps: a row for each image, a column for each title, and what the colours mean.

    A map is enlarged by repeating its pixels, so that its colours are those of `colorize`; beneath it stands its colour
    bar with the values at both ends. Text is wrapped, never cut.

    Args:
      images: ``(N, H, W, C)`` or ``(N, C, H, W)`` with 1 to 4 channels, or ``(N, H, W)``: uint8, or floats in [0, 1];
        or a list of photographs of any sizes, arrays or Pillow images.
      maps: title -> maps ``(N, h, w)``, ``(N, h, w, C)`` or ``(N, C, h, w)``, or uint8 pictures, which are shown as
        they are. What stands below the first line of a title is printed in grey: its composite, its layer.
      captions: a text for each image, written beneath it: its name, the class and its probability.
      boxes: what the network saw of each image, ``(N, 4)``: left, top, right, bottom in its pixels, as
        `jaxplain.models.Preprocess.boxes` tells. The maps are drawn there, and the rest is hatched.
      overlays: whether each map is laid over its image as well, beside it.
      shared: whether the maps below a title have one scale, instead of each its own.
      percentile: as in `colorize`.
      channels: as in `colorize`, of images and maps; None asks the images.
      columns: how many maps stand side by side; None takes 5, or more for many images. What is left stands below.
      size: the side of a square image; one that is not square has the same area. Images that are enlarged are so by a
        whole number, so that all pixels of their maps are equal.
      resolution: pixels of the panel for one of ``size``; the file is so many times 96 pixels an inch.

    Returns:
      The picture; see `save`.

    Raises:
      ValueError: as in `overlay`, for boxes outside their images, and where a size or number is not positive.

    Example:
      >>> import numpy as np, jaxplain.visualize as visualize
      >>> image, map = np.ones((1, 8, 8, 3)), np.ones((1, 8, 8))
      >>> visualize.panel(image, {"map": map}, overlays=True, captions=["white, 99 %"])
      <PIL.Image.Image image mode=RGB size=... at ...>
    """
    channels = "first" if are_channels_first(images, channels) else channels
    photographs = as_photographs(images, channels)
    options = {"overlays": overlays, "shared": shared, "percentile": percentile, "channels": channels}
    shown = columns_of(photographs, maps, **options)
    seen = as_boxes(boxes, photographs)
    notes = notes_of(shown, percentile, shared, is_cropped(seen, photographs))
    most = columns and columns * (1 + overlays)
    return drawn(photographs, seen, shown, captions, notes, most, size, resolution)


def is_cropped(boxes: Boxes, photographs: Sequence[Photograph]) -> bool:
    """Whether something was not seen."""
    return not np.array_equal(boxes, as_boxes(None, photographs))


def drawn(
    photographs: Sequence[Photograph],
    boxes: Boxes,
    columns: Sequence[Column],
    captions: Sequence[str],
    notes: str,
    most: int | None,
    size: float,
    resolution: float,
) -> Image.Image:
    """The panel of columns."""
    require_captions(captions, len(photographs))
    if not (size > 0 and resolution > 0):
        raise ValueError(f"size={size} and resolution={resolution}: both must be positive")
    text = Type.of(size, resolution)
    content: list[Column] = [Column("image", [*photographs]), *columns]
    sizes = tile_sizes([p.shape[1::-1] for p in photographs], max(1, size * resolution))
    layout, texts = arranged(content, sizes, captions, notes, most, text)
    canvas = Image.new("RGB", (layout.width, layout.height), "white")
    canvas.info["dpi"] = (PIXELS_PER_INCH * resolution,) * 2
    for part in layout.parts:
        column = content[part.column]
        if part.what == "tile":
            picture = tile(column, part, photographs, boxes, text.unit)
            canvas.paste(Image.fromarray(picture), part.box[:2])
        elif part.what == "legend" and isinstance(column.content, Scaled):
            draw_legend(canvas, part.box, column.content, part.row, text)
        else:
            write(canvas, part.box, texts[part.what, part.row, part.column], text)
    return canvas


@dataclass(frozen=True)
class Type:
    """The fonts of a panel, for a line each, and what is measured by them.

    Attributes:
      unit: the width of a hairline, in pixels.
      line: the height of a line of text.
    """

    heading: ImageFont.FreeTypeFont
    body: ImageFont.FreeTypeFont
    unit: int
    line: int

    @classmethod
    def of(cls, size: float, resolution: float) -> Type:
        """The fonts for images of a size."""
        em = resolution * min(15, max(9, size / 20))
        return cls(typeface(em), typeface(0.85 * em), max(1, round(resolution)), round(1.35 * em))


def tile_sizes(shapes: Sequence[tuple[int, int]], side: float) -> list[tuple[int, int]]:
    """Width and height of each image in the panel.

    Images of one shape have the area of a square with this side; where they are enlarged, by a whole number. Of several
    shapes, all have the width of that square, but none is more than twice as high.
    """
    if len(set(shapes)) == 1:
        width, height = shapes[0]
        factor = min(side / math.sqrt(width * height), MOST_PIXELS * side / max(width, height))
        factor = round(factor) if factor > 1 else factor
        return [(max(1, round(width * factor)), max(1, round(height * factor)))] * len(shapes)
    factors = [min(side / width, 2 * side / height) for width, height in shapes]
    return [(max(1, round(w * f)), max(1, round(h * f))) for (w, h), f in zip(shapes, factors, strict=True)]


Lines = list[tuple[str, bool]]  # whether it is a heading


def arranged(
    content: Sequence[Column],
    sizes: Sequence[tuple[int, int]],
    captions: Sequence[str],
    notes: str,
    most: int | None,
    text: Type,
) -> tuple[Layout, dict[tuple[str, int, int], Lines]]:
    """Wrap all texts, measure them, and place everything."""
    legend = max((legend_width(c.content, text) for c in content if isinstance(c.content, Scaled)), default=0)
    width = max([legend, 6 * text.line, *(w for w, _ in sizes)])
    titles = [title_lines(column.title, width, text) for column in content]
    under = [[(line, False) for line in wrap(caption, text.body, width)] for caption in captions or [""] * len(sizes)]
    blocks = [[0, *block] for block in blocks_of(range(1, len(content)), len(sizes), most)]
    gap = text.line // 2
    whole = max(map(len, blocks)) * (width + 2 * gap) - 2 * gap
    ending = [(line, False) for line in wrap(notes, text.body, whole)]
    measured = Sizes(
        column=width,
        tiles=sizes,
        titles=[len(lines) * text.line for lines in titles],
        legends=[text.line if isinstance(column.content, Scaled) else 0 for column in content],
        legend=legend,
        captions=[len(lines) * text.line for lines in under],
        notes=len(ending) * text.line,
        gap=gap,
    )
    texts: dict[tuple[str, int, int], Lines] = {("notes", 0, 0): ending}
    texts |= {("title", 0, column): lines for column, lines in enumerate(titles)}
    texts |= {("caption", row, 0): lines for row, lines in enumerate(under)}
    return lay_out(blocks, measured), texts


def title_lines(title: str, width: int, text: Type) -> Lines:
    """The first line of a title as a heading, the others smaller."""
    first, _, rest = title.strip().partition("\n")
    lines = [(line, True) for line in wrap(first, text.heading, width)]
    return lines + [(line, False) for part in rest.splitlines() for line in wrap(part, text.body, width)]


def write(canvas: Image.Image, box: Box, lines: Lines, text: Type) -> None:
    """Write lines of text below each other."""
    draw = ImageDraw.Draw(canvas)
    for i, (line, is_heading) in enumerate(lines):
        font, ink = (text.heading, tiles.INK) if is_heading else (text.body, tiles.FAINT)
        draw.text((box.left, box.top + (i + 0.5) * text.line), line, ink, font, anchor="lm")


def tile(column: Column, part: Placed, photographs: Sequence[Photograph], boxes: Boxes, unit: int) -> Photograph:
    """The tile of one image in one column."""
    photograph, size = photographs[part.row], part.box.size
    seen = tiles.place(boxes[part.row], photograph, size)
    if part.column == 0:
        return tiles.photograph_tile(photograph, size, seen, unit)
    if not isinstance(column.content, Scaled):
        return tiles.picture_tile(column.content[part.row], size)
    values = column.content.values[part.row]
    if column.over:
        return tiles.overlay_tile(values, column.content, photograph, size, seen, unit)
    return tiles.map_tile(values, column.content, size, seen, unit)


def ends(scaled: Scaled, row: int) -> tuple[str, str]:
    """The values at the ends of a map's colour bar."""
    limit = float(scaled.limits[row])
    return number(-limit) if scaled.signed else "0", number(limit)


def legend_width(scaled: Scaled, text: Type) -> int:
    """The least width of a column's legends: both numbers, and a bar between them."""
    labels = [text.body.getlength(label) for row in range(len(scaled.limits)) for label in ends(scaled, row)]
    return math.ceil(2 * max(labels, default=0) + 3 * text.line)


def draw_legend(canvas: Image.Image, box: Box, scaled: Scaled, row: int, text: Type) -> None:
    """Draw a map's colour bar between the values at its ends."""
    draw = ImageDraw.Draw(canvas)
    low, high = ends(scaled, row)
    middle, space = (box.top + box.bottom) / 2, text.line // 2
    draw.text((box.left, middle), low, tiles.FAINT, text.body, anchor="lm")
    draw.text((box.right, middle), high, tiles.FAINT, text.body, anchor="rm")
    left = box.left + math.ceil(text.body.getlength(low)) + space
    right = box.right - math.ceil(text.body.getlength(high)) - space
    ramp = np.linspace(-1 if scaled.signed else 0, 1, right - left)[None].repeat(text.line // 2, axis=0)
    bar = Image.fromarray(colours(ramp, scaled.signed))
    canvas.paste(bar, (left, round(middle - bar.height / 2)))
