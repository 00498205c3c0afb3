"""Animations: how a map comes to be, over the steps of an optimisation, samples of noise, or layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from .._channels import Channels
from ._colours import Scaled, scale
from ._columns import Column, notes_of, overlay_title
from ._overlay import maps_of
from ._panel import drawn, is_cropped
from ._photographs import Photographs, are_channels_first, as_boxes, as_photographs

__all__ = ["animation"]


def animation(
    images: Photographs,
    frames: Mapping[str, Sequence[ArrayLike]],
    *,
    labels: Sequence[str] = (),
    boxes: ArrayLike | None = None,
    overlays: bool = False,
    percentile: float = 99.5,
    channels: Channels | None = None,
    size: float = 320,
    resolution: float = 1,
) -> list[Image.Image]:
    """Draw panels that follow each other, to be saved as a GIF or WebP: a mask's history, steps, samples of noise.

    The maps of an image have one scale in all frames, so that a colour means one value throughout.

    Args:
      images: as in `panel`.
      frames: title -> ``(T, N, h, w)`` or ``(T, N, h, w, C)``, the maps of one time after those of another.
      labels: what each of the T frames shows, such as ``"step 10"``.
      boxes: as in `panel`.
      overlays: as in `panel`.
      percentile: of the absolute values of all frames.
      channels: as in `panel`.
      size: as in `panel`.
      resolution: as in `panel`.

    Returns:
      T pictures of one size; see `save`, whose ``seconds`` is the time of each. A GIF has 256 colours, a WebP all.

    Raises:
      ValueError: as in `panel`, and where titles differ in their number of frames.

    Example:
      >>> import numpy as np, jaxplain.visualize as visualize
      >>> growing = np.linspace(0, 1, 5)[:, None, None, None] * np.ones((1, 8, 8))
      >>> len(visualize.animation(np.ones((1, 8, 8, 3)), {"mask": growing}))
      5
    """
    channels = "first" if are_channels_first(images, channels) else channels
    photographs = as_photographs(images, channels)
    seen = as_boxes(boxes, photographs)
    columns = {title: over_time(maps, len(photographs), percentile, channels) for title, maps in frames.items()}
    counts = {len(times) for times in columns.values()} | ({len(labels)} if labels else set())
    if len(counts) != 1:
        raise ValueError(f"there are {' and '.join(map(str, sorted(counts)))} frames or labels: pass as many of each")
    (count,) = counts
    pictures = []
    for t, label in enumerate(labels or [f"{t + 1} of {count}" for t in range(count)]):
        shown = [column for title, times in columns.items() for column in columns_at(title, times[t], overlays)]
        notes = notes_of(shown, percentile, False, is_cropped(seen, photographs))
        notes = notes.replace("its own scale", "its own scale, the same in all frames")
        pictures.append(drawn(photographs, seen, shown, [label] * len(photographs), notes, None, size, resolution))
    return of_one_size(pictures)


def over_time(maps: Sequence[ArrayLike], n: int, percentile: float, channels: Channels | None) -> list[Scaled]:
    """The maps ``(T, N, h, w)`` of each time, each image by one scale for all times."""
    summed = np.stack([maps_of(some, n, channels) for some in maps])
    count, _, height, width = summed.shape
    tall = np.moveaxis(summed, 0, 1).reshape(n, count * height, width)  # the times of an image below each other
    scaled = scale(tall, None, percentile)
    values = np.moveaxis(scaled.values.reshape(n, count, height, width), 1, 0)
    return [replace(scaled, values=some) for some in values]


def columns_at(title: str, scaled: Scaled, overlays: bool) -> list[Column]:
    """The columns of one title at one time."""
    over = [Column(overlay_title(title), scaled, over=True)] if overlays else []
    return [Column(title, scaled), *over]


def of_one_size(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """White below those whose label has fewer lines."""
    height = max(picture.height for picture in pictures)
    frames = []
    for picture in pictures:
        frame = Image.new("RGB", (picture.width, height), "white")
        frame.paste(picture)
        frames.append(frame)
    return frames
