"""Metrics of several methods over a million images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from .._convention import Apply, Array, require_classes
from ..evaluation import Statistic
from ..evaluation._measures import Methods, Metrics, find_explainers, find_measures, warn_of_softmax
from ..evaluation._suite import CompiledSuite
from ..evaluation._table import statistic
from ._devices import devices_of, shape_of_outputs, without_mesh
from ._job import Question, answer, fingerprints
from ._options import JobOptions, Running
from ._run import Outcome, filled
from ._source import Examples, Source
from ._store import DONE, Field, Place, about, kvstore, open_store

__all__ = ["evaluate", "summarize"]


@without_mesh
def evaluate(
    apply: Apply,
    methods: Methods,
    metrics: Metrics,
    source: Source,
    store: Place,
    *,
    args: tuple[Any, ...] = (),
    **options: Unpack[JobOptions],
) -> Outcome:
    """Measure methods over all images of a source, on all devices of all processes, and store the numbers.

    The numbers are those of `jaxplain.evaluation.evaluate` for the same names and seed. The store has an array
    ``(images, methods)`` for each metric, NaN where it has no answer, and what all stores have (see `explain`); its
    attribute ``methods`` names the methods. `summarize` makes a table of it.

    Args:
      apply: ``apply(*args, images) -> logits``.
      methods: as for `jaxplain.compare`: names, or ``{label: explainer}``.
      metrics: as for `jaxplain.compare`, and those that compare maps with what the dicts of the source have beside
        ``"image"``, ``"label"`` and ``"name"``, such as a ``"mask"``.
      source: see `explain`; every image needs a label, for which it is explained.
      store: see `explain`.
      args: see `explain`.
      **options: see `JobOptions`. Here random numbers depend on the seed and on the name of an image.

    Returns:
      How many images are done, and how many failed.

    Raises:
      ValueError: as `explain` and `jaxplain.compare`.
      BlockingIOError: as `explain`.
      OSError: as `explain`.

    Example:
      >>> import jax.numpy as jnp, tempfile
      >>> from jaxplain import bulk
      >>> images = [(jnp.full((4, 4, 3), 1.0 + i), i % 3) for i in range(4)]
      >>> store = tempfile.mkdtemp() + "/metrics.zarr"
      >>> f = lambda x: x.sum(axis=(1, 2)) ** 2
      >>> bulk.evaluate(f, ["gradient"], ["sparseness"], images, store, batch_size=2)
      Outcome(done=4, failed=0, images=4)
      >>> bulk.summarize(store)["gradient"]["sparseness"].n
      4
    """
    chosen = Running.of("bulk.evaluate", options, "args")
    explainers, measures = find_explainers(apply, methods), find_measures(metrics)
    examples, devices = Examples(source, chosen.preprocess), devices_of(chosen.mesh, chosen.batch_size)
    outputs = shape_of_outputs(apply, args, np.asarray(examples.probe().image)[None])
    require_classes("bulk.evaluate", outputs)
    examples.classes = outputs.shape[1]
    example = examples.probe()
    first = filled([example], [0], example)
    warn_of_softmax(apply, (*args, jnp.asarray(first["image"])), methods, measures)

    suite = partial(CompiledSuite, apply, methods=explainers, measures=measures)
    parts = [partial(measured, suite, label, chosen.seed) for label in explainers]
    settings = {"kind": "evaluate", "methods": [*explainers], "metrics": [*measures], "seed": chosen.seed}
    question = Question(
        settings | fingerprints(apply, parts, args, examples, first),
        {name: Field("float32", (len(parts),), ("method",)) for name in measures},
        devices.compute(parts, args, side_by_side),
        lambda results: "",
    )
    return answer(store, examples, example, devices, question, chosen)


def measured(
    suite_of: Callable[..., CompiledSuite], label: str, seed: int, args: tuple[Any, ...], batch: Mapping[str, Array]
) -> dict[str, Array]:
    """All metrics of one method, ``(n,)`` each."""
    suite, x, target = suite_of(context=args), batch["image"], batch["label"]
    key = jax.vmap(lambda name: jax.random.fold_in(jax.random.key(seed), name))(batch["name"])
    attribution = suite.explain(label, x, target, key)
    values = suite.measure(label, x, attribution, target, key, batch)
    return {name: value.astype(jnp.float32) for name, value in values.items()}


def side_by_side(results: list[dict[str, Array]]) -> dict[str, Array]:
    """The metrics of several methods as ``(n, methods)``."""
    return {name: jnp.stack([result[name] for result in results], axis=1) for name in results[0]}


def summarize(store: Place) -> dict[str, dict[str, Statistic]]:
    """The mean of each metric for each method, with its 95 % confidence interval, of what `evaluate` has stored.

    Args:
      store: the place of the store.

    Returns:
      method -> metric -> `jaxplain.evaluation.Statistic`, as `jaxplain.evaluation.summarize` does of records.

    Raises:
      ValueError: if it is no store of metrics.
      OSError: if it cannot be read.

    Example:
      >>> from jaxplain import bulk
      >>> bulk.summarize("nowhere.zarr")
      Traceback (most recent call last):
      ValueError: nowhere.zarr is no store of bulk.evaluate: name one
    """
    kv = kvstore(store)
    found = about(kv)
    if found is None or found["settings"]["kind"] != "evaluate":
        raise ValueError(f"{store} is no store of bulk.evaluate: name one")
    opened = open_store(kv, found)
    is_done = opened.status() == DONE
    names = found["settings"]["metrics"]
    columns = {name: opened.arrays[name].read().result()[is_done] for name in names}
    return {label: dict(row(columns, i)) for i, label in enumerate(found["settings"]["methods"])}


def row(columns: Mapping[str, np.ndarray], method: int) -> Iterator[tuple[str, Statistic]]:
    """The statistics of one method; images without an answer are left out."""
    for name, values in columns.items():
        finite = values[:, method][np.isfinite(values[:, method])]
        if len(finite):
            yield name, statistic(finite.tolist())
