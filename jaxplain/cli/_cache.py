"""Compiled programs, kept for the next command by JAX's own cache, in the user's folder for such things."""

from __future__ import annotations

import os
import platform
import re
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from ._terminal import STDERR

LARGEST = 2**30  # bytes of all programs that are kept
COMPLAINT = re.compile("Error (reading|writing) persistent compilation cache")


@contextmanager
def programs_kept(wanted: bool) -> Iterator[None]:
    """Keep compiled programs, and take those that were kept, while the block lasts; JAX's settings are restored.

    Where the user names JAX's folder by ``JAX_COMPILATION_CACHE_DIR``, that one is taken, with the user's settings.
    A program that cannot be read or written is compiled, and nothing is said of it.
    """
    with ExitStack() as stack:
        if not wanted:
            stack.enter_context(settings(jax_enable_compilation_cache=False))
        elif jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
            stack.enter_context(complaints_heard())
        elif folder := usable(folder_of_programs()):
            stack.enter_context(kept_in(folder))
        yield


@contextmanager
def kept_in(folder: Path) -> Iterator[None]:
    """Keep programs in a folder of ours, which is emptied where one of them turns out to be broken, or too large."""
    # By default JAX keeps only what takes a second to compile; a command runs many small programs besides.
    everything = {"jax_persistent_cache_min_compile_time_secs": 0.0, "jax_persistent_cache_min_entry_size_bytes": -1}
    with complaints_heard() as complaints, settings(jax_compilation_cache_dir=str(folder), **everything):
        yield
    remove_oldest(folder.parent, -1 if complaints else LARGEST)


@contextmanager
def settings(**values: Any) -> Iterator[None]:
    """Settings of JAX and its cache that hold for a while."""
    before = {name: getattr(jax.config, name) for name in values}
    try:
        for name, value in values.items():
            jax.config.update(name, value)
        reset_cache()  # which looks at its settings once
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        reset_cache()


@contextmanager
def complaints_heard() -> Iterator[list[str]]:
    """What JAX warns of its cache, in place of showing it; other warnings are shown."""
    heard: list[str] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def listen(message: Warning | str, *rest: Any, **options: Any) -> None:
            if COMPLAINT.match(str(message)):
                heard.append(str(message))
            else:
                show(message, *rest, **options)

        warnings.filterwarnings("always", COMPLAINT.pattern)
        warnings.showwarning = listen
        yield heard


def folder_of_programs() -> Path | None:
    """The folder for programs of this JAX on this kind of processor; None where the user has no home.

    A folder may be shared by several machines, and a program is made for the instructions of one.
    """
    with suppress(RuntimeError):  # of a user without a home
        usual = {"win32": "AppData/Local", "darwin": "Library/Caches"}.get(sys.platform, ".cache")
        place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / usual)
        if place.is_absolute():  # as the specification of XDG_CACHE_HOME asks
            return place / "jaxplain" / f"jax-{jax.__version__}-{processor():08x}"
    return None


def processor() -> int:
    """A number for the kind of processor and its instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:  # of another system than Linux
        lines = [f"model name: {platform.processor()}"]
    kind = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    return zlib.crc32("\n".join([platform.machine(), *kind]).encode())


def usable(folder: Path | None) -> Path | None:
    """The folder, made if need be, where nobody else can write to it: what lies in it is run."""
    if folder is None:
        return None
    try:
        for part in (folder.parent, folder):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
            state = part.stat()
            if hasattr(os, "getuid") and (state.st_uid != os.getuid() or state.st_mode & 0o022):
                raise PermissionError(None, "others can write to it")
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(None, "it cannot be written to")
    except OSError as error:
        STDERR.print(f"note: compiled programs are not kept in {folder}: {error.strerror} (--no-cache asks for none)")
        return None
    return folder


def remove_oldest(folder: Path, largest: int) -> None:
    """Delete the programs that were not used for longest, until the others have so many bytes together."""
    with suppress(OSError):  # another command may do the same
        states = {file: file.stat() for file in folder.glob("*/*-cache")}
        size = sum(state.st_size for state in states.values())
        for file, state in sorted(states.items(), key=lambda item: max(item[1].st_atime, item[1].st_mtime)):
            if size <= largest:
                return
            file.unlink()
            size -= state.st_size
