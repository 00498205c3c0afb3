"""Names in sentences: the nearest to an unknown one, and several of them in a row."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """The names that look like ``name``, at most three, the most alike first."""
    return difflib.get_close_matches(str(name), list(names), cutoff=0.4)


def either(names: Iterable[str]) -> str:
    """Names in a row: ``a, b or c``."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known ones, or nothing."""
    return f": did you mean {either(near)}?" if (near := nearest(name, names)) else ""


def choose(name: str, names: Collection[str], what: str) -> str:
    """A name that is among the known ones.

    Raises:
      ValueError: where it is not; the sentence lists the nearest, or all.
    """
    if name in names:
        return name
    raise ValueError(f"unknown {what} {name!r}{did_you_mean(name, names) or f': choose {either(names)}'}")


def as_known(name: str, names: Iterable[str]) -> str:
    """The known name that is this one but for case and punctuation, as ``grad_cam`` is ``Grad-CAM``; or it as it is.

    Example:
      >>> from jaxplain._text import as_known
      >>> as_known("Grad-CAM++", ["grad_cam", "grad_cam_plus_plus"])
      'grad_cam_plus_plus'
    """
    return {bare(known): known for known in names}.get(bare(name), name)


def bare(name: str) -> str:
    """The letters and digits of a name."""
    return re.sub(r"[\W_]", "", name.replace("+", "plus").casefold())


def text_table(heading: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int) -> str:
    """Rows below their heading and a line, for `print`; columns from one on hold numbers, which stand to the right.

    Example:
      >>> from jaxplain._text import text_table
      >>> print(text_table(["layer", "size"], [["conv", "8"], ["dense", "10"]], numbers_from=1))
      layer  size
      -----  ----
      conv      8
      dense    10
    """
    lines = [heading, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    aligned = lambda i, cell: cell.rjust(widths[i]) if i >= numbers_from else cell.ljust(widths[i])
    return "\n".join("  ".join(aligned(i, cell) for i, cell in enumerate(line)).rstrip() for line in lines)


def as_list(names: str | Collection[str]) -> list[str]:
    """One name or several."""
    return [names] if isinstance(names, str) else list(names)
