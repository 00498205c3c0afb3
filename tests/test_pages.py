"""The pages of the documentation do what they say: their Python runs, from top to bottom."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "notebooks").glob("*.md"))


def test_there_are_pages():
    assert {"how_the_engine_works", "write_a_rule", "write_a_method", "teach_it_a_primitive"} <= {p.stem for p in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_python_runs(page, tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "page.py").write_text("\n".join(blocks), "utf-8")
    subprocess.run([sys.executable, "-W", "error", "page.py"], cwd=tmp_path, check=True, timeout=300)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_it_names_are_there(page):
    text = page.read_text("utf-8")
    named = re.findall(r"`((?:jaxplain|tests|\.ci)/[\w/.]+)`", text) + [
        f"notebooks/{link}" for link in re.findall(r"\]\((\w+\.md)\)", text)
    ]
    assert not [name for name in named if not (ROOT / name).exists()]
