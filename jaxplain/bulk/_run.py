"""The loop of a job: what is read ahead is computed, what is computed is written, and nothing waits for the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias
from zlib import crc32

import jax
import numpy as np

from ._devices import Compute, Devices
from ._options import Running
from ._plan import Plan, batches, shares
from ._processes import stopping, wait_for_all
from ._source import Example, Examples
from ._store import DONE, FAILED, NAME_BYTES, PROBLEM_BYTES, WAITING, Store, text_rows

__all__ = ["Outcome"]

Judge: TypeAlias = Callable[[Mapping[str, np.ndarray]], str]


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
      done: how many images of the store are done, those of earlier jobs included.
      failed: how many of these cannot be explained; ``problem`` in the store says why.
      images: how many there are in all.
    """

    done: int
    failed: int
    images: int

    @property
    def finished(self) -> bool:
        """Whether all is done; otherwise the job was told to stop, and the same call goes on from there."""
        return self.done == self.images


@dataclass(frozen=True)
class Job:
    """A job of one process.

    Attributes:
      store: where results go.
      examples: what is explained.
      blank: one of them, of which all have the shape.
      devices: on which.
      compute: a batch as NumPy arrays, this process's part of it -> results over all devices by name.
      judge: an image's results by name -> why they cannot be stored, the rest of a sentence, or an empty text.
      options: how.
    """

    store: Store
    examples: Examples
    blank: Example
    devices: Devices
    compute: Compute
    judge: Judge
    options: Running


def run(job: Job, pending: np.ndarray) -> Outcome:
    """Do the chunks that are pending, the same list in every process.

    Raises:
      OSError: if the store cannot be written; what was written before stays.
    """
    status = job.store.status()
    chunks = shares(pending, job.devices.parts)
    plan = Plan(chunks[:, job.devices.own_parts], job.devices.size, len(job.examples))
    progress, images = job.options.progress, len(job.examples)
    before = int((status != WAITING).sum())
    with stopping() as is_stopped, Writer(job, plan) as writer:
        ahead = batches(plan, job.examples, job.options.threads, job.options.processes)
        in_flight: tuple[int, list[Example], Mapping[str, jax.Array]] | None = None
        for step, examples in enumerate(ahead):
            if is_stopped(step):
                break
            started = job.compute(filled(examples, plan.indices(step), job.blank))  # returns before it is computed
            if in_flight:
                writer.add(*in_flight)
            in_flight = step, examples, started
            if progress:
                done = min(images, before + step * job.devices.parts * plan.size)
                progress(done, writer.failed, images)
        if in_flight:
            writer.add(*in_flight)
        ahead.close()
    wait_for_all("jaxplain.bulk: all is written")
    status = job.store.status()
    outcome = Outcome(int((status != WAITING).sum()), int((status == FAILED).sum()), images)
    if progress:
        progress(outcome.done, outcome.failed, images)
    return outcome


def filled(examples: Sequence[Example], indices: Sequence[int], blank: Example) -> dict[str, np.ndarray]:
    """A batch as arrays; zeros take the place of images that are missing, and fill the last chunk up.

    Args:
      examples: of which some have no image.
      indices: their places in the source.
      blank: an image of the same shapes.
    """
    images = [np.zeros_like(blank.image) if example.image is None else example.image for example in examples]
    truth = {k: np.stack([e.truth.get(k, np.zeros_like(v)) for e in examples]) for k, v in blank.truth.items()}
    return {
        "image": np.stack(images),
        "label": np.array([max(example.label, 0) for example in examples], np.int32),
        "index": np.array([max(index, 0) for index in indices], np.uint32),
        "name": np.array([crc32(e.name.encode(errors="surrogatepass")) for e in examples], np.uint32),
        **truth,
    }


def blotted(values: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Results with NaN, or -1 among integers, where an image failed."""
    if not bad.any():
        return values
    fill = np.asarray(-1 if values.dtype.kind == "i" else np.nan, values.dtype)
    return np.where(bad.reshape(-1, *[1] * (values.ndim - 1)), fill, values)


@dataclass
class Part:
    """Neighbouring chunks that are computed and not written yet; they belong to one file."""

    begin: int
    since: float = field(default_factory=time.monotonic)
    chunks: list[dict[str, np.ndarray]] = field(default_factory=list)


class Writer:
    """Collects what each device has computed; a thread writes it when a file is full or time is up."""

    def __init__(self, job: Job, plan: Plan) -> None:
        self.job, self.plan = job, plan
        self.failed = 0
        self.parts: dict[int, Part] = {}
        self.writing: list[Future[None]] = []
        self.thread = ThreadPoolExecutor(1, "jaxplain.bulk")

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                for device in [*self.parts]:
                    self.flush(device)
                self.wait(0)
        finally:
            self.thread.shutdown(wait=True, cancel_futures=True)

    def add(self, step: int, examples: Sequence[Example], results: Mapping[str, jax.Array]) -> None:
        """Take the results of a step, for which it waits."""
        own = {name: self.job.devices.own(values) for name, values in results.items()}
        for place, part in enumerate(self.job.devices.own_parts):
            chunk = int(self.plan.chunks[step, place])
            if chunk >= 0 and all(part in values for values in own.values()):
                of_part = examples[place * self.plan.size : (place + 1) * self.plan.size]
                self.add_chunk(part, chunk, of_part, {name: values[part] for name, values in own.items()})
        self.wait(len(self.job.devices.own_parts))

    def add_chunk(self, device: int, chunk: int, examples: Sequence[Example], results: dict[str, np.ndarray]) -> None:
        """Take a chunk of one device; what it had of another file is written."""
        images = self.plan.range_of(chunk)
        per_file, part = self.job.store.per_file, self.parts.get(device)
        if part and (images.start != self.end_of(part) or images.start // per_file != part.begin // per_file):
            self.flush(device)
        part = self.parts.setdefault(device, Part(images.start))
        part.chunks.append(self.judged(examples[: len(images)], {k: v[: len(images)] for k, v in results.items()}))
        if images.stop % per_file == 0 or time.monotonic() - part.since > self.job.options.every:
            self.flush(device)

    def judged(self, examples: Sequence[Example], results: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All that is stored of a chunk, with what is wrong with its images."""
        problems = []
        for i, example in enumerate(examples):
            problems.append(example.problem or self.job.judge({k: v[i] for k, v in results.items()}))
        bad = np.array([bool(problem) for problem in problems])
        self.failed += int(bad.sum())
        stored = {name: blotted(values, bad) for name, values in results.items() if name in self.job.store.arrays}
        return stored | {
            "name": text_rows([example.name for example in examples], NAME_BYTES),
            "label": np.array([example.label for example in examples], np.int32),
            "problem": text_rows(problems, PROBLEM_BYTES),
            "status": np.where(bad, FAILED, DONE).astype(np.uint8),
        }

    def end_of(self, part: Part) -> int:
        """The image behind the last one of a part."""
        return part.begin + sum(len(chunk["status"]) for chunk in part.chunks)

    def flush(self, device: int) -> None:
        """Hand a device's part over to be written."""
        part = self.parts.pop(device)
        self.writing.append(self.thread.submit(self.job.store.write, part.begin, part.chunks))

    def wait(self, most: int) -> None:
        """Wait until so many parts at most are still to be written; whatever went wrong is raised here."""
        while len(self.writing) > most:
            self.writing.pop(0).result()
        while self.writing and self.writing[0].done():
            self.writing.pop(0).result()
