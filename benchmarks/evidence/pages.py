"""From records to pages: a table a network, what carries over between networks, and what that says of defaults."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxplain.evaluation._table import arrow, markdown_table

from .boards import NAMES, RANKED, Board, keep, kept, load
from .choices import defaults, published, recipes
from .figures import draw
from .rows import CONTROLS
from .statistics import agreement, agreements, difference, holm, interval, matrix, mean_places, places

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
EVIDENCE = ROOT / "jaxplain" / "evaluation" / "evidence.json"
SHOWN = RANKED | {"sparseness": "higher", "max_sensitivity": "lower"}
EVIDENCE_OF = {"positive_mass_accuracy": "higher", "pointing_game": "higher"}
SANITY = {"max_sensitivity": "lower", "randomised weights": "lower", "randomised class": "lower"}
MOSAICS = {"grid_pointing_game": "higher", "grid_pointing_game of an absent class": "", "difull": "higher"}
VARIANTS = {
    "insertion": "higher",
    "insertion into the mean": "higher",
    "insertion of the output": "higher",
    "deletion": "lower",
    "deletion to a blur": "lower",
    "deletion of the output": "lower",
    "road": "lower",
    "road, least relevant first": "higher",
}


def write(folder: Path) -> None:
    """All pages and figures, the numbers that they are made of, and the evidence."""
    boards = [board for key in NAMES if (board := load(folder, key)) is not None]
    for board in boards:
        keep(board)
    boards = [kept(board.key) for board in boards]  # rounded: the pages can be made of the numbers again
    boards = [board for board in boards if board.is_ready]
    texts = {
        "leaderboard": [*summary(boards), *map(page, boards)],
        "defaults": defaults(boards),
        "recipes": recipes(boards),
        "published": published(boards),
    }
    for name, parts in texts.items():
        (RESULTS / f"{name}.md").write_text("\n\n".join(parts) + "\n")
    draw(boards, RESULTS)
    found = {board.key: evidence(board) for board in boards}
    before = {e["about"]["key"]: e for e in json.loads(EVIDENCE.read_text())["networks"]}
    EVIDENCE.write_text(json.dumps({"networks": list((before | found).values())}, indent=1) + "\n")


# --------------------------------------------------------------------------------------------------- all networks


def summary(boards: Sequence[Board]) -> Iterable[str]:
    """Which orders carry over from network to network."""
    yield (
        "What was measured and how stands in `benchmarks/leaderboard.py`, and every number, image by image, in "
        "`benchmarks/results/numbers/`; `python -m benchmarks.leaderboard --tables` makes this page of them. Intervals "
        "are 95 %, of Student's t over images; differences are paired."
    )
    yield "## All networks"
    yield (
        "The mean place in insertion, deletion and the grid pointing game, of so many methods and variants as stand in "
        "the heading, sorted by the mean over the networks; recipes and controls have no place."
    )
    yield "![The mean places of all methods on all networks](places.svg)"
    yield places_table(boards)
    yield "How far the orders agree: Spearman's rank correlation of the means of what both networks have."
    yield networks_table(boards)
    yield "Better than both controls (paired, p ≤ 0.05 corrected by Holm), of what was measured on every network:"
    yield "\n".join(everywhere(boards))


def everywhere(boards: Sequence[Board]) -> Iterable[str]:
    """For each metric, what is better than both controls on all networks, and what on none."""
    found = [{(metric, control): set(wins) for metric, control, wins, _ in against_controls(b)} for b in boards]
    for metric in RANKED:
        common = [label for label in boards[0].measured(metric) if all(label in b.measured(metric) for b in boards)]
        wins = [set.intersection(*(of[metric, control] for control in CONTROLS)) for of in found]
        always = [label for label in common if all(label in of for of in wins)]
        never = [label for label in common if not any(label in of for of in wins)]
        both = ["; ".join(labels) or "none" for labels in (always, never)]
        yield f"* {metric}: on all {len(boards)} networks {both[0]}. On none: {both[1]}."


def places_table(boards: Sequence[Board]) -> str:
    """The mean places on all networks."""
    by_network = [mean_places(b.table, b.measured(*RANKED), RANKED) for b in boards]
    labels = list(dict.fromkeys(label for found in by_network for label in found))
    share = lambda label: np.mean([found[label].mean / len(found) for found in by_network if label in found])
    most = max(sum(label in found for found in by_network) for label in labels)
    whole = [label for label in labels if sum(label in found for found in by_network) == most]
    rest = [label for label in labels if label not in whole]
    rows = [
        [
            label,
            *(f"{found[label].mean:.1f} ± {found[label].half:.1f}" if label in found else "" for found in by_network),
        ]
        for label in [*sorted(whole, key=share), *sorted(rest, key=share)]
    ]
    heading = ["method", *(f"{b.name} (of {len(found)})" for b, found in zip(boards, by_network, strict=True))]
    return markdown_table(heading, rows)


def networks_table(boards: Sequence[Board]) -> str:
    """The agreement of the orders between each two networks, metric by metric."""
    rows = []
    for i, one in enumerate(boards):
        for two in boards[i + 1 :]:
            cells = []
            for metric in RANKED:
                labels = [label for label in one.measured(metric) if label in two.measured(metric)]
                pair = (matrix(board.table, labels, metric) for board in (one, two))
                cells.append(f"{agreement(*pair)}, {len(labels)}")
            rows.append([f"{one.name}, {two.name}", *cells])
    return markdown_table(["networks", *(f"{metric}, methods" for metric in RANKED)], rows)


# ---------------------------------------------------------------------------------------------------- one network


def page(board: Board) -> str:
    """Everything of one network."""
    parts = [
        f"## {board.name}",
        f"{board.data}, the true class explained, {board.versions}. {timing(board)}",
        means_table(board),
    ]
    parts += [losers(board)]
    if board.measured(*EVIDENCE_OF):
        parts += [f"### The evidence that is known, {board.name}", *of_evidence(board)]
    for title, columns in (("Mosaics", MOSAICS), ("Sanity", SANITY), ("Other scores and baselines", VARIANTS)):
        if any(board.of_most(metric) for metric in columns if metric not in RANKED):
            parts += [f"### {title}, {board.name}", plain_table(board, columns)]
    columns = {
        name: better for name, better in (SHOWN | EVIDENCE_OF | SANITY | VARIANTS).items() if board.of_most(name)
    }
    parts += [f"### Metric against metric, {board.name}", metrics_table(board, columns)]
    return "\n\n".join(parts)


def timing(board: Board) -> str:
    """What the seconds are of."""
    return f"Seconds per image: {board.machine}." if board.machine else "Seconds per image were not taken."


def means_table(board: Board) -> str:
    """The means of one network, sorted by the mean place; recipes and controls below."""
    ranked = mean_places(board.table, board.measured(*RANKED), RANKED)
    order = sorted(ranked, key=lambda label: ranked[label].mean)
    order += [label for label in board.recipes if label in board.table] + list(CONTROLS)
    columns = {name: better for name, better in SHOWN.items() if board.of_most(name)}
    rows = []
    for label in order:
        place = f"{ranked[label].mean:.1f} ± {ranked[label].half:.1f}" if label in ranked else ""
        cells = [cell(board, label, metric) for metric in columns]
        rows.append([label, place, *cells, f"{board.seconds[label]:.3g}" if label in board.seconds else ""])
    counts = {name: len(board.table[CONTROLS[0]].get(name, ())) for name in columns}
    heading = [f"{name}{arrow(better)} (n = {counts[name]})" for name, better in columns.items()]
    return markdown_table(["method", "mean place", *heading, "s per image"], rows)


def plain_table(board: Board, columns: Mapping[str, str]) -> str:
    """The means of some metrics, in the order of the first."""
    known = dict.fromkeys(label for metric in list(columns)[1:] for label in board.measured(metric, recipes=True))
    labels = [label for label in (*known, *CONTROLS) if label in board.table]
    first, better = next(iter(columns.items()))
    worst = {"": -np.inf if better == "higher" else np.inf}
    value = lambda label: np.mean(list(board.table[label].get(first, worst).values()))
    order = sorted(labels, key=value, reverse=better == "higher")
    rows = [[label, *(cell(board, label, metric) for metric in columns)] for label in order]
    return markdown_table(["method", *(f"{name}{arrow(better)}" for name, better in columns.items())], rows)


def of_evidence(board: Board) -> Iterable[str]:
    """How much of the map, and how often its maximum, lies in what was planted, by kind of pattern and by contrast."""
    yield (
        "The share of the positive relevance that lies in the pattern (`positive_mass_accuracy`), by its kind and by "
        "its contrast, of which 1 is the easiest; and how often the largest value lies there (`pointing_game`)."
    )
    groups: dict[str, list[str]] = {}
    for image in board.table[CONTROLS[0]]["positive_mass_accuracy"]:
        kind, grade, _ = image.split()
        for group in (kind, f"contrast {grade}"):
            groups.setdefault(group, []).append(image)
    share = lambda label: np.array(list(board.table[label]["positive_mass_accuracy"].values()))
    labels = [*board.measured(*EVIDENCE_OF, recipes=True), *CONTROLS]
    rows = []
    for label in sorted(labels, key=lambda label: -share(label).mean()):
        of = board.table[label]["positive_mass_accuracy"]
        parts = [str(interval(np.array([of[image] for image in groups[group]]))) for group in sorted(groups)]
        rows.append([label, str(interval(share(label))), *parts, cell(board, label, "pointing_game")])
    heading = [f"{group} (n = {len(groups[group])})" for group in sorted(groups)]
    yield markdown_table(["method", "share ↑", *heading, "found ↑"], rows)


def cell(board: Board, label: str, metric: str) -> str:
    """A mean with its interval."""
    numbers = board.table[label].get(metric)
    return str(interval(np.array(list(numbers.values())))) if numbers else ""


def losers(board: Board) -> str:
    """What is not better than a control."""
    lines = ["Not better than a control (paired, p > 0.05 corrected for as many comparisons by Holm):", ""]
    for metric, control, _, worse in against_controls(board):
        lines.append(f"* {metric}, {control}: {'; '.join(worse) or 'none'}.")
    return "\n".join(lines)


def against_controls(board: Board) -> Iterable[tuple[str, str, list[str], list[str]]]:
    """Metric, control, and which labels are and are not better than it."""
    for metric, better in RANKED.items():
        labels = board.measured(metric, recipes=True)
        for control in CONTROLS:
            found = [difference(board.table, label, control, metric, better) for label in labels]
            sure = [p <= 0.05 and d.gain.mean > 0 for p, d in zip(holm([d.p for d in found]), found, strict=True)]
            wins = [label for label, won in zip(labels, sure, strict=True) if won]
            yield metric, control, wins, [label for label in labels if label not in wins]


def metrics_table(board: Board, columns: Mapping[str, str]) -> str:
    """How far the orders by two metrics agree."""
    labels = board.measured(*columns)
    found = agreements(board.table, labels, columns)
    names = list(columns)
    rows = [[a, *("" if i >= j else str(found[a, b]) for j, b in enumerate(names))] for i, a in enumerate(names)]
    return markdown_table([f"of {len(labels)} methods", *names[1:]], [[r[0], *r[2:]] for r in rows[:-1]])


# -------------------------------------------------------------------------------------------------- for `recommend`


def evidence(board: Board) -> dict:
    """What `jaxplain.recommend` reads of one network."""
    wins = {(metric, control): labels for metric, control, labels, _ in against_controls(board)}
    labels = board.measured(*RANKED)
    methods = {label: {"method": board.methods[label], "metrics": {}} for label in [*labels, *CONTROLS]}
    for metric, better in SHOWN.items():
        ranked = [label for label in labels if metric in board.table[label]]
        if not board.of_most(metric):
            continue
        place = dict(zip(ranked, places(matrix(board.table, ranked, metric), better).mean(axis=0), strict=True))
        for label in [*ranked, *CONTROLS]:
            mean = interval(np.array(list(board.table[label][metric].values())))
            numbers = {"mean": mean.mean, "low": mean.mean - mean.half, "high": mean.mean + mean.half}
            numbers |= {"place": float(place[label])} if label in place else {}
            methods[label]["metrics"][metric] = {
                **{name: round(number, 5) for name, number in numbers.items()},
                "n": mean.n,
                "better_than": [c for c in CONTROLS if label in wins.get((metric, c), ())],
            }
    for label, entry in methods.items():
        entry["seconds_per_image"] = board.seconds.get(label)
    about = {
        "key": board.key,
        "network": board.name,
        "kind": board.kind,
        "data": board.data,
        "intervals": "of Student's t",
        "versions": board.versions,
        "timing": board.machine,
        "better": SHOWN,
    }
    return {"about": about, "controls": list(CONTROLS), "methods": methods}
