"""Files that are no files, or not what they are called: each is one sentence, and none keeps anyone waiting."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxplain import visualize
from jaxplain._files import append_line, open_file, write_whole
from jaxplain.cli import main
from jaxplain.evaluation import open_records
from jaxplain.models import load_checkpoint, to_rgb
from jaxplain.perturbation import generators

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs pipes, sockets and devices with names")

NETWORK = """
import numpy as np

def preprocess(images):
    return np.stack([np.asarray(image.resize((4, 4)), np.float32) / 255 for image in images])

def network(): return lambda w, x: x.reshape(len(x), -1) @ w, np.eye(48, 3, dtype="f"), preprocess, None
"""

STRANGE = ["loop", "longer loop", "pipe", "link to a pipe", "socket", "device", "folder"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder; what waits for longer than 20 seconds fails."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setitem(sys.modules, "mine", None)
    del sys.modules["mine"]
    (tmp_path / "mine.py").write_text(NETWORK)
    (tmp_path / "images").mkdir()
    before = signal.signal(signal.SIGALRM, waited)
    signal.alarm(20)
    yield tmp_path
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def waited(*_):
    raise TimeoutError("it waits")


def make(kind, path):
    """Something that is no file."""
    if kind == "loop":
        os.symlink(os.path.basename(path), path)
    elif kind == "longer loop":
        os.symlink(os.path.abspath("other"), path)
        os.symlink(os.path.abspath(path), "other")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a pipe":
        os.mkfifo("a pipe")
        os.symlink(os.path.abspath("a pipe"), path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as here, contextlib.chdir(os.path.dirname(path) or "."):
            here.bind(os.path.basename(path))  # a short name: its length is limited
    elif kind == "device":
        os.symlink("/dev/zero", path)
    else:
        os.mkdir(path)


def identity(path):
    """What is there, and that nothing has come in its place."""
    found = os.lstat(path)
    return found.st_ino, stat.S_IFMT(found.st_mode)


def complaints(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("jaxplain: ")]


def photograph(path="images/0_a.png", seed=0):
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)).save(path)
    return path


@pytest.mark.parametrize("kind", STRANGE)
def test_whatever_is_no_file_is_neither_read_nor_written(kind):
    make(kind, "thing.png")
    before = identity("thing.png")
    for use in (
        open_file,
        load_checkpoint,
        generators.load,
        lambda path: open_records(path, {}),
        lambda path: append_line(path, b"x\n"),
        lambda path: write_whole(path, lambda file: file.write(b"x")),
        lambda path: visualize.save(np.zeros((4, 4, 3), np.uint8), path),
        lambda path: generators.save(generators.Generators({}, {}, 1, 1), path),
    ):
        with pytest.raises(OSError, match=r"Too many levels of symbolic links|only regular files are|Is a directory"):
            use("thing.png")
    assert identity("thing.png") == before
    assert not [name for name in os.listdir() if name.endswith(".tmp")]


@pytest.mark.parametrize("kind", STRANGE)
def test_a_photograph_that_is_no_file_is_named_and_the_others_are_explained(kind, capsys):
    make(kind, "images/0_thing.png")
    photograph()
    words = ["--model", "mine:network"]
    assert main(["explain", "images/0_thing.png", "images/0_a.png", "--method", "gradient", *words]) == 1
    assert [line.split(": ")[1] for line in complaints(capsys)] == ["images/0_thing.png"]
    assert main(["evaluate", "images", "--methods", "gradient", "--metrics", "sparseness", *words]) == 1
    assert [line.split(": ")[1] for line in complaints(capsys)] == ["images/0_thing.png"]
    assert len(Path("evaluation.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("kind", STRANGE)
def test_an_output_or_a_table_that_is_no_file_is_a_sentence(kind, capsys):
    make(kind, "thing.png")
    for name in ("out.jsonl", "labels.csv"):
        os.symlink("thing.png", name)
    evaluate = ["evaluate", "images", "--methods", "gradient", "--metrics", "sparseness"]
    cases = [["explain", photograph(), "--out", "thing.png", "--method", "gradient"]] * (kind != "folder")
    cases += [[*evaluate, "--out", "out"], [*evaluate, "--labels", "labels.csv"]]
    cases += [["explain", "images/0_a.png", "--model", "vgg16", "--checkpoint", "thing.png"]]
    for words in cases:
        assert main([*words, *(["--model", "mine:network"] * ("--model" not in words))]) == 2, words
        (line,) = complaints(capsys)
        assert "Traceback" not in line


def test_symbolic_links_to_files_are_followed(folder):
    (folder / "real").write_bytes(b"before")
    os.symlink("real", "link")
    os.symlink("new", "dangling")
    for name in ("link", "dangling"):
        write_whole(name, lambda file: file.write(b"after"))
        assert os.path.islink(name)
    assert (folder / "real").read_bytes() == (folder / "new").read_bytes() == b"after"


# ----------------------------------------------------------------------------------- images that are called another way


POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 9 9
%%EndComments
0 0 9 9 rectfill
showpage
%%EOF
"""
DOS = b"\xc5\xd0\xd3\xc6" + (32).to_bytes(4, "little") + len(POSTSCRIPT).to_bytes(4, "little") + bytes(20) + POSTSCRIPT


def iptc(content):
    """An IPTC file that holds another image."""
    field = lambda section, number, data: bytes([0x1C, section, number]) + len(data).to_bytes(2, "big") + data
    head = field(3, 60, b"\1\0") + field(3, 20, b"\0\x09") + field(3, 30, b"\0\x09") + field(3, 120, b"\0\5")
    return head + field(8, 10, content) + bytes(5)


@pytest.fixture
def ghostscript(folder, monkeypatch):
    """A program that would be run in place of Ghostscript, and the file that tells that it was."""
    (folder / "bin").mkdir()
    for name in ("gs", "gswin32c", "gswin64c"):
        (folder / "bin" / name).write_text(f"#!/bin/sh\ntouch {folder}/was_run\nexit 1\n")
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    return folder / "was_run"


@pytest.mark.parametrize("content", [POSTSCRIPT, DOS, iptc(POSTSCRIPT)], ids=["EPS", "EPS of DOS", "EPS in IPTC"])
def test_pillow_would_run_a_program(folder, ghostscript, content):
    """The tests below test something."""
    (folder / "a.png").write_bytes(content)
    with Image.open("a.png") as image, contextlib.suppress(OSError, subprocess.CalledProcessError):
        image.load()
    assert ghostscript.exists()


@pytest.mark.parametrize("content", [POSTSCRIPT, DOS, iptc(POSTSCRIPT)], ids=["EPS", "EPS of DOS", "EPS in IPTC"])
@pytest.mark.parametrize("ending", ["png", "jpg", "eps"])
def test_no_program_is_run_for_an_image(folder, ghostscript, capsys, content, ending):
    (folder / f"images/0_bad.{ending}").write_bytes(content)
    photograph()
    words = ["--model", "mine:network"]
    for command in (
        ["explain", f"images/0_bad.{ending}", "images/0_a.png", "--method", "gradient"],
        ["evaluate", "images", "--methods", "gradient", "--metrics", "sparseness"],
        ["compare", f"images/0_bad.{ending}", "images/0_a.png", "--methods", "gradient", "--metrics", "sparseness"],
    ):
        assert main([*command, *words]) == 1
        (line,) = complaints(capsys)
        assert line.startswith(f"jaxplain: images/0_bad.{ending}: this is no image in one of the formats AVIF, BMP")
    with Image.open(f"images/0_bad.{ending}") as image, pytest.raises(ValueError, match=r"save it as PNG"):
        to_rgb(image)
    assert not ghostscript.exists()
