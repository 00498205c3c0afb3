"""Images of which the evidence is known: one pattern decides the class, and all else is drawn alike for every class.

An image of 28 x 28 pixels is noise, with dots that mean nothing and one pattern in one quarter: an object, a texture or
a watermark, which stands where it always stands in its quarter. Its contrast has three grades: 1 is the easiest.
"""

from typing import NamedTuple

import numpy as np

CELL = 14
NOISE, DOTS, BOUND = 0.35, 8, 5.0  # no value is further from 0 than the bound
CONTRASTS = {1: 1.6, 2: 1.0, 3: 0.7}
KINDS = {
    "object": ("cross", "ring", "triangle", "corner"),
    "texture": ("horizontal stripes", "vertical stripes", "checks", "diagonal stripes"),
    "watermark": ("three bars", "two dots"),
}
NAMES = tuple(name for names in KINDS.values() for name in names)


class Planted(NamedTuple):
    """Images with what is known of them.

    Attributes:
      images: ``(N, H, W, 1)``, 0 in the mean.
      labels: ``(N,)``, places in `NAMES`.
      masks: ``(N, H, W)``, where the pattern is.
      grades: ``(N,)``, keys of `CONTRASTS`.
    """

    images: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    grades: np.ndarray


def shape_of(name: str) -> np.ndarray:
    """A pattern: 1 where it is bright, 0 where it is dark; the whole rectangle is the evidence."""
    row, column = np.mgrid[:9, :9]
    middle = np.maximum(abs(row - 4), abs(column - 4))
    return {
        "cross": (abs(row - 4) <= 1) | (abs(column - 4) <= 1),
        "ring": middle >= 3,
        "triangle": column <= row,
        "corner": (row <= 2) | (column <= 2),
        "horizontal stripes": row % 4 < 2,
        "vertical stripes": column % 4 < 2,
        "checks": (row // 2 + column // 2) % 2 == 0,
        "diagonal stripes": (row + column) % 4 < 2,
        "three bars": (column % 4 < 2)[:4],
        "two dots": ((column // 3) % 2 == 0)[:4] & ((row // 2) % 2 == 0)[:4],
    }[name].astype(np.float32)


def cells(count: int, seed: int) -> Planted:
    """Single quarters, ``(N, 14, 14, 1)``."""
    random = np.random.default_rng(seed)
    labels = random.integers(len(NAMES), size=count)
    grades = random.choice(list(CONTRASTS), size=count)
    images = NOISE * random.normal(size=(count, CELL, CELL)).astype(np.float32)
    masks = np.zeros(images.shape, bool)
    for image, mask, label, grade in zip(images, masks, labels, grades, strict=True):
        shape = shape_of(NAMES[label])
        height, width = shape.shape
        is_fixed = NAMES[label] in KINDS["watermark"]
        top, left = (CELL - height, CELL - width) if is_fixed else random.integers(CELL - np.array(shape.shape) + 1)
        place = slice(top, top + height), slice(left, left + width)
        image[place] += CONTRASTS[grade] * (2 * shape - 1)
        mask[place] = True
    return Planted(images[..., None], labels.astype(np.int32), masks, grades)


def images(count: int, seed: int) -> Planted:
    """Whole images, ``(N, 28, 28, 1)``: a pattern in one of the quarters, dots elsewhere."""
    planted, random = cells(count, seed), np.random.default_rng(seed + 1000)
    whole = NOISE * random.normal(size=(count, 2, CELL, 2, CELL)).astype(np.float32)
    masks = np.zeros(whole.shape, bool)
    row, column = random.integers(2, size=(2, count))
    everyone = np.arange(count)
    whole[everyone, row, :, column] = planted.images[..., 0]
    masks[everyone, row, :, column] = planted.masks
    whole, masks = (a.reshape(count, 2 * CELL, 2 * CELL) for a in (whole, masks))
    for image, mask in zip(whole, masks, strict=True):
        free = np.argwhere(~mask)
        image[tuple(random.choice(free, size=DOTS, replace=False).T)] += 2 * CONTRASTS[1] * random.choice([-1, 1], DOTS)
    return planted._replace(images=whole[..., None].clip(-BOUND, BOUND), masks=masks)
