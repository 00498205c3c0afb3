"""Photographs in files, read one at a time; why one cannot be read is one sentence."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from .._files import open_file
from ._preprocess import to_rgb

# What photographs come in. Pillow knows more: it runs Ghostscript for EPS, whatever the file is called.
FORMATS = (
    *("AVIF", "BMP", "DDS", "DIB", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "PSD", "QOI"),
    *("SGI", "TGA", "TIFF", "WEBP"),
)


class ImageError(Exception):
    """An image that cannot be explained, while others can; the message is the rest of a sentence that names it."""


def read(path: Path) -> Image.Image:
    """Read a photograph of any mode as RGB: the first of its frames, whose number is ``info["frames"]``."""
    if str(path).startswith(("http:/", "https:/")):
        raise ImageError("this is an address of the web: download it, and pass the file")
    Image.init()  # all of Pillow's formats
    with reading(), open_file(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # decoders warn of odd metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
            rgb = to_rgb(image)
            rgb.info["frames"] = getattr(image, "n_frames", 1)
            return rgb


def checksum_of(path: Path) -> str:
    """A checksum of a file, by which another photograph of the same name is told from it."""
    with reading(), open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


@contextmanager
def reading() -> Iterator[None]:
    """Say in one sentence why a photograph cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise ImageError("there is no such file") from None
    except IsADirectoryError:
        raise ImageError("this is a folder that holds no pictures") from None
    except UnidentifiedImageError:
        raise ImageError(f"this is no image in one of the formats {', '.join(FORMATS)}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = f"{Image.MAX_IMAGE_PIXELS:,}"
        raise ImageError(f"it has more than {limit} pixels, as decompression bombs have") from None
    except Exception as error:  # decoders raise anything on a damaged file
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageError(f"it cannot be read: {reason}") from error
