"""Which device explains which images: chunks of the store, dealt out to the devices anew whenever a job begins."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from ._extra import flags, grain
from ._source import Example, Examples

NOTHING = Example("", None)  # fills a batch up


@dataclass(frozen=True)
class Plan:
    """The work of one process.

    Attributes:
      chunks: ``(steps, devices of this process)``, the chunk that a device explains at a step, -1 for none.
      size: how many images a chunk has; the last one of the store may have fewer.
      images: how many there are in all.
    """

    chunks: np.ndarray
    size: int
    images: int

    def range_of(self, chunk: int) -> range:
        """The images of a chunk."""
        return range(chunk * self.size, min((chunk + 1) * self.size, self.images))

    def index(self, place: int) -> int:
        """The image at a place of all batches, one after the other; -1 for one that only fills a batch up."""
        chunk, within = self.chunks.reshape(-1)[place // self.size], place % self.size
        image = chunk * self.size + within
        return int(image) if chunk >= 0 and image < self.images else -1

    def indices(self, step: int) -> list[int]:
        """The images of a step."""
        size = self.size * self.chunks.shape[1]
        return [self.index(place) for place in range(step * size, (step + 1) * size)]


def shares(pending: np.ndarray, devices: int) -> np.ndarray:
    """Deal chunks out to devices, ``(steps, devices)``: to each a run of neighbours, which are in one file.

    The runs differ in length by one at most; a device that has no chunk left gets -1.

    Example:
      >>> import numpy as np
      >>> from jaxplain.bulk._plan import shares
      >>> shares(np.array([0, 1, 2, 5, 6]), 2)
      array([[ 0,  5],
             [ 1,  6],
             [ 2, -1]])
    """
    runs = np.array_split(pending, devices)
    dealt = np.full((len(runs[0]), devices), -1, np.int64)
    for device, run in enumerate(runs):
        dealt[: len(run), device] = run
    return dealt


class Reads:
    """What a process reads, in order, as a source of grain."""

    def __init__(self, plan: Plan, examples: Examples) -> None:
        self.plan = plan
        self.examples = [examples.apart() for _ in range(plan.chunks.shape[1])]  # each device goes its own way

    def __len__(self) -> int:
        return self.plan.chunks.size * self.plan.size

    def __getitem__(self, place: int) -> Example:
        index, device = self.plan.index(place), place // self.plan.size % len(self.examples)
        return NOTHING if index < 0 else self.examples[device][index]


def batches(plan: Plan, examples: Examples, threads: int, processes: int) -> Generator[list[Example]]:
    """The examples of every step, read and prepared ahead by grain's threads, or its processes."""
    size = plan.size * plan.chunks.shape[1]
    threads = threads if examples.is_random else 1
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2 * size, threads))
    reads = grain.MapDataset.source(Reads(plan, examples)).to_iter_dataset(options)  # type: ignore[arg-type]
    if processes:
        if not flags.FLAGS.is_parsed():  # grain asks for flags of its own, which nobody gave to a program without any
            flags.FLAGS.mark_as_parsed()
        buffer = -(-2 * size // processes)
        workers = grain.multiprocessing.MultiprocessingOptions(processes, per_worker_buffer_size=buffer)
        reads = reads.mp_prefetch(workers)
    ahead = iter(reads)
    try:
        for _ in range(len(plan.chunks)):
            yield [next(ahead) for _ in range(size)]
    finally:
        ahead.close()
