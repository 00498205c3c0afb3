"""What users may import, in one list: a change of it is a decision, and stands in the changelog."""

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import jaxplain
from tests import public_api

ROOT = Path(__file__).parents[1]
MODULES = [m.name for m in pkgutil.walk_packages(jaxplain.__path__, "jaxplain.") if not m.name.endswith("__main__")]


def test_public_names_and_signatures_are_those_taken_down():
    taken_down = (ROOT / "tests/data/public_api.txt").read_text("utf-8").splitlines()
    assert list(public_api.lines()) == taken_down  # python -m tests.public_api > tests/data/public_api.txt


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_found_where_its_name_says(name):
    __import__(name)
    package, _, module = name.rpartition(".")
    assert getattr(sys.modules[package], module) is sys.modules[name]  # and not a function of its name


def test_packages_export_what_their_modules_say():
    subprocess.run([sys.executable, ROOT / ".ci/exports.py", "--check"], check=True)


def test_importing_it_imports_no_extra_and_no_command_line():
    program = "import jaxplain, sys; print({'tyro', 'rich', 'matplotlib', 'skimage', 'flax', 'PIL'} & set(sys.modules))"
    assert (
        ast.literal_eval(subprocess.check_output([sys.executable, "-c", program], text=True).replace("set()", "[]"))
        == []
    )
