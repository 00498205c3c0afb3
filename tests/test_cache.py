"""Compiled programs that the command line keeps: they are taken, they may be broken, and nothing else is touched."""

import json
import os
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image

from jaxplain.cli import _cache, main

NETWORK = """
import jax.numpy as jnp
import numpy as np

WEIGHTS = np.random.default_rng(0).normal(size=(48, 4)).astype(np.float32)

def preprocess(images):
    return np.stack([np.asarray(image.resize((4, 4)), np.float32) / 255 for image in images])

def network():
    return lambda w, x: jnp.tanh(x.reshape(len(x), -1)) @ w, WEIGHTS, preprocess, None
"""
SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A current folder with a network, and an empty folder for caches."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "mine.py").write_text(NETWORK)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)).save("cat.png")
    return tmp_path


def explain(*words, method="gradient"):
    """The status of the command, and its picture."""
    status = main(["explain", "cat.png", "--model", "mine.py:network", "--method", method, *words])
    with Image.open("explanation.png") as picture:
        return status, picture.tobytes()


def programs(folder):
    """The programs that are kept, with the times at which they were written."""
    return {file: file.stat().st_mtime_ns for file in folder.glob("cache/jaxplain/*/*-cache")}


def test_the_same_command_compiles_nothing_twice(folder):
    first = explain()
    kept = programs(folder)
    assert kept
    assert explain() == first
    assert programs(folder) == kept
    assert explain(method="smoothgrad:samples=2")[0] == 0
    assert programs(folder).keys() > kept.keys()


def test_comparisons_keep_theirs(folder):
    words = ["compare", "cat.png", "--model", "mine.py:network", "--methods", "gradient,lrp", "--metrics", "sparseness"]
    assert main(words) == 0
    kept = programs(folder)
    assert kept
    assert main(words) == 0
    assert programs(folder) == kept


def test_it_can_be_turned_off(folder, capsys):
    assert explain("--no-cache")[0] == 0
    assert not (folder / "cache").exists()


@pytest.mark.parametrize("broken", [b"", b"no program", None, "cut"])
def test_broken_programs_are_compiled_again(folder, capsys, broken):
    expected = explain()
    for file in programs(folder):
        whole = file.read_bytes()
        turned = bytes([*whole[: len(whole) // 2], whole[len(whole) // 2] ^ 1, *whole[len(whole) // 2 + 1 :]])
        file.write_bytes({"cut": whole[:-9], None: turned}.get(broken, broken))
    capsys.readouterr()
    assert explain() == expected
    lines = capsys.readouterr().err.splitlines()
    assert all(line.endswith(" ...") for line in lines)  # steps, and no complaint
    assert not programs(folder)  # so that the next command keeps whole ones
    assert explain() == expected
    kept = programs(folder)
    assert explain() == expected
    assert programs(folder) == kept != {}


def test_a_folder_that_cannot_be_made(folder, capsys):
    (folder / "cache").write_text("a file")
    assert explain()[0] == 0
    note = "note: compiled programs are not kept in "
    (told,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("note: "))
    assert told.startswith(note)
    assert told.endswith(": Not a directory (--no-cache asks for none)")


@pytest.mark.skipif(sys.platform == "win32", reason="modes are those of POSIX")
@pytest.mark.parametrize("part", ["jaxplain", "jaxplain/this"])
def test_a_folder_that_others_write_to(folder, capsys, part, monkeypatch):
    place = folder / "cache/jaxplain/this"
    monkeypatch.setattr(_cache, "folder_of_programs", lambda: place)
    place.mkdir(parents=True)
    (folder / "cache" / part).chmod(0o777)
    assert explain()[0] == 0
    assert "others can write to it" in capsys.readouterr().err
    assert not programs(folder)


def test_users_without_a_home_keep_nothing(folder, monkeypatch, capsys):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(_cache.Path, "home", homeless)
    assert explain()[0] == 0
    assert "note: " not in capsys.readouterr().err


def test_the_usual_folders(monkeypatch, folder):
    assert _cache.folder_of_programs().parent == folder / "cache" / "jaxplain"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert _cache.folder_of_programs() is None
    monkeypatch.delenv("XDG_CACHE_HOME")
    for system, usual in {"linux": ".cache", "darwin": "Library/Caches", "win32": "AppData/Local"}.items():
        monkeypatch.setattr(sys, "platform", system)
        assert _cache.folder_of_programs().parent == _cache.Path.home() / usual / "jaxplain"


def test_jaxs_settings_are_as_before(folder):
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    for words in ((), ("--no-cache",), ("--target", "99")):
        main(["explain", "cat.png", "--model", "mine.py:network", "--method", "gradient", *words])
        assert {name: getattr(jax.config, name) for name in SETTINGS} == before


IMPORTED = f"""
import json, jax
names = {SETTINGS}
before = [getattr(jax.config, name) for name in names]
import jaxplain.cli
print(json.dumps(before == [getattr(jax.config, name) for name in names]))
"""


def test_importing_touches_no_setting(folder):
    root = os.path.dirname(os.path.dirname(os.path.dirname(_cache.__file__)))
    done = subprocess.run([sys.executable, "-c", IMPORTED], cwd=root, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is True
    assert not (folder / "cache").exists()


def test_jaxs_own_folder_is_taken_where_the_user_names_one(folder):
    theirs = folder / "theirs"
    with _cache.settings(jax_compilation_cache_dir=str(theirs), jax_persistent_cache_min_compile_time_secs=0.0):
        assert explain()[0] == 0
        kept = sorted(theirs.glob("*-cache"))
        assert kept
        assert not (folder / "cache").exists()
        for file in kept:
            file.write_bytes(b"broken")
        assert explain()[0] == 0
        assert sorted(theirs.glob("*-cache")) == kept  # which is the user's to empty


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    (tmp_path / "jax").mkdir()
    for age, name in enumerate("abc"):
        file = tmp_path / "jax" / f"{name}-cache"
        file.write_bytes(bytes(100))
        os.utime(file, (time.time() - age,) * 2)
    left = lambda: sorted(file.name[0] for file in tmp_path.glob("jax/*"))
    for largest, names in ((300, "abc"), (299, "ab"), (100, "a"), (-1, "")):
        _cache.remove_oldest(tmp_path, largest)
        assert left() == list(names)
