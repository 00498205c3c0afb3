"""A file of records, a line of JSON for each image and method, that a killed program can go on with.

The first line says with which settings the file was made. A program that is killed leaves whole lines and at most one
that is torn off, which is cut away when the file is opened again or goes on; on a full disk none is left at all.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._files import append_line, open_file, write_whole

__all__ = ["Records", "open_records"]


@dataclass(frozen=True)
class Records:
    """What has been measured so far.

    Attributes:
      path: the file.
      done: ``(image, method) -> record``; a record has ``image``, ``method``, ``metrics``, and what these depend on.
    """

    path: Path
    done: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record, in the file and here, in place of an older one.

        One that is there already, numbers aside, is not written again.

        Raises:
          ValueError: if it is no record.
          OSError: if the file is gone or the disk full; the file keeps its whole lines.
        """
        require_record(record, "what was measured")
        if replaces(record, self.done.get(key_of(record))):
            append_line(self.path, line_of(record))
            self.done[key_of(record)] = dict(record)


def open_records(path: str | os.PathLike[str], settings: Mapping[str, Any]) -> Records:
    """Open a file of records to go on with it, or begin one.

    Args:
      path: the file; its folder exists.
      settings: what the numbers depend on, in types that JSON has.

    Raises:
      ValueError: if the file was made with other settings, or is no file of records.
      OSError: if it cannot be read or written.

    Example:
      >>> import tempfile
      >>> from jaxplain.evaluation import open_records
      >>> path = tempfile.mkdtemp() + "/records.jsonl"
      >>> open_records(path, {"seed": 0}).append({"image": "cat.png", "method": "lrp", "metrics": {"insertion": 0.5}})
      >>> list(open_records(path, {"seed": 0}).done)
      [('cat.png', 'lrp')]
      >>> open_records(path, {"seed": 1})
      Traceback (most recent call last):
      ValueError: ...records.jsonl was made with seed = 0, not 1: name another file, or delete this one
    """
    path = Path(path)
    try:
        with open_file(path) as file:
            whole, newline, torn = file.read().rpartition(b"\n")
    except FileNotFoundError:
        whole, newline, torn = b"", b"", b""
    if not newline:
        if torn:  # the first line is written whole or not at all
            raise ValueError(f"{path} is no file of records: name another file")
        write_whole(path, lambda file: file.write(line_of({"settings": dict(settings)})))
        return Records(path)
    first, *records = [record_in(path, number, line) for number, line in enumerate(whole.split(b"\n"), 1)]
    require_same(path, first.get("settings"), json.loads(json.dumps(dict(settings))))
    done: dict[tuple[str, str], dict[str, Any]] = {}
    for number, record in enumerate(records, 2):
        require_record(record, f"line {number} of {path}")
        if replaces(record, done.get(key_of(record))):
            done[key_of(record)] = record
    if torn:
        os.truncate(path, len(whole) + 1)
    return Records(path, done)


def require_same(path: Path, before: Any, now: dict[str, Any]) -> None:
    """Refuse a file that was made with other settings."""
    if not isinstance(before, dict):
        raise ValueError(f"{path} is no file of records: name another file")
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise ValueError(
                f"{path} was made with {name} = {before.get(name)}, not {now.get(name)}: name another file, or delete "
                "this one"
            )


def record_in(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """One line of the file."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # no JSON, or nested deeper than Python can follow
        record = None
    if not isinstance(record, dict):
        raise ValueError(f"line {number} of {path} is no record: delete the line, or name another file")
    return record


def require_record(record: Any, what: str) -> None:
    """Refuse what is no record: a name of an image, a name of a method, metrics with a finite number or None each."""
    metrics = record.get("metrics") if isinstance(record, Mapping) else None
    if not (
        isinstance(metrics, Mapping)
        and all(isinstance(record.get(name), str) for name in ("image", "method"))
        and all(isinstance(name, str) and is_number_or_none(value) for name, value in metrics.items())
    ):
        raise ValueError(f"{what} is no record with image, method and metrics: delete it, or name another file")


def is_number_or_none(value: Any) -> bool:
    """Whether this is a finite number or None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (is_number and abs(value) <= sys.float_info.max)


def key_of(record: Mapping[str, Any]) -> tuple[str, str]:
    """By what records are found."""
    return record["image"], record["method"]


def replaces(record: Mapping[str, Any], before: Mapping[str, Any] | None) -> bool:
    """Whether a record tells something that the one before does not: more than other numbers for the same."""
    measured = lambda record: {**record, "metrics": sorted(record["metrics"])}
    return before is None or measured(record) != measured(before)


def line_of(record: Mapping[str, Any]) -> bytes:
    """A record as a line of the file, in ASCII: the name of an image may be bytes that are no text."""
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def number_or_none(value: Any) -> float | None:
    """A number that JSON has."""
    number = float(value)
    return number if math.isfinite(number) else None
