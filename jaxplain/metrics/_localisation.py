"""Localisation: whether the map lies where the object is.

Masks are true (or not 0) inside of the object. Where a mask is empty the answer is NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._channels import Channels, said_axis
from .._convention import Array, concrete, require_positive
from ._common import flat, heatmap_and_mask, mean_ranks, nan_unless_finite, ranks, to_heatmap

__all__ = [
    "attribution_localisation",
    "auc",
    "focus",
    "grid_images",
    "grid_pointing_game",
    "pointing_game",
    "relevance_mass_accuracy",
    "relevance_rank_accuracy",
    "top_k_intersection",
]


def pointing_game(attribution: ArrayLike, mask: ArrayLike, *, tolerance: float = 0.0) -> Array:
    """Whether the largest attribution lies in the object, or not far from it.

    ``[max of A inside = max of A]``

    Where several pixels share the maximum, one of them inside is enough.

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed.
      mask: ``(N, H, W)``.
      tolerance: how many pixels away from the object still counts, as the distance of the pixels' centres. It is 15 in
        the paper, 0 in Quantus.

    Returns:
      ``(N,)``, 1 or 0.

    Raises:
      ValueError: if the mask does not belong to the map, the attribution is not finite, or the tolerance is negative.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> a = jnp.array([[[0.1, 0.7], [0.2, -0.9]]])
      >>> jaxplain.metrics.pointing_game(a, a > 0.5)
      Array([1.], dtype=float32)

    Reference:
      Zhang, Bargal, Lin, Brandt, Shen, Sclaroff: Top-Down Neural Attention by Excitation Backprop. IJCV 2018,
      arXiv:1608.00507.
    """
    if not 0 <= tolerance < float("inf"):
        raise ValueError(f"{tolerance=} must be a number of pixels, not negative")
    a, inside = heatmap_and_mask(attribution, mask)
    near = flat(dilated(inside.reshape(jnp.shape(mask)), tolerance))
    hit = (near & (a == a.max(axis=1, keepdims=True))).any(axis=1)
    return nan_if_mask_empty(a, inside, hit.astype(a.dtype))


def relevance_mass_accuracy(attribution: ArrayLike, mask: ArrayLike) -> Array:
    """The share of the attribution that lies in the object.

    ``Σ_{i inside} A_i / Σ_i A_i``

    Between 0 and 1 for maps that are nowhere negative, as those of the paper; with a signed map the parts may cancel,
    so give its positive part.

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed.
      mask: ``(N, H, W)``.

    Returns:
      ``(N,)``.

    Raises:
      ValueError: as `pointing_game`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> a = jnp.array([[[0.5, 3.0], [0.0, 0.5]]])
      >>> jaxplain.metrics.relevance_mass_accuracy(a, a > 1)
      Array([0.75], dtype=float32)

    Reference:
      Arras, Osman, Samek: CLEVR-XAI: A Benchmark Dataset for the Ground Truth Evaluation of Neural Network
      Explanations. Information Fusion 2022, arXiv:2003.07258.
    """
    a, inside = heatmap_and_mask(attribution, mask)
    return nan_if_mask_empty(a, inside, jnp.where(inside, a, 0).sum(axis=1) / a.sum(axis=1))


def relevance_rank_accuracy(attribution: ArrayLike, mask: ArrayLike) -> Array:
    """The share of the K largest attributions that lie in the object, K being its size.

    Equal attributions count in the order of the rows, from left to right.

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed.
      mask: ``(N, H, W)``.

    Returns:
      ``(N,)``, between 0 and 1.

    Raises:
      ValueError: as `pointing_game`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> a = jnp.array([[[0.5, 3.0], [0.0, 0.4]]])
      >>> mask = jnp.array([[[0, 1], [0, 1]]])
      >>> jaxplain.metrics.relevance_rank_accuracy(a, mask)
      Array([0.5], dtype=float32)

    Reference:
      Arras, Osman, Samek: CLEVR-XAI. Information Fusion 2022, arXiv:2003.07258.
    """
    a, inside = heatmap_and_mask(attribution, mask)
    size = inside.sum(axis=1, keepdims=True)
    hits = (inside & (ranks(a) < size)).sum(axis=1)
    return nan_if_mask_empty(a, inside, hits.astype(a.dtype) / size[:, 0].astype(a.dtype))


def top_k_intersection(
    attribution: ArrayLike, mask: ArrayLike, *, k: int = 1000, concept_influence: bool = False
) -> Array:
    """The share of the k largest attributions that lie in the object.

    Equal attributions count in the order of the rows, from left to right.

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed.
      mask: ``(N, H, W)``.
      k: how many pixels count.
      concept_influence: whether to divide by the object's share of the image, so that chance is 1.

    Returns:
      ``(N,)``.

    Raises:
      ValueError: as `pointing_game`, or if ``k`` is no number of pixels of the image.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> a = jnp.array([[[0.5, 3.0], [0.0, 0.4]]])
      >>> jaxplain.metrics.top_k_intersection(a, a > 0.1, k=2, concept_influence=True)  # 1 divided by 3/4
      Array([1.3333334], dtype=float32)

    Reference:
      Theiner, Müller-Budack, Ewerth: Interpretable Semantic Photo Geolocation. WACV 2022, arXiv:2104.14995.
    """
    require_positive(k=k)
    a, inside = heatmap_and_mask(attribution, mask)
    if k > a.shape[1]:
        raise ValueError(f"{k=} is more than the map has pixels, {a.shape[1]}")
    share = (inside & (ranks(a) < k)).sum(axis=1).astype(a.dtype) / k
    return nan_if_mask_empty(a, inside, share / inside.mean(axis=1, dtype=a.dtype) if concept_influence else share)


def attribution_localisation(
    attribution: ArrayLike, mask: ArrayLike, *, positive_attributions: bool = False, weighted: bool = False
) -> Array:
    """The share of the absolute attribution that lies in the object.

    ``Σ_{i inside} |A_i| / Σ_i |A_i|``

    Quantus 0.6 weighs by the object's size over that of the images behind the second one of the batch; here it is the
    object's share of the image.

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed.
      mask: ``(N, H, W)``.
      positive_attributions: whether the positive part counts instead of the absolute value.
      weighted: whether to multiply by the object's share of the image.

    Returns:
      ``(N,)``, between 0 and 1.

    Raises:
      ValueError: as `pointing_game`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> a = jnp.array([[[-1.0, 3.0], [0.0, 0.0]]])
      >>> jaxplain.metrics.attribution_localisation(a, a > 1)
      Array([0.75], dtype=float32)

    Reference:
      Kohlbrenner, Bauer, Nakajima, Binder, Samek, Lapuschkin: Towards Best Practice in Explaining Neural Network
      Decisions with LRP. IJCNN 2020, arXiv:1910.09840.
    """
    a, inside = heatmap_and_mask(attribution, mask)
    a = jnp.maximum(a, 0) if positive_attributions else jnp.abs(a)
    share = nan_if_mask_empty(a, inside, jnp.where(inside, a, 0).sum(axis=1) / a.sum(axis=1))
    return share * inside.mean(axis=1, dtype=a.dtype) if weighted else share


def auc(attribution: ArrayLike, mask: ArrayLike) -> Array:
    """The area under the ROC curve of telling the object from the rest by the attribution; chance is 0.5.

    ``P(A_i > A_j) + P(A_i = A_j) / 2,  i inside, j outside``

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed.
      mask: ``(N, H, W)``.

    Returns:
      ``(N,)``, between 0 and 1; NaN where the mask is empty or covers the image.

    Raises:
      ValueError: as `pointing_game`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> a = jnp.array([[[0.5, 3.0], [0.0, 0.4]]])
      >>> mask = jnp.array([[[0, 1], [0, 1]]])
      >>> jaxplain.metrics.auc(a, mask)  # 3 of the 4 pairs are in order
      Array([0.75], dtype=float32)

    Reference:
      Fawcett: An Introduction to ROC Analysis. Pattern Recognition Letters 2006.
    """
    a, inside = heatmap_and_mask(attribution, mask)
    # The same of the other side, upside down: the mean of few ranks keeps more digits than that of many.
    is_large = 2 * inside.sum(axis=1, keepdims=True) > a.shape[1]
    a, inside = jnp.where(is_large, -a, a), inside ^ is_large
    size = inside.sum(axis=1).astype(a.dtype)
    mean = jnp.where(inside, mean_ranks(a), 0).sum(axis=1) / size
    return nan_unless_finite(a, (mean - (size + 1) / 2) / (a.shape[1] - size))


# -------------------------------------------------------------------------------------------- images of several objects


class Grids(NamedTuple):
    """Mosaics of images of different classes.

    Attributes:
      images: ``(G, side · H, side · W, C)``.
      labels: ``(G, side²)``, the class in each cell, row by row.
    """

    images: Array
    labels: Array


def grid_images(
    images: ArrayLike, labels: ArrayLike, key: Array, *, grids: int, side: int = 2, channels: Channels | None = None
) -> Grids:
    """Tile images of different classes, drawn at random, to square mosaics.

    Args:
      images: ``(N, H, W, C)``. The paper takes those that the network is sure of.
      labels: ``(N,)``, their classes.
      key: a PRNG key.
      grids: how many mosaics.
      side: how many images stand in a row; no class comes twice in a mosaic.
      channels: ``"first"`` for images ``(N, C, H, W)``, ``"last"`` (as without it) for ``(N, H, W, C)``.

    Returns:
      `Grids`, the images laid out as those given. Explain ``grids.images`` with the target ``grids.labels[:, cell]``.

    Raises:
      ValueError: if there are fewer than ``side²`` classes, or the images look as if their channels were first and
        nothing says so.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> images = jnp.arange(4.0).reshape(4, 1, 1, 1)
      >>> grids = jaxplain.metrics.grid_images(images, jnp.arange(4), jax.random.key(0), grids=3)
      >>> grids.images.shape, bool((grids.images.reshape(3, 4) == grids.labels).all())
      ((3, 2, 2, 1), True)

    Reference:
      Böhle, Fritz, Schiele: Convolutional Dynamic Alignment Networks for Interpretable Classifications. CVPR 2021,
      arXiv:2104.00032.
    """
    require_positive(grids=grids, side=side)
    images, labels = jnp.asarray(images), jnp.asarray(labels)
    if images.ndim != 4 or labels.shape != images.shape[:1]:
        raise ValueError(f"got images {images.shape} and labels {labels.shape}: pass (N, H, W, C) and (N,)")
    axis = said_axis(images.shape, channels)
    if concrete(labels) and len(np.unique(labels)) < side**2:
        raise ValueError(f"{len(np.unique(labels))} classes do not fill a mosaic of {side**2} cells")

    def cells(key: Array) -> Array:
        order = jax.random.permutation(key, labels.shape[0])
        drawn = labels[order]
        again = jnp.tril(drawn[:, None] == drawn[None, :], k=-1).any(axis=1)
        return order[jnp.argsort(again, stable=True)[: side**2]]

    chosen = jax.vmap(cells)(jax.random.split(key, grids))
    images = jnp.moveaxis(images, axis, -1)
    tiles = images[chosen].reshape(grids, side, side, *images.shape[1:])
    height, width, depth = images.shape[1:]
    mosaics = tiles.transpose(0, 1, 3, 2, 4, 5).reshape(grids, side * height, side * width, depth)
    return Grids(jnp.moveaxis(mosaics, -1, axis), labels[chosen])


def grid_pointing_game(attribution: ArrayLike, cell: ArrayLike, *, side: int = 2) -> Array:
    """The grid pointing game: the share of the positive attribution that lies in the target's cell of a mosaic.

    ``Σ_{i in the cell} max(A_i, 0) / Σ_i max(A_i, 0)``

    Chance is ``1 / side²``.

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed, of a mosaic with the class of the
        cell as its target.
      cell: the number of the cell, or one for each example, ``(N,)``, counted row by row.
      side: how many cells stand in a row.

    Returns:
      ``(N,)``, between 0 and 1; NaN where nothing is positive.

    Raises:
      ValueError: if the map cannot be divided into the cells, or there is no such cell.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> a = jnp.array([[[0.5, 3.0], [-2.0, 0.5]]])
      >>> jaxplain.metrics.grid_pointing_game(a, 1)
      Array([0.75], dtype=float32)

    Reference:
      Böhle, Fritz, Schiele: Convolutional Dynamic Alignment Networks for Interpretable Classifications. CVPR 2021,
      arXiv:2104.00032.
    """
    require_positive(side=side)
    if not jnp.issubdtype(jnp.asarray(cell).dtype, jnp.integer):
        raise ValueError(f"{cell=} is no number of a cell: pass integers, counted row by row from 0")
    if concrete(cell) and not ((np.asarray(cell) >= 0) & (np.asarray(cell) < side**2)).all():
        raise ValueError(f"{cell=} is no cell of {side} x {side}: count them row by row, from 0 to {side**2 - 1}")
    cells = jnp.broadcast_to(jnp.asarray(cell), to_heatmap(attribution).shape[:1])
    share = focus(attribution, jnp.arange(side**2)[None] == cells[:, None], side=side)
    return jnp.where((cells >= 0) & (cells < side**2), share, jnp.nan)


def focus(attribution: ArrayLike, positions: ArrayLike, *, side: int = 2) -> Array:
    """The share of the positive attribution that lies in the cells of a mosaic that show the target's class.

    ``Σ_{i in these cells} max(A_i, 0) / Σ_i max(A_i, 0)``

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed.
      positions: ``(N, side²)``, true (or not 0) for cells with the target's class, row by row.
      side: how many cells stand in a row; 2 in the paper.

    Returns:
      ``(N,)``, between 0 and 1; NaN where nothing is positive.

    Raises:
      ValueError: if the map cannot be divided into the cells.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> a = jnp.array([[[0.5, 3.0], [-2.0, 0.5]]])
      >>> jaxplain.metrics.focus(a, jnp.array([[0, 1, 1, 0]]))
      Array([0.75], dtype=float32)

    Reference:
      Arias-Duart, Parés, Garcia-Gasulla, Gimenez-Abalos: Focus! Rating XAI Methods and Finding Biases. FUZZ-IEEE 2022,
      arXiv:2109.15035.
    """
    require_positive(side=side)
    maps, positions = to_heatmap(attribution), jnp.asarray(positions) != 0
    n, height, width = maps.shape
    if height % side or width % side or positions.shape != (n, side**2):
        raise ValueError(
            f"maps of shape {maps.shape} and positions of shape {positions.shape} make no mosaic of {side} x {side}"
        )
    cells = flat(jnp.maximum(maps, 0).reshape(n, side, height // side, side, width // side).sum(axis=(2, 4)))
    return nan_unless_finite(maps, jnp.where(positions, cells, 0).sum(axis=1) / cells.sum(axis=1))


def nan_if_mask_empty(a: Array, inside: Array, values: Array) -> Array:
    """The values, NaN where the mask is empty or the map is not finite."""
    return nan_unless_finite(a, jnp.where(inside.any(axis=1), values, jnp.nan))


def dilated(inside: Array, radius: float) -> Array:
    """The pixels of ``(N, H, W)`` that are at most ``radius`` away from one inside."""
    if radius < 1:
        return inside
    reach = np.arange(-int(radius), int(radius) + 1)
    disk = jnp.asarray(np.hypot(reach[:, None], reach[None]) <= radius, jnp.float32)
    near = jax.lax.conv(inside[:, None].astype(jnp.float32), disk[None, None], (1, 1), "SAME")
    return near[:, 0] > 0.5
