"""Several methods on the same images: their maps in one picture, their metrics and times in one table."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._convention import Apply, Array, Function, Target, as_array, outputs_of, scorer, split
from .._files import write_text
from .._html import counted, html_table, listing
from ._environment import environment
from ._measures import Better, Methods, Metrics, find_explainers, find_measures, is_array, titles_of, warn_of_softmax
from ._records import number_or_none
from ._suite import CompiledSuite
from ._table import arrow, markdown_table

__all__ = ["Comparison", "compare"]

if TYPE_CHECKING:
    from PIL import Image

    from ..visualize._photographs import Photographs

METRICS = ("insertion", "deletion", "sparseness")


@dataclass(frozen=True)
class Comparison:
    """Maps of several methods, what was measured of them, and what they took.

    Attributes:
      maps: method -> attribution, as its explainer returned it.
      values: method -> metric -> ``(N,)``, one number per example.
      seconds: method -> seconds per example, of the compiled explainer on this batch.
      compile_seconds: method -> how much longer the first call took, which compiled it.
      better: metric -> ``"higher"`` or ``"lower"``, empty where nobody knows.
      axes: method -> the axis of its attribution's channels, where it has any.
      outputs: ``(N, K)``, what the network returns of the examples.
      target: ``(N,)``, the class that was explained, or `None` where the target was a function or a weighting.
      titles: method -> what tables and pictures call it, with its composite where it goes by its name alone.
    """

    maps: dict[str, Array]
    values: dict[str, dict[str, np.ndarray]]
    seconds: dict[str, float]
    compile_seconds: dict[str, float]
    better: dict[str, Better]
    axes: dict[str, int]
    outputs: np.ndarray
    target: np.ndarray | None
    titles: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """What was compared; `markdown` is the table."""
        methods = f"{counted(len(self.maps), 'method')}: {listing(self.maps)}"
        return f"Comparison({counted(len(self.outputs), 'image')}; {methods}; metrics: {listing(self.better)})"

    def _repr_html_(self) -> str:
        return html_table(*self._table(), caption=f"means over {counted(len(self.outputs), 'image')}")

    def __str__(self) -> str:
        return self.markdown()

    def markdown(self) -> str:
        """The table: means over the examples, seconds per example, seconds of compilation."""
        return markdown_table(*self._table())

    def _table(self) -> tuple[list[str], list[list[str]]]:
        """The heading and the rows."""
        heading = ["method", *(f"{name}{arrow(b)}" for name, b in self.better.items()), "s per image", "s to compile"]
        rows = [
            [
                self.title(method),
                *(f"{values.mean():.3g}" for values in self.values[method].values()),
                f"{self.seconds[method]:.3g}",
                f"{self.compile_seconds[method]:.1f}",
            ]
            for method in self.maps
        ]
        return heading, rows

    def title(self, method: str) -> str:
        """What tables and pictures call a method."""
        return self.titles.get(method, method)

    def as_dict(self) -> dict[str, Any]:
        """All numbers, in types that JSON has; `None` where a metric has no answer."""
        methods = {
            method: {
                "metrics": {
                    name: {"mean": number_or_none(values.mean()), "values": [number_or_none(v) for v in values]}
                    for name, values in self.values[method].items()
                },
                "seconds_per_image": self.seconds[method],
                "compile_seconds": self.compile_seconds[method],
            }
            for method in self.maps
        }
        target = None if self.target is None else self.target.tolist()
        return {"better": self.better, "methods": methods, "target": target, **environment()}

    def heatmaps(self) -> dict[str, np.ndarray]:
        """The maps ``(N, H, W)``: method -> attribution, summed over its channels."""
        moved = {n: np.moveaxis(np.asarray(a), self.axes[n], -1) for n, a in self.maps.items()}
        return {n: a.sum(axis=-1) if a.ndim == 4 else a for n, a in moved.items()}

    def panel(
        self,
        images: Photographs,
        *,
        captions: Sequence[str] = (),
        boxes: ArrayLike | None = None,
        columns: int | None = None,
        size: float = 200,
    ) -> Image.Image:
        """One picture of all maps next to their images.

        Args:
          images: the photographs as they look, as for `jaxplain.visualize.panel`.
          captions: a text for each image.
          boxes: what the network saw of each image, as for `jaxplain.visualize.panel`.
          columns: how many maps stand in a row; None takes 5, or more for many images.
          size: the side of an image, as for `jaxplain.visualize.panel`.
        """
        from .. import visualize  # which takes long to import

        maps = {self.title(name).replace(":", "\n", 1): heat for name, heat in self.heatmaps().items()}
        return visualize.panel(images, maps, captions=captions, boxes=boxes, columns=columns, size=size)

    def save(
        self,
        stem: str | os.PathLike[str],
        images: Photographs,
        *,
        captions: Sequence[str] = (),
        boxes: ArrayLike | None = None,
        about: Mapping[str, Any] = MappingProxyType({}),
    ) -> list[Path]:
        """Write the picture, the table and the numbers: ``stem.png``, ``stem.md``, ``stem.json``.

        Args:
          stem: the files' name without an ending.
          images: as for `panel`.
          captions: as for `panel`.
          boxes: as for `panel`.
          about: what else the numbers are of, in types that JSON has: the model, the images' names, the seed.

        Raises:
          OSError: where a file cannot be written.
        """
        from .. import visualize

        files = [Path(f"{os.fspath(stem)}{ending}") for ending in (".png", ".md", ".json")]
        text = {name.capitalize(): str(value) for name, value in about.items() if isinstance(value, str)}
        visualize.save(self.panel(images, captions=captions, boxes=boxes), files[0], text=text)
        write_text(files[1], self.markdown() + "\n")
        write_text(files[2], json.dumps({**about, **self.as_dict()}, indent=2) + "\n")
        return files


def compare(apply: Apply, methods: Methods, *, metrics: Metrics = METRICS) -> Callable[..., Comparison]:
    """Explain the same images by several methods, measure the maps, and take the time.

    Everything is compiled here: explainers go in as they are made, not jitted.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function of images ``(N, H, W, C)``.
      methods: names of methods, with their default options, or ``{label: name or explainer}``.
      metrics: names of metrics (`jaxplain.evaluation.BETTER` lists them), or ``{label: name or metric}``, a metric
        being one of the functions of `jaxplain.metrics`, its options bound by ``functools.partial`` (``of="output"``
        for outputs that are no logits), or your own as a `jaxplain.evaluation.Measure`.

    Returns:
      A function ``(*args, target=None, key=None) -> Comparison`` of the arguments of ``apply``. ``target`` is as for
      explainers; `None` is the predicted class, for maps and metrics alike. ``key`` is for what draws random numbers.

    Raises:
      TypeError: for an explainer without a label, or a metric that is none.
      ValueError: for an unknown name.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x.sum(axis=(1, 2)) ** 2
      >>> side_by_side = jaxplain.compare(f, ["gradient", "input_x_gradient"], metrics=["sparseness"])
      >>> comparison = side_by_side(jnp.ones((1, 4, 4, 3)))
      >>> list(comparison.maps), float(comparison.values["gradient"]["sparseness"][0])
      (['gradient', 'input_x_gradient'], 0.0)
      >>> print(comparison.markdown())
      | method | sparseness ↑ | s per image | s to compile |
      |---|---|---|---|
      | gradient | 0 | ... |
      | input_x_gradient | 0 | ... |
    """
    explainers, measures = find_explainers(apply, methods), find_measures(metrics)
    for name, measure in measures.items():
        if measure.needs:
            raise TypeError(f"the metric {name} needs {' and '.join(measure.needs)}: bind it with functools.partial")

    def comparison(*args: Any, target: Target = None, key: Array | None = None) -> Comparison:
        context, x = split(args)
        outputs, fixed, score = resolve_target(apply, (*context, x), target)
        warn_of_softmax(apply, (*context, x), methods, measures)
        suite = CompiledSuite(apply, context, explainers, measures, score)
        maps, values, seconds, compile_seconds = {}, {}, {}, {}
        for label in explainers:
            call = lambda label=label: suite.explain(label, x, fixed, key)
            first, _ = timed(call)
            second, maps[label] = timed(call)
            seconds[label], compile_seconds[label] = second / len(x), max(first - second, 0.0)
            measured = suite.measure(label, x, maps[label], fixed, key)
            values[label] = {name: np.asarray(numbers) for name, numbers in measured.items()}
        axes = {label: suite.channel_axis(attribution, x) for label, attribution in maps.items()}
        better: dict[str, Better] = {name: measure.better for name, measure in measures.items()}
        chosen = None if fixed is None or fixed.ndim > 1 else np.broadcast_to(np.asarray(fixed), len(x))
        titles = titles_of(methods, explainers)
        return Comparison(maps, values, seconds, compile_seconds, better, axes, np.asarray(outputs), chosen, titles)

    return comparison


def resolve_target(apply: Apply, args: tuple[Any, ...], target: Target) -> tuple[Array, Array | None, Function | None]:
    """The outputs, and the target as an array, checked while it can be inspected, or as a function of them."""
    outputs = outputs_of(jax.jit(apply) if all(map(is_array, jax.tree.leaves(args))) else apply, args)
    if callable(target):
        return outputs, None, target
    if outputs.ndim == 1 and target is None:
        return outputs, None, lambda scores: scores
    scorer(target, outputs)  # refuses what does not fit
    return outputs, outputs.argmax(axis=1) if target is None else jnp.asarray(as_array(target)), None


def timed(call: Callable[[], Array]) -> tuple[float, Array]:
    """The seconds that a call takes until its result is there, and the result."""
    start = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - start, result
