"""Maps laid over their photographs, and pictures brought to the size that they are shown in."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from .._channels import Channels
from ._colours import Maps, Pictures, as_maps, colours, scale
from ._photographs import Photograph, are_channels_first, as_pictures

__all__ = ["overlay"]

LUMINANCE = np.array([0.299, 0.587, 0.114])
PALENESS = 0.5


def overlay(
    images: ArrayLike,
    maps: ArrayLike,
    *,
    alpha: float = 0.8,
    signed: bool | None = None,
    cmap: str | None = None,
    percentile: float = 99.5,
    channels: Channels | None = None,
) -> Pictures:
    """Lay coloured maps over their images, the more opaque the larger the value.

    The images turn pale grey, so that all colour is the map's and the photograph stays visible beneath.

    Args:
      images: ``(N, H, W, C)`` or ``(N, C, H, W)`` with 1 to 4 channels, or ``(N, H, W)``: uint8, or floats in [0, 1].
      maps: ``(N, h, w)``, ``(N, h, w, C)`` or ``(N, C, h, w)``; resized bilinearly to the images, then coloured.
      alpha: opacity of the largest values, 0 to 1.
      signed: as in `colorize`.
      cmap: as in `colorize`.
      percentile: as in `colorize`.
      channels: as in `colorize`, of images and maps; None asks the images.

    Returns:
      ``(N, H, W, 3)`` uint8.

    Raises:
      ValueError: as in `colorize`, and where images and maps do not fit together.

    Example:
      >>> import numpy as np, jaxplain.visualize as visualize
      >>> visualize.overlay(np.ones((2, 8, 8, 3)), np.ones((2, 4, 4))).shape
      (2, 8, 8, 3)
    """
    channels = "first" if are_channels_first(images, channels) else channels
    pictures = as_pictures(images, channels)
    scaled = scale(maps_of(maps, len(pictures), channels), signed, percentile)
    laid = [
        blend(picture, resize(values, picture.shape[1::-1]), scaled.signed, cmap, alpha)
        for picture, values in zip(pictures, scaled.values, strict=True)
    ]
    return np.array(laid, np.uint8).reshape(pictures.shape)


def maps_of(maps: ArrayLike, n: int, channels: Channels | None) -> Maps:
    """Check that there is a map for each of ``n`` images, and sum its channels."""
    summed = as_maps(maps, channels)
    if len(summed) != n:
        raise ValueError(f"there are {n} images and {len(summed)} maps: pass one map for each image")
    return summed


def resize(values: Maps, size: tuple[int, int]) -> Maps:
    """Resize one map of scaled values, ``(h, w)``, bilinearly to ``(width, height)``; means where it shrinks."""
    if values.shape == size[::-1]:
        return values
    plane = Image.fromarray(np.float32(values)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(plane, np.float64).clip(-1, 1)


def blend(
    photograph: Photograph, values: Maps, signed: bool, cmap: str | None = None, alpha: float = 0.8
) -> Photograph:
    """One overlay, of scaled values ``(H, W)`` over a photograph of the same size."""
    opacity = alpha * np.abs(values)[..., None]
    return np.rint((1 - opacity) * pale(photograph) + opacity * colours(values, signed, cmap)).astype(np.uint8)


def pale(photograph: Photograph) -> Maps:
    """A photograph in pale grey, ``(H, W, 1)``."""
    grey = (photograph @ LUMINANCE)[..., None]
    return grey + PALENESS * (255 - grey)
