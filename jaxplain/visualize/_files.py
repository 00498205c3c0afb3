"""Files of pictures, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .._files import require_regular, write_whole

__all__ = ["save"]

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ANIMATED = ("GIF", "WEBP", "PNG")
WITH_RESOLUTION = ("PNG", "JPEG", "TIFF", "BMP")


def save(
    image: Image.Image | NDArray[np.uint8] | Figure | Sequence[Image.Image],
    path: str | os.PathLike[str],
    *,
    seconds: float = 0.2,
    text: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write a picture whole or not at all: where writing fails or is interrupted, the file is as it was before.

    Args:
      image: a Pillow image, ``(H, W, 3)`` uint8, a figure of Matplotlib, or a list of Pillow images, an animation.
      path: the file; its extension names the format, and its folder exists. Figures may be .pdf and .svg, animations
        are .gif, .webp or .png.
      seconds: of each picture of an animation.
      text: what a PNG tells of itself, name -> text, such as the command that made it.

    Raises:
      ValueError: where the extension names no picture format, or none of that kind of picture, and for arrays that are
        no picture, such as a batch of them.
      OSError: where the file cannot be written, or is a folder, a pipe or a device.

    Example:
      >>> import numpy as np, jaxplain.visualize as visualize
      >>> visualize.save(np.zeros((8, 8, 3), np.uint8), "map.txt")
      Traceback (most recent call last):
      ValueError: map.txt: '.txt' is no picture format, try .png
    """
    path = Path(path)
    if hasattr(image, "savefig"):
        save_figure(cast("Figure", image), path)
        return
    file_format = picture_format(path)
    if isinstance(image, list | tuple):
        if file_format not in ANIMATED:
            raise ValueError(f"{path}: '{path.suffix}' holds one picture only, try .webp or .gif")
        frames = [frame.convert("RGB") for frame in image]
        picture, options = frames[0], {"save_all": True, "append_images": frames[1:], "loop": 0}
        options |= {"duration": round(1000 * seconds)} | ({"lossless": True} if file_format == "WEBP" else {})
    else:
        picture = image if isinstance(image, Image.Image) else one_picture(cast("ArrayLike", image))
        options = {}
    if "dpi" in picture.info and file_format in WITH_RESOLUTION:
        options["dpi"] = picture.info["dpi"]
    if text and file_format == "PNG":
        options["pnginfo"] = PngInfo()
        for name, value in text.items():
            options["pnginfo"].add_itxt(name, value)
    write_whole(path, lambda file: picture.save(file, file_format, **options))


def one_picture(image: ArrayLike) -> Image.Image:
    """The array as an image, if it is one picture: `overlay` and `colorize` return batches of them."""
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        batch = ", of a batch name one, such as pictures[0]" if array.ndim == 4 else ""
        raise ValueError(f"a picture is (H, W, 3) of uint8, got {array.shape} of {array.dtype}{batch}")
    return Image.fromarray(array)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure: TrueType fonts instead of Type 3, each image with its own pixels instead of all in one."""
    import matplotlib

    kind = path.suffix.lower().lstrip(".")
    if kind not in figure.canvas.get_supported_filetypes():
        raise ValueError(f"{path}: '{path.suffix}' is no format of figures, try .pdf, .svg or .png")
    require_place(path)
    settings: dict[Any, Any] = {"pdf.fonttype": 42, "ps.fonttype": 42, "image.composite_image": False}

    def write(file: BinaryIO) -> None:
        with matplotlib.rc_context(settings):
            figure.savefig(file, format=kind, dpi=300, bbox_inches="tight", pad_inches=0.02)

    write_whole(path, write)


def picture_format(path: Path) -> str:
    """The format that a file's extension names, if Pillow writes it, where a file can be: in a folder that exists."""
    file_format = Image.registered_extensions().get(path.suffix.lower(), "")
    if file_format not in Image.SAVE:
        raise ValueError(f"{path}: '{path.suffix}' is no picture format, try .png")
    require_place(path)
    return file_format


def require_place(path: Path) -> None:
    """Refuse a file where none can be: in a folder that is not there, or in the place of what is no file."""
    if not os.path.isdir(path.parent):
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")
    with suppress(FileNotFoundError):
        require_regular(path)
