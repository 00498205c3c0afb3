"""Jobs of several processes on loopback, killed, told to stop, on a full disk, and started again.

`.ci/run` tells one story of them, `-k started_again`; `pytest -m "slow or not slow" tests/test_bulk_processes.py` all.
"""

import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("grain")
pytest.importorskip("tensorstore")
zarr = pytest.importorskip("zarr")

from jaxplain.cli import main  # noqa: E402
from tests.bulk_job import METHODS  # noqa: E402

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
LIMIT = 120  # seconds that a process may take


def photographs(folder, count):
    folder.mkdir()
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i % 5}_{i:04}.png")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("bulk") / "photographs", 24)


def start(folder, store, *words, processes=1, environment=None):
    """Start the processes of a job, of one device each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0", "JAX_PLATFORMS": "cpu"} | (
        environment or {}
    )
    command = [sys.executable, "-m", "tests.bulk_job", str(folder), str(store), *words]
    several = lambda i: [f"processes={processes}", f"index={i}", f"port={port}"] if processes > 1 else []
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    pipes["env"] = {**os.environ, **flags, **(environment or {})}
    return [subprocess.Popen([*command, *several(i)], **pipes) for i in range(processes)]


def finish(job, limit=LIMIT):
    """Wait for a job; what its processes printed at the end."""
    ends = [process.communicate(timeout=limit) for process in job]
    assert [process.returncode for process in job] == [0] * len(job), ends[0][1][-2000:]
    return [json.loads(out.splitlines()[-1]) for out, _ in ends]


def done(store):
    """How many images are done."""
    try:
        return int((zarr.open_group(store, mode="r")["status"][:] > 0).sum())
    except (FileNotFoundError, ValueError, KeyError):
        return 0


def wait_for(job, store, images):
    """Wait until so many images are done."""
    limit = time.monotonic() + LIMIT
    while done(store) < images and time.monotonic() < limit and any(process.poll() is None for process in job):
        time.sleep(0.02)


def kill(job):
    for process in job:
        process.kill()
        process.communicate()


def arrays(store):
    group = zarr.open_group(store, mode="r")
    return {name: group[name][:] for name in group.attrs["jaxplain"]["arrays"]}


def equal(one, other):
    one, other = arrays(one), arrays(other)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], name)


def test_killed_told_to_stop_out_of_space_and_started_again(folder, tmp_path):
    method = "smoothgrad"
    whole, store = tmp_path / "whole.zarr", tmp_path / "store.zarr"
    assert finish(start(folder, whole, method)) == [{"done": 24, "failed": 0, "images": 24}]

    job = start(folder, store, method, "wait=0.3", processes=2)
    wait_for(job, store, 4)
    kill(job)
    killed = done(store)
    assert 4 <= killed < 24

    (process,) = start(folder, store, method, "wait=0.3")
    wait_for([process], store, killed + 2)
    process.terminate()
    (end,) = finish([process])
    assert killed + 2 <= end["done"] == done(store) < 24

    (process,) = start(folder, store, method, "largest_file=1000")
    error = process.communicate(timeout=LIMIT)[1]
    assert process.returncode == 1
    assert "store.zarr/ cannot be written: " in error.splitlines()[-1]
    assert "the same call goes on from there" in error.splitlines()[-1]

    assert finish(start(folder, store, method)) == [{"done": 24, "failed": 0, "images": 24}]
    equal(store, whole)


def test_parameters_of_which_every_process_has_a_part(folder, tmp_path):
    names = "gradient,lrp,metrics"
    finish(start(folder, tmp_path / "whole", names))
    finish(start(folder, tmp_path / "parts", names, "sharded=true", processes=2))
    for name in names.split(","):
        equal(tmp_path / f"whole/{name}.zarr", tmp_path / f"parts/{name}.zarr")


# ------------------------------------------------------------------------------------------------------------- slow


def test_any_number_of_processes_makes_the_same_stores(tmp_path):
    """2,000 photographs, explained by a method of every kind and measured by two metrics."""
    many, names = photographs(tmp_path / "many", 2000), [*METHODS, "metrics"]
    for processes in (1, 2, 4):
        job = start(many, tmp_path / f"of {processes}", ",".join(names), "batch_size=16", processes=processes)
        ends = finish(job, limit=3600)
        assert ends == [{"done": 2000, "failed": 0, "images": 2000}] * processes
    for name in names:
        equal(tmp_path / f"of 1/{name}.zarr", tmp_path / f"of 2/{name}.zarr")
        equal(tmp_path / f"of 1/{name}.zarr", tmp_path / f"of 4/{name}.zarr")


def test_twenty_random_kills(folder, tmp_path):
    """Of one or of all processes, and another number of processes each time."""
    whole, store, rng = tmp_path / "whole.zarr", tmp_path / "store.zarr", random.Random(0)
    more = photographs(tmp_path / "more", 400)
    finish(start(more, whole, "smoothgrad"))
    for turn in range(20):
        job = start(more, store, "smoothgrad", "wait=0.1", processes=turn % 3 + 1)
        wait_for(job, store, done(store) + 1)
        time.sleep(rng.uniform(0, 0.3))
        rng.choice(job).kill()
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0, 0.3))  # the others go on for a while
        kill(job)
    assert 20 < done(store) < 400
    finish(start(more, store, "smoothgrad", processes=2))
    equal(store, whole)


def test_all_processes_stop_when_one_is_told_to(tmp_path):
    more = photographs(tmp_path / "more", 120)
    job = start(more, tmp_path / "store.zarr", "smoothgrad", "wait=0.3", processes=2)
    wait_for(job, tmp_path / "store.zarr", 2)
    job[1].terminate()
    ends = finish(job)
    assert ends[0] == ends[1]
    assert 2 <= ends[0]["done"] < 120


def test_the_others_are_ended_when_one_is_gone(folder, tmp_path):
    """JAX itself ends them, when it has not heard of the other one for the seconds that `jax.distributed` was told."""
    job = start(folder, tmp_path / "store.zarr", "smoothgrad", "wait=3", processes=2)
    wait_for(job, tmp_path / "store.zarr", 2)
    job[1].kill()
    assert job[0].wait(timeout=60) != 0
    kill(job)


def test_a_second_job_says_so(folder, tmp_path):
    store = tmp_path / "store.zarr"
    first = start(folder, store, "smoothgrad", "wait=2")
    wait_for(first, store, 1)
    (second,) = start(folder, store, "smoothgrad")
    error = second.communicate(timeout=LIMIT)[1]
    assert error.splitlines()[-1].startswith("BlockingIOError: another job writes to ")
    first[0].terminate()
    assert finish(first)[0]["done"] < 24


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_images(tmp_path):
    """From 100 images to 10,000 by 5 % at most; 64 x 64 pixels of maps are enough to fill the files of a store.

    What a thread has given back, glibc keeps for it; here it is told to give that back to the system.
    """
    few, many = (photographs(tmp_path / f"{count}", count) for count in (100, 10_000))
    kept = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "131072"}
    for method, size in (("gradient", 64), ("metrics", 16)):
        words = [method, f"size={size}", "batch_size=16", "every=30"]
        jobs = (
            start(folder, tmp_path / f"{method} of {folder.name}", *words, environment=kept) for folder in (few, many)
        )
        peaks = [peak(job, limit=1200) for job in jobs]
        assert peaks[1] < 1.05 * peaks[0], method


def peak(job, limit):
    """The most memory that a process of one had, in KiB."""
    (process,) = job
    most = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        most = max([most, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))])
        time.sleep(0.05)
    finish(job, limit)
    return most


# ------------------------------------------------------------------------------------------------- the command line

MINE = """
import jax.numpy as jnp, numpy as np
WEIGHTS = np.random.default_rng(0).normal(size=(192, 5)).astype(np.float32)
preprocess = lambda images: np.stack([np.asarray(image.resize((8, 8)), np.float32) / 255 for image in images])
apply = lambda weights, x: jnp.tanh(x.reshape(len(x), -1)) @ weights
network = lambda: (apply, WEIGHTS, preprocess, ["ant", "bee", "crane", "dog", "elk"])
"""


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setitem(sys.modules, "mine", None)
    del sys.modules["mine"]
    (tmp_path / "mine.py").write_text(MINE)
    return str(folder)


def test_a_command_stores_maps(here, capsys):
    words = ["explain", here, "--model", "mine:network", "--method", "gradient", "--save", "maps.zarr"]
    assert main(words) == 0
    assert "24 of 24 images are done: maps.zarr" in capsys.readouterr().out
    maps = zarr.open_group("maps.zarr")["maps"][:]
    assert maps.shape == (24, 8, 8)
    assert main([*words, "--seed", "1"]) == 2
    assert "was made with seed = 0, not 1" in capsys.readouterr().err
    assert main([*words, "--seed", "1", "--over"]) == 0
    np.testing.assert_array_equal(zarr.open_group("maps.zarr")["maps"][:], maps)


def test_a_command_stores_metrics_which_are_those_of_one_image_at_a_time(here, capsys):
    words = ["evaluate", here, "--model", "mine:network", "--methods", "gradient,smoothgrad:samples=2"]
    words += ["--metrics", "deletion:steps=4,sparseness"]
    assert main(words) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert main([*words, "--save", "metrics.zarr"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")] == table
    assert len(table) == 4


def test_what_a_command_cannot_store(here, capsys):
    one = ["explain", here, "--model", "mine:network", "--method", "gradient"]
    for words, sentence in (
        (["explain", here, *one[1:], "--save", "maps.zarr"], "takes one folder"),
        ([*one, "--save", "maps.zarr", "--index", "1"], "--coordinator, --processes and --index go together"),
        (["evaluate", here, "--save", "metrics.txt"], "the name must end in .zarr"),
    ):
        assert main(words) == 2
        assert sentence in capsys.readouterr().err
