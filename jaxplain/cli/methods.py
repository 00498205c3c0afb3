"""``jaxplain methods``: the table of methods."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from ..taxonomy import METHODS
from .terminal import STDOUT


def methods() -> int:
    """List the methods: name, family, what each needs, what it computes, and its reference."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "family", "needs", "computes", "reference"):
        table.add_column(heading, no_wrap=heading in ("name", "family", "needs"))
    for method in METHODS.values():
        table.add_row(method.name, method.family, ", ".join(method.needs), method.summary, method.reference)
    console = STDOUT if STDOUT.is_terminal else Console(width=1000)  # a line for each method, to search in
    console.print(table)
    return 0
