"""What was measured on each network, read from its records."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxplain.evaluation import open_records
from jaxplain.evaluation._table import by_method

from .rows import CONTROLS
from .statistics import Table

NAMES = {
    "efficientnet_lite0": ("EfficientNet-Lite0", "convolutional", "ImageNet photographs"),
    "efficientnet_lite1": ("EfficientNet-Lite1", "convolutional", "ImageNet photographs"),
    "efficientnet_lite2": ("EfficientNet-Lite2", "convolutional", "ImageNet photographs"),
    "vgg": ("small VGG", "convolutional", "Fashion-MNIST"),
    "resnet": ("small ResNet", "convolutional", "Fashion-MNIST"),
    "vit": ("small ViT", "transformer", "Fashion-MNIST"),
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

    def measured(self, *metrics: str, recipes: bool = False) -> list[str]:
        """The labels, controls aside, of which all these metrics were measured."""
        return [
            label
            for label, found in self.table.items()
            if label not in CONTROLS and (recipes or label not in self.recipes) and found.keys() >= set(metrics)
        ]


def load(folder: Path, key: str) -> Board | None:
    """The records of one network, or None where there are none."""
    files = sorted(folder.glob(f"{key}.*.jsonl"))
    if not files:
        return None
    records, about = [], json.loads((folder / f"{key}.rows.json").read_text())
    for file in files:
        settings = json.loads(file.read_text().partition("\n")[0])["settings"]
        records += open_records(file, settings).done.values()
    timing = folder / f"{key}.timing.json"
    taken = json.loads(timing.read_text()) if timing.exists() else {"machine": "", "seconds": {}}
    table = by_method(records)
    recipes = tuple(label for label, row in about.items() if row["recipe"])
    methods = {label: row["method"] for label, row in about.items()}
    counts = {metric: len(table[CONTROLS[0]][metric]) for metric in table[CONTROLS[0]]}
    whole = {  # a method that is being measured has no numbers yet
        label: {metric: numbers for metric, numbers in table[label].items() if len(numbers) == counts[metric]}
        for label in about
        if label in table
    }
    return Board(key, *NAMES[key], whole, methods, recipes, taken["seconds"], taken["machine"])
