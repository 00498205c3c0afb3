"""``jaxplain compare``: several methods on the same photographs, as one picture, one table, one file of numbers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from .._convention import Array, Explain
from ..evaluation import Comparison
from ..evaluation import compare as make_comparison
from ..evaluation import report as make_report
from ..visualize._colours import require_matplotlib
from . import _method_specs as specs
from . import _network as networks
from ._cache import programs_kept
from ._explain import File, Images, Prepared, Text, class_line, prepared
from ._network import Network, softmax
from ._photographs import expanded, planned
from ._results import require_file, save_maps, save_page
from ._terminal import STDOUT, Report, UsageError, command_line

MOST_CLASSES = 5
METHODS = "gradient,guided_backprop,lrp,grad_cam,layer_cam"


def compare(
    images: Images = (),
    *,
    methods: str = METHODS,
    metrics: str = "insertion:steps=20,deletion:steps=20,sparseness",
    model: str = "efficientnet_lite0",
    checkpoint: File = None,
    target: Text = None,
    out: Path = Path("comparison"),
    save: File = None,
    html: File = None,
    classes: int = 1,
    seed: int = 0,
    cache: bool = True,
) -> int:
    """Explain photographs by several methods, and write one picture of all maps and one table of metrics and times.

    For example: jaxplain compare cat.jpg dog.jpg --methods gradient,lrp,grad_cam --html report.html

    Args:
      images: Files of any size and format, folders of them, or patterns such as 'photos/*.jpg'; without any, a sample
        photograph.
      methods: Those to compare, commas between; NAME:OPTION=VALUE sets an option, such as
        lrp:composite=epsilon_gamma_box, grad_cam:layer=_blocks.10 or smoothgrad:samples=20.
      metrics: What is measured, commas between, with options in the same form.
      model: A network of the library, or your own as file.py:function or package.module:function.
      checkpoint: A PyTorch file with the weights of a network of the library.
      target: Number or name of the class to explain, or a word of its name; by default the predicted one.
      out: Where to write to, without an ending; .png, .md and .json are added.
      save: A file .npz for the maps themselves, with scores, targets, names and options.
      html: A file .html for a report: one page that works offline, with overlays, zoom and a table that sorts.
      classes: How many classes of each photograph are explained in the report: the one in question and the most
        probable others. Each takes as long as the first.
      seed: Seed of the methods and metrics that draw random numbers.
      cache: Keep compiled programs in your folder for caches, so that the same command takes less time when run again.
    """
    chosen, measures = specs.specs_of(methods), specs.metrics_of(metrics)
    places = Places(out, save, html)
    places.require(classes)
    picture, paths = out.with_name(f"{out.name}.png"), expanded(images)
    work = planned(paths, [picture] * max(1, len(paths)))
    with programs_kept(cache), Report(len(work)) as report:
        report.step(f"loading {model}")
        network = networks.load(model, checkpoint)
        label = None if target is None else network.find_class(target)
        explainers = {n: telling(report, n, e) for n, e in specs.explainers_of(chosen, network).items()}
        examples = list(prepared(work, network, report))
        if not examples:
            return 1
        x = np.concatenate([example.x for example in examples])
        network.check(x, label)
        report.step(f"comparing {len(explainers)} methods")
        about = {**command_line(), "model": model, "images": [e.photograph.name for e in examples], "seed": seed}
        try:
            run = make_comparison(network.apply, explainers, metrics=measures)
            targets = label if classes == 1 else ranked(network, x, label, classes).ravel()
            several = np.concatenate([x] * classes)
            every = run(network.variables, several, target=targets, key=jax.random.key(seed))
            comparison, files = write(every, examples, network, places, about)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{model} cannot be explained: {error}") from error
        except OSError as error:
            raise UsageError(f"--out {out}: {error}") from error
    STDOUT.print(comparison.markdown())
    STDOUT.print("\n".join(map(str, files)))
    return 1 if report.failed else 0


def telling(report: Report, label: str, explain: Explain) -> Explain:
    """The same explainer, which says so when it is traced: then its turn has come, to be compiled, run and measured."""

    @functools.wraps(explain)
    def explaining(*args: Any, **options: Any) -> Array:
        report.step(f"comparing {label}")
        return explain(*args, **options)

    return explaining


def ranked(network: Network, x: np.ndarray, label: int | None, count: int) -> np.ndarray:
    """The classes to explain, ``(count, N)``: the one in question, then the most probable others."""
    outputs = np.asarray(network.logits(network.variables, x))
    if count > outputs.shape[1]:
        raise ValueError(f"--classes {count} is more than the {outputs.shape[1]} classes that it tells apart")
    order = np.argsort(-outputs, axis=1, kind="stable")
    if label is not None:
        order = np.stack([np.concatenate([[label], row[row != label]]) for row in order])
    return order[:, :count].T


def first(comparison: Comparison, n: int) -> Comparison:
    """A comparison of the first ``n`` examples."""
    values = {m: {name: v[:n] for name, v in metrics.items()} for m, metrics in comparison.values.items()}
    maps = {method: attribution[:n] for method, attribution in comparison.maps.items()}
    target = comparison.target if comparison.target is None else comparison.target[:n]
    return replace(comparison, maps=maps, values=values, outputs=comparison.outputs[:n], target=target)


class Places(NamedTuple):
    """The files to write."""

    out: Path
    save: Path | None
    html: Path | None

    def require(self, classes: int) -> None:
        """Refuse, before anything is computed, files that cannot be written, and pictures that cannot be drawn."""
        if not 1 <= classes <= MOST_CLASSES or (classes > 1 and self.html is None):
            raise UsageError(f"--classes is 1 to {MOST_CLASSES}, and more than 1 only with --html")
        if not self.out.parent.is_dir():
            raise UsageError(f"--out {self.out}: there is no folder {self.out.parent}")
        require_file("--save", self.save, ".npz")
        require_file("--html", self.html, ".html")
        require_matplotlib()


def write(
    every: Comparison,
    examples: Sequence[Prepared],
    network: Network,
    places: Places,
    about: dict[str, Any],
) -> tuple[Comparison, list[Path]]:
    """Write the picture, the table and the numbers of the first classes, their maps, and the report of all classes."""
    comparison = first(every, len(examples))
    targets = np.asarray(every.target).reshape(-1, len(examples))
    captions = [
        f"{example.photograph.name}: {class_line(probability, int(label), network)}"
        for example, probability, label in zip(examples, softmax(comparison.outputs), targets[0], strict=True)
    ]
    pictures = [example.shown.pixels for example in examples]
    files = comparison.save(places.out, pictures, captions=captions, boxes=boxes_of(examples), about=about)
    if places.save:
        named = {"images": about["images"], "targets": targets[0], "scores": comparison.outputs}
        files.append(save_maps(places.save, comparison.heatmaps(), **named, about=about))
    if places.html:
        files.append(save_page(places.html, page(every, examples, targets, network, about)))
    return comparison, files


def page(
    comparison: Comparison,
    examples: Sequence[Prepared],
    targets: np.ndarray,
    network: Network,
    about: dict[str, Any],
    **options: Any,
) -> str:
    """The report of a comparison."""
    classes = [
        [f"{network.class_name(k)}, {probability[k]:.1%}" for k in labels]
        for probability, labels in zip(softmax(comparison.outputs), targets.T, strict=False)
    ]
    return make_report(
        comparison,
        [example.shown.pixels for example in examples],
        names=[example.photograph.name for example in examples],
        classes=classes,
        boxes=boxes_of(examples),
        about={name: value for name, value in about.items() if name != "images"},
        **options,
    )


def boxes_of(examples: Sequence[Prepared]) -> np.ndarray:
    """What the network sees of each photograph."""
    return np.stack([example.shown.box for example in examples])
