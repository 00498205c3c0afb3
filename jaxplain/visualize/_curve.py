"""Curves of insertion, deletion and their relatives, as figures of Matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._intervals import half_width
from ._colours import require_matplotlib

__all__ = ["curve"]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALL = 7  # points


def curve(
    values: Mapping[str, ArrayLike],
    *,
    x: ArrayLike | None = None,
    labels: tuple[str, str] = ("share of pixels", "score"),
    better: str = "",
    width: float = 3.25,
    ax: Axes | None = None,
) -> Figure:
    """Draw curves of insertion, deletion and their relatives: means over the images, in bands of their 95 % intervals.

    Args:
      values: title -> ``(N, S)``, as metrics return them with ``curve=True``, or ``(S,)``; the legend tells the area.
      x: ``(S,)``; equally spaced from 0 to 1 by default.
      labels: of the two axes.
      better: ``"higher"`` or ``"lower"``, said beside the legend.
      width: of a new figure, in inches; that of a column of text by default.
      ax: axes to draw into instead of a new figure.

    Returns:
      The figure; see `save`.

    Raises:
      ValueError: for values of another shape, or with NaN or infinite values.

    Example:
      >>> import numpy as np, jaxplain.visualize as visualize
      >>> falling = np.linspace([1.0, 0.8, 0.9], 0, 11).T
      >>> visualize.curve({"lrp": falling, "random": np.full(11, 0.4)}, better="lower").axes[0].get_ylabel()
      'score'
    """
    if ax is None:
        require_matplotlib()
        from matplotlib.figure import Figure

        ax = Figure((width, 0.75 * width), layout="constrained").subplots()
    for title, numbers in values.items():
        band = np.atleast_2d(np.asarray(numbers, float))
        if band.ndim != 2 or not band.size or not np.isfinite(band).all():
            raise ValueError(f"the curves of {title!r} have shape {band.shape}, or no numbers: pass (N, S) finite ones")
        along = np.linspace(0, 1, band.shape[1]) if x is None else np.asarray(x, float)
        if along.shape != band.shape[1:]:
            raise ValueError(f"x has shape {along.shape}, and the curves of {title!r} {band.shape[1]} points")
        mean, low, high = mean_and_interval(band)
        area = np.trapezoid(mean, along)
        (line,) = ax.plot(along, mean, label=f"{title}, area {area:.3g}", linewidth=1.2)
        ax.fill_between(along, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    ax.set_xlabel(labels[0], fontsize=SMALL + 1)
    ax.set_ylabel(labels[1], fontsize=SMALL + 1)
    ax.tick_params(labelsize=SMALL)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=SMALL, frameon=False, title=f"{better} is better" if better else None, title_fontsize=SMALL)
    return cast("Figure", ax.figure)


def mean_and_interval(band: NDArray[np.float64]) -> tuple[NDArray, NDArray, NDArray]:
    """The mean of curves, and where its 95 % interval begins and ends; of one curve that is the curve."""
    mean = band.mean(axis=0)
    half = np.array([half_width(values) for values in band.T]) if len(band) > 1 else np.zeros_like(mean)
    return mean, mean - half, mean + half
