"""A file of records, a line of JSON for each image and method, that a killed program can go on with.

The first line says with which settings the file was made. A record is appended by one write, so that a program that is
killed leaves whole lines and at most one that is torn off, which is cut away when the file is opened again.
"""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Records:
    """What has been measured so far.

    Attributes:
      path: the file.
      done: ``(image, method) -> record``; a record has ``image``, ``method``, ``target`` and ``metrics``.
    """

    path: Path
    done: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record, in the file and here; one that is there already is not written again."""
        key = record["image"], record["method"]
        if key not in self.done:
            with self.path.open("ab", buffering=0) as file:
                file.write(line_of(record))
            self.done[key] = dict(record)


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
    whole, newline, torn = path.read_bytes().rpartition(b"\n") if path.exists() else (b"", b"", b"")
    if not newline:
        if torn:  # the first line is written whole or not at all
            raise ValueError(f"{path} is no file of records: name another file")
        write_whole(path, line_of({"settings": dict(settings)}).decode())
        return Records(path)
    first, *records = [parsed(path, number, line) for number, line in enumerate(whole.split(b"\n"), 1)]
    require_same(path, first.get("settings"), json.loads(json.dumps(dict(settings))))
    done: dict[tuple[str, str], dict[str, Any]] = {}
    for record in records:
        done.setdefault((record.get("image", ""), record.get("method", "")), record)
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


def parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """One line of the file."""
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise ValueError(f"line {number} of {path} is no record: delete the line, or name another file")
    return record


def line_of(record: Mapping[str, Any]) -> bytes:
    """A record as a line of the file, in ASCII: the name of an image may be bytes that are no text."""
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def number_or_none(value: Any) -> float | None:
    """A number that JSON has."""
    number = float(value)
    return number if math.isfinite(number) else None


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    unfinished = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
