"""``jaxplain methods``: the table of methods, filtered, as Markdown, or their papers as BibTeX."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import _taxonomy as taxonomy
from .._taxonomy import METHODS, Method
from .._text import as_known
from ._explain import Text as Names
from ._terminal import STDOUT, UsageError, words

Count = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]


def methods(
    *,
    family: Names = None,
    mechanism: Names = None,
    needs: Names = None,
    without: Names = None,
    max_cost: Count = None,
    cite: Names = None,
    markdown: bool = False,
) -> int:
    """List the methods; into a file or a pipe, a line each, with all that is known of them.

    Passes are evaluations of the network + walks back through it, at the default options.
    For example: jaxplain methods --family perturbation --without layer

    Args:
      family: Only those of linearisation, structure, adversarial or perturbation.
      mechanism: Only those by gradient, modified gradient, path integral, relevance rules, weighted features, feature
        statistics, optimisation, sampled masks or attention; several with commas between.
      needs: Only those that need gradient, layer, baseline, segments, data, composite, patterns, key; several with
        commas between.
      without: Only those that need none of these.
      max_cost: Only those with at most so many passes.
      cite: Print the papers of these methods as BibTeX instead; several with commas between.
      markdown: Print the table of the documentation's page on methods.
    """
    conditions: dict[str, Any] = {"family": family, "max_cost": max_cost}
    conditions |= {"mechanism": words(mechanism), "needs": words(needs), "without": words(without)}
    try:
        if cite is not None:
            STDOUT.print(taxonomy.cite(*(as_known(name, METHODS) for name in words(cite))))
            return 0
        chosen = taxonomy.methods(**conditions)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if markdown:
        STDOUT.print("\n".join(markdown_lines(chosen)))
    elif STDOUT.is_terminal:
        STDOUT.print(short_table(chosen), soft_wrap=False)
    else:
        Console(width=1000).print(full_table(chosen))
    return 0


def asked_of_the_user(method: Method) -> str:
    """What a method needs but for the gradient, of which its passes tell."""
    return ", ".join(need for need in method.needs if need != "gradient")


def short_table(chosen: Iterable[Method]) -> Table:
    """What fits into a terminal, by families."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "needs", "passes", "computes"):
        table.add_column(heading, no_wrap=heading == "name")
    for family, members in itertools.groupby(chosen, lambda m: m.family):
        table.add_row(family, style="bold")
        for m in members:
            computes = Text.assemble(m.summary, "\n", (f"{m.mechanism}; {m.reference}", "dim"))
            table.add_row(m.name, asked_of_the_user(m), str(m.cost), computes)
    return table


def full_table(chosen: Iterable[Method]) -> Table:
    """A line for each method, to search in."""
    table = Table(box=None, pad_edge=False)
    headings = "name family mechanism needs passes resolution sum class sign computes reference"
    for heading in headings.split():
        table.add_column(heading, no_wrap=True)
    for m in chosen:
        traits = ("class" if m.class_discriminative else "-", "signed" if m.signed else "-")
        known = (", ".join(m.needs), str(m.cost), m.resolution, m.total or "-", *traits)
        table.add_row(m.name, m.family, m.mechanism, *known, m.summary, m.reference)
    return table


def markdown_lines(chosen: Iterable[Method]) -> list[str]:
    """The table of the README."""
    lines = [
        "| method | family | mechanism | needs | passes (forward + backward) | computes | reference |",
        "|---|---|---|---|---|---|---|",
    ]
    for m in chosen:
        cells = (f"`{m.name}`", m.family, m.mechanism, asked_of_the_user(m), str(m.cost), m.summary, m.reference)
        lines.append(f"| {' | '.join(cells)} |")
    return lines
