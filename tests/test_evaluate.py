import errno
import functools
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxplain import metrics
from jaxplain.cli import main
from jaxplain.evaluation import Example, evaluate, open_records, summarize
from jaxplain.evaluation._table import statistic

NETWORK = """
import numpy as np
import jax, jax.numpy as jnp

WEIGHTS = np.random.default_rng(0).normal(size=(192, 4)).astype(np.float32)

def preprocess(images):
    return np.stack([np.asarray(image.resize((8, 8)), np.float32) / 255 for image in images])

def apply(weights, x):
    return jnp.tanh(x.reshape(len(x), -1)) @ weights

def network(): return apply, WEIGHTS, preprocess, ["ant", "bee", "crane", "dog"]

def slow():
    import time
    def preprocess_slowly(images):
        time.sleep(0.1)
        return preprocess(images)
    return apply, WEIGHTS, preprocess_slowly, ["ant", "bee", "crane", "dog"]
"""
METHODS = "gradient,smoothgrad:samples=2"
METRICS = "deletion:steps=4,sparseness"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setitem(sys.modules, "mine", None)
    del sys.modules["mine"]
    (tmp_path / "mine.py").write_text(NETWORK)
    (tmp_path / "images").mkdir()
    for i in range(8):
        pixels = np.random.default_rng(i).integers(0, 256, (10, 10, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"000{i % 4}_{i}.png")
    return tmp_path


def words(*more, model="mine:network"):
    return ["evaluate", "images", "--model", model, "--methods", METHODS, "--metrics", METRICS, *more]


def lines(file="evaluation.jsonl"):
    with open(file) as text:
        return [json.loads(line) for line in text]


def keys(file="evaluation.jsonl"):
    return [(r["image"], r["method"]) for r in lines(file)[1:]]


def complaint(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("jaxplain: ")]


# ------------------------------------------------------------------------------------------------- the command line


def test_a_folder_is_a_table(folder, capsys):
    assert main(words()) == 0
    assert len(keys()) == len(set(keys())) == 8 * 2
    table = (folder / "evaluation.md").read_text().splitlines()
    assert table[0] == "| method | deletion:steps=4 ↓ (n = 8) | sparseness ↑ (n = 8) |"
    assert table[2].startswith("| gradient | 0.")
    assert "16 maps measured now, 0 before" in capsys.readouterr().out
    numbers = json.loads((folder / "evaluation.json").read_text())["methods"]["gradient"]["sparseness"]
    assert numbers["n"] == 8
    assert numbers["low"] < numbers["mean"] < numbers["high"]


def test_what_the_network_does_not_see_of_a_photograph_is_told_once(folder, capsys):
    crop = "from jaxplain.models import Preprocess\npreprocess = Preprocess((0,) * 3, (255,) * 3, resize=8, crop=8)\n"
    (folder / "mine.py").write_text(NETWORK + crop)
    Image.new("RGB", (30, 10)).save("images/0001_wide.png")
    assert main(words("--methods", "gradient", "--metrics", "sparseness", "--html", "page.html")) == 0
    (note,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert note.startswith("note: 0001_wide.png: the network sees 33% of it, its middle: crop")


def test_the_report_of_a_folder(folder, capsys):
    (folder / "images" / "0001_broken.png").write_text("no picture")
    assert main(words("--html", "page.html")) == 1
    page = (folder / "page.html").read_text()
    assert page.count("<img data-class=") == 8 * 2
    assert "Means over up to 8 images" in page
    assert "ant, " in page
    first = next(line for line in (folder / "evaluation.md").read_text().splitlines() if line.startswith("| gradient"))
    for cell in first.split(" | ")[1:]:
        assert cell.strip(" |") in page
    for name, sentence in (("page.txt", "the name must end in .html"), ("no/page.html", "there is no folder no")):
        assert main(words("--html", name)) == 2
        assert complaint(capsys)[-1] == f"jaxplain: --html {name}: {sentence}"


def test_the_same_command_measures_nothing_twice(folder, capsys):
    assert main(words()) == 0
    before, table = (folder / "evaluation.jsonl").read_bytes(), (folder / "evaluation.md").read_text()
    assert main(words()) == 0
    assert (folder / "evaluation.jsonl").read_bytes() == before
    assert (folder / "evaluation.md").read_text() == table
    assert "0 maps measured now, 16 before" in capsys.readouterr().out


def test_a_torn_line_is_measured_again_and_the_rest_is_as_if_nothing_had_happened(folder):
    assert main(words()) == 0
    whole = (folder / "evaluation.jsonl").read_bytes()
    for cut in (len(whole) - 1, len(whole) - 70, len(whole) // 2):
        (folder / "evaluation.jsonl").write_bytes(whole[:cut])
        assert main(words()) == 0
        assert (folder / "evaluation.jsonl").read_bytes() == whole


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_killed_and_started_again(folder):
    """Nothing is lost or counted twice, and the numbers are those of a run that nothing has stopped."""
    command = [sys.executable, "-m", "jaxplain", *words(model="mine:slow")]
    found = 0
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while len(written(folder)) < found + 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert found < len(written(folder)) < 17
        found = len(written(folder)) - 1
    subprocess.run(command, check=True, capture_output=True)
    resumed = lines()
    subprocess.run([*command, "--out", "at_once"], check=True, capture_output=True)
    assert resumed == lines("at_once.jsonl")
    assert len(set(keys())) == len(keys()) == 16


def written(folder):
    file = folder / "evaluation.jsonl"
    return file.read_bytes().split(b"\n")[:-1] if file.exists() else []


def test_interrupted_it_keeps_what_it_has(folder, monkeypatch, capsys):
    command = sys.modules["jaxplain.cli._evaluate"]
    read, count = command.read, []

    def impatient(path):
        count.append(path)
        if len(count) == 4:
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(command, "read", impatient)
    assert main(words()) == 130
    assert len(keys()) == 3 * 2
    monkeypatch.setattr(command, "read", read)
    assert main(words()) == 0
    assert len(set(keys())) == len(keys()) == 16


def test_more_methods_go_on_with_the_same_file(folder):
    assert main([*words(), "--methods", "gradient"]) == 0
    first = keys()
    assert main(words()) == 0
    assert keys()[: len(first)] == first
    assert len(set(keys())) == len(keys()) == 16


def test_other_settings_are_refused(folder, capsys):
    assert main(words()) == 0
    for change in (["--seed", "1"], ["--metrics", "sparseness"], ["--model", "mine:slow"]):
        capsys.readouterr()
        assert main(words(*change)) == 2
        (line,) = complaint(capsys)
        assert "evaluation.jsonl was made with" in line
        assert line.endswith("name another file, or delete this one")
    assert len(keys()) == 16


def changed(folder, before, after):
    """The user's network, changed since the last run."""
    text = (folder / "mine.py").read_text()
    assert before in text
    (folder / "mine.py").write_text(text.replace(before, after))
    del sys.modules["mine"]
    importlib.invalidate_caches()
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)


def test_another_folder_is_refused(folder, capsys):
    assert main(words()) == 0
    (folder / "images").rename(folder / "clean")
    shutil.copytree(folder / "clean", folder / "blurred")
    assert main(["evaluate", "blurred", *words()[2:]]) == 2
    assert "was made with folder = " in complaint(capsys)[0]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("default_rng(0)", "default_rng(1)"),  # the weights
        ("jnp.tanh(", "jnp.sin("),  # an operation
        ("@ weights", "@ weights * 2"),  # a number
        ("@ weights", "@ weights + np.eye(4, dtype='f')[:1]"),  # a constant array
    ],
)
def test_another_network_is_refused(folder, capsys, before, after):
    assert main(words()) == 0
    changed(folder, before, after)
    whole = (folder / "evaluation.jsonl").read_bytes()
    assert main(words()) == 2
    assert "evaluation.jsonl was made with another network" in complaint(capsys)[0]
    (folder / "images/0000_new.png").write_bytes((folder / "images/0000_0.png").read_bytes())
    (folder / "images/0000_4.png").unlink()
    assert main(words()) == 2  # before anything is measured
    assert (folder / "evaluation.jsonl").read_bytes() == whole
    changed(folder, after, before)
    assert main(words()) == 0


@pytest.mark.parametrize("after", ["/ 128 - 1", "/ 255 + 1e-3", "[::-1] / 255"])
def test_another_preprocessing_is_refused(folder, capsys, after):
    (folder / "mine.py").write_text(NETWORK.replace("np.float32) / 255 for", "np.float32) [:] / 255 for"))
    assert main([*words(), "--methods", "gradient"]) == 0
    changed(folder, "[:] / 255", after)
    (folder / "images/0000_first.png").write_bytes((folder / "images/0000_0.png").read_bytes())
    whole = (folder / "evaluation.jsonl").read_bytes()
    for methods in ("gradient", METHODS):
        assert main([*words(), "--methods", methods]) == 2
        assert "evaluation.jsonl has 0000_0.png preprocessed in another way" in complaint(capsys)[0]
        assert (folder / "evaluation.jsonl").read_bytes() == whole


def test_images_that_were_exchanged_are_measured_again(folder, capsys):
    assert main(words()) == 0
    before = lines()
    swap = [folder / "images/0000_0.png", folder / "images/0003_7.png"]
    a, b = (path.read_bytes() for path in swap)
    swap[0].write_bytes(b)
    swap[1].write_bytes(a)
    assert main(words()) == 0
    assert "4 maps measured now, 16 before" in capsys.readouterr().out
    again = lines()[len(before) :]
    assert lines()[: len(before)] == before
    assert [r["image"] for r in again] == ["0000_0.png"] * 2 + ["0003_7.png"] * 2
    assert (folder / "evaluation.md").read_text() == fresh_table(folder)
    assert main(words()) == 0
    assert "0 maps measured now, 16 before" in capsys.readouterr().out
    swap[0].write_bytes(a)
    swap[1].write_bytes(b)
    assert main(words()) == 0
    assert (folder / "evaluation.md").read_text() == fresh_table(folder)


def fresh_table(folder):
    """The table of a run that knows nothing of another one."""
    assert main(words("--out", "fresh")) == 0
    (folder / "fresh.jsonl").unlink()
    return (folder / "fresh.md").read_text()


def test_an_image_that_is_broken_now_is_left_out_of_the_table(folder, capsys):
    assert main(words()) == 0
    (folder / "images/0001_1.png").write_bytes(b"no picture")
    assert main(words()) == 1
    assert (folder / "evaluation.md").read_text().splitlines()[0].count("(n = 7)") == 2


def test_another_target_of_an_exchanged_image_is_measured(folder):
    some, records = examples(1), open_records(folder / "a", {})
    list(evaluate(network, ["gradient"], ["sparseness"], some, records))
    other = [Example("0", examples(2)[1].x, 2)]
    assert [r["target"] for r in evaluate(network, ["gradient"], ["sparseness"], other, records)] == [2]
    assert not list(evaluate(network, ["gradient"], ["sparseness"], other, open_records(folder / "a", {})))


def test_from_python_as_well_a_changed_network_is_refused(folder):
    records = open_records(folder / "a", {})
    weights = jnp.arange(3.0)[None]
    run = lambda apply, context, some=1: list(
        evaluate(apply, ["gradient"], ["sparseness"], examples(some), records, context=context)
    )
    scaled = lambda scale: lambda w, x: (x.mean(axis=(1, 2)) ** scale) * w
    assert len(run(scaled(2), (weights,))) == 1
    for apply, context in ((scaled(3), (weights,)), (scaled(2), (weights + 1,))):
        with pytest.raises(ValueError, match=r"a was made with another network .*: name another file"):
            run(apply, context, 2)
    assert len(run(scaled(2), (weights,), 2)) == 1


def test_a_metric_that_is_missing_is_measured(folder):
    records = open_records(folder / "a", {})
    run = lambda *names: list(evaluate(network, ["gradient"], names, examples(2), records))
    assert [len(run("sparseness")), len(run("sparseness")), len(run("sparseness", "complexity"))] == [2, 0, 2]
    assert len(run("complexity")) == 0
    assert set(open_records(folder / "a", {}).done["0", "gradient"]["metrics"]) == {"sparseness", "complexity"}


def test_other_truth_of_the_same_image_is_measured(folder):
    records = open_records(folder / "a", {})
    mask = np.zeros((1, 8, 8), bool)
    mask[:, :4] = True
    run = lambda mask: list(
        evaluate(network, ["gradient"], ["auc"], [Example("0", examples()[0].x, 0, {"mask": mask})], records)
    )
    assert [len(run(mask)), len(run(mask)), len(run(mask[:, ::-1]))] == [1, 0, 1]


def test_options_of_a_method_are_part_of_its_name(folder):
    assert main([*words(), "--methods", "smoothgrad:samples=2"]) == 0
    assert main([*words(), "--methods", "smoothgrad:samples=3"]) == 0
    assert [method for _, method in keys()] == ["smoothgrad:samples=2"] * 8 + ["smoothgrad:samples=3"] * 8
    assert set(json.loads((folder / "evaluation.json").read_text())["methods"]) == {"smoothgrad:samples=3"}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are text")
def test_any_file_name(folder):
    image = os.fsencode(folder / "images" / "0000_0.png")
    for name in ("0001 ein Kätzchen\u2028.png".encode(), b"0002_caf\xe9.png"):
        os.rename(image, image := os.path.join(os.path.dirname(image), name))
        assert main(words("--metrics", "sparseness", "--methods", "gradient")) == 0
    assert len(set(keys())) == 9
    assert main(words("--metrics", "sparseness", "--methods", "gradient")) == 0
    assert len(keys()) == 9


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_measured(folder, capsys):
    (folder / "images" / "0001_broken.png").write_bytes(b"no picture")
    assert main(words()) == 1
    (line,) = complaint(capsys)
    assert line.startswith("jaxplain: images/0001_broken.png: this is no image")
    assert len(keys()) == 16


def test_classes_by_a_csv_file(folder):
    images = sorted(path.name for path in (folder / "images").iterdir())
    for name in images:
        (folder / "images" / name).rename(folder / "images" / f"x{name}")
    rows = [f"x{name},{('ant', '1', 'crane', '3')[i % 4]}" for i, name in enumerate(images)]
    (folder / "labels.csv").write_text("\n".join(["file,class", *rows]))
    assert main(words("--labels", "labels.csv")) == 0
    assert [record["target"] for record in lines()[1::2]] == [0, 1, 2, 3, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0000_0.png,0", "the first line must name the columns file and class"),
        ("file,class\n0000_0.png,0", "does not tell the class of 0000_4.png"),
        ("file,class\nother.png,0", "tells of other.png, which is no picture in the folder"),
        ("file,class\n0000_0.png,eagle", "0000_0.png: eagle is no class of mine:network"),
        ("file,class\n0000_0.png,1\n0000_0.png,2", "gives 0000_0.png two classes"),
    ],
)
def test_mistakes_in_a_csv_file(folder, capsys, text, sentence):
    (folder / "labels.csv").write_text(text)
    assert main(words("--labels", "labels.csv")) == 2
    (line,) = complaint(capsys)
    assert sentence in line


def test_other_classes_are_refused(folder, capsys):
    assert main(words()) == 0
    names = sorted(path.name for path in (folder / "images").iterdir())
    (folder / "labels.csv").write_text("\n".join(["file,class", *(f"{name},2" for name in names)]))
    assert main(words("--labels", "labels.csv")) == 2
    assert "has 0000_0.png with class 0, not 2" in complaint(capsys)[0]


def test_mistakes_on_the_command_line(folder, capsys):
    (folder / "empty").mkdir()
    cases = [
        (["evaluate", "nowhere"], "nowhere is no folder"),
        (["evaluate", "empty"], "empty holds no pictures"),
        (words("--methods", "gradeint"), "--methods gradeint is none of `jaxplain methods`: did you mean gradient"),
        (words("--methods", "smoothgrad:sample=2"), "there is no option sample: it has samples"),
        (words("--methods", "smoothgrad:2"), "smoothgrad:2: 2 is no option: write smoothgrad:OPTION=VALUE"),
        (words("--methods", "smoothgrad:samples=0"), "samples=0 must be a positive integer"),
        (words("--metrics", "auc"), "--metrics auc needs mask, so it runs from Python only"),
        (words("--metrics", "delete"), "--metrics delete is none of insertion, deletion"),
        (words("--metrics", "sparseness :steps=2"), "there is no option steps: it has none"),
        (words("--out", "nowhere/x"), "--out nowhere/x: No such file or directory"),
    ]
    for command, sentence in cases:
        capsys.readouterr()
        assert main(command) == 2, command
        (line,) = complaint(capsys)
        assert sentence in line
    (folder / "images" / "cat.png").write_bytes((folder / "images" / "0000_0.png").read_bytes())
    assert main(words()) == 2
    assert "the name of images/cat.png does not begin with the number of its class" in complaint(capsys)[0]
    (folder / "images" / "cat.png").rename(folder / "images" / "0004.png")
    assert main(words("--metrics", "deletion :steps=4")) == 2
    assert complaint(capsys)[0].endswith("images/0004.png: 4: mine:network has the classes 0 to 3")


# ------------------------------------------------------------------------------------------------------ from Python


def network(x):
    return x.mean(axis=(1, 2)) ** 2


def examples(n=3):
    return [Example(f"{i}", np.random.default_rng(i).normal(size=(1, 8, 8, 3)).astype(np.float32), 0) for i in range(n)]


def test_numbers_do_not_depend_on_order_or_company(folder):
    run = lambda file, some, methods: {
        (r["image"], r["method"]): r
        for r in evaluate(network, methods, ["sparseness"], some, open_records(folder / file, {}))
    }
    both = run("a", examples(), ["gradient", "smoothgrad"])
    alone = run("b", examples()[::-1], ["smoothgrad"])
    assert all(both[key] == record for key, record in alone.items())


def test_metrics_that_need_the_truth(folder):
    mask = np.zeros((1, 8, 8), bool)
    mask[:, :4] = True
    some = [Example(e.name, e.x, e.target, {"mask": mask}) for e in examples()]
    (first, *_) = evaluate(network, ["gradient"], ["auc"], some, open_records(folder / "a", {}))
    assert first["metrics"] == {"auc": 0.5}
    with pytest.raises(ValueError, match=r"the metric auc needs mask: see Example\.truth"):
        next(evaluate(network, ["gradient"], ["auc"], examples(), open_records(folder / "b", {})))


def test_two_examples_of_one_name(folder):
    with pytest.raises(ValueError, match="two examples are called 0: give each a name of its own"):
        list(evaluate(network, ["gradient"], ["sparseness"], examples(1) * 2, open_records(folder / "a", {})))


def test_a_metric_without_an_answer_is_left_out_of_the_mean(folder):
    blind = lambda x, target=None, key=None: jnp.where(x[..., 0] > 1e9, 1.0, 0.0)
    records = list(evaluate(network, {"blind": blind}, ["complexity"], examples(1), open_records(folder / "a", {})))
    assert records[0]["metrics"] == {"complexity": None}
    assert summarize(records) == {"blind": {}}


def test_a_file_that_is_none_of_records_is_left_alone(folder):
    for text in ("hello", "hello\n", '{"a": 1}\n', '{"settings": {}}\nhello\n'):
        (folder / "notes").write_text(text)
        with pytest.raises(ValueError, match=r"no file of records|is no record"):
            open_records(folder / "notes", {})
        assert (folder / "notes").read_text() == text


RECORD = {"image": "i", "method": "m", "target": 0, "metrics": {"x": 1.0}}


@pytest.mark.parametrize(
    "change",
    [
        *({"image": 3}, {"image": ["i"]}, {"method": None}, {"metrics": None}, {"metrics": [1.0]}),
        *({"metrics": {"x": "1"}}, {"metrics": {"x": True}}, {"metrics": {"x": {}}}),
    ],
)
def test_a_record_of_wrong_types_is_named(folder, change):
    open_records(folder / "a", {}).append(RECORD)
    with open(folder / "a", "a") as file:
        file.write(json.dumps(RECORD | change) + "\n")
    with pytest.raises(ValueError, match=r"line 3 of .*a is no record with image, method and metrics: delete it, or"):
        open_records(folder / "a", {})
    with pytest.raises(ValueError, match=r"records\[1\] is no record"):
        summarize([RECORD, RECORD | change])
    with pytest.raises(ValueError, match="is no record"):
        open_records(folder / "b", {}).append(RECORD | change)


@pytest.mark.parametrize("field", RECORD)
def test_a_record_that_lacks_a_field_is_named_or_measured_again(folder, field):
    records = open_records(folder / "a", {})
    list(evaluate(network, ["gradient"], ["sparseness"], examples(1), records))
    settings, record = (folder / "a").read_text().splitlines()
    lacking = {name: value for name, value in json.loads(record).items() if name != field}
    (folder / "a").write_text(f"{settings}\n{json.dumps(lacking)}\n")
    with pytest.raises(ValueError, match=r"line 2 of .*a is no record|a has 0 with class None, not 0"):
        list(evaluate(network, ["gradient"], ["sparseness"], examples(1), open_records(folder / "a", {})))


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"image": "i", "method": "m", "metrics": {"x": ' + "[" * 100_000 + "]" * 100_000 + "}}",
        '{"image": "i", "method": "m", "metrics": {"x": NaN}}',
        '{"image": "i", "method": "m", "metrics": {"x": 1e999}}',
        '{"image": "i", "method": "m", "metrics": {"x": 1' + "0" * 1000 + "}}",
        '{"image": "i", "method": "m", "metrics": {"x": 1' + "0" * 10_000 + "}}",
        "\xff",
        "3",
    ],
)
def test_lines_that_are_no_records_are_named(folder, line):
    records = open_records(folder / "a", {})
    records.append(RECORD)
    whole = (folder / "a").read_bytes()
    (folder / "a").write_bytes(whole + line.encode("latin-1") + b"\n")
    with pytest.raises(ValueError, match=r"line 3 of .*a is no record"):
        open_records(folder / "a", {})
    (folder / "a").write_bytes(line.encode("latin-1") + b"\n" + whole)
    with pytest.raises(ValueError, match=r"is no record|no file of records"):
        open_records(folder / "a", {})


@pytest.mark.parametrize("size", [1, 7, 30])
def test_writes_that_the_system_cuts_short_are_whole(folder, monkeypatch, size):
    write = os.write
    records = open_records(folder / "a", {})
    monkeypatch.setattr(os, "write", lambda file, data: write(file, bytes(data)[:size]))
    for name in "ij":
        records.append(RECORD | {"image": name})
    assert list(open_records(folder / "a", {}).done.values()) == [RECORD, RECORD | {"image": "j"}]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_an_interruption_leaves_whole_lines(folder, monkeypatch, error):
    write, left = os.write, [100]

    def to_a_full_disk(file, data):
        if not left[0]:
            raise error
        count = write(file, bytes(data)[: left[0]])
        left[0] -= count
        return count

    records = open_records(folder / "a", {})
    monkeypatch.setattr(os, "write", to_a_full_disk)
    records.append(RECORD)
    with pytest.raises(type(error)):
        records.append(RECORD | {"image": "j"})
    assert list(records.done) == [("i", "m")]
    left[0] = 1000
    records.append(RECORD | {"image": "k"})
    assert [image for image, _ in open_records(folder / "a", {}).done] == ["i", "k"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_disk_that_is_really_full(folder):
    import resource

    records = open_records(folder / "a", {})
    records.append(RECORD)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((folder / "a").stat().st_size + 20, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            records.append(RECORD | {"image": "j"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    records.append(RECORD | {"image": "k"})
    assert [image for image, _ in open_records(folder / "a", {}).done] == ["i", "k"]


@pytest.mark.parametrize("torn", ['{"image": "j", "meth', "{", " "])
def test_a_torn_line_is_not_joined_with_the_next(folder, torn):
    records = open_records(folder / "a", {})
    records.append(RECORD)
    with open(folder / "a", "a") as file:
        file.write(torn)
    records.append(RECORD | {"image": "k"})
    assert [image for image, _ in open_records(folder / "a", {}).done] == ["i", "k"]


def test_records_that_are_gone_are_not_begun_without_settings(folder):
    records = open_records(folder / "a", {})
    (folder / "a").unlink()
    with pytest.raises(FileNotFoundError):
        records.append(RECORD)
    assert not (folder / "a").exists()


def test_a_record_is_written_once(folder):
    records = open_records(folder / "a", {"metrics": ("x",)})
    record = {"image": "i", "method": "m", "target": 0, "metrics": {"x": 1.0}}
    records.append(record)
    records.append(record | {"metrics": {"x": 2.0}})
    with open(folder / "a", "a") as file:
        file.write(json.dumps(record | {"metrics": {"x": 3.0}}) + "\n")  # by another program at the same time
    assert open_records(folder / "a", {"metrics": ("x",)}).done == {("i", "m"): record}


# ------------------------------------------------------------------------------------------------------- statistics


def test_the_interval_is_that_of_the_mean():
    numbers = np.random.default_rng(3).normal(size=400)
    s = statistic(list(numbers))
    assert s.mean == pytest.approx(numbers.mean())
    half = 1.96 * numbers.std() / np.sqrt(400)
    assert s.high - s.mean == pytest.approx(half, rel=0.01)
    assert s.mean - s.low == pytest.approx(half, rel=0.01)
    assert statistic([2.0, 2.0]).low == statistic([2.0, 2.0]).high == 2
    assert statistic([0.0, 0.0]).high == 0
    large = statistic([1e200, 3e200])
    assert large.high - large.mean == pytest.approx(12.706204736 * 1e200)  # s = √2 · 1e200, over √2


def test_one_image_has_no_interval():
    alone = statistic([2.0])
    assert (alone.mean, alone.low, alone.high, alone.n) == (2, None, None, 1)
    assert str(alone) == "2.000 (no interval)"


@pytest.mark.parametrize("n", [4, 6, 24])
def test_the_interval_covers_the_truth_as_often_as_it_says(n):
    samples = np.random.default_rng(n).normal(loc=3, scale=2, size=(4000, n))
    covered = [(s := statistic(sample)).low < 3 < s.high for sample in samples]
    assert 0.93 < np.mean(covered) < 0.97


def test_metrics_of_explainers_compile_the_explainer_once(folder):
    traces = []

    def counted(x):
        traces.append(1)
        return network(x)

    sensitivity = {"sensitivity": functools.partial(metrics.max_sensitivity, samples=5)}
    list(evaluate(counted, ["gradient"], sensitivity, examples(3), open_records(folder / "a", {})))
    # For the explainer, for the checksum of the network, and for the metric, of the image and of its neighbours.
    assert len(traces) == 4
