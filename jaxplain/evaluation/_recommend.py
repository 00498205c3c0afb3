"""Which method for which need: what the leaderboard measured, filtered by what the taxonomy knows. No opinions.

`evidence.json` beside this file is written by ``python -m benchmarks.leaderboard``, of one network and one set of
photographs; what holds for others, `evaluate` tells.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, get_args

from .._html import html_table, listing
from .._taxonomy import METHODS, Family, Mechanism, Method, Need, Resolution, methods
from .._text import as_list, choose

__all__ = ["Advice", "recommend"]

GOALS = {
    "faithfulness": ("insertion", "deletion"),
    "localisation": ("grid_pointing_game",),
    "robustness": ("max_sensitivity",),
    "complexity": ("sparseness",),
    "speed": ("seconds_per_image",),
}
"""What one may want of a method, and how it was measured."""


@dataclass(frozen=True)
class Choice:
    """One method, as it was measured.

    Attributes:
      label: the method and its options.
      method: what the taxonomy says of it.
      places: metric -> its place among all that were measured, 1 for the best.
      evidence: a line for each metric.
    """

    label: str
    method: Method
    places: dict[str, int]
    evidence: tuple[str, ...]

    @property
    def mean_place(self) -> float:
        """The mean of the places."""
        return sum(self.places.values()) / len(self.places)


@dataclass(frozen=True)
class Advice:
    """Methods by what was measured of them, best first; `print` it.

    Attributes:
      choices: the methods that the conditions hold for.
      unmeasured: names of those that they hold for as well, but of which nothing was measured.
      about: what the numbers are of.
    """

    choices: tuple[Choice, ...]
    unmeasured: tuple[str, ...]
    about: str

    def __str__(self) -> str:
        return self.top(len(self.choices))

    def __repr__(self) -> str:
        """Which methods; `print` tells the evidence."""
        return f"Advice({listing([choice.label for choice in self.choices])}; not measured: {listing(self.unmeasured)})"

    def _repr_html_(self) -> str:
        rows = [
            (str(number), choice.label, choice.method.summary, choice.method.reference, "; ".join(choice.evidence))
            for number, choice in enumerate(self.choices, 1)
        ]
        rest = f" Not measured: {', '.join(self.unmeasured)}." if self.unmeasured else ""
        return html_table(("", "method", "computes", "reference", "measured"), rows, caption=f"{self.about}{rest}")

    def top(self, count: int) -> str:
        """The best few, with the evidence."""
        lines = []
        for number, choice in enumerate(self.choices[:count], 1):
            lines.append(f"{number}. {choice.label}: {choice.method.summary} ({choice.method.reference})")
            lines += [f"     {line}" for line in choice.evidence]
        if len(self.choices) > count:
            lines.append(f"And {len(self.choices) - count} more that were measured.")
        lines += [] if lines else ["No method that was measured meets these conditions."]
        if self.unmeasured:
            lines.append(f"Not measured: {', '.join(self.unmeasured)}.")
        return "\n".join([*lines, self.about])


def recommend(
    goal: str | Collection[str] = ("faithfulness", "localisation"),
    *,
    family: Family | None = None,
    mechanism: Mechanism | Collection[Mechanism] = (),
    needs: Need | Collection[Need] = (),
    without: Need | Collection[Need] = (),
    max_cost: int | None = None,
    max_seconds: float | None = None,
    class_discriminative: bool | None = None,
    resolution: Resolution | Collection[Resolution] | None = None,
    complete: bool = False,
    evidence: Mapping[str, Any] | None = None,
) -> Advice:
    """Rank methods by what the leaderboard measured of them.

    Methods are sorted by their mean place in the metrics of the goals, among all that were measured.

    Args:
      goal: one or several: ``"faithfulness"`` (insertion and deletion), ``"localisation"`` (the grid pointing game),
        ``"robustness"`` (max-sensitivity), ``"complexity"`` (sparseness), ``"speed"`` (seconds per image).
      family: as for `jaxplain.methods`.
      mechanism: as for `jaxplain.methods`.
      needs: as for `jaxplain.methods`.
      without: as for `jaxplain.methods`: ``["gradient", "layer"]`` for networks that cannot be looked into.
      max_cost: as for `jaxplain.methods`.
      max_seconds: the most seconds per image, on the machine of the leaderboard.
      class_discriminative: whether maps of different classes must (or must not) tell them apart.
      resolution: one resolution of maps or several (see `jaxplain.methods`).
      complete: whether maps must sum to the score or to a difference of scores.
      evidence: other numbers in the form of the leaderboard's; by default those of the library.

    Returns:
      `Advice`.

    Raises:
      ValueError: for no goal or an unknown goal, family, mechanism, need or resolution.

    Example:
      >>> import jaxplain
      >>> advice = jaxplain.recommend("faithfulness", without="layer", complete=True)
      >>> print(advice)
      1. ...
      >>> all(choice.method.total in ("score", "difference") for choice in advice.choices)
      True
    """
    evidence = shipped() if evidence is None else evidence
    criteria = [name for g in as_list(goal) for name in GOALS[choose(g, GOALS, "goal")]]
    if not criteria:
        raise ValueError(f"there is no goal: choose one or several of {', '.join(GOALS)}")
    wanted = [choose(r, get_args(Resolution), "resolution") for r in as_list(resolution or get_args(Resolution))]
    fitting = [
        m.name
        for m in methods(family=family, mechanism=mechanism, needs=needs, without=without, max_cost=max_cost)
        if m.resolution in wanted
        and (class_discriminative is None or m.class_discriminative == class_discriminative)
        and (not complete or m.total in ("score", "difference"))
    ]
    ranks = {name: ranks_in(name, evidence) for name in criteria}
    measured = {
        label: entry
        for label, entry in evidence["methods"].items()
        if entry["method"] in fitting and all(label in rank for rank in ranks.values())
    }
    choices = [choice_of(label, ranks, evidence) for label, entry in measured.items() if is_fast(entry, max_seconds)]
    names = {entry["method"] for entry in measured.values()}
    return Advice(
        tuple(sorted(choices, key=lambda choice: choice.mean_place)),
        tuple(name for name in fitting if name not in names),
        source_line(evidence["about"]),
    )


def choice_of(label: str, ranks: Mapping[str, Mapping[str, int]], evidence: Mapping[str, Any]) -> Choice:
    """One method with its places in the criteria, and what was measured."""
    lines = tuple(evidence_line(name, rank, label, evidence) for name, rank in ranks.items())
    method = METHODS[evidence["methods"][label]["method"]]
    return Choice(label, method, {name: rank[label] for name, rank in ranks.items()}, lines)


def is_fast(entry: Mapping[str, Any], max_seconds: float | None) -> bool:
    """Whether a method took at most so long for an image; one that was not timed did not."""
    return max_seconds is None or (entry["seconds_per_image"] or float("inf")) <= max_seconds


def source_line(about: Mapping[str, Any]) -> str:
    """Where the numbers come from."""
    kind = f" {about['intervals']}" if "intervals" in about else ""
    versions = f"{about['versions']}.{'' if about['timing'] else ' Seconds per image were not taken.'}"
    return f"Measured with {about['network']} on {about['data']}; means with 95 % intervals{kind}; {versions}"


@cache
def shipped() -> dict[str, Any]:
    """The numbers of the library's own leaderboard."""
    return json.loads(files("jaxplain.evaluation").joinpath("evidence.json").read_text(encoding="utf-8"))


def ranks_in(name: str, evidence: Mapping[str, Any]) -> dict[str, int]:
    """The rank of each method in one metric, 1 for the best; controls have none."""
    values = {
        label: value
        for label, entry in evidence["methods"].items()
        if entry["method"] and (value := mean_of(entry, name)) is not None
    }
    ordered = sorted(values.values(), reverse=evidence["about"]["better"].get(name) == "higher")
    return {label: ordered.index(value) + 1 for label, value in values.items()}


def mean_of(entry: Mapping[str, Any], name: str) -> float | None:
    """The number by which methods are sorted."""
    return entry["seconds_per_image"] if name == "seconds_per_image" else entry["metrics"].get(name, {}).get("mean")


def evidence_line(name: str, ranks: Mapping[str, int], label: str, evidence: Mapping[str, Any]) -> str:
    """What was measured, in words."""
    place, entry = f"place {ranks[label]} of {len(ranks)}", evidence["methods"][label]
    if name == "seconds_per_image":
        return f"{entry['seconds_per_image']:.3g} s per image, {place} ({evidence['about']['timing']})"
    number = entry["metrics"][name]
    interval = "no interval" if number["low"] is None else f"{number['low']:.3f} to {number['high']:.3f}"
    text = f"{name} {number['mean']:.3f} ({interval}, n = {number['n']}), {place}"
    if name in ("max_sensitivity", "sparseness"):  # at which a map of nothing may be best
        return text
    worse = [control for control in evidence["controls"] if control not in number["better_than"]]
    return f"{text}; not better than the control: {', '.join(worse)}" if worse else f"{text}; better than the controls"
