"""The pages of the documentation do what they say: their Python runs, from top to bottom."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxplain

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "notebooks").glob("*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
GALLERY = ROOT / "notebooks" / "images" / "gallery"


def test_there_are_pages():
    assert {"how_the_engine_works", "write_a_rule", "write_a_method", "teach_it_a_primitive"} <= {p.stem for p in PAGES}


WITH_PYTHON = [page for page in PAGES if "```python" in page.read_text("utf-8")]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.stem)
def test_the_python_runs(page, tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "page.py").write_text("\n".join(blocks), "utf-8")
    subprocess.run([sys.executable, "-W", "error", "page.py"], cwd=tmp_path, check=True, timeout=300)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_it_names_are_there(page):
    text = page.read_text("utf-8")
    named = re.findall(r"`((?:jaxplain|tests|\.ci)/[\w/.]+)`", text) + [
        f"notebooks/{link}" for link in re.findall(r"\]\(([\w/]+\.(?:md|ipynb|png))", text)
    ]
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_table_of_methods_is_the_taxonomy():
    from jaxplain.cli._methods import markdown_lines

    page = (ROOT / "notebooks" / "methods.md").read_text("utf-8")
    assert [line for line in page.splitlines() if line.startswith("|")] == markdown_lines(jaxplain.methods())


@pytest.mark.parametrize("method", [method.name for method in jaxplain.methods(without="attention")])  # a CNN has none
def test_every_method_has_its_picture(method):
    """`python -m benchmarks.gallery METHOD` makes it."""
    assert 1000 < (GALLERY / f"{method}.png").stat().st_size < 60_000
    assert json.loads((GALLERY / "calls.json").read_text("utf-8"))[method].startswith(f"{method}(f")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_have_their_outputs(path):
    """Every cell was run, in order and without an error; pictures are small; the first cell installs, as in Colab."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)]
    assert "%pip install" in "".join(code[0]["source"])
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert max([len(base64.b64decode(picture)) for picture in pictures], default=0) <= 300_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_notebooks_link_to_is_there(path):
    text = "".join(line for cell in json.loads(path.read_text("utf-8"))["cells"] for line in cell["source"])
    assert not [n for n in re.findall(r"\]\(([\w/]+\.(?:md|ipynb|png))", text) if not (path.parent / n).exists()]
