"""``jaxplain evaluate``: metrics of several methods over a folder of photographs of which the class is known."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from .. import __version__
from .._convention import Explain
from .._files import open_file, write_text
from ..evaluation import Example, Records, open_records, summarize
from ..evaluation import compare as make_comparison
from ..evaluation import evaluate as measure
from ..evaluation._measures import find_measures
from ..evaluation._table import summary_table
from ..models._reading import ImageError, checksum_of, read
from ..visualize._colours import require_matplotlib
from . import _method_specs as specs
from . import _network as networks
from ._bulk import NOT_STORED, InStore, evaluate_in_bulk
from ._cache import programs_kept
from ._compare import METHODS, page
from ._explain import File, prepared, tell_of
from ._network import Network
from ._photographs import Photograph, pictures_in
from ._results import require_file, save_page
from ._terminal import STDOUT, Report, UsageError, command_line

ON_THE_PAGE = 12  # photographs whose maps a report shows
Folder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]


def evaluate(
    folder: Folder,
    *,
    labels: File = None,
    methods: str = METHODS,
    metrics: str = "insertion:steps=20,deletion:steps=20,sparseness",
    model: str = "efficientnet_lite0",
    checkpoint: File = None,
    out: Path = Path("evaluation"),
    html: File = None,
    seed: int = 0,
    cache: bool = True,
    job: InStore = NOT_STORED,
) -> int:
    """Measure methods over a folder of photographs, and write a table with confidence intervals.

    For example: jaxplain evaluate photographs --labels classes.csv --methods lrp,grad_cam --html report.html

    It can be stopped at any time: the same command goes on where it was, and measures nothing twice.

    Args:
      folder: Photographs; the number of the class stands at the beginning of each file's name.
      labels: A CSV file with the columns file and class, a number or a name, where file names do not tell.
      methods: Those to measure, commas between; NAME:OPTION=VALUE sets an option, such as
        lrp:composite=epsilon_gamma_box, grad_cam:layer=_blocks.10 or smoothgrad:samples=20.
      metrics: What is measured, commas between, with options in the same form.
      model: A network of the library, or your own as file.py:function or package.module:function.
      checkpoint: A PyTorch file with the weights of a network of the library.
      out: Where to write to, without an ending; .jsonl holds a line for each image and method, .md and .json the table.
      html: A file .html for a report: one page with the table and the maps of the first 12 photographs, which are
        explained again for it.
      seed: Seed of the methods and metrics that draw random numbers.
      cache: Keep compiled programs in your folder for caches, so that the same command takes less time when run again.
      job: Of a store.
    """
    named, measures = specs.specs_of(methods), specs.metrics_of(metrics)
    if not measures:
        raise UsageError("--metrics names no metric")
    require_page(html)
    files, load = photographs_in(folder), partial(networks.load, model, checkpoint)
    better = {name: found.better for name, found in find_measures(measures).items()}
    if job.save:
        labelled, makers = partial(classes_of, files, labels), partial(specs.explainers_of, named)
        return evaluate_in_bulk(folder, labelled, load, makers, measures, better, job, html, seed)
    with refusals(out), programs_kept(cache), Report(len(files)) as report:
        report.step(f"loading {model}")
        network = load()
        classes = classes_of(files, labels, network)
        explainers = specs.explainers_of(named, network)
        settings = settings_of(folder, model, measures, seed)
        records = open_records(f"{out}.jsonl", settings)
        if before := len(records.done):
            report.note(f"{before} maps are in {records.path} already")
        examples = examples_of(classes, network, records, explainers, report)
        context = (network.variables,)
        new = measure(network.apply, explainers, measures, examples, records, context=context, seed=seed)
        count = sum(1 for _ in new)
        chosen = [r for (image, method), r in records.done.items() if image in classes and method in explainers]
        table = write_tables(out, chosen, better)
        if html and classes:
            options = {"summary": summarize(chosen), "better": better}
            save_page(html, page_of(classes, explainers, network, report, settings, options))
    STDOUT.print(table)
    STDOUT.print(f"{count} maps measured now, {before} before: {records.path}")
    return 1 if report.failed else 0


@contextmanager
def refusals(out: Path) -> Iterator[None]:
    """Say in one sentence what cannot be measured or written."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror or error}") from error


def require_page(html: Path | None) -> None:
    """Refuse, before anything is computed, a report that cannot be written or drawn."""
    require_file("--html", html, ".html")
    if html:
        require_matplotlib()


def settings_of(folder: Path, model: str, metrics: Collection[str], seed: int) -> dict[str, Any]:
    """What the numbers depend on, beside the photographs."""
    folder_settings = {"jaxplain": __version__, "folder": str(folder.resolve())}
    return {**folder_settings, "model": model, "metrics": [*metrics], "seed": seed}


def page_of(
    classes: dict[str, tuple[Path, int]],
    explainers: dict[str, Explain],
    network: Network,
    report: Report,
    settings: dict[str, Any],
    options: dict[str, Any],
) -> str:
    """The report: the table of all photographs, and the maps of the first few."""
    report.step("explaining the photographs of the report")
    about = {**command_line(), "model": network.name, "seed": settings["seed"], "photographs": len(classes)}
    few = [*classes.values()][:ON_THE_PAGE]
    work = [Photograph(path.name, partial(read, path), path) for path, _ in few]
    examples = list(prepared(work, network, report))
    targets = np.array([classes[example.photograph.name][1] for example in examples])
    x = np.concatenate([example.x for example in examples])
    run = make_comparison(network.apply, explainers, metrics=())
    comparison = run(network.variables, x, target=targets, key=jax.random.key(about["seed"]))
    return page(comparison, examples, targets[None], network, about, **options)


def photographs_in(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by name; what has no ending of a picture is none."""
    if not os.path.isdir(folder):
        raise UsageError(f"{folder} is no folder")
    files = {path.name: path for path in pictures_in(folder)}
    if not files:
        raise UsageError(f"{folder} holds no pictures")
    return files


def classes_of(files: dict[str, Path], labels: Path | None, network: Network) -> dict[str, tuple[Path, int]]:
    """The class of each photograph."""
    return labels_of(files, network) if labels is None else read_labels(labels, files, network)


def labels_of(files: dict[str, Path], network: Network) -> dict[str, tuple[Path, int]]:
    """The classes that the file names begin with."""
    classes = {}
    for name, path in files.items():
        number = re.match(r"\d+", name)
        if number is None:
            raise UsageError(f"the name of {path} does not begin with the number of its class: pass --labels FILE.csv")
        classes[name] = path, int(number[0])
    return classes


def read_labels(file: Path, files: dict[str, Path], network: Network) -> dict[str, tuple[Path, int]]:
    """The classes that a CSV file tells; a file it does not tell of, or that is not there, is an error."""
    try:
        with io.TextIOWrapper(open_file(file), newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            if not {"file", "class"} <= set(reader.fieldnames or ()):
                raise UsageError(f"--labels {file}: the first line must name the columns file and class")
            rows = [(row["file"] or "", row["class"] or "") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"--labels {file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    classes: dict[str, tuple[Path, int]] = {}
    for name, label in rows:
        if name not in files:
            raise UsageError(f"--labels {file} tells of {name}, which is no picture in the folder")
        number = find_class(f"--labels {file}: {name}", label, network)
        if classes.setdefault(name, (files[name], number))[1] != number:
            raise UsageError(f"--labels {file} gives {name} two classes")
    if missing := [name for name in files if name not in classes]:
        raise UsageError(f"--labels {file} does not tell the class of {missing[0]}")
    return classes


def find_class(where: str, label: str, network: Network) -> int:
    """The number of a class."""
    try:
        return network.find_class(label.strip(), by_words=False)
    except UsageError as error:
        raise UsageError(f"{where}: {str(error).removeprefix('--target ')}") from error


def examples_of(
    classes: dict[str, tuple[Path, int]], network: Network, records: Records, methods: Collection[str], report: Report
) -> Iterator[Example]:
    """Read the photographs that are not measured yet, one at a time, and report those that cannot be read.

    One that is measured goes before them, by which `jaxplain.evaluation.evaluate` sees whether the network and its
    preprocessing are what they were.
    """
    begun, done = on_record(classes, records, methods)
    for _ in done[1:]:
        report.done()
    rest, shape = classes.keys() - done, None
    for name in dict.fromkeys([*done[:1], *begun, *(name for name in classes if name in rest)]):
        path, label = classes[name]
        try:
            checksum, image = checksum_of(path), read(path)
            x, shown = network.prepare(image)
            if shape is not None and x.shape != shape:
                raise ImageError(f"its input has shape {x.shape}, that of the first image {shape}")
        except ImageError as error:
            report.failure(f"{path}: {error}")
            del classes[name]  # so that the table leaves out what was measured of an older file of this name
            continue
        try:
            network.check(x, label)
        except UsageError as error:
            raise UsageError(f"{path}: {str(error).removeprefix('--target ')}") from error
        shape = x.shape
        tell_of(name, image, shown, report)
        report.step(f"measuring {name}")
        yield Example(name, x, label, file=checksum)
        report.done()


def on_record(
    classes: dict[str, tuple[Path, int]], records: Records, methods: Collection[str]
) -> tuple[list[str], list[str]]:
    """The photographs, unchanged since, that some methods were measured of, and those that all were."""
    begun, done = [], []
    for name, (path, label) in classes.items():
        before = [records.done[name, method] for method in methods if (name, method) in records.done]
        if before and is_unchanged(path, before):
            is_done = len(before) == len(methods) and all(record.get("target") == label for record in before)
            (done if is_done else begun).append(name)
    return begun, done


def is_unchanged(path: Path, before: Collection[dict[str, Any]]) -> bool:
    """Whether a file is the one that was measured."""
    try:
        checksum = checksum_of(path)
    except ImageError:  # which is reported when it is its turn
        return False
    return all(record.get("file") == checksum for record in before)


def write_tables(out: Path, records: Collection[dict], better: dict[str, str]) -> str:
    """Write means and confidence intervals as Markdown and JSON, and return the Markdown."""
    summary = summarize(records)
    table = summary_table(summary, better)
    numbers = {method: {name: asdict(s) for name, s in row.items()} for method, row in summary.items()}
    write_text(f"{out}.md", table + "\n")
    write_text(f"{out}.json", json.dumps({"better": better, "methods": numbers}, indent=2) + "\n")
    return table
