"""The cards of the gallery: a directive that writes one for every method, from its docstring and the taxonomy."""

import inspect
import json
from html import escape
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from equations import PROSE, typeset
from reference import by_family

import jaxplain

PICTURES = Path(__file__).parents[1] / "images" / "gallery"
FAMILIES = {
    "linearisation": "Linearisation: by the gradient, as it is or averaged, or at features",
    "structure": "Structure: by what the layers are",
    "adversarial": "Adversarial: by changes that a network falls for",
    "perturbation": "Perturbation: by hiding parts of the image",
}
TOTALS = {
    "score": "sums to the score, as far as biases take no share",
    "difference": "sums to a difference of scores",
    "1": "sums to 1",
    "0": "sums to 0",
}
RESOLUTIONS = {
    "colour": "a value for every colour of every pixel",
    "pixel": "a value for every pixel",
    "layer": "as fine as the layer, enlarged",
    "region": "as fine as the regions that are hidden",
}


def card(method) -> list[str]:
    """A method's card in reStructuredText."""
    draws = "attention" not in method.needs
    call = json.loads((PICTURES / "calls.json").read_text("utf-8"))[method.name] if draws else f"{method.name}(f)"
    picture = [
        f".. image:: images/gallery/{method.name}.png",
        f"   :alt: The maps that {method.name} makes of both photographs",
        "   :loading: lazy",
    ]
    needs = ", ".join(method.needs) or "outputs alone"
    kinds = ["tells classes apart" if method.class_discriminative else "hardly tells classes apart"]
    kinds += ["signed" if method.signed else "not negative", RESOLUTIONS[method.resolution]]
    kinds += [TOTALS[method.total]] if method.total else []
    kinds += ["deterministic" if method.deterministic else "random, by its key"]
    body = [
        *(picture if draws else ["*Of vision transformers only: the network of these pictures has no attention.*"]),
        "",
        *about(method),
        "",
        f":Call: ``{call}``",
        f":Mechanism: {method.mechanism}",
        f":Needs: {needs}",
        f":Passes: {method.cost}, forward + backward" if method.cost.backward else f":Passes: {method.cost}, forward",
        f":Maps: {'; '.join(kinds)}",
        f":Reference: {method.reference}",
        f":Options: :py:obj:`jaxplain.{method.name}`",
        "",
        ".. raw:: html",
        "",
        "   <details><summary>BibTeX</summary><pre>",
        *(f"   {line}" for line in escape(jaxplain.cite(method.name)).splitlines()),
        "   </pre></details>",
        "",
    ]
    return [".. container:: card", "", *("   " + line for line in body), ""]


def about(method) -> list[str]:
    """What the docstring says before its sections: the first line, and the equation or what stands in its place."""
    lines = inspect.getdoc(method.make).splitlines()
    typeset(None, "", "", None, None, lines)
    prose = PROSE.split("\n".join(lines))[0]
    first, *others = prose.strip().split("\n\n")
    is_equation = [paragraph.startswith(".. math::") for paragraph in others]
    end = max([i + 1 for i, found in enumerate(is_equation) if found], default=1)
    return "\n\n".join([first, *others[:end]]).splitlines()


class Gallery(Directive):
    """``.. gallery::`` writes all cards, a section for every family."""

    def run(self):
        """The sections."""
        sections = []
        for family, methods in by_family().items():
            section = self.section(FAMILIES[family], family)
            for method in methods:
                part = self.section(method.name, method.name)
                self.state.nested_parse(StringList(card(method), source="gallery"), 0, part)
                section += part
            sections.append(section)
        return sections

    def section(self, title, name):
        """An empty section that can be linked to."""
        section = nodes.section(ids=[nodes.make_id(name)], names=[name])
        section += nodes.title(text=title)
        self.state.document.note_explicit_target(section)
        return section


def setup(app):
    """Tell Sphinx."""
    app.add_directive("gallery", Gallery)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
