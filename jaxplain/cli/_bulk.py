"""``--save maps.zarr``: a command over many images as a job of `jaxplain.bulk`, of as many processes as there are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeGuard

import jax
import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .._compose import heatmap
from .._convention import Explain
from ..evaluation._table import summary_table
from ._network import Network
from ._terminal import STDERR, STDOUT, UsageError


@dataclass(frozen=True)
class Job:
    """What ``--save STORE.zarr`` takes besides."""

    coordinator: str | None = None
    """With --save STORE.zarr, of several processes that no cluster starts: the address of the first, host:port."""
    processes: int | None = None
    """How many processes there are."""
    index: int | None = None
    """Which of them this one is, from 0."""
    over: bool = False
    """Start over a store that was made with something else."""

    def join(self) -> None:
        """Meet the other processes, before JAX computes anything."""
        given = (self.coordinator, self.processes, self.index)
        if None in given and given != (None, None, None):
            raise UsageError("--coordinator, --processes and --index go together")
        try:
            jax.distributed.initialize(*given, shutdown_timeout_seconds=60)
        except (ValueError, RuntimeError) as error:
            # Without an address JAX looks for a cluster, and says in these words that it finds none, or is not asked.
            alone = "coordinator_address should be defined" in str(error) or "must be called before" in str(error)
            if not alone or None not in given:
                raise UsageError(f"the processes of the job do not meet: {error}") from error


@dataclass(frozen=True)
class StoredJob(Job):
    """The same, of a command that makes a file otherwise."""

    save: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """A store .zarr for the numbers of each photograph, in place of --out, for folders of any size."""
    batch_size: int = 16
    """With --save, how many photographs are measured at once."""


InBulk = Annotated[Job, tyro.conf.arg(name="")]
InStore = Annotated[StoredJob, tyro.conf.arg(name="")]
ALONE, NOT_STORED = Job(), StoredJob()


def is_store(save: Path | None) -> TypeGuard[Path]:
    """Whether results go to a store of Zarr."""
    return save is not None and save.suffix.lower() == ".zarr"


def address(save: Path) -> str:
    """The place of a store, a path or the address of a bucket, of which a path has lost a slash."""
    return re.sub(r"^(\w{2,}):/(?!/)", r"\1://", str(save))


def explain_in_bulk(
    images: Sequence[Path],
    save: Path,
    load: Callable[[], Network],
    make: Callable[[Network], Explain],
    target: str | None,
    job: Job,
    **options: Any,
) -> int:
    """Store the maps of a folder, or of what fits a pattern."""
    from .. import bulk

    if len(images) != 1:
        raise UsageError(f"--save {save} takes one folder, or one pattern in quotes, such as 'photos/*.jpg'")
    job.join()
    network = load()
    label = None if target is None else network.find_class(target)
    options |= {"args": (network.variables,), "preprocess": network.preprocess, "target": label, "over": job.over}
    with one_bar() as progress, in_one_sentence(save):
        explain = heatmap(make(network))
        outcome = bulk.explain(explain, str(images[0]), address(save), progress=progress, **options)
    return said(outcome, save)


def evaluate_in_bulk(
    folder: Path,
    classes_of: Callable[[Network], Mapping[str, tuple[Path, int]]],
    load: Callable[[], Network],
    make: Callable[[Network], Mapping[str, Explain]],
    measures: Mapping[str, Any],
    better: Mapping[str, str],
    job: StoredJob,
    html: Path | None,
    seed: int,
) -> int:
    """Store the metrics of the photographs of a folder, and print the table."""
    from .. import bulk
    from ..bulk._source import Photographs

    if not is_store(job.save):
        raise UsageError(f"--save {job.save}: the name must end in .zarr")
    if html:
        raise UsageError("--html goes without --save")
    job.join()
    network, where = load(), address(job.save)
    source = Photographs(folder, {name: label for name, (_, label) in classes_of(network).items()})
    options = {"preprocess": network.preprocess, "batch_size": job.batch_size, "seed": seed, "over": job.over}
    what = (network.apply, make(network), measures, source, where)
    with one_bar() as progress, in_one_sentence(job.save):
        outcome = bulk.evaluate(*what, args=(network.variables,), progress=progress, **options)
        table = summary_table(bulk.summarize(where), better)
    if jax.process_index() == 0:
        STDOUT.print(table)
    return said(outcome, job.save)


@contextmanager
def one_bar() -> Iterator[Callable[[int, int, int], None]]:
    """What tells of the progress: a bar of the first process."""
    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
        *(TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), TextColumn("{task.fields[failures]}")),
    )
    shown = STDERR.is_terminal
    bar = Progress(*columns, console=STDERR, transient=True, disable=not shown)
    task = bar.add_task("explaining", total=None, rate="", failures="")
    with bar:

        def progress(done: int, failed: int, images: int) -> None:
            if jax.process_index() == 0:
                failures = f"{failed} failed" if failed else ""
                speed = bar.tasks[0].speed
                rate = f"{speed:.1f} images/s" if speed else ""
                bar.update(task, completed=done, total=images, failures=failures, rate=rate)

        yield progress


@contextmanager
def in_one_sentence(save: Path) -> Iterator[None]:
    """Tell in one sentence what the command cannot do."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        raise UsageError(f"--save {save}: {str(error).replace('over=True', '--over')}") from error


def said(outcome: Any, save: Path) -> int:
    """Say how it ended, and return the exit status."""
    if jax.process_index() == 0:
        failed = f", {outcome.failed} of them failed (the array `problem` says why)" if outcome.failed else ""
        STDOUT.print(f"{outcome.done} of {outcome.images} images are done{failed}: {address(save)}")
        if not outcome.finished:
            STDOUT.print("told to stop: the same command goes on from there")
    return 1 if outcome.finished and outcome.failed else 0
