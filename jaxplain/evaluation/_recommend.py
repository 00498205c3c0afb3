"""Which method for which need: what the leaderboard measured, filtered by what the taxonomy knows. No opinions.

`evidence.json` beside this file is written by ``python -m benchmarks.leaderboard``, of the networks and images that it
names; what holds for others, `evaluate` tells.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import mean
from typing import Any, TypeAlias, get_args

from .._html import html_table, listing
from .._taxonomy import METHODS, Family, Mechanism, Method, Need, Resolution, methods
from .._text import as_list, choose

__all__ = ["Advice", "recommend"]

Board: TypeAlias = Mapping[str, Any]

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
      places: metric -> its place among all that were measured, 1 for the best; the mean over the networks.
      evidence: a line for each metric.
    """

    label: str
    method: Method
    places: dict[str, float]
    evidence: tuple[str, ...]

    @property
    def mean_place(self) -> float:
        """The mean of the places."""
        return mean(self.places.values())


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
        rest = f" Not measured on all of these networks: {', '.join(self.unmeasured)}." if self.unmeasured else ""
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
            lines.append(f"Not measured on all of these networks: {', '.join(self.unmeasured)}.")
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
    network: str = "convolutional",
    evidence: Board | Sequence[Board] | None = None,
) -> Advice:
    """Rank methods by what the leaderboard measured of them.

    Methods are sorted by their mean place in the metrics of the goals, among all that were measured: the mean over the
    images and over the networks of a kind.

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
      network: a kind of network, ``"convolutional"`` or ``"transformer"``, or one that was measured, by its name, such
        as ``"efficientnet_lite0"``, ``"vgg"``, ``"resnet"`` or ``"vit"``. Of a kind, those have a say of which the
        goal was measured.
      evidence: other numbers in the form of the leaderboard's, of one network or several; by default those of the
        library.

    Returns:
      `Advice`.

    Raises:
      ValueError: for no goal or an unknown goal, family, mechanism, need, resolution or network.

    Example:
      >>> import jaxplain
      >>> advice = jaxplain.recommend("faithfulness", without="layer", complete=True)
      >>> print(advice)
      1. ...
      >>> all(choice.method.total in ("score", "difference") for choice in advice.choices)
      True
    """
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
    ranked = [(board, {name: ranks_in(name, board) for name in criteria}) for board in boards_of(network, evidence)]
    # Networks of which all of this was measured, if there are any; the advice names them.
    ranked = [(board, ranks) for board, ranks in ranked if all(ranks.values())] or ranked
    boards, ranks = zip(*ranked, strict=True)
    measured = {
        label: entry["method"]
        for label, entry in boards[0]["methods"].items()
        if entry["method"] in fitting and all(label in rank for of_board in ranks for rank in of_board.values())
    }
    timed = [board for board in boards if board["about"]["timing"]] or boards
    choices = [
        choice_of(label, criteria, boards, ranks)
        for label in measured
        if all(is_fast(board["methods"][label], max_seconds) for board in timed)
    ]
    return Advice(
        tuple(sorted(choices, key=lambda choice: choice.mean_place)),
        tuple(name for name in fitting if name not in measured.values()),
        " ".join(source_line(board["about"]) for board in boards),
    )


def boards_of(network: str, evidence: Board | Sequence[Board] | None) -> Sequence[Board]:
    """The numbers of a network, or of all of a kind; those that were passed are taken as they are."""
    if evidence is not None:
        return [evidence] if isinstance(evidence, Mapping) else evidence
    boards = shipped()
    names = lambda board: [board["about"][key] for key in ("kind", "network", "key")]
    choose(network, dict.fromkeys(name for board in boards for name in names(board)), "network")
    return [board for board in boards if network in names(board)]


def choice_of(
    label: str, criteria: Sequence[str], boards: Sequence[Board], ranks: Sequence[Mapping[str, Mapping[str, float]]]
) -> Choice:
    """One method with its places in the criteria, and what was measured on each network."""
    places = {name: mean(rank[name][label] for rank in ranks) for name in criteria}
    lines = []
    for name in criteria:
        on_each = [evidence_line(name, rank[name], label, board) for board, rank in zip(boards, ranks, strict=True)]
        networks = [board["about"]["network"] for board in boards]
        if len(boards) > 1:
            lines.append(f"{name}: mean place {places[name]:.1f} on {len(boards)} networks")
            on_each = [f"  {network}: {text}" for network, text in zip(networks, on_each, strict=True)]
        lines += on_each
    return Choice(label, METHODS[boards[0]["methods"][label]["method"]], places, tuple(lines))


def is_fast(entry: Mapping[str, Any], max_seconds: float | None) -> bool:
    """Whether a method took at most so long for an image; one that was not timed did not."""
    return max_seconds is None or (entry["seconds_per_image"] or float("inf")) <= max_seconds


def source_line(about: Mapping[str, Any]) -> str:
    """Where the numbers come from."""
    kind = f" {about['intervals']}" if "intervals" in about else ""
    versions = f"{about['versions']}.{'' if about['timing'] else ' Seconds per image were not taken.'}"
    return f"Measured with {about['network']} on {about['data']}; means with 95 % intervals{kind}; {versions}"


@cache
def shipped() -> list[Board]:
    """The numbers of the library's own leaderboard, network by network."""
    return json.loads(files("jaxplain.evaluation").joinpath("evidence.json").read_text(encoding="utf-8"))["networks"]


def ranks_in(name: str, evidence: Board) -> dict[str, float]:
    """The place of each method in one metric, 1 for the best; controls have none.

    It is the mean over the images where the evidence has one, else that of the mean.
    """
    methods = {label: entry for label, entry in evidence["methods"].items() if entry["method"]}
    values = {label: value for label, entry in methods.items() if (value := mean_of(entry, name)) is not None}
    ordered = sorted(values.values(), reverse=evidence["about"]["better"].get(name) == "higher")
    place = lambda label: methods[label]["metrics"].get(name, {}).get("place", ordered.index(values[label]) + 1)
    return {label: place(label) for label in values}


def mean_of(entry: Mapping[str, Any], name: str) -> float | None:
    """The number by which methods are sorted."""
    return entry["seconds_per_image"] if name == "seconds_per_image" else entry["metrics"].get(name, {}).get("mean")


def evidence_line(name: str, ranks: Mapping[str, float], label: str, evidence: Board) -> str:
    """What was measured, in words."""
    place, entry = f"place {ranks[label]:.3g} of {len(ranks)}", evidence["methods"][label]
    if name == "seconds_per_image":
        return f"{entry['seconds_per_image']:.3g} s per image, {place} ({evidence['about']['timing']})"
    number = entry["metrics"][name]
    interval = "no interval" if number["low"] is None else f"{number['low']:.3f} to {number['high']:.3f}"
    text = f"{name} {number['mean']:.3f} ({interval}, n = {number['n']}), {place}"
    if name in ("max_sensitivity", "sparseness"):  # at which a map of nothing may be best
        return text
    worse = [control for control in evidence["controls"] if control not in number["better_than"]]
    return f"{text}; not better than the control: {', '.join(worse)}" if worse else f"{text}; better than the controls"
