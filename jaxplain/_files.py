"""Files that are read and written whole. Only regular files are: a pipe may keep one waiting, a device has no end."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Callable
from contextlib import suppress
from io import BufferedReader, FileIO
from pathlib import Path
from typing import BinaryIO, TypeAlias

PathLike: TypeAlias = str | os.PathLike[str]


def open_file(path: PathLike) -> BufferedReader:
    """Open a regular file to read its bytes.

    Raises:
      OSError: if it cannot be read, or is no regular file.
    """
    require_regular(path)
    file = open(path, "rb", opener=without_waiting)  # noqa: SIM115
    try:
        require_regular(path, file.fileno())  # another file may have taken its place
    except OSError:
        file.close()
        raise
    return file


def without_waiting(path: str, flags: int) -> int:
    """Open a file, a pipe without a writer as well, which is refused then."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def require_regular(path: PathLike, descriptor: int | None = None) -> None:
    """Refuse a folder, a pipe, a socket, a device, and a symbolic link that leads in a circle."""
    mode = os.stat(path if descriptor is None else descriptor).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        kind = "pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
        raise OSError(errno.EINVAL, f"it is a {kind}, and only regular files are read and written", str(path))


def write_whole(path: PathLike, write: Callable[[BinaryIO], object]) -> None:
    """Write a file whole or not at all: where ``write`` fails or is interrupted, the file is as it was before.

    Raises:
      OSError: if it cannot be written, or is there and no regular file.
    """
    with suppress(FileNotFoundError):
        require_regular(path)
    target = Path(os.path.realpath(path))  # a symbolic link stays one
    unfinished = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with unfinished.open("xb") as file:
            write(file)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: PathLike, text: str) -> None:
    """Write a text whole or not at all."""
    write_whole(path, lambda file: file.write(text.encode()))


def append_line(path: PathLike, line: bytes) -> None:
    """Add a line to a file of lines, whole or not at all; one that is torn off there is cut away first.

    Raises:
      OSError: if there is no such file, it cannot be written, or the disk is full.
    """
    require_regular(path)
    with open(path, "r+b", buffering=0, opener=lambda p, flags: without_waiting(p, flags | os.O_APPEND)) as file:
        end = end_of_lines(file)
        file.truncate(end)
        try:
            left = memoryview(line)
            while left:  # the system may write less than it was given
                left = left[os.write(file.fileno(), left) :]
        except BaseException:
            file.truncate(end)
            raise


def end_of_lines(file: FileIO) -> int:
    """Where the last whole line of a file ends."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 1, 0))
    if file.read() in (b"", b"\n"):
        return size
    file.seek(0)
    return file.readall().rfind(b"\n") + 1
