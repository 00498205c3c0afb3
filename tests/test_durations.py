"""Slow is what was measured to be slow, and of each name one case is quick."""

import json

import pytest

from tests import durations
from tests.durations import ALONE, AMONG_OTHERS, FOR_A_NAME, NOTED, names, slow_cases

pytest_plugins = ["pytester"]
LONG, LONGER, LONGEST = (AMONG_OTHERS + more for more in (0.05, 0.1, 0.15))  # all of them less than FOR_A_NAME


def test_names_are_the_words_between_brackets_and_the_test():
    assert names("test_it") == []
    assert names("test_it[lrp-vgg]") == ["lrp", "vgg", "test_it"]
    assert names("test_it[3-0.5-(2, 3)]") == ["test_it"]
    assert names("test_it[lrp epsilon-x[0]]") == ["lrp epsilon", "x[0]", "test_it"]
    assert names("jaxplain._compose.smooth") == []


def test_what_took_longer_than_the_limit_is_slow():
    assert slow_cases({"test_a": ALONE + 1, "test_b": ALONE, "test_new": 0}) == {"test_a"}
    assert slow_cases({"test_a[1]": 0.0, "test_a[2]": AMONG_OTHERS, "test_a[3]": LONG}) == {"test_a[3]"}


def test_of_each_name_the_quickest_case_is_quick():
    seconds = {"test_a[lrp-vgg]": LONG, "test_a[lrp-vit]": LONGER, "test_b[vit]": LONGEST, "test_b[vgg]": LONGER}
    assert slow_cases(seconds) == {"test_b[vit]"}  # the quickest of lrp and test_a, of vit, and of test_b
    assert slow_cases(seconds | {"test_b[vit]": 0.1}) == {"test_a[lrp-vit]", "test_b[vgg]"}


def test_of_cases_that_only_count_the_quickest_is_quick():
    assert slow_cases({f"test_a[{i}]": AMONG_OTHERS + i / 10 for i in (3, 1, 2)}) == {"test_a[3]", "test_a[2]"}


def test_who_stands_for_others_has_longer_but_not_for_ever():
    assert slow_cases({"test_a[lrp]": FOR_A_NAME, "test_a[1]": 0.0}) == set()
    assert slow_cases({"test_a[lrp]": FOR_A_NAME + 0.1, "test_a[1]": 0.0}) == {"test_a[lrp]"}
    assert slow_cases({"test_a[lrp]": ALONE}) == set()  # the test itself
    assert slow_cases({"test_a[lrp]": ALONE + 0.1}) == {"test_a[lrp]"}


def test_the_recorded_tests_exist():
    for file, cases in durations.recorded().items():
        text = (durations.FILE.parents[2] / file).read_text("utf-8")
        for case in cases:
            test = case.partition("[")[0].rpartition(".")[2]
            assert test in text, f"{file}::{case} is no more: delete it from {durations.FILE.name}"


SAMPLE = """
import subprocess, sys, time
import pytest

SPIN = "import time\\nwhile time.process_time() < 1: pass"

def test_sleeps(): time.sleep(0.7)

def test_starts_a_process(): subprocess.run([sys.executable, "-c", SPIN], check=True)
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Run the tests of a file with this plugin and a file of durations of its own."""
    monkeypatch.setenv("PYTHONPATH", str(durations.FILE.parents[2]))
    monkeypatch.setattr(durations, "FILE", pytester.path / "durations.json")
    pytester.makeconftest(
        "pytest_plugins = ['tests.durations']\n"
        "def pytest_configure():\n"
        "    from pathlib import Path\n"
        "    from tests import durations\n"
        f"    durations.FILE = Path({str(durations.FILE)!r})"
    )

    def run(tests, recorded, *options):
        pytester.makepyfile(test_sample=tests)
        durations.FILE.write_text(json.dumps(recorded))
        return pytester.runpytest_subprocess(*options)

    return run


@pytest.mark.parametrize("workers", ["0", "1"])
def test_processor_time_is_recorded(run, workers):
    recorded = {"test_sample.py": {"test_sleeps": 9.0}, "test_other.py": {"test_x": 5.0}}
    done = run(SAMPLE, recorded, "-n", workers, "--record-durations", "-m", "slow or not slow")
    done.assert_outcomes(passed=2)
    written = durations.recorded()
    assert written["test_other.py"] == {"test_x": 5.0}  # which did not run
    assert list(written["test_sample.py"]) == ["test_starts_a_process"]  # to sleep takes less than what is noted
    assert written["test_sample.py"]["test_starts_a_process"] >= max(1.0, NOTED)


def test_slow_tests_are_marked(run):
    recorded = {"test_sample.py": {"test_a": ALONE + 1}}
    done = run("def test_a(): pass\ndef test_b(): pass", recorded, "-n", "0", "-m", "not slow", "-v")
    done.assert_outcomes(passed=1, deselected=1)
    done.stdout.fnmatch_lines(["*test_b PASSED*"])


def test_what_runs_tests_itself_is_never_slow(run):
    recorded = {"test_sample.py": {"test_a": ALONE + 1}}
    done = run("import pytest\n@pytest.mark.nested\ndef test_a(): pass", recorded, "-n", "0", "-m", "not slow")
    done.assert_outcomes(passed=1)


def test_what_is_known_to_be_slow_is_slow_until_it_is_measured():
    assert slow_cases({"test_a[lrp]": None, "test_a[cam]": 0, "test_b": None, "test_c": 0}) == {"test_a[lrp]", "test_b"}
