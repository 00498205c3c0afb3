"""Means, ranks and differences with their intervals, and how far orders agree.

A table holds what was measured on one network: ``table[label][metric][image]``. Whatever compares labels takes the
images that all of them have, so that all intervals are of paired numbers.
"""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

Table = Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % confidence interval of Student's t distribution, over ``n`` images."""

    mean: float
    half: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.half:.3f}"


def interval(numbers: np.ndarray) -> Interval:
    """The mean of numbers, with ``t s / √n``."""
    n = len(numbers)
    return Interval(float(numbers.mean()), float(stats.t.ppf(0.975, n - 1) * numbers.std(ddof=1) / math.sqrt(n)), n)


def matrix(table: Table, labels: Sequence[str], metric: str, images: Collection[str] | None = None) -> np.ndarray:
    """The numbers of a metric ``(images, labels)``, of the images that all labels have, in the order of their names."""
    common = set.intersection(*(set(table[label][metric]) for label in labels))
    chosen = sorted(common if images is None else common & set(images))
    return np.array([[table[label][metric][image] for label in labels] for image in chosen])


def places(numbers: np.ndarray, better: str) -> np.ndarray:
    """The place of each label on each image, 1 for the best; equal ones share the mean of their places."""
    return stats.rankdata(-numbers if better == "higher" else numbers, axis=1)


def mean_places(table: Table, labels: Sequence[str], better: Mapping[str, str]) -> dict[str, Interval]:
    """The mean place of each label over the metrics, all of equal weight.

    Metrics of the same images are averaged image by image first, as they depend on each other; those of different
    images do not: the variances of their means add up.
    """
    groups: dict[int, list[np.ndarray]] = {}
    for metric, direction in better.items():
        ranked = places(matrix(table, labels, metric), direction) / len(better)
        groups.setdefault(len(ranked), []).append(ranked)
    sums = [np.sum(group, axis=0) for group in groups.values()]
    found = {}
    for column, label in enumerate(labels):
        parts = [interval(group[:, column]) for group in sums]
        half = math.sqrt(sum(part.half**2 for part in parts))
        found[label] = Interval(sum(part.mean for part in parts), half, min(part.n for part in parts))
    return found


@dataclass(frozen=True)
class Difference:
    """How much better one label is than another on the same images: the gain, its 95 % interval, and its p-value."""

    gain: Interval
    p: float

    def __str__(self) -> str:
        return f"{self.gain.mean:+.3f} ± {self.gain.half:.3f}"


def difference(table: Table, label: str, than: str, metric: str, better: str, images=None) -> Difference:
    """A paired comparison: positive where the first is better."""
    a, b = matrix(table, [label, than], metric, images).T
    gains = a - b if better == "higher" else b - a
    gain, error = interval(gains), gains.std(ddof=1) / math.sqrt(len(gains))
    t = abs(gain.mean) / error if error else np.inf if gain.mean else 0.0
    return Difference(gain, float(2 * stats.t.sf(t, gain.n - 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for as many comparisons (Holm 1979): the chance of one false finding stays below each."""
    order, adjusted, largest = np.argsort(p_values), [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlation of two orders, with its 95 % interval, of ``n`` labels."""

    rho: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.rho:.2f} ({self.low:.2f} to {self.high:.2f})"


def agreement(first: np.ndarray, second: np.ndarray, draws: int = 2000) -> Agreement:
    """How far the mean orders of two matrices ``(images, labels)`` agree; the interval is of a bootstrap over images.

    Where both have the same images, the same are drawn from both.
    """
    random, same = np.random.default_rng(0), len(first) == len(second)
    # How often each draw has each image; rounded, so that equal columns stay equal in the sums.
    draw = lambda n: np.bincount(random.integers(n, size=n), minlength=n) / n
    pairs = [(one := draw(len(first)), one if same else draw(len(second))) for _ in range(draws)]
    means = (
        (np.array(shares) @ m).round(12) for shares, m in zip(zip(*pairs, strict=True), (first, second), strict=True)
    )
    low, high = np.percentile(spearman(*means), [2.5, 97.5])
    (rho,) = spearman(first.mean(axis=0)[None], second.mean(axis=0)[None])
    return Agreement(float(rho), float(low), float(high), first.shape[1])


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation, row by row."""
    ranks = (stats.rankdata(rows, axis=1) for rows in (first, second))
    one, two = (r - r.mean(axis=1, keepdims=True) for r in ranks)
    return (one * two).sum(axis=1) / np.sqrt((one**2).sum(axis=1) * (two**2).sum(axis=1))


def agreements(table: Table, labels: Sequence[str], better: Mapping[str, str]) -> dict[tuple[str, str], Agreement]:
    """How far the orders by each two metrics agree, of one network: 1 where the same methods are the best."""
    oriented = {
        metric: matrix(table, labels, metric) * (1 if direction == "higher" else -1)
        for metric, direction in better.items()
    }
    return {(a, b): agreement(oriented[a], oriented[b]) for a, b in itertools.combinations(oriented, 2)}
