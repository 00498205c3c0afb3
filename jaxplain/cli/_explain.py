"""``jaxplain explain``: from photographs to pictures of what a network saw in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TypeVar

import jax
import numpy as np
import tyro
from PIL import Image

from .. import visualize
from .._compose import heatmap
from .._convention import Array, require_logits
from ..models._reading import ImageError
from ..visualize._colours import require_matplotlib
from . import _network as networks
from ._bulk import ALONE, InBulk, explain_in_bulk, is_store
from ._cache import programs_kept
from ._method_specs import Spec, spec_of
from ._network import Network, Shown, softmax
from ._photographs import Photograph, expanded, photographs
from ._results import require_file, save_maps
from ._terminal import Report, UsageError, command_line

T = TypeVar("T")
REMEDY = "its middle: crop the photograph around what you mean to have that explained"
Text = Annotated[str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="")]
File = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]
Images = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[IMAGES...]", help_behavior_hint="")]


@dataclass(frozen=True)
class Prepared:
    """A photograph as the network takes it, ``x``, a batch of one, and as it is shown."""

    index: int
    photograph: Photograph
    x: np.ndarray
    shown: Shown


def explain(
    images: Images = (),
    *,
    method: str = "lrp",
    model: str = "efficientnet_lite0",
    checkpoint: File = None,
    target: Text = None,
    layer: Text = None,
    composite: Text = None,
    out: File = None,
    save: File = None,
    seed: int = 0,
    batch_size: int = 4,
    top: int = 5,
    cache: bool = True,
    job: InBulk = ALONE,
) -> int:
    """Explain how a network classifies images, and write a picture of each explanation.

    For example: jaxplain explain cat.jpg --method grad_cam --target "tiger cat"

    Args:
      images: Files of any size and format, folders of them, or patterns such as 'photos/*.jpg'; without any, a sample
        photograph is explained.
      method: One of those that `jaxplain methods` lists; NAME:OPTION=VALUE sets an option: smoothgrad:samples=20.
      model: A network of the library, or your own as file.py:function or package.module:function; the function returns
        (apply, variables, preprocess, class names).
      checkpoint: A PyTorch file with the weights of a network of the library.
      target: Number or name of the class to explain, or a word of its name; by default the predicted one.
      layer: Name of the layer to explain, for methods that look at one (see `jaxplain layers`); several with commas
        between.
      composite: The rules of LRP and its relatives, such as epsilon_gamma_box; by default epsilon_plus for LRP.
      out: The picture to write, by default explanation.png, or a folder, which a name without an ending is; for several
        images a folder, by default explanations.
      save: A file .npz for the maps themselves, with scores, targets, names and options; or a store .zarr, for a folder
        of any size, of which no pictures are made. The same command goes on with a store.
      seed: Seed of the methods that draw random numbers.
      batch_size: How many images are explained at once.
      top: How many classes are printed.
      cache: Keep compiled programs in your folder for caches, so that the same command takes less time when run again.
      job: Of a store.
    """
    require_possible(batch_size, top, save)
    spec, kept = spec_of(method, "--method", layer, composite), []
    if is_store(save):
        load = partial(networks.load, model, checkpoint)
        return explain_in_bulk(images, save, load, spec.explainer, target, job, seed=seed, batch_size=batch_size)
    work = photographs(images, out)
    with programs_kept(cache), Report(len(work)) as report:
        report.step(f"loading {model}")
        network = networks.load(model, checkpoint)
        label = None if target is None else network.find_class(target)

        def compile_(x: np.ndarray, index: np.ndarray) -> Callable[..., Any]:
            network.check(x, label)
            report.step(f"compiling {spec.label} for {model}, once")
            run = compiled(spec, network, label, seed, x, index)
            report.step(f"explaining with {spec.label}")
            return run

        examples, batch_size = prepared(work, network, report), min(batch_size, len(work))
        for example, attribution, outputs in explained(examples, batch_size, network.variables, compile_):
            probability = softmax(outputs)
            with report.failures_of(example.photograph.name):
                draw(example, attribution, probability, label, spec.title, network)
                report.success(ranking(example, probability, top, label, network))
            if save:
                kept.append((example.photograph.name, attribution, outputs))
        if save and kept:
            keep(save, spec.label, kept, label, {**command_line(), "model": model, "seed": seed})
            report.note(f"the maps are in {save}")
    return 1 if report.failed else 0


def require_possible(batch_size: int, top: int, save: Path | None) -> None:
    """Refuse, before anything is computed, what cannot be done."""
    if batch_size < 1 or top < 1:
        raise UsageError("--batch-size and --top are at least 1")
    if not is_store(save):
        require_file("--save", save, ".npz")
        require_matplotlib()


def prepared(work: Iterable[Photograph], network: Network, report: Report) -> Iterator[Prepared]:
    """Read the photographs one at a time, and report those that cannot be read."""
    shape = None
    for index, photograph in enumerate(work):
        try:
            image = photograph.read()
            x, shown = network.prepare(image)
            shape = shape or x.shape
            if x.shape != shape:
                raise ImageError(f"its input has shape {x.shape}, that of the first image {shape}")
        except ImageError as error:
            report.failure(f"{photograph.name}: {error}")
        else:
            tell_of(photograph.name, image, shown, report)
            yield Prepared(index, photograph, x, shown)


def tell_of(name: str, image: Image.Image, shown: Shown, report: Report) -> None:
    """Say what of a photograph is not explained."""
    if (frames := image.info.get("frames", 1)) > 1:
        report.note(f"{name}: the first of its {frames} frames is explained")
    if shown.share < 2 / 3:
        report.note(f"{name}: the network sees {shown.share:.0%} of it, {REMEDY}")


def prepared_alone(command: str, image: Images, network: Network, label: int | None) -> np.ndarray:
    """The one image of a command, or the sample, as the network takes it."""
    if len(paths := expanded(image)) > 1:
        raise UsageError(f"{command} takes one image")
    (photograph,) = photographs(paths, None)
    try:
        x, _ = network.prepare(photograph.read())
    except ImageError as error:
        raise UsageError(f"{photograph.name}: {error}") from error
    network.check(x, label)
    return x


def explained(
    examples: Iterable[Prepared], size: int, variables: Any, compile_: Callable[[Any, Any], Callable[..., Any]]
) -> Iterator[tuple[Prepared, Any, Any]]:
    """Each example with its map and the network's outputs; batches are explained by one program."""
    run = None
    for batch in batched(examples, size):
        filled = batch + batch[-1:] * (size - len(batch))  # every batch has the shape that was compiled
        x = np.concatenate([example.x for example in filled])
        index = np.array([example.index for example in filled])
        run = run or compile_(x, index)
        maps, outputs = run(variables, x, index)
        require_logits(outputs)
        yield from zip(batch, np.asarray(maps), np.asarray(outputs), strict=False)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items, the last one maybe shorter."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


def compiled(
    spec: Spec, network: Network, label: int | None, seed: int, x: np.ndarray, index: np.ndarray
) -> Callable[..., Any]:
    """Compile ``(variables, inputs, positions) -> (attributions, logits)``.

    The position of an image among all of them seeds its random numbers, so that batches do not matter.
    """

    def run(variables: Any, x: Array, index: Array) -> tuple[Array, Array]:
        explain = spec.explainer(network)
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(index)
        attributions = explain(variables, x, target=label, key=keys if "key" in spec.method.needs else None)
        logits = network.logits(variables, x)
        require_logits(logits)  # of which the caption tells the softmax
        return heatmap(attributions, channels=network.channels(x, attributions)), logits

    try:
        return jax.jit(run).lower(network.variables, x, index).compile()
    except (ValueError, TypeError) as error:
        raise UsageError(f"{spec.label} cannot explain {network.name}: {error}") from error


def draw(
    example: Prepared, attribution: np.ndarray, probability: np.ndarray, label: int | None, title: str, network: Network
) -> None:
    """Write the picture of one explanation: the photograph, the heat map, the overlay, the class."""
    caption = class_line(probability, label, network)
    shown = example.shown
    panel = visualize.panel(
        [shown.pixels], {title: attribution[None]}, boxes=[shown.box], overlays=True, captions=[caption]
    )
    visualize.save(
        panel, example.photograph.out, text={name.capitalize(): value for name, value in command_line().items()}
    )


def keep(path: Path, method: str, kept: Sequence[tuple[str, Array, Array]], label: int | None, about: Any) -> None:
    """Write the maps of all images to a file: names, maps and outputs."""
    names, maps, outputs = zip(*kept, strict=True)
    scores = np.stack(outputs)
    targets = scores.argmax(axis=1) if label is None else [label] * len(names)
    save_maps(path, {method: np.stack(maps)}, images=names, targets=targets, scores=scores, about=about)


def class_line(probability: np.ndarray, label: int | None, network: Network) -> str:
    """The class that is explained and its probability, and the predicted one where that is another."""
    predicted = int(probability.argmax())
    shown = predicted if label is None else label
    caption = f"{network.class_name(shown)}, {probability[shown]:.1%}"
    if shown != predicted:
        caption += f" (predicted: {network.class_name(predicted)}, {probability[predicted]:.1%})"
    return caption


def ranking(example: Prepared, probability: np.ndarray, top: int, label: int | None, network: Network) -> str:
    """The most probable classes of one image and the one that is explained: probability, number, name."""
    lines = [f"{example.photograph.name} -> {example.photograph.out}"]
    shown = [*map(int, np.argsort(-probability)[:top])]
    for index in shown if label is None or label in shown else [*shown, label]:
        lines.append(f"{probability[index]:8.1%}  {index:4}  {network.class_name(index)}")
    return "\n".join(lines)
