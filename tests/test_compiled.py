"""What `tests/compiled` asks of explanations as users' compilers make them, in a process without this one's flags."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NO_TESTS = 5  # but slow ones
FILES = sorted((ROOT / "tests/compiled").glob("test_*.py"))


@pytest.mark.nested
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_with_the_compilers_own_settings(file):
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "PYTEST_ADDOPTS")}
    environment |= {"JAXPLAIN_XLA": "default"}
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(file)]
    run = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode in (0, NO_TESTS), run.stdout[-5000:] + run.stderr[-1000:]
