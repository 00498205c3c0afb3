"""Results to keep: maps in a file of NumPy, the report as one HTML file, and what both are of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .._files import write_text, write_whole
from ..evaluation._environment import environment
from ._terminal import UsageError


def require_file(flag: str, path: Path | None, ending: str) -> None:
    """Refuse, before anything is computed, a file of another ending or in a folder that is not there."""
    if path is None:
        return
    if path.suffix.lower() != ending:
        raise UsageError(f"{flag} {path}: the name must end in {ending}")
    if not path.parent.is_dir():
        raise UsageError(f"{flag} {path}: there is no folder {path.parent}")


def save_maps(
    path: Path,
    maps: Mapping[str, np.ndarray],
    *,
    images: Sequence[str],
    targets: Sequence[int],
    scores: np.ndarray,
    about: Mapping[str, Any],
) -> Path:
    """Write maps with all that is needed to use them: `numpy.load(path)` reads the file.

    It holds ``maps`` ``(M, N, H, W)``, ``methods`` ``(M,)`` with their options, ``images`` ``(N,)``, ``targets``
    ``(N,)``, ``scores`` ``(N, K)`` as the network returns them, and ``about``, a text in JSON: model, seed, versions.

    Raises:
      UsageError: where the file cannot be written, or maps differ in size.
    """
    if len({array.shape for array in maps.values()}) != 1:
        sizes = ", ".join(f"{name} {array.shape[1:]}" for name, array in maps.items())
        raise UsageError(f"--save {path}: the maps differ in size ({sizes}): save them one method at a time")
    arrays: dict[str, Any] = {
        "maps": np.stack([*maps.values()]),
        "methods": np.array([*maps]),
        "images": np.array(images),
        "targets": np.array(targets),
        "scores": scores,
        "about": np.array(json.dumps({**about, **environment()})),
    }
    with writing("--save", path):
        write_whole(path, lambda file: np.savez_compressed(file, **arrays))
    return path


def save_page(path: Path, page: str) -> Path:
    """Write the report."""
    with writing("--html", path):
        write_text(path, page)
    return path


@contextmanager
def writing(flag: str, path: Path) -> Iterator[None]:
    """Say in one sentence why a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{flag} {path} cannot be written: {error.strerror or error}") from error
