"""Figures of what was measured: which methods no other beats, and the places of all of them on every network."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from .boards import RANKED, Board
from .choices import front, mean_of
from .rows import CONTROLS
from .statistics import mean_places

SAVED = {"bbox_inches": "tight", "metadata": {"Date": None}}
STYLE = {
    "font.size": 8,
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxplain",
    "axes.spines.top": False,
    "axes.spines.right": False,
}
PAIRS = (("insertion", "grid_pointing_game"), ("deletion", "grid_pointing_game"))


def draw(boards: Sequence[Board], folder: Path) -> None:
    """Both figures, as SVG."""
    with plt.rc_context(STYLE):
        fronts(boards).savefig(folder / "fronts.svg", **SAVED)
        places(boards).savefig(folder / "places.svg", **SAVED)
        plt.close("all")


# ---------------------------------------------------------------------------------------------------------- fronts


def fronts(boards: Sequence[Board]) -> plt.Figure:
    """A row a network: insertion and deletion against the grid pointing game; the front is numbered."""
    size = (10, 3.4 * len(boards))
    figure, rows = plt.subplots(len(boards), 3, figsize=size, squeeze=False, layout="constrained")
    for board, (left, right, names) in zip(boards, rows, strict=True):
        best = front(board)
        for axes, pair in zip((left, right), PAIRS, strict=True):
            scatter(axes, board, best, pair)
        left.set_title(board.name, loc="left", weight="bold")
        names.axis("off")
        listed = "\n".join(
            f"{i}  {label}{' (recipe)' if label in board.recipes else ''}" for i, label in enumerate(best, 1)
        )
        names.legend(*left.get_legend_handles_labels(), loc="lower left", frameon=False)
        names.text(0, 1, listed, va="top", transform=names.transAxes)
    return figure


def scatter(axes: Axes, board: Board, best: Sequence[str], pair: tuple[str, str]) -> None:
    """Two metrics against each other, the better side of each to the right and above."""
    at = lambda label: tuple(mean_of(board.table, label, metric) for metric in pair)
    for name, (labels, style) in groups(board, best).items():
        if labels:
            axes.scatter(*zip(*map(at, labels), strict=True), label=name, **style)
    for number, label in enumerate(best, 1):
        axes.annotate(str(number), at(label), xytext=(3, 2), textcoords="offset points")
    axes.set(xlabel=pair[0], ylabel=pair[1].replace("_", " "))
    if RANKED[pair[0]] == "lower":
        axes.invert_xaxis()


def groups(board: Board, best: Sequence[str]) -> dict[str, tuple[list[str], Mapping]]:
    """What is drawn alike: methods, recipes, controls; outlined in black where no other beats them."""
    labels = board.measured(*RANKED, recipes=True)
    kind = lambda is_recipe: [label for label in labels if (label in board.recipes) == is_recipe]
    edges = lambda shown: ["black" if label in best else "none" for label in shown]
    methods, recipes = kind(False), kind(True)
    return {
        "methods": (methods, {"color": "tab:blue", "alpha": 0.8, "edgecolors": edges(methods)}),
        "recipes": (recipes, {"color": "tab:orange", "marker": "D", "alpha": 0.8, "edgecolors": edges(recipes)}),
        "controls": (list(CONTROLS), {"color": "black", "marker": "x"}),
    }


# ---------------------------------------------------------------------------------------------------------- places


def places(boards: Sequence[Board]) -> plt.Figure:
    """The mean place of every method on every network, as a share of the methods there: 0 is the best of all always."""
    shares = []
    for board in boards:
        found = mean_places(board.table, board.measured(*RANKED), RANKED)
        shares.append({label: (place.mean - 1) / max(len(found) - 1, 1) for label, place in found.items()})
    labels = sorted({label for share in shares for label in share}, key=lambda label: mean_share(shares, label))
    numbers = np.array([[share.get(label, np.nan) for share in shares] for label in labels])
    figure, axes = plt.subplots(figsize=(2.5 + 0.8 * len(boards), 0.17 * len(labels) + 1), layout="constrained")
    picture = axes.imshow(numbers, aspect="auto", cmap="viridis_r", vmin=0, vmax=1)
    axes.set_xticks(range(len(boards)), [board.name for board in boards], rotation=30, ha="left")
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(labels)), labels)
    figure.colorbar(picture, label="mean place, as a share", shrink=0.3)
    return figure


def mean_share(shares: Sequence[Mapping[str, float]], label: str) -> tuple[int, float]:
    """By what rows are sorted: those of most networks first, then the mean."""
    found = [share[label] for share in shares if label in share]
    return -len(found), float(np.mean(found))
