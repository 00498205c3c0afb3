"""Figures of Matplotlib, for papers: maps as images of their own pixels, all else as vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._channels import Channels
from . import _tiles as tiles
from ._colours import Scaled, colour_map
from ._columns import Column, columns_of, notes_of, require_captions
from ._layout import Box, Layout, blocks_of
from ._overlay import blend, pale, resize
from ._panel import Lines, Type, arranged, ends, is_cropped, legend_width
from ._photographs import Boxes, Photograph, Photographs, are_channels_first, as_boxes, as_photographs
from ._text import typeface

__all__ = ["figure"]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS = 600  # an inch, of the layout
HEADING, BODY, SMALLEST = 8, 6.5, 5  # points; the last where legends would leave no room for a column otherwise
LONGEST = 640  # pixels of a photograph: 300 an inch where it is 2 inches wide


def figure(
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
    width: float = 6.75,
    ax: Any = None,
) -> Figure:
    """Draw what `panel` shows as a figure of Matplotlib, to be changed, or saved as PDF or SVG.

    Text, frames and scales are vectors, and each map is an image of its own pixels: `save` sees to that, and embeds
    TrueType fonts, as publishers ask for.

    Args:
      images: as in `panel`.
      maps: as in `panel`.
      captions: as in `panel`.
      boxes: as in `panel`.
      overlays: as in `panel`.
      shared: as in `panel`.
      percentile: as in `panel`.
      channels: as in `panel`.
      columns: how many maps stand side by side; None takes as many as there is room for.
      width: of a new figure, in inches, or a little less; more where one map's legend is wider. By default that of a
        text of two columns.
      ax: axes to draw into instead of a new figure: an array of them, a row for each image, with a column for the
        images and one for each map; or without that for the images.

    Returns:
      The figure; see `save`.

    Raises:
      ValueError: as in `panel`, and for axes of another number.

    Example:
      >>> import numpy as np, jaxplain.visualize as visualize
      >>> image, map = np.ones((1, 8, 8, 3)), np.eye(8)[None]
      >>> visualize.figure(image, {"a map": map}, overlays=True)
      <Figure size ... with 5 Axes>
    """
    channels = "first" if are_channels_first(images, channels) else channels
    photographs = as_photographs(images, channels)
    require_captions(captions, len(photographs))
    options = {"overlays": overlays, "shared": shared, "percentile": percentile, "channels": channels}
    content: list[Column] = [Column("image", photographs), *columns_of(photographs, maps, **options)]
    seen = as_boxes(boxes, photographs)
    if ax is not None:
        return drawn_into(ax, content, photographs, seen, captions)
    notes = notes_of(content[1:], percentile, shared, is_cropped(seen, photographs))
    points, layout, texts = fitted(content, photographs, captions, notes, columns, round(width * DOTS))
    return new_figure(points, layout, texts, content, photographs, seen)


def fitted(
    content: Sequence[Column],
    photographs: Sequence[Photograph],
    captions: Sequence[str],
    notes: str,
    most: int | None,
    width: int,
) -> tuple[float, Layout, dict[tuple[str, int, int], Lines]]:
    """The size of small text, and the layout of a panel in a given width: as many columns as legends leave room for."""
    line = round(1.35 * HEADING / 72 * DOTS)
    gap = 2 * (line // 2)
    across = lambda column: (width - 4 * (line // 2) + gap) // column - gap
    wanted = min(most or len(content), max(len(content) - 1, 1))
    for points in (BODY, SMALLEST):
        text = Type(*(typeface(size / 72 * DOTS) for size in (HEADING, points)), unit=1, line=line)
        legend = max((legend_width(c.content, text) for c in content if isinstance(c.content, Scaled)), default=line)
        most = next((number for number in range(wanted, 1, -1) if across(1 + number) >= legend), 1)
        if most == wanted:
            break
    side = across(1 + max(map(len, blocks_of(range(1, len(content)), len(photographs), most))))
    factors = [min(side / p.shape[1], 2 * side / p.shape[0]) for p in photographs]
    sizes = [
        (max(1, round(f * p.shape[1])), max(1, round(f * p.shape[0])))
        for f, p in zip(factors, photographs, strict=True)
    ]
    return points, *arranged(content, sizes, captions, notes, most, text)


def new_figure(
    points: float,
    layout: Layout,
    texts: Mapping[tuple[str, int, int], Lines],
    content: Sequence[Column],
    photographs: Sequence[Photograph],
    boxes: Boxes,
) -> Figure:
    """The parts of a layout as axes and texts."""
    from matplotlib.figure import Figure

    figure = Figure((layout.width / DOTS, layout.height / DOTS))
    for part in layout.parts:
        column = content[part.column]
        if part.what == "tile":
            draw(figure.add_axes(share(part.box, layout)), column, part.row, photographs[part.row], boxes[part.row])
        elif part.what == "legend" and isinstance(column.content, Scaled):
            axes, inches = figure.add_axes(share(part.box, layout)), part.box.size[0] / DOTS
            scale_bar(axes, column.content, part.row, inches, points)
        else:
            lines = texts[part.what, part.row, part.column]
            for i, (line, is_heading) in enumerate(lines):
                y = part.box.top + (i + 0.5) * (part.box.bottom - part.box.top) / len(lines)
                style: dict[str, Any] = (
                    {"fontsize": HEADING, "color": "0.1"} if is_heading else {"fontsize": points, "color": "0.4"}
                )
                figure.text(part.box.left / layout.width, 1 - y / layout.height, line, va="center_baseline", **style)
    return figure


def share(box: Box, layout: Layout) -> tuple[float, float, float, float]:
    """Left, bottom, width and height of a box, in shares of the figure."""
    width, height = box.size
    return box.left / layout.width, 1 - box.bottom / layout.height, width / layout.width, height / layout.height


def drawn_into(
    ax: Any, content: list[Column], photographs: Sequence[Photograph], boxes: Boxes, captions: Sequence[str]
) -> Any:
    """Draw into the user's axes, with or without some for the images, and return their figure."""
    given, n = np.asarray(ax, object), len(photographs)
    shown = next((shown for shown in (content, content[1:]) if given.size == n * len(shown)), None)
    if not shown:
        need = f"{n} x {len(content)} with the images, or {n} x {len(content) - 1} without"
        raise ValueError(f"ax holds {given.size} axes: pass {need}")
    axes = given.reshape(n, len(shown))
    for row, (photograph, box) in enumerate(zip(photographs, boxes, strict=True)):
        for one, column in zip(axes[row], shown, strict=True):
            draw(one, column, row, photograph, box)
            if isinstance(column.content, Scaled):
                inches = one.get_position().width * one.get_figure(root=True).get_figwidth()
                scale_bar(one.inset_axes((0, -0.14, 1, 0.1)), column.content, row, inches)
            if row == 0:
                one.set_title(column.title.strip(), fontsize=HEADING, loc="left")
        if captions and shown is content:
            axes[row][0].set_xlabel(captions[row], fontsize=BODY, loc="left")
    return axes[0][0].figure


def draw(ax: Axes, column: Column, row: int, photograph: Photograph, box: NDArray[np.float64]) -> None:
    """One photograph, map or overlay, in the pixels of the photograph."""
    height, width, _ = photograph.shape
    whole, (left, top, right, bottom) = (0, width, height, 0), box
    is_whole = (left, top, right, bottom) == (0, 0, width, height)
    if isinstance(column.content, Scaled) and not column.over:
        draw_map(ax, column.content, row, (left, right, bottom, top))
    elif not isinstance(column.content, Scaled) and column.title != "image":
        ax.imshow(column.content[row], extent=whole, interpolation="none")
    else:
        shown = shrunk(photograph)
        size = shown.shape[1::-1]
        x0, y0, x1, y1 = tiles.place(box, photograph, size)
        part = shown[y0:y1, x0:x1]
        if isinstance(column.content, Scaled):
            part = blend(part, resize(column.content.values[row], part.shape[1::-1]), column.content.signed)
        if not is_whole:
            ax.imshow(pale(shown)[..., 0], extent=whole, cmap="gray", vmin=0, vmax=255, interpolation="none")
        ax.imshow(part, extent=(left, right, bottom, top), interpolation="none")
    if not is_whole and (isinstance(column.content, Scaled) or column.title == "image"):
        hatch(ax, box, photograph)
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(False)


def draw_map(ax: Axes, scaled: Scaled, row: int, extent: tuple[float, float, float, float]) -> None:
    """A map in its own unit: each pixel keeps its value."""
    limit = float(scaled.limits[row]) or 1.0
    low = -limit if scaled.signed else 0.0
    ax.imshow(
        scaled.values[row] * limit,
        extent=extent,
        interpolation="none",
        cmap=colour_map(scaled.signed),
        vmin=low,
        vmax=limit,
    )


def shrunk(photograph: Photograph) -> Photograph:
    """A photograph of no more pixels than can be seen in a figure."""
    height, width, _ = photograph.shape
    factor = min(1, LONGEST / max(height, width))
    return tiles.shrunk_or_enlarged(photograph, (max(1, round(factor * width)), max(1, round(factor * height))))


def scale_bar(ax: Axes, scaled: Scaled, row: int, inches: float, points: float = BODY) -> None:
    """A colour bar between the values at its ends, in axes of its own, so many inches wide."""
    ax.axis("off")
    font = typeface(DOTS * points / 72)
    ends_of_bar = []
    for side, label in zip(("left", "right"), ends(scaled, row), strict=True):
        at = float(side == "right")
        ax.text(at, 0.5, label, transform=ax.transAxes, ha=side, va="center_baseline", fontsize=points, color="0.4")
        room = font.getlength(label + " ") / DOTS / inches
        ends_of_bar.append(abs(at - room))
    left, right = ends_of_bar
    bar = ax.inset_axes((left, 0.3, max(right - left, 0.05), 0.4))
    ramp = np.linspace(-1 if scaled.signed else 0, 1, 256)[None]
    bar.imshow(ramp, aspect="auto", cmap=colour_map(scaled.signed), interpolation="none")
    bar.set(xticks=[], yticks=[])
    bar.spines[:].set_visible(False)


def hatch(ax: Axes, box: NDArray[np.float64], photograph: Photograph) -> None:
    """Hatch what was not seen: strips above, below, left and right of the box, and a line around it."""
    from matplotlib.patches import Rectangle

    height, width, _ = photograph.shape
    left, top, right, bottom = box
    strips = (0, 0, width, top), (0, bottom, width, height), (0, top, left, bottom), (right, top, width, bottom)
    for x0, y0, x1, y1 in strips:
        if x1 > x0 and y1 > y0:
            strip = Rectangle((x0, y0), x1 - x0, y1 - y0, facecolor="none", edgecolor="0.45", linewidth=0)
            strip.set_hatch("/////")
            strip.set_hatch_linewidth(0.3)
            ax.add_patch(strip)
    ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="0.1", linewidth=0.5))
