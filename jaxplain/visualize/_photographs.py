"""Photographs as users have them - arrays of any layout, Pillow images of any size - and what a network saw of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from .._channels import Channels, require_channels

Photograph: TypeAlias = NDArray[np.uint8]  # (H, W, 3)
Photographs: TypeAlias = ArrayLike | Sequence[ArrayLike | Image.Image]
Boxes: TypeAlias = NDArray[np.float64]  # (N, 4)

SHAPES = "(N, H, W), (N, H, W, C) or (N, C, H, W) with 1 to 4 channels"


def as_photographs(images: Photographs, channels: Channels | None = None) -> list[Photograph]:
    """Check images and make each of them ``(H, W, 3)`` uint8; their sizes may differ."""
    if isinstance(images, Image.Image):
        raise ValueError("images are a batch: a single one is [image]")
    if isinstance(images, list | tuple):
        return [as_photograph(image, channels) for image in images]
    return [*as_pictures(images, channels)]


def as_photograph(image: Any, channels: Channels | None) -> Photograph:
    """One image of a sequence."""
    if isinstance(image, Image.Image):
        from ..models import to_rgb  # which imports Flax

        return np.asarray(to_rgb(image))
    return as_pictures(np.asarray(image)[None], channels)[0]


def as_pictures(images: Any, channels: Channels | None = None) -> NDArray[np.uint8]:
    """Check a batch of images and make it ``(N, H, W, 3)`` uint8: grey is repeated, transparency lies over white."""
    if isinstance(images, list | tuple) and len(shapes := {np.shape(image) for image in images}) > 1:
        raise ValueError(f"images have the shapes {', '.join(map(str, sorted(shapes)))}: pass those of one shape")
    images = np.asarray(images)
    shape = images.shape
    if images.ndim == 3:
        images = images[..., None]
    elif images.ndim == 4 and are_channels_first(images, channels):
        images = np.moveaxis(images, 1, 3)
    if images.ndim != 4 or images.shape[3] not in (1, 2, 3, 4) or 0 in images.shape[1:]:
        raise ValueError(f"images have shape {shape}, not {SHAPES}")
    if images.dtype != np.uint8:
        if not ((images >= 0) & (images <= 1)).all():
            raise ValueError("images must be uint8 or floats in [0, 1]: show the photograph, not the network's input")
        images = np.rint(images.astype(np.float64) * 255).astype(np.uint8)
    if images.shape[3] in (2, 4):
        opacity = images[..., -1:] / 255
        images = np.rint(opacity * images[..., :-1] + (1 - opacity) * 255).astype(np.uint8)
    return np.broadcast_to(images, (*images.shape[:3], 3))


def are_channels_first(images: Any, channels: Channels | None = None) -> bool:
    """Whether images have their channels first, as the user says, or as only the second axis is short enough."""
    require_channels(channels)
    shape = getattr(images, "shape", ())  # of a list, each image is asked
    if len(shape) != 4:
        return channels == "first"
    return channels == "first" or (channels is None and shape[3] > 4 >= shape[1])


def as_boxes(boxes: ArrayLike | None, photographs: Sequence[Photograph]) -> Boxes:
    """Check what was seen of each photograph, ``(N, 4)``: left, top, right, bottom in its pixels; None is all of it."""
    whole = np.array([(0, 0, p.shape[1], p.shape[0]) for p in photographs], float).reshape(-1, 4)
    if boxes is None:
        return whole
    given = np.asarray(boxes, float)
    if given.shape not in ((4,), whole.shape):
        raise ValueError(
            f"boxes have shape {given.shape}: pass (left, top, right, bottom) for each of {len(whole)} images"
        )
    given = np.broadcast_to(given, whole.shape)
    inside = (given[:, :2] >= -0.5).all() and (given[:, 2:] <= whole[:, 2:] + 0.5).all()
    if not (inside and (given[:, 2:] > given[:, :2]).all()):
        raise ValueError("a box must lie inside its image: (left, top, right, bottom) in the image's own pixels")
    return given.clip(0, whole[:, [2, 3, 2, 3]])
