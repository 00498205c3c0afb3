"""A job from its beginning to its end: one store, one lock, the same question as before or a refusal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from .._convention import Apply
from ..evaluation._environment import environment
from ..evaluation._fingerprint import checksum, network_fingerprint
from ._devices import AXIS, Compute, Devices, Part
from ._extra import tensorstore as ts
from ._lock import locked
from ._options import Running
from ._processes import by_first, wait_for_all
from ._run import Job, Judge, Outcome, run
from ._source import Example, Examples
from ._store import WAITING, Fields, Place, Store, about, create, kvstore, open_store, require_chunks

MADE_WITH = {
    "kind": "another call, not bulk.{now}",
    "source": "other images",
    "preprocessing": "images that were preprocessed in another way",
    "network": "another network or other weights, or by another JAX",
    "method": "another method, other options, or by another JAX",
}


@dataclass(frozen=True)
class Question:
    """What is asked of every image.

    Attributes:
      settings: what the results depend on, in types that JSON has; a store of other settings is refused.
      fields: what is stored of every image.
      compute: see `Job`.
      judge: see `Job`.
      notes: more to be stored, which may differ.
    """

    settings: Mapping[str, Any]
    fields: Fields
    compute: Compute
    judge: Judge
    notes: Mapping[str, Any] = field(default_factory=dict)


def answer(
    where: Place, examples: Examples, first: Example, devices: Devices, question: Question, options: Running
) -> Outcome:
    """Answer the question for all images that the store has no answer for.

    Raises:
      ValueError: if the store was made with other settings, or is none.
      BlockingIOError: if another job has the store.
      OSError: if it cannot be read or written.
    """
    kv = kvstore(where)
    settings = json.loads(json.dumps({**question.settings, "images": len(examples)}))
    with ExitStack() as stack:

        def begin() -> dict[str, Any]:
            stack.enter_context(locked(kv))
            found = prepare(kv, settings, devices.size, question, options.over)
            return {"found": found, "pending": pending(open_store(kv, found), devices.size, options.check)}

        begun = by_first(begin)
        store = open_store(kv, begun["found"])
        job = Job(store, examples, first, devices, question.compute, question.judge, options)
        outcome = run(job, np.array(begun["pending"], np.int64))
        wait_for_all("jaxplain.bulk: the end")  # until then the first process has the lock
        return outcome


def prepare(kv: Any, settings: dict[str, Any], batch_size: int, question: Question, over: bool) -> dict[str, Any]:
    """What the store says of itself: as it is there, if it is of these settings, or just made."""
    found = about(kv)
    change = None if found is None else difference(found["settings"], settings)
    if found is not None and change is None:
        return found
    require_chunks(batch_size, question.fields)  # before what was there is deleted
    if found is not None:
        if not over:
            raise ValueError(f"{kv.url} was made with {change}: name another store, or start this one over (over=True)")
        kv.delete_range(ts.KvStore.KeyRange()).result()
    notes = {"settings": settings, **question.notes, **environment()}
    create(kv, settings["images"], batch_size, question.fields, notes)
    made = about(kv)
    assert made is not None
    return made


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """In what a store differs from what is asked, in words."""
    for name in [*now, *before]:
        if before.get(name) != now.get(name):
            plain = f"{name} = {before.get(name)}, not {now.get(name)}"
            return MADE_WITH.get(name, plain).format(now=now.get(name))
    return None


def pending(store: Store, size: int, check: bool) -> list[int]:
    """The batches, of ``size`` images each, of which an image is not done; what is lost is not done any more."""
    status = store.status()
    for file in store.lost(status, check):
        store.discard(file)
        status[store.images_of(file)] = WAITING
    return np.unique(np.flatnonzero(status == WAITING) // size).tolist()


def method_fingerprint(part: Part, args: tuple[Any, ...], batch: Mapping[str, np.ndarray]) -> str:
    """A checksum of what is computed of a batch, of one image however large the batches are."""
    one = {name: values[:1] for name, values in batch.items()}
    # Of one device, so that the checksum does not depend on how many there are.
    mesh = jax.sharding.AbstractMesh((1,), (AXIS,), (jax.sharding.AxisType.Auto,))

    def mapped(*args_and_batch: Any) -> Any:
        *args, batch = args_and_batch
        inner = lambda batch: part(tuple(args), batch)
        return jax.shard_map(inner, mesh=mesh, in_specs=jax.P(AXIS), out_specs=jax.P(AXIS), check_vma=False)(batch)

    return network_fingerprint(mapped, args, one)


def fingerprints(
    apply: Apply, parts: Sequence[Part], args: tuple[Any, ...], examples: Examples, batch: Mapping[str, np.ndarray]
) -> dict[str, str]:
    """Checksums of all that the results depend on."""
    network = network_fingerprint(apply, args, batch["image"][:1])
    method = checksum(method_fingerprint(part, args, batch) for part in parts)
    return {**examples.fingerprints(), "network": network, "method": method}
