"""One job at a time on a store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextmanager
def locked(kv: Any) -> Iterator[None]:
    """Keep other jobs from a store on a disk as long as the block lasts.

    The system itself gives the lock back when a process dies, of whatever, so that a job that was killed keeps nobody
    out. Object stores have none: there nothing tells that two jobs write at once.

    Raises:
      BlockingIOError: where another job has the store.
    """
    place = kv.spec().to_json()
    if place["driver"] != "file" or fcntl is None:
        yield
        return
    os.makedirs(place["path"], exist_ok=True)
    folder = os.open(place["path"], os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"another job writes to {place['path'].rstrip('/')}: wait for its end, or name another store"
            ) from None
        yield
    finally:
        os.close(folder)
