"""Figures of Matplotlib, for papers: maps as images of their own pixels, all else as vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._channels import Channels
from .._intervals import half_width
from . import _tiles as tiles
from ._colours import Scaled, colour_map
from ._columns import Column, columns_of, notes_of, require_captions
from ._panel import ends, is_cropped
from ._photographs import Boxes, Photograph, Photographs, are_channels_first, as_boxes, as_photographs

__all__ = ["curve", "figure"]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALL = 7  # points
LONGEST = 640  # pixels of a photograph in a figure: 300 an inch where it is as wide as a column of text


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
      width: of a new figure, in inches; that of a text of two columns by default.
      ax: axes to draw into instead of a new figure: an array of them, a row for each image, with a column for the
        images and one for each map; or without that for the images.

    Returns:
      The figure; see `save`.

    Raises:
      ValueError: as in `panel`, and for axes of another number.

    Example:
      >>> import numpy as np, jaxplain.visualize as visualize
      >>> image, map = np.ones((1, 8, 8, 3)), np.eye(8)[None]
      >>> len(visualize.figure(image, {"a map": map}, overlays=True).axes)
      5
    """
    channels = "first" if are_channels_first(images, channels) else channels
    photographs = as_photographs(images, channels)
    require_captions(captions, len(photographs))
    options = {"overlays": overlays, "shared": shared, "percentile": percentile, "channels": channels}
    content: list[Column] = [Column("image", photographs), *columns_of(photographs, maps, **options)]
    seen = as_boxes(boxes, photographs)
    if ax is None:
        made, axes = new_figure(photographs, len(content), width)
        notes = notes_of(content, percentile, shared, is_cropped(seen, photographs))
        made.supxlabel(notes, fontsize=SMALL, x=0.01, ha="left", color="0.4")
    else:
        made, axes, content = axes_of(ax, content, len(photographs))
    for row, (photograph, box) in enumerate(zip(photographs, seen, strict=True)):
        for ax_, column in zip(axes[row], content, strict=True):
            draw(ax_, column, row, photograph, box)
            if row == 0:
                title(ax_, column.title)
        if captions and content[0].title == "image":
            axes[row][0].set_xlabel(captions[row], fontsize=SMALL, loc="left", wrap=True)
    return made


def new_figure(photographs: Sequence[Photograph], columns: int, width: float) -> tuple[Figure, NDArray[Any]]:
    """A figure with a row of axes for each photograph, in its shape."""
    from matplotlib.figure import Figure

    ratios = [p.shape[0] / p.shape[1] for p in photographs]
    one = width / columns
    figure = Figure((width, sum(one * ratio + 0.35 for ratio in ratios) + 0.5), layout="constrained")
    return figure, figure.subplots(len(photographs), columns, squeeze=False, height_ratios=ratios)


def axes_of(ax: Any, content: list[Column], n: int) -> tuple[Any, NDArray[Any], list[Column]]:
    """The user's axes, with or without those of the images, their figure, and the columns that they show."""
    given = np.asarray(ax, object)
    for shown in (content, content[1:]):
        if given.size == n * len(shown):
            axes = given.reshape(n, len(shown))
            return axes[0][0].figure, axes, shown
    need = f"{n} x {len(content)} with the images, or {n} x {len(content) - 1} without"
    raise ValueError(f"ax holds {given.size} axes: pass {need}")


def title(ax: Axes, text: str) -> None:
    """A title, its first line in black and the others in grey."""
    first, _, rest = text.strip().partition("\n")
    ax.set_title("\n".join([first, *rest.splitlines()]), fontsize=SMALL + 1, loc="left")


def draw(ax: Axes, column: Column, row: int, photograph: Photograph, box: Boxes) -> None:
    """One photograph, map or overlay."""
    height, width, _ = photograph.shape
    left, top, right, bottom = box
    place = (left, right, bottom, top)
    shown = photograph if max(height, width) <= LONGEST else shrunk(photograph)
    whole = (0, width, height, 0)
    if not isinstance(column.content, Scaled):
        own = column.content[row] if column.title != "image" else shown
        ax.imshow(own, extent=whole, interpolation="none")
    elif column.over:
        size = shown.shape[1::-1]
        seen = tiles.place(box, photograph, size)
        ax.imshow(
            tiles.overlay_tile(column.content.values[row], column.content, photograph, size, seen, 1),
            extent=whole,
            interpolation="none",
        )
    else:
        limit = float(column.content.limits[row]) or 1.0
        ax.imshow(
            column.content.values[row] * limit,
            extent=place,
            interpolation="none",
            cmap=colour_map(column.content.signed),
            vmin=-limit if column.content.signed else 0,
            vmax=limit,
        )
        scale_bar(ax, column.content, row)
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
    if tuple(box) != (0, 0, width, height) and not column.over:
        hatch(ax, box, photograph)
    ax.spines[:].set_visible(False)


def shrunk(photograph: Photograph) -> Photograph:
    """A photograph of no more pixels than can be seen in a figure."""
    height, width, _ = photograph.shape
    factor = LONGEST / max(height, width)
    return tiles.shrunk_or_enlarged(photograph, (max(1, round(factor * width)), max(1, round(factor * height))))


def scale_bar(ax: Axes, scaled: Scaled, row: int) -> None:
    """The colour bar beneath a map, with the values at its ends."""
    bar = ax.inset_axes((0.25, -0.06, 0.5, 0.03))
    bar.imshow(np.linspace(-1 if scaled.signed else 0, 1, 256)[None], aspect="auto", cmap=colour_map(scaled.signed))
    bar.set(xticks=[], yticks=[])
    bar.spines[:].set_visible(False)
    low, high = ends(scaled, row)
    bar.text(-0.06, 0.5, low, transform=bar.transAxes, ha="right", va="center", fontsize=SMALL)
    bar.text(1.06, 0.5, high, transform=bar.transAxes, ha="left", va="center", fontsize=SMALL)


def hatch(ax: Axes, box: Boxes, photograph: Photograph) -> None:
    """Hatch what was not seen: strips above, below, left and right of the box."""
    from matplotlib.patches import Rectangle

    height, width, _ = photograph.shape
    left, top, right, bottom = box
    strips = (0, 0, width, top), (0, bottom, width, height), (0, top, left, bottom), (right, top, width, bottom)
    for x0, y0, x1, y1 in strips:
        if x1 > x0 and y1 > y0:
            ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fc=(1, 1, 1, 0.6), ec="0.6", hatch="/////", lw=0))
    ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, ec="0.1", lw=0.6))


def curve(
    values: Mapping[str, ArrayLike],
    *,
    x: ArrayLike | None = None,
    labels: tuple[str, str] = ("share of pixels", "score"),
    better: str = "",
    width: float = 3.25,
    ax: Axes | None = None,
) -> Figure:
    """Draw curves of insertion, deletion and their relatives: the mean over the images, and a band of its 95 % interval.

    Args:
      values: title -> ``(N, S)``, as metrics return them with ``curve=True``, or ``(S,)``; the legend tells the area.
      x: ``(S,)``; equally spaced from 0 to 1 by default.
      labels: of the two axes.
      better: ``"higher"`` or ``"lower"``, said beside the legend.
      width: of a new figure, in inches; that of a column of text by default.
      ax: axes to draw into instead of a new figure.

    Returns:
      The figure; see `save`.

    Raises:
      ValueError: for values of another shape, or with NaN or infinite values.

    Example:
      >>> import numpy as np, jaxplain.visualize as visualize
      >>> falling = np.linspace([1.0, 0.8, 0.9], 0, 11).T
      >>> visualize.curve({"lrp": falling, "random": np.full(11, 0.4)}, better="lower").axes[0].get_ylabel()
      'score'
    """
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure((width, 0.75 * width), layout="constrained").subplots()
    for title, numbers in values.items():
        band = np.atleast_2d(np.asarray(numbers, float))
        if band.ndim != 2 or not band.size or not np.isfinite(band).all():
            raise ValueError(f"the curves of {title!r} have shape {band.shape}, or no numbers: pass (N, S) finite ones")
        along = np.linspace(0, 1, band.shape[1]) if x is None else np.asarray(x, float)
        if along.shape != band.shape[1:]:
            raise ValueError(f"x has shape {along.shape}, and the curves of {title!r} {band.shape[1]} points")
        mean, low, high = mean_and_interval(band)
        area = np.trapezoid(mean, along)
        (line,) = ax.plot(along, mean, label=f"{title}, area {area:.3g}", linewidth=1.2)
        ax.fill_between(along, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    ax.set_xlabel(labels[0], fontsize=SMALL + 1)
    ax.set_ylabel(labels[1], fontsize=SMALL + 1)
    ax.tick_params(labelsize=SMALL)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=SMALL, frameon=False, title=f"{better} is better" if better else None)
    ax.get_legend().get_title().set_fontsize(SMALL)
    return ax.figure


def mean_and_interval(band: NDArray[np.float64]) -> tuple[NDArray, NDArray, NDArray]:
    """The mean of curves, and where its 95 % interval begins and ends; of one curve that is the curve."""
    mean = band.mean(axis=0)
    half = np.array([half_width(values) for values in band.T]) if len(band) > 1 else np.zeros_like(mean)
    return mean, mean - half, mean + half
