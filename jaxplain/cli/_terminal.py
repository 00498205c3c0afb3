"""What the user sees: results on the standard output; steps, progress and errors on the other one."""

from __future__ import annotations

import contextlib
import io
import shlex
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

# File names are printed as they are: not as markup, emoji or numbers to colour, and never wrapped.
STDOUT = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
STDERR = Console(markup=False, emoji=False, highlight=False, soft_wrap=True, stderr=True)


WORDS: ContextVar[tuple[str, ...]] = ContextVar("words of the command line", default=())


def command_line() -> dict[str, str]:
    """What a picture tells of how it was made."""
    from .. import __version__

    return {"software": f"jaxplain {__version__}", "command": shlex.join(["jaxplain", *WORDS.get()])}


class UsageError(Exception):
    """A command that cannot be carried out; the message is one sentence that says why."""


def escape_unprintable() -> None:
    """Let the terminal show what its encoding lacks as an escape sequence, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def words(text: str | None) -> list[str]:
    """The words between commas, each once."""
    return list(dict.fromkeys(word.strip() for word in (text or "").split(",") if word.strip()))


class Report:
    """Tells what is being done; a bar counts the images while the ``with`` block lasts.

    In a terminal, it says at the end how long each part took: loading, compiling, explaining.
    """

    def __init__(self, total: int) -> None:
        self.failed = False
        self._told: set[str] = set()
        self._begun: list[tuple[str, float]] = []  # the first word of each step, and when it began
        self._bar = Progress(
            SpinnerColumn("line"),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=STDERR,
            transient=True,
            redirect_stdout=False,
            disable=not STDERR.is_terminal,
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if STDERR.is_terminal and kind is None and self._begun:
            STDERR.print(", ".join(f"{part} {seconds:.1f} s" for part, seconds in self._seconds().items()))

    def _seconds(self) -> dict[str, float]:
        """How long each part took, all steps that begin with its word together."""
        ends = [*(begun for _, begun in self._begun[1:]), time.perf_counter()]
        taken: dict[str, float] = {}
        for (part, begun), end in zip(self._begun, ends, strict=True):
            taken[part] = taken.get(part, 0.0) + end - begun
        return taken

    def step(self, text: str) -> None:
        """Say what begins now."""
        self._begun.append((text.partition(" ")[0], time.perf_counter()))
        self._bar.update(self._task, description=text)
        if not STDERR.is_terminal:
            STDERR.print(f"{text} ...")

    def done(self) -> None:
        """Count one image."""
        self._bar.advance(self._task)

    def success(self, text: str) -> None:
        """Print the result of one image."""
        self._bar.advance(self._task)
        self._bar.stop()  # both outputs may be the same terminal
        STDOUT.print(text)
        self._bar.start()

    def note(self, text: str) -> None:
        """Tell, once, what one should know of an image that is explained nevertheless."""
        if text not in self._told:
            self._told.add(text)
            STDERR.print(f"note: {text}")

    @contextlib.contextmanager
    def failures_of(self, name: str) -> Iterator[None]:
        """Tell what goes wrong with one image, and go on with the others."""
        try:
            yield
        except (ValueError, OSError) as error:
            self.failure(f"{name}: {error}")

    def failure(self, text: str) -> None:
        """Tell why one image is not explained; the others are."""
        self.failed = True
        self._bar.advance(self._task)
        STDERR.print(f"jaxplain: {text}")
