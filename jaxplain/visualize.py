"""Pictures of explanation maps: heat maps, overlays, panels, and files written whole or not at all.

Every function takes a batch of maps, ``(N, H, W)``, or of attributions with channels, ``(N, H, W, C)``, whose
channels are summed; for another choice, reduce them with `jaxplain.heatmap` first. Each map is divided by a high
percentile of its absolute values, so that a single bright pixel does not darken the rest, and clipped. Maps with
negative values are *signed* and get a diverging colour map centred at zero, the others a sequential one that
starts there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from ._channels import said_axis
from ._files import require_regular, write_whole

__all__ = ["colorize", "overlay", "panel", "save"]

Maps: TypeAlias = NDArray[np.float64]
Pictures: TypeAlias = NDArray[np.uint8]

DIVERGING = "RdBu_r"
SEQUENTIAL = "inferno"
LUMINANCE = np.array([0.299, 0.587, 0.114])
PALENESS = 0.5
INK, FAINT, HAIRLINE = (32, 32, 32), (128, 128, 128), (224, 224, 224)


# ------------------------------------------------------------------------------------------ heat maps and overlays


def colorize(
    maps: ArrayLike, *, signed: bool | None = None, cmap: str | None = None, percentile: float = 99.5
) -> Pictures:
    """Colour explanation maps.

    Args:
      maps: ``(N, H, W)`` or ``(N, H, W, C)``, in any unit.
      signed: True puts zero in the middle of the colours, False at their lower end, where negative values are
        shown as well; None asks whether any value is negative.
      cmap: the name of a Matplotlib colour map; None takes `DIVERGING` or `SEQUENTIAL`.
      percentile: of each map's absolute values, shown in the outermost colour; 100 is the maximum.

    Returns:
      ``(N, H, W, 3)`` uint8. A map that is zero everywhere has the colour of zero.

    Raises:
      ValueError: for maps of another shape, or with NaN or infinite values.

    Example:
      >>> import numpy as np, jaxplain.visualize as visualize
      >>> visualize.colorize(np.array([[[-2.0, 0.0, 2.0]]]))[0, 0].tolist()
      [[5, 48, 97], [247, 247, 247], [103, 0, 31]]
    """
    scaled, signed = scale(maps, signed, percentile)
    return colours(scaled, signed, cmap)


def overlay(
    images: ArrayLike,
    maps: ArrayLike,
    *,
    alpha: float = 0.8,
    signed: bool | None = None,
    cmap: str | None = None,
    percentile: float = 99.5,
) -> Pictures:
    """Lay coloured maps over their images, the more opaque the larger the value.

    The images turn pale grey, so that all colour is the map's and the photograph stays visible beneath.

    Args:
      images: ``(N, H, W, 3)`` or ``(N, H, W, 1)``: uint8, or floats in [0, 1].
      maps: ``(N, h, w)`` or ``(N, h, w, C)``; resized bilinearly to the images.
      alpha: opacity of the largest values, 0 to 1.
      signed: as in `colorize`.
      cmap: as in `colorize`.
      percentile: as in `colorize`.

    Returns:
      ``(N, H, W, 3)`` uint8.

    Raises:
      ValueError: as in `colorize`, and where images and maps do not fit together.

    Example:
      >>> import numpy as np, jaxplain.visualize as visualize
      >>> visualize.overlay(np.ones((2, 8, 8, 3)), np.ones((2, 4, 4))).shape
      (2, 8, 8, 3)
    """
    images = as_pictures(images)
    scaled, signed = scale(resize(maps, images), signed, percentile)
    grey = (images @ LUMINANCE)[..., None]
    pale = grey + PALENESS * (255 - grey)
    opacity = alpha * np.abs(scaled)[..., None]
    return np.rint((1 - opacity) * pale + opacity * colours(scaled, signed, cmap)).astype(np.uint8)


def as_maps(maps: ArrayLike) -> Maps:
    """Check maps and sum their channels: ``(N, H, W)``."""
    maps = np.asarray(maps).astype(np.float64)
    if maps.ndim not in (3, 4) or 0 in maps.shape[1:]:
        raise ValueError(f"maps have shape {maps.shape}, not (N, H, W) or (N, H, W, C): a single one is map[None]")
    said_axis(maps.shape, None, 'reduce them by jaxplain.heatmap(maps, channels="first")')
    if not (finite := np.isfinite(maps)).all():
        raise ValueError(f"map {np.argwhere(~finite)[0, 0]} holds NaN or infinite values, which have no colour")
    return maps if maps.ndim == 3 else maps.sum(axis=3)


def as_pictures(images: ArrayLike) -> Pictures:
    """Check images and make them ``(N, H, W, 3)`` uint8."""
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape[1:]:
        raise ValueError(f"images have shape {images.shape} instead of (N, H, W, 3) or (N, H, W, 1)")
    if images.dtype != np.uint8:
        if not ((images >= 0) & (images <= 1)).all():
            raise ValueError("images must be uint8 or floats in [0, 1]: show the photograph, not the network's input")
        images = np.rint(images.astype(np.float64) * 255).astype(np.uint8)
    return np.broadcast_to(images, (*images.shape[:3], 3))


def scale(maps: ArrayLike, signed: bool | None, percentile: float) -> tuple[Maps, bool]:
    """Bring each map to [-1, 1], or to [0, 1] where it is not signed, and say which of the two."""
    maps = as_maps(maps)
    signed = bool((maps < 0).any()) if signed is None else signed
    maps = maps if signed else maps.clip(0)
    _, height, width = maps.shape
    size = np.abs(maps).reshape(-1, height * width)
    limit = np.percentile(size, percentile, axis=1)
    limit = np.where(limit > 0, limit, size.max(axis=1))[:, None, None]  # where nearly all of the map is zero
    return np.clip(maps, -limit, limit) / np.where(limit > 0, limit, 1), signed


def resize(maps: ArrayLike, images: Pictures) -> Maps:
    """Resize maps bilinearly to the images they belong to."""
    maps = as_maps(maps)
    n, height, width, _ = images.shape
    if len(maps) != n:
        raise ValueError(f"there are {n} images and {len(maps)} maps: pass one map for each image")
    if maps.shape[1:] == (height, width):
        return maps
    largest = np.abs(maps).max(initial=0) or 1  # Pillow resizes in float32, so keep to its range
    planes = [Image.fromarray(np.float32(plane / largest)) for plane in maps]
    resized = [plane.resize((width, height), Image.Resampling.BILINEAR) for plane in planes]
    return np.array(resized, np.float64).reshape(n, height, width) * largest


def colours(scaled: Maps, signed: bool, cmap: str | None = None) -> Pictures:
    """Look up scaled values in a table with an odd number of colours: zero is exactly its middle or its start."""
    try:
        from matplotlib import colormaps
    except ImportError:
        raise ImportError("pictures need Matplotlib's colour maps: pip install 'jaxplain[demo]'") from None
    table = colormaps.get_cmap(cmap or (DIVERGING if signed else SEQUENTIAL)).resampled(511)
    position = (scaled + 1) / 2 if signed else scaled
    return table(np.rint(510 * position).astype(int), bytes=True)[..., :3]


# ---------------------------------------------------------------------------------------------------------- panels


def panel(
    images: ArrayLike,
    maps: Mapping[str, ArrayLike],
    *,
    captions: Sequence[str] = (),
    percentile: float = 99.5,
    size: int = 320,
) -> Image.Image:
    """Show images beside their maps: a row for each image, a column for each title, and what the colours mean.

    Args:
      images: ``(N, H, W, 3)`` or ``(N, H, W, 1)``: uint8, or floats in [0, 1].
      maps: title -> maps as in `overlay`, or ``(N, H, W, 3)`` uint8 pictures, which are shown as they are.
      captions: a line of text for each image, written beneath it.
      percentile: as in `colorize`.
      size: height of an image in the panel, in pixels.

    Returns:
      The picture; see `save`.

    Raises:
      ValueError: as in `overlay`.

    Example:
      >>> import numpy as np, jaxplain.visualize as visualize
      >>> image, map = np.ones((1, 8, 8, 3)), np.ones((1, 8, 8))
      >>> visualize.panel(image, {"map": map, "overlay": visualize.overlay(image, map)}, size=200)
      <PIL.Image.Image image mode=RGB size=640x233 at ...>
    """
    images = as_pictures(images)
    if captions and len(captions) != len(images):
        raise ValueError(f"there are {len(images)} images and {len(captions)} captions: pass one for each, or none")
    columns: list[tuple[str, Pictures, bool | None]] = [("image", images, None)]
    for title, values in maps.items():
        if np.asarray(values).dtype == np.uint8:
            columns.append((title, as_pictures(values), None))
        else:
            scaled, signed = scale(resize(values, images), None, percentile)
            columns.append((title, colours(scaled, signed), signed))

    n, height, width, _ = images.shape
    tile = max(1, round(size * width / height)), size
    font = typeface(max(8, size // 21))
    gap, line = size // 20, 2 * round(font.size)
    across, down = tile[0] + gap, tile[1] + gap + (line if captions else 0)
    header = gap // 2 + line
    canvas = Image.new("RGB", (gap + len(columns) * across, header + n * down), "white")
    draw = ImageDraw.Draw(canvas)
    for column, (title, pictures, signed) in enumerate(columns):
        left, right, middle = gap + column * across, (column + 1) * across, header - line // 2
        end = right if signed is None else legend(canvas, right, middle, font, signed)
        draw.text((left, middle), shorten(title, font, end - left), INK, font, anchor="lm")
        for row, picture in enumerate(pictures):
            top = header + row * down
            canvas.paste(Image.fromarray(picture).resize(tile, Image.Resampling.LANCZOS), (left, top))
            draw.rectangle((left, top, left + tile[0] - 1, top + tile[1] - 1), outline=HAIRLINE)
    for row, caption in enumerate(captions):
        middle = header + row * down + tile[1] + line // 2
        draw.text((gap, middle), shorten(caption, font, canvas.width - 2 * gap), INK, font, anchor="lm")
    return canvas


def legend(canvas: Image.Image, right: int, middle: int, font: ImageFont.FreeTypeFont, signed: bool) -> int:
    """Draw a small labelled colour bar that ends at ``right``, and return where a title to its left must end."""
    draw = ImageDraw.Draw(canvas)
    em = round(font.size)
    ramp = np.linspace(-1 if signed else 0, 1, 3 * em)[None].repeat(em // 2, axis=0)
    bar = Image.fromarray(colours(ramp, signed))
    left = right - em - bar.width
    canvas.paste(bar, (left, middle - bar.height // 2))
    draw.text((right, middle), "+", FAINT, font, anchor="rm")
    draw.text((left - em // 3, middle), "\N{MINUS SIGN}" if signed else "0", FAINT, font, anchor="rm")
    return left - 2 * em


def shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Cut a line of text where it is wider than ``width``."""
    text = short = " ".join(text.split())
    while text and font.getlength(short) > width:
        text = text[:-1]
        short = text.rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    return short if text else ""


def typeface(size: int) -> ImageFont.FreeTypeFont:
    """Matplotlib's own font, which has the letters of more languages than Pillow's."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


# ----------------------------------------------------------------------------------------------------------- files


def save(image: Image.Image | Pictures, path: str | os.PathLike[str]) -> None:
    """Write a picture whole or not at all: where writing fails or is interrupted, the file is as it was before.

    Args:
      image: a Pillow image, or ``(H, W, 3)`` uint8.
      path: the file; its extension names the format, and its folder exists.

    Raises:
      ValueError: where the extension names no picture format.
      OSError: where the file cannot be written, or is a folder, a pipe or a device.

    Example:
      >>> import numpy as np, jaxplain.visualize as visualize
      >>> visualize.save(np.zeros((8, 8, 3), np.uint8), "map.txt")
      Traceback (most recent call last):
      ValueError: map.txt: '.txt' is no picture format, try .png
    """
    path = Path(path)
    file_format = picture_format(path)
    picture = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
    write_whole(path, lambda file: picture.save(file, file_format))


def picture_format(path: Path) -> str:
    """The format that a file's extension names, if Pillow writes it, where a file can be: in a folder that exists."""
    file_format = Image.registered_extensions().get(path.suffix.lower(), "")
    if file_format not in Image.SAVE:
        raise ValueError(f"{path}: '{path.suffix}' is no picture format, try .png")
    if not os.path.isdir(path.parent):
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")
    with suppress(FileNotFoundError):
        require_regular(path)
    return file_format
