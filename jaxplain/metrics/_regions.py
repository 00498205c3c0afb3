"""Localisation by regions: the pixels above a threshold, the box around them, and how they overlap the object.

A map is scaled from its smallest value, 0, to its largest, 1. A constant map has no region.

Boxes are left, top, right and bottom in pixels, ``(N, 4)``, or ``(N, B, 4)`` of several objects; the right and bottom
sides lie behind the last pixel. Boxes without an inside fill up where images have fewer objects than others.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._chunking import chunked_map
from .._convention import Array, require_positive
from .._reductions import divide, over_largest
from ._common import flat, heatmap_and_mask, nan_unless_finite, to_heatmap
from ._localisation import nan_if_mask_empty

__all__ = ["box_iou", "iou", "max_box_accuracy"]


def iou(attribution: ArrayLike, mask: ArrayLike, *, threshold: float = 0.2) -> Array:
    """The overlap of the region above a threshold with the object, over their union; 1 is best.

    ``|R ∩ M| / |R ∪ M|,  R = {i: A_i - min A >= threshold · (max A - min A)}``

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed.
      mask: ``(N, H, W)``.
      threshold: a share of the map's range.

    Returns:
      ``(N,)``, between 0 and 1; NaN where the mask is empty.

    Raises:
      ValueError: as `pointing_game`, or if the threshold is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> a = jnp.array([[[0.1, 0.7], [0.2, -0.9]]])
      >>> jaxplain.metrics.iou(a, jnp.array([[[0, 1], [0, 1]]]), threshold=0.9)  # the 0.7 alone
      Array([0.5], dtype=float32)

    Reference:
      Zhou, Khosla, Lapedriza, Oliva, Torralba: Learning Deep Features for Discriminative Localization. CVPR 2016,
      arXiv:1512.04150.
    """
    require_threshold(threshold)
    a, inside = heatmap_and_mask(attribution, mask)
    region = flat(above(to_heatmap(attribution), threshold))
    both, either = (region & inside).sum(axis=1), (region | inside).sum(axis=1)
    return nan_if_mask_empty(a, inside, both.astype(a.dtype) / either)


def box_iou(attribution: ArrayLike, boxes: ArrayLike, *, threshold: float = 0.2, largest: bool = True) -> Array:
    """The overlap of the box around the region above a threshold with the object's box, over their union; 1 is best.

    ``|B ∩ B*| / |B ∪ B*|,  B the tightest box around the largest connected part of R``, R as in `iou`

    Pixels that touch at a corner are connected. The largest part is the one of most pixels, of equally large ones the
    first to end, row by row. Of several objects, the one counts that the box overlaps most.

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed.
      boxes: ``(N, 4)`` or ``(N, B, 4)``: left, top, right and bottom in pixels, right and bottom behind the last one.
        Boxes without an inside do not count.
      threshold: a share of the map's range.
      largest: whether the largest part alone has a box; else every part has, and the best counts.

    Returns:
      ``(N,)``, between 0 and 1; NaN where no box has an inside.

    Raises:
      ValueError: if the boxes do not belong to the maps, the threshold is out of range, or the attribution is not
        finite.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> a = jnp.array([[[1.0, 0.9, 0.0, 0.0], [0.8, 0.0, 0.0, 1.0]]])
      >>> jaxplain.metrics.box_iou(a, jnp.array([[0, 0, 2, 1]]))  # 2 x 2 pixels around the left part
      Array([0.5], dtype=float32)

    Reference:
      Zhou, Khosla, Lapedriza, Oliva, Torralba: Learning Deep Features for Discriminative Localization. CVPR 2016,
      arXiv:1512.04150.
    """
    require_threshold(threshold)
    maps, objects = maps_and_boxes(attribution, boxes)
    return nan_unless_finite(maps, overlap(above(maps, threshold), objects, largest))


def max_box_accuracy(
    attribution: ArrayLike,
    boxes: ArrayLike,
    *,
    iou: float = 0.5,
    steps: int = 100,
    largest: bool = True,
    curve: bool = False,
    chunk: int | None = 10,
) -> Array:
    """MaxBoxAcc: whether the box around the region overlaps the object's, at the threshold that suits the batch best.

    ``max over τ of mean over examples of [box_iou at τ >= iou],  τ = k / steps,  k = 0 ... steps - 1``

    The mean of what is returned is this number: one threshold is taken for all examples, so that it depends on the
    batch. Of a data set in several batches take ``curve=True``, the mean over all examples, and the largest.

    MaxBoxAccV2 is the mean of three numbers, those for ``iou`` 0.3, 0.5 and 0.7, with ``largest=False``.

    Args:
      attribution: ``(N, H, W)``, or ``(N, H, W, C)``, whose channels are summed.
      boxes: ``(N, 4)`` or ``(N, B, 4)``, as for `box_iou`.
      iou: which overlap is enough.
      steps: how many thresholds are tried.
      largest: as for `box_iou`.
      curve: whether to return the answers at all thresholds, ``(N, steps)``, instead of those at the best one.
      chunk: how many thresholds are tried at once.

    Returns:
      ``(N,)``, 1 or 0; NaN where no box has an inside, and that example has no say in the threshold.

    Raises:
      ValueError: as `box_iou`, or if an option is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> a = jnp.array([[[1.0, 0.6, 0.3, 0.0]], [[0.0, 0.3, 0.6, 1.0]]])
      >>> jaxplain.metrics.max_box_accuracy(a, jnp.array([[0, 0, 2, 1], [3, 0, 4, 1]]))  # above 1/3: 2 pixels each
      Array([1., 1.], dtype=float32)

    Reference:
      Choe, Oh, Lee, Chun, Akata, Shim: Evaluating Weakly Supervised Object Localization Methods Right. CVPR 2020,
      arXiv:2001.07437; MaxBoxAccV2: Choe, Oh, Chun, Lee, Akata, Shim, 2020, arXiv:2007.04178.
    """
    require_positive(steps=steps)
    if not 0 < iou <= 1:
        raise ValueError(f"{iou=} must be a share between 0 and 1")
    maps, objects = maps_and_boxes(attribution, boxes)

    def hits(threshold: Array) -> Array:
        overlaps = overlap(above(maps, threshold), objects, largest)
        return jnp.where(jnp.isnan(overlaps), jnp.nan, (overlaps >= iou).astype(maps.dtype))

    found = chunked_map(hits, jnp.arange(steps).astype(maps.dtype) / steps, chunk).T
    best = jnp.where(jnp.isnan(found), 0, found).sum(axis=0).argmax()
    return nan_unless_finite(maps, found if curve else jnp.take(found, best, axis=1))


# ---------------------------------------------------------------------------------------------- regions and their boxes


class Boxes(NamedTuple):
    """Sides of boxes in pixels, arrays of one shape; right and bottom lie behind the last pixel."""

    left: Array
    top: Array
    right: Array
    bottom: Array

    @property
    def area(self) -> Array:
        """How many pixels lie inside."""
        return jnp.maximum(self.right - self.left, 0) * jnp.maximum(self.bottom - self.top, 0)


def require_threshold(threshold: float) -> None:
    """Check a share of the map's range."""
    if not 0 <= threshold <= 1:
        raise ValueError(f"{threshold=} must be a share of the map's range, between 0 and 1")


def maps_and_boxes(attribution: ArrayLike, boxes: ArrayLike) -> tuple[Array, Boxes]:
    """The maps ``(N, H, W)``, and the sides of the boxes, ``(N, B)`` each."""
    maps, given = to_heatmap(attribution), jnp.asarray(boxes)
    if given.shape[-1:] != (4,) or given.ndim not in (2, 3) or given.shape[0] != maps.shape[0]:
        raise ValueError(
            f"boxes have shape {given.shape}: pass left, top, right and bottom for each map, ({maps.shape[0]}, 4), or "
            f"of several objects ({maps.shape[0]}, B, 4)"
        )
    sides = given.reshape(given.shape[0], -1, 4).astype(maps.dtype)
    return maps, Boxes(*jnp.moveaxis(sides, -1, 0))


def above(maps: Array, threshold: ArrayLike) -> Array:
    """The pixels with at least a share of the map's range; none where it is constant."""
    low = maps.min(axis=(1, 2), keepdims=True)
    scaled = over_largest(maps - low)
    return (scaled >= threshold) & (scaled.max(axis=(1, 2), keepdims=True) > 0)


def overlap(regions: Array, boxes: Boxes, largest: bool) -> Array:
    """The largest overlap over union of an object's box, ``(N, B)``, with a box of the region, ``(N, H, W)``."""
    side_type = boxes.left.dtype

    def of_one(region: Array, boxes: Boxes) -> Array:
        found, sizes = boxes_of_parts(region)
        if largest:
            found = jax.tree.map(lambda side: side[sizes.argmax()][None], found)
        own = jax.tree.map(lambda side: side[:, None].astype(side_type), found)
        theirs = jax.tree.map(lambda side: side[None], boxes)
        both = Boxes(
            jnp.maximum(own.left, theirs.left),
            jnp.maximum(own.top, theirs.top),
            jnp.minimum(own.right, theirs.right),
            jnp.minimum(own.bottom, theirs.bottom),
        )
        overlaps = divide(both.area, own.area + theirs.area - both.area)
        return jnp.where((boxes.area > 0).any(), jnp.where(theirs.area > 0, overlaps, 0).max(), jnp.nan)

    return jax.vmap(of_one)(regions, boxes)


def boxes_of_parts(region: Array) -> tuple[Boxes, Array]:
    """The box around each connected part of a region ``(H, W)``, and its size, by the number of the part's last pixel.

    Numbers without a part have the size 0 and a box without an inside.
    """
    height, width = region.shape
    numbers = parts(region).reshape(-1)
    row, column = jnp.divmod(jnp.arange(height * width), width)
    number = jnp.where(numbers < 0, height * width, numbers)  # which is out of range, and left out
    first = lambda values, end: jnp.full(height * width, end).at[number].min(values, mode="drop")
    behind = lambda values: jnp.zeros(height * width, int).at[number].max(values + 1, mode="drop")
    sizes = jnp.zeros(height * width, int).at[number].add(1, mode="drop")
    return Boxes(first(column, width), first(row, height), behind(column), behind(row)), sizes


def parts(region: Array) -> Array:
    """The connected part that each pixel of ``(H, W)`` lies in, by the number of its last pixel; -1 outside.

    Each pixel points to one of its part, first to itself. It takes the largest pointer around it, and then the pointer
    of the pixel that it points to, until nothing changes.
    """
    start = jnp.where(region, jnp.arange(region.size).reshape(region.shape), -1)

    def grow(state: tuple[Array, Array]) -> tuple[Array, Array]:
        pointer, _ = state
        around = jax.lax.reduce_window(pointer, -1, jax.lax.max, (3, 3), (1, 1), "SAME")
        near = jnp.where(region, around, -1)
        further = jnp.where(region, jnp.maximum(near, near.reshape(-1)[near]), -1)
        return further, (further != pointer).any()

    return jax.lax.while_loop(lambda state: state[1], grow, (start, region.any()))[0]
