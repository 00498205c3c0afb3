"""The tiles of a panel: a photograph, a map, an overlay, each with what the network did not see hatched."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ._colours import Maps, Scaled, colours
from ._overlay import blend, pale, resize
from ._photographs import Photograph

INK, FAINT = (32, 32, 32), (112, 112, 112)
UNSEEN, HATCH = 244, 0.8

Size = tuple[int, int]  # (width, height)
Place = tuple[int, int, int, int]  # left, top, right, bottom in the tile


def place(box: NDArray[np.float64], photograph: Photograph, size: Size) -> Place:
    """Where a box of a photograph lies in a tile that shows it, a pixel wide at least."""
    across, down = size[0] / photograph.shape[1], size[1] / photograph.shape[0]
    left, top = min(round(box[0] * across), size[0] - 1), min(round(box[1] * down), size[1] - 1)
    return left, top, max(round(box[2] * across), left + 1), max(round(box[3] * down), top + 1)


def photograph_tile(photograph: Photograph, size: Size, box: Place, unit: int) -> Photograph:
    """The photograph, pale and hatched where it was not seen."""
    shown = shrunk_or_enlarged(photograph, size)
    return framed(shown, np.broadcast_to(np.rint(pale(shown)).astype(np.uint8), shown.shape), box, unit)


def map_tile(values: Maps, scaled: Scaled, size: Size, box: Place, unit: int) -> Photograph:
    """The map in the colours of its values, each of its own pixels enlarged to a rectangle."""
    tile = np.full((size[1], size[0], 3), UNSEEN, np.uint8)
    left, top, right, bottom = box
    inside = tile.copy()
    inside[top:bottom, left:right] = map_pixels(values, scaled, (right - left, bottom - top))
    return framed(inside, tile, box, unit)


def overlay_tile(values: Maps, scaled: Scaled, photograph: Photograph, size: Size, box: Place, unit: int) -> Photograph:
    """The map over the part of the photograph that was seen."""
    shown = shrunk_or_enlarged(photograph, size)
    outside = np.broadcast_to(np.rint(pale(shown)).astype(np.uint8), shown.shape)
    left, top, right, bottom = box
    inside = shown.copy()
    seen = np.s_[top:bottom, left:right]
    inside[seen] = blend(shown[seen], resize(values, (right - left, bottom - top)), scaled.signed)
    return framed(inside, outside, box, unit)


def picture_tile(picture: Photograph, size: Size) -> Photograph:
    """A picture as it is: enlarged by repeating its pixels, shrunk by their means."""
    image = Image.fromarray(picture)
    way = Image.Resampling.BOX if is_shrunk(picture, size) else Image.Resampling.NEAREST
    return np.asarray(image.resize(size, way))


def map_pixels(values: Maps, scaled: Scaled, size: Size) -> Photograph:
    """A map in colours. Colours are never mixed: where the map has more pixels than there is room, values are."""
    if is_shrunk(values, size):
        return colours(resize(values, size), scaled.signed)
    return np.asarray(Image.fromarray(colours(values, scaled.signed)).resize(size, Image.Resampling.NEAREST))


def shrunk_or_enlarged(photograph: Photograph, size: Size) -> Photograph:
    """A photograph in the size of its tile."""
    way = Image.Resampling.LANCZOS if is_shrunk(photograph, size) else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(photograph).resize(size, way))


def is_shrunk(picture: NDArray, size: Size) -> bool:
    """Whether a picture has more pixels than its tile, along one side at least."""
    return picture.shape[1] > size[0] or picture.shape[0] > size[1]


def framed(inside: Photograph, outside: Photograph, box: Place, unit: int) -> Photograph:
    """One picture within a box and another, hatched, around it, with a line between them."""
    height, width, _ = inside.shape
    left, top, right, bottom = box
    if (left, top, right, bottom) == (0, 0, width, height):
        return inside
    down, across = np.ogrid[:height, :width]
    lines = ((across + down) % (8 * unit) < unit)[..., None]
    tile = np.where(lines, np.rint(HATCH * outside).astype(np.uint8), outside)
    tile[top:bottom, left:right] = inside[top:bottom, left:right]
    edge = Image.new("1", (width, height))
    edge.paste(1, (left - unit, top - unit, right + unit, bottom + unit))
    edge.paste(0, (left, top, right, bottom))
    tile[np.asarray(edge)] = INK
    return tile
