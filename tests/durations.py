"""Which tests are slow, by how long each took when it was last measured: a plugin that `conftest.py` loads.

``pytest -m "slow or not slow" --hypothesis-profile quick --record-durations`` measures the tests that it runs and
writes them to `tests/data/durations.json`; what it does not run keeps its numbers, so that files can be measured one by
one. ``JAXPLAIN_XLA=default`` before it, and ``tests/compiled`` behind it, measures those. What is measured is processor
time, of the test, its fixtures and the processes that it starts: it holds on a busy machine as well.

A test that took longer than `ALONE` is slow, and runs where ``-m`` asks for it. So is a case of a parametrised test
that took longer than `AMONG_OTHERS`, much less, since cases of one test ask nearly the same; but for those that stand
for the others, which have longer: the quickest case of a parametrised test as long as a test alone, and the quickest of
each name in a file up to `FOR_A_NAME`. Names are what stands between the brackets of a case: a method, a kind, a
network, a rule. A test without a number is new, or took less than `NOTED`, and is quick. ``null`` in the place of a
number says that a test is known to be slow, and not yet how slow. What is marked `nested` runs tests that are slow or
not by themselves.
"""

import json
import os
import re
from collections import defaultdict
from pathlib import Path

import pytest

FILE = Path(__file__).parent / "data/durations.json"
ALONE, FOR_A_NAME, AMONG_OTHERS = 1.0, 0.5, 0.3  # seconds of one processor; `python -m tests.durations` adds them up
NOTED = 0.3  # what took less is left out of the file


def names(case):
    """What the case of a test stands for: the test and the names in its brackets, numbers aside; nothing without."""
    test, *brackets = re.split(r"\[(.*)\]$", case)
    return [name for text in brackets for name in text.split("-") if name[:1].isalpha()] + [test] * bool(brackets)


def slow_cases(seconds):
    """Which cases of one file are slow, given how long each takes: 0 where that is not known, None where it is long."""
    unmeasured = {case for case in seconds if seconds[case] is None}
    seconds = {case: s for case, s in seconds.items() if s is not None}  # in their order: every worker chooses the same
    by_name = defaultdict(list)
    for case in seconds:
        for name in names(case):
            by_name[name].append(case)
    quick = {case for case in seconds if seconds[case] <= (AMONG_OTHERS if names(case) else ALONE)}
    for name, cases in by_name.items():
        quickest = min(cases, key=seconds.__getitem__)
        is_test = quickest.startswith(f"{name}[")
        if quick.isdisjoint(cases) and seconds[quickest] <= (ALONE if is_test else FOR_A_NAME):
            quick.add(quickest)
    return (seconds.keys() - quick) | unmeasured


def recorded():
    """The durations by file and case."""
    return json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}


def pytest_addoption(parser):
    """The option that measures."""
    parser.addoption("--record-durations", action="store_true", help=f"write processor times to {FILE.name}")


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items):
    """Mark what is slow."""
    known, files = recorded(), defaultdict(dict)
    for item in items:
        file, _, case = item.nodeid.partition("::")
        files[file][case] = known.get(file, {}).get(case, 0)
    slow = {f"{file}::{case}" for file, seconds in files.items() for case in slow_cases(seconds)}
    for item in items:
        if item.nodeid in slow and not item.get_closest_marker("nested"):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """Start the clock of a test."""
    item.stash[START] = processor_time()
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """Note on each report how long the test has taken so far: reports travel from the workers to where all is run."""
    outcome = yield
    outcome.get_result().processor_time = processor_time() - item.stash[START]


def pytest_runtest_logreport(report):
    """Remember the last report of each test."""
    MEASURED[report.nodeid] = report.processor_time


def pytest_sessionfinish(session):
    """Write what was measured."""
    if not session.config.getoption("--record-durations") or hasattr(session.config, "workerinput"):
        return
    known = recorded()
    for nodeid, seconds in MEASURED.items():
        file, _, case = nodeid.partition("::")
        cases = known.setdefault(file, {})
        cases.pop(case, None)
        if seconds >= NOTED:
            cases[case] = round(seconds, 1)
    sorted_ = {file: dict(sorted(cases.items())) for file, cases in sorted(known.items()) if cases}
    FILE.write_text(json.dumps(sorted_, indent=1) + "\n", "utf-8")


def processor_time():
    """Of this process and of those that it started and that have ended, in seconds."""
    return sum(os.times()[:4])


def main():
    """Print how long the noted tests take, of the default run and all."""
    files = recorded()
    known = {(file, case): s for file, cases in files.items() for case, s in cases.items() if s is not None}
    slow = {(file, case) for file, cases in files.items() for case in slow_cases(cases)}
    for words, chosen in (("by default", known.keys() - slow), ("all", known.keys())):
        print(f"{words}: {sum(known[key] for key in chosen):.0f} s in {len(chosen)} tests")  # noqa: T201


START = pytest.StashKey[float]()
MEASURED = {}

if __name__ == "__main__":
    main()
