"""Metrics of several methods over many images, one image at a time, resumable after every one."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ..explainer import Apply
from .measures import Methods, Metrics, bench, find_explainers, find_measures, warn_of_softmax
from .records import Records, number_or_none


@dataclass(frozen=True)
class Example:
    """One image to explain.

    Attributes:
      name: what tells it from the others, such as its file name.
      x: the input of the network, a batch of one, ``(1, H, W, C)``.
      target: the class to explain.
      truth: what metrics of maps compare them with, such as ``{"mask": (1, H, W)}``, or the ``"cell"`` of a mosaic.
    """

    name: str
    x: ArrayLike
    target: int
    truth: Mapping[str, ArrayLike] = field(default_factory=dict)


def evaluate(
    apply: Apply,
    methods: Methods,
    metrics: Metrics,
    examples: Iterable[Example],
    records: Records,
    *,
    context: tuple[Any, ...] = (),
    seed: int = 0,
) -> Iterator[dict[str, Any]]:
    """Measure methods over images, and keep a record of every image and method.

    What is on record already is not measured again, so that a program that was stopped goes on where it was. The random
    numbers of an image depend on its name and the seed, not on its place or on what was measured before.

    Args:
      apply: ``apply(*context, x) -> logits``.
      methods: as for `jaxplain.compare`.
      metrics: as for `jaxplain.compare`, and those that compare maps with what an example gives as ``truth``.
      examples: images, of one shape; an iterator may read them one by one.
      records: see `open_records`, whose settings should tell the methods' options and the metrics.
      context: what comes before the input: variables, state.
      seed: of the random numbers.

    Yields:
      Every record as soon as it is written: ``{"image", "method", "target", "metrics": {name: number or None}}``.

    Raises:
      ValueError: if an image is on record with another target, if two have one name, and as `jaxplain.compare`.

    Example:
      >>> import jax.numpy as jnp, tempfile
      >>> from jaxplain.evaluation import Example, evaluate, open_records
      >>> records = open_records(tempfile.mkdtemp() + "/records.jsonl", {"seed": 0})
      >>> images = [Example(f"{i}.png", jnp.full((1, 4, 4, 3), 1.0 + i), target=i) for i in range(2)]
      >>> f = lambda x: x.sum(axis=(1, 2)) ** 2
      >>> [r["image"] for r in evaluate(f, ["gradient"], ["sparseness"], images, records)]
      ['0.png', '1.png']
      >>> list(evaluate(f, ["gradient"], ["sparseness"], images, records))
      []
    """
    measures = find_measures(metrics)
    ready = bench(apply, context, find_explainers(apply, methods), measures)
    names: set[str] = set()
    for example in examples:
        if example.name in names:
            raise ValueError(f"two examples are called {example.name}: give each a name of its own")
        names.add(example.name)
        x, target = jnp.asarray(example.x), jnp.asarray([example.target])
        if len(names) == 1:
            warn_of_softmax(apply, (*context, x), methods, measures)
        key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(example.name.encode(errors="surrogatepass")))[None]
        for label, explain in ready.explainers.items():
            if before := records.done.get((example.name, label)):
                require_target(before, example, records)
                continue
            attribution = explain(*ready.arrays, x, target=target, key=key)
            measured = {m.name: ready.values(label, m, x, attribution, target, key, example.truth) for m in measures}
            values = {name: number_or_none(value[0]) for name, value in measured.items()}
            record = {"image": example.name, "method": label, "target": example.target, "metrics": values}
            records.append(record)
            yield record


def require_target(before: dict[str, Any], example: Example, records: Records) -> None:
    """Refuse to mix maps of different classes."""
    if before["target"] != example.target:
        raise ValueError(
            f"{records.path} has {example.name} with class {before['target']}, not {example.target}: name another "
            "file, or delete this one"
        )
