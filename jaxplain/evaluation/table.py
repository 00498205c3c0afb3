"""From records to a table: means over the images, with confidence intervals by the bootstrap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from .records import require_record

RESAMPLES = 2000
Values: TypeAlias = Mapping[str, float]


@dataclass(frozen=True)
class Statistic:
    """A mean over images.

    Attributes:
      mean: over the images.
      low: where the 95 % confidence interval begins.
      high: where it ends.
      n: how many images have a value.
    """

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def summarize(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Statistic]]:
    """The mean of each metric for each method, with its 95 % confidence interval.

    The interval holds the middle 95 % of the means of 2000 samples of the images, drawn with replacement (the
    percentile bootstrap); so it tells how much the choice of images matters. Images without an answer are left out.

    Args:
      records: as `evaluate` yields them.

    Returns:
      method -> metric -> `Statistic`.

    Example:
      >>> from jaxplain.evaluation import summarize
      >>> numbers = enumerate([0.2, 0.4, 0.3])
      >>> records = [{"image": str(i), "method": "lrp", "metrics": {"insertion": v}} for i, v in numbers]
      >>> print(summarize(records)["lrp"]["insertion"])
      0.300 (0.200 to 0.400)
    """
    return {
        method: {name: statistic(list(values.values())) for name, values in by_metric.items() if values}
        for method, by_metric in by_method(records).items()
    }


def by_method(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Method -> metric -> image -> number."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for number, record in enumerate(records):
        require_record(record, f"records[{number}]")
        for name, value in record["metrics"].items():
            values = table.setdefault(record["method"], {}).setdefault(name, {})
            if value is not None:
                values.setdefault(record["image"], value)
    return table


def statistic(values: Sequence[float]) -> Statistic:
    """The mean of some numbers and its confidence interval."""
    numbers = np.asarray(values, float)
    low, high = np.percentile(resampled_means(numbers), (2.5, 97.5))
    return Statistic(float(numbers.mean()), float(low), float(high), len(numbers))


def exceeds(a: Values, b: Values, better: str) -> bool:
    """Whether ``a`` is better than ``b`` on the images that both have, with 95 % confidence (a paired bootstrap).

    Of fewer than 6 images none can tell: five fair coins fall alike more often than that.
    """
    sign = -1 if better == "lower" else 1
    difference = np.array([sign * (a[image] - b[image]) for image in sorted(a.keys() & b.keys())])
    return len(difference) >= 6 and bool(np.percentile(resampled_means(difference), 2.5) > 0)


def resampled_means(numbers: np.ndarray) -> np.ndarray:
    """The means of samples drawn with replacement, always the same ones for as many numbers."""
    rng = np.random.default_rng(0)
    return numbers[rng.integers(len(numbers), size=(RESAMPLES, len(numbers)))].mean(axis=1)


def arrow(better: str) -> str:
    """Which direction is better, behind a name."""
    return {"higher": " ↑", "lower": " ↓"}.get(better, "")


def markdown_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(row)} |" if row[0] != "---" else f"|{'|'.join(row)}|" for row in lines)


def summary_table(
    summary: Mapping[str, Mapping[str, Statistic]],
    better: Mapping[str, str],
    extra: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> str:
    """Statistics in Markdown; how many images a column is a mean of stands in its heading, and in cells that differ.

    Args:
      summary: as `summarize` returns it.
      better: metric -> which direction is better, in the order of the columns.
      extra: more columns, heading -> a cell for each method.
    """
    most = {name: max((s[name].n for s in summary.values() if name in s), default=0) for name in better}
    heading = ["method", *(f"{name}{arrow(b)} (n = {most[name]})" for name, b in better.items()), *extra]
    rows = []
    for index, (method, statistics) in enumerate(summary.items()):
        cells = [cell(statistics.get(name), most[name]) for name in better]
        rows.append([method, *cells, *(column[index] for column in extra.values())])
    return markdown_table(heading, rows)


def cell(value: Statistic | None, most: int) -> str:
    """A statistic in a table."""
    if value is None:
        return ""
    return str(value) if value.n == most else f"{value}, n = {value.n}"
