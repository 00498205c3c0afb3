"""Metrics of several methods over many images, one image at a time, resumable after every one."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._convention import Apply
from ._fingerprint import fingerprint, network_fingerprint
from ._measures import Methods, Metrics, find_explainers, find_measures, warn_of_softmax
from ._records import Records, number_or_none
from ._suite import CompiledSuite

__all__ = ["Example", "evaluate"]


@dataclass(frozen=True)
class Example:
    """One image to explain.

    Attributes:
      name: what tells it from the others, such as its file name.
      x: the input of the network, a batch of one, ``(1, H, W, C)``.
      target: the class to explain.
      truth: what metrics of maps compare them with, such as ``{"mask": (1, H, W)}``, or the ``"cell"`` of a mosaic.
      file: a checksum of the file that it was read from, if it was, by which another image of the same name is told
        from another preprocessing of the same image.
    """

    name: str
    x: ArrayLike
    target: int
    truth: Mapping[str, ArrayLike] = field(default_factory=dict)
    file: str = ""


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

    What is on record already is not measured again, so that a program that was stopped goes on where it was. Records
    hold checksums of the image and of the network: another image of the same name is measured again, as is one of which
    a metric is missing; another network is refused. The random numbers of an image depend on its name and the seed, not
    on its place or on what was measured before.

    Args:
      apply: ``apply(*context, x) -> logits``.
      methods: as for `jaxplain.compare`.
      metrics: as for `jaxplain.compare`, and those that compare maps with what an example gives as ``truth``.
      examples: images, of one shape; an iterator may read them one by one.
      records: see `open_records`, whose settings should tell the options of the methods and metrics.
      context: what comes before the input: variables, state.
      seed: of the random numbers.

    Yields:
      Every record as soon as it is written: ``{"image", "method", "target", "metrics": {name: number or None}}``, and
      the checksums ``"network"``, ``"input"`` and ``"file"``.

    Raises:
      ValueError: if one of these methods is on record with another network, an image with another target or (where
        `Example.file` tells that it is the same) preprocessed in another way; if two images have one name; and as
        `jaxplain.compare`.
      OSError: if a record cannot be written.

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
    suite = CompiledSuite(apply, context, find_explainers(apply, methods), measures)
    names: set[str] = set()
    network = ""
    for example in examples:
        if example.name in names:
            raise ValueError(f"two examples are called {example.name}: give each a name of its own")
        names.add(example.name)
        x, target = jnp.asarray(example.x), jnp.asarray([example.target])
        if len(names) == 1:
            warn_of_softmax(apply, (*context, x), methods, measures)
        if not network:
            network = network_fingerprint(apply, context, x)
            require_network(network, suite.methods, records)
        about = {"target": example.target, "network": network, "input": fingerprint((example.x, example.truth))}
        about |= {"file": example.file} if example.file else {}
        key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(example.name.encode(errors="surrogatepass")))[None]
        for label in suite.methods:
            if is_measured(example, about, measures, records, label):
                continue
            attribution = suite.explain(label, x, target, key)
            measured = suite.measure(label, x, attribution, target, key, example.truth)
            values = {name: number_or_none(value[0]) for name, value in measured.items()}
            record = {"image": example.name, "method": label, **about, "metrics": values}
            records.append(record)
            yield record


def require_network(network: str, methods: Collection[str], records: Records) -> None:
    """Refuse to mix maps of different networks."""
    for (name, method), record in records.done.items():
        if method in methods and record.get("network") != network:
            raise ValueError(
                f"{records.path} was made with another network or other weights, or by another JAX, says {method} of "
                f"{name}: name another file, or delete this one"
            )


def is_measured(
    example: Example, about: dict[str, Any], measures: Collection[str], records: Records, method: str
) -> bool:
    """Whether this very input is on record; refuses to mix maps of different classes or preprocessings."""
    before = records.done.get((example.name, method), {})
    if before.get("input") != about["input"]:
        if example.file and before.get("file") == example.file:
            raise ValueError(
                f"{records.path} has {example.name} preprocessed in another way: name another file, or delete this one"
            )
        return False
    if before.get("target") != example.target:
        raise ValueError(
            f"{records.path} has {example.name} with class {before.get('target')}, not {example.target}: name another "
            "file, or delete this one"
        )
    return all(name in before["metrics"] for name in measures)
