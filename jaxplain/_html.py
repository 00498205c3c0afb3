"""Tables as notebooks show them, and short texts of long things."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape

LONGEST = 1000  # characters of a list of names: a `repr` of two lists stays readable


def html_table(heading: Sequence[str], rows: Iterable[Iterable[str]], caption: str = "") -> str:
    """A table in HTML; all text is escaped."""
    head = "".join(f"<th style='text-align: left'>{escape(cell)}</th>" for cell in heading)
    cells = ("".join(f"<td style='text-align: left'>{escape(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    title = f"<caption style='text-align: left'>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def listing(names: Collection[str]) -> str:
    """Names with commas between, as far as they are short enough, and how many more there are."""
    shown: list[str] = []
    for name in names:
        if sum(map(len, shown)) + 2 * len(shown) + len(name) > LONGEST:
            break
        shown.append(name)
    more = len(names) - len(shown)
    return ", ".join([*shown, *([f"and {more} more"] if more else [])])


def counted(number: int, what: str) -> str:
    """A number of things: ``1 image``, ``2 images``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
