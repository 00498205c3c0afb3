"""What the processes of a job agree on, and when they stop."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

ERRORS = (BlockingIOError, OSError, TypeError, ValueError)  # the first that fits is raised in all processes


def by_first(function: Callable[[], Any]) -> Any:
    """What ``function`` returns in the first process, a value of JSON, or what it raises, in all processes."""
    answer: dict[str, Any] = {}
    if jax.process_index() == 0:
        try:
            answer = {"value": function()}
        except ERRORS as error:
            kind = next(i for i, kind in enumerate(ERRORS) if isinstance(error, kind))
            answer = {"error": kind, "text": str(error)}
    if jax.process_count() > 1:
        answer = json.loads(broadcast(json.dumps(answer).encode()))
    if "error" in answer:
        raise ERRORS[answer["error"]](answer["text"])
    return answer["value"]


def broadcast(text: bytes) -> bytes:
    """The text of the first process in all."""
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    row = np.zeros(length, np.uint8)
    row[: len(text)] = np.frombuffer(text, np.uint8)[:length]
    return np.asarray(multihost_utils.broadcast_one_to_all(row), np.uint8).tobytes()


def wait_for_all(name: str) -> None:
    """Go on when every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextmanager
def stopping() -> Iterator[Callable[[int], bool]]:
    """Ask at every step whether the job is to stop, since one of its processes got SIGTERM.

    JAX catches the signal where there are several processes, and they agree on the step after which they stop.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    if threading.current_thread() is not threading.main_thread():  # which alone may catch signals
        yield lambda step: False
        return
    told = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        yield lambda step: told.is_set()
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
