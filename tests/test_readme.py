"""The README does what it says: its Python runs, its commands and those of the page on them run, it is short."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import skimage.data
from PIL import Image

ROOT = Path(__file__).parents[1]
README = ROOT.joinpath("README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PAGE = ROOT.joinpath("notebooks", "command_line.md").read_text("utf-8")
COMMANDS = re.findall(r"^    (?:.* && )?jaxplain (.*)$", README + PAGE, re.MULTILINE)


def run(*words):
    """A program as a new user starts it: without the settings of the tests."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        if name := re.match(r"# (\w+\.py)\n", block):
            (tmp_path / name[1]).write_text(block)
    return tmp_path


def test_the_python_runs_from_top_to_bottom(folder):
    (folder / "readme.py").write_text("\n".join(BLOCKS))
    run("-W", "error", "readme.py")
    with Image.open("cat.png") as picture:
        assert picture.width > picture.height


def test_the_quick_start_has_ten_lines():
    assert len(BLOCKS[0].splitlines()) <= 10


def test_there_are_commands():
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize("command", COMMANDS, ids=map(str, range(len(COMMANDS))))
def test_the_commands_run(command, folder):
    photographs = {"cat.jpg": skimage.data.cat(), "dog.png": skimage.data.rocket()}
    for name, pixels in photographs.items():
        Image.fromarray(pixels).save(name)
    for name in ("photos/a.jpg", "photos/b.png", "more/c.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(skimage.data.cat()).save(name)
    assert run("-m", "jaxplain", *shlex.split(command))
    given = {"photos": 2, "more/*.png": 1, **dict.fromkeys(photographs, 1)}
    before = {"photos/b.png", "more/c.png", *photographs}
    pictures = {path for path in folder.rglob("*.png") if path.relative_to(folder).as_posix() not in before}
    explained = sum(given.get(word, 0) for word in shlex.split(command)) or 1
    explained = 0 if ".zarr" in command else explained  # a store has the maps, and no pictures of them
    assert len(pictures) == {"explain": explained, "compare": 1}.get(command.split()[0], 0)


def test_the_two_commands():
    for command in ("pip install '.[demo]' && jaxplain explain", "pip install '.[test]' && pytest"):
        assert f"\n    {command}\n" in README


def test_what_it_links_to_exists():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert ROOT.joinpath(target).is_file()


def test_it_is_short():
    assert len(README.split()) <= 1600
