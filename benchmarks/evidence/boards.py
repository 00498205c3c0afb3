"""What was measured on each network: read from its records, kept as numbers beside the pages that are made of them."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from jaxplain.evaluation import open_records

from .rows import CONTROLS
from .statistics import Table

NAMES = {
    "efficientnet_lite0": ("EfficientNet-Lite0", "convolutional", "ImageNet photographs"),
    "efficientnet_lite1": ("EfficientNet-Lite1", "convolutional", "ImageNet photographs"),
    "efficientnet_lite2": ("EfficientNet-Lite2", "convolutional", "ImageNet photographs"),
    "vgg": ("small VGG", "convolutional", "Fashion-MNIST"),
    "resnet": ("small ResNet", "convolutional", "Fashion-MNIST"),
    "vit": ("small ViT", "transformer", "Fashion-MNIST"),
    "patterns": ("ResNet of patterns", "convolutional", "patterns planted in noise"),
}
NUMBERS = Path(__file__).parents[1] / "results" / "numbers"
NOTHING_POSITIVE = {  # what a map that shows nothing gets: chance, or nothing of the evidence
    "grid_pointing_game": 0.25,
    "grid_pointing_game of an absent class": 0.25,
    "difull": 0.25,
    "positive_mass_accuracy": 0.0,
}
RANKED = {"insertion": "higher", "deletion": "lower", "grid_pointing_game": "higher"}


@dataclass(frozen=True)
class Board:
    """What was measured on one network.

    Attributes:
      key: by which the command calls it.
      name: of the network.
      kind: of the network.
      data: what its images are.
      table: ``table[label][metric][image]``.
      methods: label -> its name in the taxonomy, empty for controls and recipes.
      recipes: the labels that combine several methods.
      seconds: label -> seconds per image, where they were taken.
      machine: what they were taken on.
      versions: what measured it.
      networks: checksums of the network with its weights, one for each size of images.
    """

    key: str
    name: str
    kind: str
    data: str
    table: Table
    methods: Mapping[str, str]
    recipes: tuple[str, ...]
    seconds: Mapping[str, float]
    machine: str
    versions: str
    networks: tuple[str, ...]

    def measured(self, *metrics: str, recipes: bool = False) -> list[str]:
        """The labels, controls aside, of which all these metrics were measured."""
        return [
            label
            for label, found in self.table.items()
            if label not in CONTROLS and (recipes or label not in self.recipes) and found.keys() >= set(metrics)
        ]

    @property
    def is_ready(self) -> bool:
        """Whether it can stand beside others: some methods may have no map of it, but none is still to be measured."""
        return len(self.measured(*RANKED, recipes=True)) > 0.9 * (len(self.methods) - len(CONTROLS))

    def of_most(self, *metrics: str) -> bool:
        """Whether these metrics were measured of most methods, and not only of some so far."""
        return 2 * len(self.measured(*metrics)) > len(self.measured(*RANKED))


def load(folder: Path, key: str) -> Board | None:
    """What was measured of one network, now and before, of the same weights; None where nothing was."""
    before, now = kept(key), from_records(folder, key)
    if before is None or now is None or set(before.networks).isdisjoint(now.networks):
        board = now or before
        return board and whole(board)
    of = lambda label: {
        metric: before.table.get(label, {}).get(metric, {}) | now.table.get(label, {}).get(metric, {})
        for metric in before.table.get(label, {}) | now.table.get(label, {})
    }
    timing = {} if now.seconds else {"seconds": before.seconds, "machine": before.machine}
    both = ", before that ".join(dict.fromkeys([now.versions, before.versions]))
    networks = tuple(sorted({*before.networks, *now.networks}))
    table = {label: of(label) for label in now.methods}
    return whole(replace(now, table=table, versions=both, networks=networks, **timing))


def whole(board: Board) -> Board:
    """Without metrics of which an image is missing, as of a method that is being measured, or has no number."""
    images = {metric: numbers.keys() for metric, numbers in board.table[CONTROLS[0]].items()}
    is_whole = lambda metric, numbers: (
        numbers.keys() == images.get(metric) and not any(map(math.isnan, numbers.values()))
    )
    table = {
        label: {metric: numbers for metric, numbers in found.items() if is_whole(metric, numbers)}
        for label, found in board.table.items()
    }
    return replace(board, table={label: found for label, found in table.items() if found})


def from_records(folder: Path, key: str) -> Board | None:
    """The records of one network, or None where there are none."""
    files, timing = sorted(folder.glob(f"{key}.*.jsonl")), folder / f"{key}.timing.json"
    taken = json.loads(timing.read_text()) if timing.exists() else {"machine": "", "seconds": {}, "networks": []}
    if not files and not taken["seconds"]:
        return None
    about, table, networks = json.loads((folder / f"{key}.rows.json").read_text()), {}, set(taken["networks"])
    for file in files:
        settings = json.loads(file.read_text().partition("\n")[0])["settings"]
        records = open_records(file, settings).done.values()
        networks |= {record["network"] for record in records}
        for record in records:
            for metric, value in record["metrics"].items():
                of_label = table.setdefault(record["method"], {}).setdefault(metric, {})
                of_label[record["image"]] = NOTHING_POSITIVE.get(metric, math.nan) if value is None else value
    rows = about["rows"]
    recipes = tuple(label for label, row in rows.items() if row["recipe"])
    methods = {label: row["method"] for label, row in rows.items()}
    return Board(
        *(key, *NAMES[key], {label: table.get(label, {}) for label in rows}, methods, recipes),
        *(taken["seconds"], taken["machine"], about["versions"], tuple(sorted(networks))),
    )


def kept(key: str) -> Board | None:
    """The numbers of one network as `keep` wrote them, or None where it did not."""
    file = NUMBERS / f"{key}.json"
    if not file.exists():
        return None
    content = json.loads(file.read_text())
    images, columns = content.pop("images"), content.pop("table")
    table = {
        label: {metric: dict(zip(images[metric], numbers, strict=True)) for metric, numbers in found.items()}
        for label, found in columns.items()
    }
    tuples = {name: tuple(content[name]) for name in ("recipes", "networks")}
    return Board(**content | tuples | {"table": table})


def keep(board: Board) -> None:
    """Write the numbers of one network, a line a method, image by image, to six digits."""
    images = {metric: list(numbers) for metric, numbers in board.table[CONTROLS[0]].items()}
    content = asdict(board) | {"images": images}
    rows = [
        f"  {json.dumps(label)}: {json.dumps({m: [float(f'{found[m][i]:.6g}') for i in images[m]] for m in found})}"
        for label, found in content.pop("table").items()
    ]
    rest = [f" {json.dumps(name)}: {json.dumps(value)}," for name, value in content.items()]
    lines = ["{", *rest, ' "table": {', ",\n".join(rows), " }", "}", ""]
    NUMBERS.mkdir(exist_ok=True)
    (NUMBERS / f"{board.key}.json").write_text("\n".join(lines))
