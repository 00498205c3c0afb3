"""From photographs to what a network takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from PIL import Image, ImageOps

__all__ = ["Preprocess", "to_rgb"]


@dataclass(frozen=True)
class Preprocess:
    """Photographs as a network takes them: the shorter side resized, the centre cropped, the values normalised.

    Attributes:
      mean: what is subtracted from each channel's values 0 to 255.
      std: what the difference is divided by.
      resize: the length of the shorter side after resizing.
      crop: the side of the square crop.
      interpolation: PIL's resampling filter.

    Example:
      >>> import numpy as np
      >>> from jaxplain.models import Preprocess
      >>> preprocess = Preprocess(mean=(127.0,) * 3, std=(128.0,) * 3)
      >>> photograph = np.full((300, 400, 3), 255, np.uint8)
      >>> images = preprocess(photograph)
      >>> images.shape, float(images.max())
      ((1, 224, 224, 3), 1.0)
      >>> preprocess.view(photograph).shape
      (1, 224, 224, 3)
      >>> preprocess.boxes(photograph).round().tolist()  # left, top, right, bottom
      [[68.0, 19.0, 331.0, 281.0]]
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: int = 256
    crop: int = 224
    interpolation: Image.Resampling = Image.Resampling.BILINEAR

    def __post_init__(self):
        if not 0 < self.crop <= self.resize:
            raise ValueError(f"a crop of {self.crop} does not fit in a shorter side of {self.resize}: raise resize=")

    def __call__(self, images: Any) -> jax.Array:
        """The network's input, ``(N, crop, crop, 3)`` in float32, of one photograph or several.

        Args:
          images: a PIL image or an array as `to_rgb` takes them, or a sequence of these.

        Raises:
          ValueError: as in `to_rgb`, and for no photographs.
        """
        pixels = self.view(images).astype(np.float32)
        return jax.device_put((pixels - self._mean) / self._std)

    def view(self, images: Any) -> np.ndarray:
        """The resized and cropped photographs as they look, ``(N, crop, crop, 3)`` in uint8: a map's background.

        Args:
          images: as for the call.
        """
        if not len(several := _several(images)):
            raise ValueError("there are no photographs: pass one, or several")
        return np.stack([self._crop(to_rgb(image)) for image in several])

    def boxes(self, images: Any) -> np.ndarray:
        """What the network sees of the photographs, ``(N, 4)``: left, top, right, bottom in pixels of the upright ones.

        Args:
          images: as for the call.
        """
        return np.array([self._box(to_rgb(image).size) for image in _several(images)])

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and highest value of each channel after normalisation, ``(3,)`` each: black and white."""
        return (0 - self._mean) / self._std, (255 - self._mean) / self._std

    @property
    def _mean(self) -> np.ndarray:
        return np.asarray(self.mean, np.float32)

    @property
    def _std(self) -> np.ndarray:
        return np.asarray(self.std, np.float32)

    def _box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        shorter = min(size)

        def span(side: int) -> tuple[float, float]:
            """Where the crop begins and ends along one side of the photograph, in its own pixels."""
            resized = side * self.resize // shorter
            first = round((resized - self.crop) / 2)
            return first * side / resized, (first + self.crop) * side / resized

        (left, right), (top, bottom) = map(span, size)
        return left, top, right, bottom

    def _crop(self, image: Image.Image) -> np.ndarray:
        # Resize the crop alone: all of a photograph of 1 × 3000 would become 256 × 768000.
        return np.asarray(image.resize((self.crop, self.crop), self.interpolation, self._box(image.size)))


TORCHVISION = Preprocess(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
"""What torchvision's classifiers were trained with: 255 times (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225)."""


def to_rgb(image: Any) -> Image.Image:
    """The image in 8-bit RGB, upright, over white where it is transparent.

    Args:
      image: a PIL image of any mode (grey, palette, alpha, 16-bit, CMYK), turned as its EXIF orientation says, or
        an array ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)`` of uint8.

    Returns:
      A PIL image of mode RGB.

    Raises:
      ValueError: if the array has another shape or dtype, the image is of floats, which have no agreed white, or it is
        an EPS or IPTC file, for which Pillow may run a program.

    Example:
      >>> from PIL import Image
      >>> from jaxplain.models import to_rgb
      >>> to_rgb(Image.new("I;16", (1, 1), 65535)).getpixel((0, 0))
      (255, 255, 255)
    """
    if not isinstance(image, Image.Image):
        image = _from_array(np.asarray(image))
    if image.format in ("EPS", "IPTC"):  # Ghostscript draws the one; the other may hold one
        raise ValueError(f"the image is in the format {image.format}, which Pillow needs a program for: save it as PNG")
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("the image is of floats, which have no agreed white: scale it to 0..255 as uint8")
    if image.mode.startswith("I"):  # 16 bits, also where PIL opens them as 32
        return Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _several(images: Any) -> Any:
    """A sequence of photographs, also of one."""
    return [images] if isinstance(images, Image.Image) or getattr(images, "ndim", 4) < 4 else images


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise ValueError(
            f"an image must be (H, W, 3) of uint8, from 0 to 255, and not {array.shape} of {array.dtype}: "
            "scale and convert it, or pass a PIL image"
        )
    return Image.fromarray(array)
