"""The bibliography ``references.bib``: its entries as they are, and the short form of each."""

from __future__ import annotations

import functools
import re
from importlib import resources


@functools.cache
def entries() -> dict[str, str]:
    """Every BibTeX entry by its key, read when it is first asked for."""
    text = resources.files("jaxplain").joinpath("references.bib").read_text("utf-8")
    return {entry[1]: entry[0] for entry in re.finditer(r"^@\w+\{(\w+),\n.*?^\}", text, re.MULTILINE | re.DOTALL)}


def field(key: str, name: str) -> str:
    """One field of an entry, such as its ``"title"``; empty where the entry has none."""
    found = re.search(rf"^  {name} = \{{(.*)\}},$", entries()[key], re.MULTILINE)
    return found[1] if found else ""


def short(key: str) -> str:
    """Authors and year, as in a text: ``"Lundberg & Lee 2017"``, ``"Bach et al. 2015"``."""
    family_names = [author.partition(",")[0] for author in field(key, "author").split(" and ")]
    several = len(family_names) > 2 or "others" in family_names
    authors = f"{family_names[0]} et al." if several else " & ".join(family_names)
    return f"{authors} {field(key, 'year')}"
