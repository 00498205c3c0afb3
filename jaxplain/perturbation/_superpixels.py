"""Segments of images: integer labels of the pixels, on a grid or along edges."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.typing import ArrayLike

from .._channels import Channels, said_axis
from .._convention import concrete, require_positive
from ._blending import require_images, require_sizes

__all__ = ["felzenszwalb", "grid_segments", "slic"]


def grid_segments(shape: tuple[int, ...], grid: tuple[int, ...] | None = None) -> np.ndarray:
    """Cut images, signals or volumes into a regular grid of segments.

    Args:
      shape: the height and width of the images, in pixels; of a signal its length, of volumes three numbers.
      grid: the number of cells along each axis, 7 without it; their sizes differ by at most one pixel.

    Returns:
      Labels in that shape from 0, row by row.

    Raises:
      ValueError: if there are more cells than pixels.

    Example:
      >>> import jaxplain
      >>> jaxplain.perturbation.grid_segments((2, 5), (1, 2))
      array([[0, 0, 0, 1, 1],
             [0, 0, 0, 1, 1]], dtype=int32)
    """
    grid = (7,) * len(shape) if grid is None else grid
    require_sizes(len(shape), shape=shape, grid=grid)
    if any(cells > size for size, cells in zip(shape, grid, strict=True)):
        raise ValueError(
            f"a grid of {grid} segments does not fit {shape} positions: pass segments=, for example of a coarser grid, "
            f"jaxplain.perturbation.grid_segments({shape}, {tuple(min(n, 3) for n in shape)})"
        )
    cell = [np.arange(size) * cells // size for size, cells in zip(shape, grid, strict=True)]
    return np.ravel_multi_index(np.ix_(*cell), grid).astype(np.int32)


def slic(
    images: ArrayLike,
    *,
    segments: int = 50,
    compactness: float = 10.0,
    sigma: float = 0.0,
    channels: Channels | None = None,
) -> np.ndarray:
    """Cut images into superpixels that follow their edges, by scikit-image's SLIC.

    Colours are scaled to the range of each image first, so that preprocessed images are cut as photographs are.

    Args:
      images: ``(N, H, W, C)``, known values: call it outside of `jax.jit`.
      segments: about how many superpixels are wanted.
      compactness: how much closeness counts against likeness of colour.
      sigma: the standard deviation of a blur before, in pixels.
      channels: ``"first"`` for images ``(N, C, H, W)``, ``"last"`` (as without it) for ``(N, H, W, C)``.

    Returns:
      Labels ``(N, H, W)`` from 0; images differ in how many they have.

    Raises:
      ImportError: if scikit-image is missing.
      ValueError: if the images are traced, not of that shape, or look as if their channels were first and nothing says.

    Example:
      >>> import numpy as np, jaxplain
      >>> halves = np.repeat([0.0, 1.0], 8).reshape(1, 1, 16, 1) * np.ones((1, 16, 16, 3))
      >>> labels = jaxplain.perturbation.slic(halves, segments=4)
      >>> [set(half.ravel().tolist()) for half in (labels[0, :, :8], labels[0, :, 8:])]
      [{0, 2}, {1, 3}]

    Reference:
      Achanta, Shaji, Smith, Lucchi, Fua, Süsstrunk: SLIC Superpixels Compared to State-of-the-Art Superpixel Methods.
      IEEE TPAMI 2012.
    """
    require_positive(segments=segments)
    pixels = pixels_of(images, "slic", channels)
    cut = segmentation("slic").slic
    options: dict[str, Any] = {"n_segments": segments, "compactness": compactness, "sigma": sigma, "start_label": 0}
    return np.stack([cut(image, channel_axis=-1, **options) for image in pixels]).astype(np.int32)


def felzenszwalb(
    images: ArrayLike,
    *,
    scale: float = 100.0,
    sigma: float = 0.8,
    smallest: int = 150,
    channels: Channels | None = None,
) -> np.ndarray:
    """Cut images into segments of any size that end where colours change, by scikit-image's Felzenszwalb.

    The segments of the paper of `xrai` are those of six scales, of images of 224 pixels:
    ``segments=[felzenszwalb(images, scale=s) for s in (50, 100, 150, 250, 500, 1200)]``. The colours of each image are
    scaled to -1 to 1 first, so that preprocessed images are cut as photographs are.

    Args:
      images: ``(N, H, W, C)``, known values: call it outside of `jax.jit`.
      scale: larger ones make larger segments.
      sigma: the standard deviation of a blur before, in pixels.
      smallest: smaller segments are joined with a neighbour, in pixels.
      channels: ``"first"`` for images ``(N, C, H, W)``, ``"last"`` (as without it) for ``(N, H, W, C)``.

    Returns:
      Labels ``(N, H, W)`` from 0; images differ in how many they have.

    Raises:
      ImportError: if scikit-image is missing.
      ValueError: if an option is out of range, the images are traced, not of that shape, or look as if their channels
        were first and nothing says.

    Example:
      >>> import numpy as np, jaxplain
      >>> halves = np.repeat([0.0, 1.0], 8).reshape(1, 1, 16, 1) * np.ones((1, 16, 16, 3))
      >>> labels = jaxplain.perturbation.felzenszwalb(halves, smallest=20)
      >>> [set(half.ravel().tolist()) for half in (labels[0, :, :7], labels[0, :, 9:])]
      [{0}, {1}]

    Reference:
      Felzenszwalb, Huttenlocher: Efficient Graph-Based Image Segmentation. IJCV 2004.
    """
    require_positive(smallest=smallest)
    if not (scale > 0 and sigma >= 0):
        raise ValueError(f"{scale=} must be positive and {sigma=} not negative")
    pixels = pixels_of(images, "felzenszwalb", channels)
    cut = segmentation("felzenszwalb").felzenszwalb
    options: dict[str, Any] = {"scale": scale, "sigma": sigma, "min_size": smallest, "channel_axis": -1}
    return np.stack([cut(2 * image - 1, **options) for image in pixels]).astype(np.int32)


def pixels_of(images: ArrayLike, method: str, channels: Channels | None) -> np.ndarray:
    """The images with their channels last, the colours of each from 0 to 1."""
    if not concrete(images):
        raise ValueError(f"{method} needs the values of the images: call it outside of jax.jit and pass its labels in")
    pixels = np.asarray(images, np.float64)
    require_images(pixels, method)
    pixels = np.moveaxis(pixels, said_axis(pixels.shape, channels), -1)
    low, high = (extreme(pixels, axis=(1, 2, 3), keepdims=True) for extreme in (np.min, np.max))
    return (pixels - low) / np.where(high > low, high - low, 1)


def segmentation(method: str) -> Any:
    """The module of scikit-image that cuts images."""
    try:
        import skimage.segmentation
    except ImportError:
        raise ImportError(
            f"{method} needs scikit-image: pip install 'jaxplain[demo]', or pass grid_segments(...)"
        ) from None
    return skimage.segmentation
