"""Make `tests/data/saliency_xrai.npz`: the maps of XRAI of the authors' library for given attributions and segments.

    pip install saliency==0.2.1 scikit-image 'numpy<1.24' && python benchmarks/peers/saliency_xrai.py

Segments of three scales, dilated by scikit-image's disks, some of the attributions equal so that densities tie. The
tests read the numbers; only this script needs the library, whose last release asks for a NumPy with `np.float`.
"""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import saliency.core as saliency
from skimage.morphology import binary_dilation, disk

OUT = Path(__file__).parents[2] / "tests" / "data" / "saliency_xrai.npz"
CASES = [(0, 1), (0, 20), (1, 10), (2, 1), (2, 50), (5, 50)]  # dilation, the smallest number of new pixels
HEIGHT, WIDTH = 20, 24


def segments():
    """Labels of three scales: the nearest of a few random points."""
    rng = np.random.default_rng(1)
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    for count in (16, 8, 3):
        points = rng.uniform(size=(count, 2)) * (HEIGHT, WIDTH)
        distance = [(row - r) ** 2 + (column - c) ** 2 for r, c in points]
        yield np.unique(np.argmin(distance, axis=0), return_inverse=True)[1].reshape(HEIGHT, WIDTH)


def main():
    rng = np.random.default_rng(0)
    smooth, whole = rng.normal(size=(HEIGHT, WIDTH, 3)), rng.integers(-2, 3, size=(HEIGHT, WIDTH, 3)).astype(float)
    attributions, labels = np.stack([smooth, whole]), np.stack([*segments()])
    maps = np.zeros((len(CASES), *attributions.shape[:3]))
    for i, (dilation, smallest) in enumerate(CASES):
        masks = [scale == s for scale in labels for s in range(scale.max() + 1)]
        masks = [binary_dilation(mask, disk(dilation)) for mask in masks]
        options = saliency.XRAIParameters()
        options.experimental_params["min_pixel_diff"] = smallest
        for j, a in enumerate(attributions):
            maps[i, j] = saliency.XRAI().GetMask(a, None, segments=masks, base_attribution=a, extra_parameters=options)
    versions = [f"{name} {version(name)}" for name in ("saliency", "scikit-image", "numpy")]
    numbers = {"versions": versions, "cases": CASES, "attributions": attributions, "labels": labels, "maps": maps}
    np.savez_compressed(OUT, **numbers)


if __name__ == "__main__":
    main()
