"""Every test runs with 64-bit types allowed, silent rank promotion forbidden, and four simulated devices.

The examples of the docstrings run with JAX's defaults, as a user would run them. The compiler is told to hurry: tests
compile thousands of small functions and run each of them once. What it does with its own settings, as users have it,
`tests/compiled` asks: ``JAXPLAIN_XLA=default pytest tests/compiled``, which `tests/test_compiled.py` runs.
"""

import os
from importlib.util import find_spec

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # of which there are four, and whose forms of operations are tested

import hypothesis
import jax
import pytest

HURRIED = [
    "--xla_force_host_platform_device_count=4",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
    *["--xla_cpu_use_fusion_emitters=false"] * (jax.__version_info__ < (0, 11)),  # from then on unknown to XLA
]
AS_USERS_DO = os.environ.get("JAXPLAIN_XLA") == "default"

if not AS_USERS_DO:
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *HURRIED])
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile("quick", max_examples=6, deadline=None, derandomize=True)
hypothesis.settings.register_profile("thorough", max_examples=30, deadline=None, derandomize=True)

pytest_plugins = ["tests.durations"]
collect_ignore = [] if AS_USERS_DO else ["tests/compiled"]
collect_ignore += [] if find_spec("grain") and find_spec("tensorstore") else ["jaxplain/bulk"]


def pytest_configure(config):
    """Few examples in the default run, many where slow tests are asked for."""
    if not config.getoption("--hypothesis-profile"):
        hypothesis.settings.load_profile("quick" if config.getoption("-m") == "not slow" else "thorough")


@pytest.fixture(autouse=True)
def _programs_of_the_command_line(monkeypatch, tmp_path_factory):
    """The command line keeps compiled programs for the tests that follow, and none in the user's own folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _defaults_for_doctests(request):
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    with jax.enable_x64(False), jax.numpy_rank_promotion("allow"):
        yield
