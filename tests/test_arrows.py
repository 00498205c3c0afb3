"""Which part of the library may import which, what `import jaxplain` imports, and that `fast/` stands by itself."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import jaxplain

LIBRARY = Path(jaxplain.__file__).parent

# The parts from the lowest to the highest, and what each of them imports. Modules at the top that are no part by
# themselves, the convention and its helpers, are `shared`.
SHARED = ["_graph", "shared"]
EXPLAINERS = [*SHARED, "propagation", "features", "perturbation"]
ARROWS = {
    "_graph": [],
    "fast": ["_graph"],
    "shared": ["_graph"],
    "propagation": SHARED,
    "features": [*SHARED, "propagation"],
    "perturbation": [*SHARED, "propagation", "features"],
    "metrics": [*SHARED, "propagation", "features"],
    "models": ["shared"],
    "visualize": ["shared", "models"],
    "_taxonomy": EXPLAINERS,
    "evaluation": [*EXPLAINERS, "metrics", "_taxonomy", "visualize"],
    "bulk": ["_graph", "shared", "models", "evaluation"],
    "__init__": [*EXPLAINERS, "metrics", "_taxonomy", "evaluation", "fast"],  # the only one that knows of `fast`
    "cli": [*EXPLAINERS, "metrics", "models", "visualize", "_taxonomy", "evaluation", "bulk", "__init__"],
    "__main__": ["cli"],
}


def part_of(module):
    """The part that a module belongs to, by its path from the library's folder."""
    name = module.parts[0].removesuffix(".py") if module.parts else "__init__"
    return name if name in ARROWS else "shared"


def imported(file):
    """The parts that a module imports, at any place in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            for name in node.names:
                module = folder / name.name
                is_module = module.is_dir() or module.with_suffix(".py").exists()
                found.add(part_of((module if is_module else folder).relative_to(LIBRARY)))
    return found - {part_of(file.relative_to(LIBRARY))}


@pytest.mark.parametrize("part", ARROWS)
def test_a_part_imports_lower_parts_only(part):
    files = [file for file in LIBRARY.rglob("*.py") if part_of(file.relative_to(LIBRARY)) == part]
    assert files
    assert set().union(*map(imported, files)) <= set(ARROWS[part])


def test_the_arrows_have_no_circle():
    parts = list(ARROWS)
    assert all(parts.index(lower) < parts.index(part) for part, lowers in ARROWS.items() for lower in lowers)


def test_an_import_upwards_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "LIBRARY", tmp_path)
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/_road.py").write_text("def f():\n    from ..cli import main\n    from .. import visualize")
    (tmp_path / "visualize.py").touch()
    assert imported(tmp_path / "metrics/_road.py") == {"cli", "visualize"}


def run(code, **options):
    """What a Python of its own prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


IMPORTED = """
import json, sys, jax
traced = []
jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: traced.append(event))
import jaxplain
at_import = list(traced)
jax.jit(lambda x: x + 1)(1.0)
print(json.dumps([at_import, traced[len(at_import):], sorted({name.split(".")[0] for name in sys.modules})]))
"""


def test_importing_the_library_neither_traces_nor_imports_what_only_some_need():
    at_import, later, modules = run(IMPORTED, cwd=LIBRARY.parent)
    assert at_import == []
    assert "/jax/core/compile/jaxpr_trace_duration" in later  # the listener hears
    assert "jaxplain" in modules
    assert {"optax", "flax", "PIL", "matplotlib", "rich", "tyro", "scipy", "equinox"}.isdisjoint(modules)


LIFTED = """
import json, sys
import jax, jax.numpy as jnp
from lifted.fast import accelerate
x, w = jnp.arange(72.0).reshape(1, 6, 6, 2), jnp.ones((3, 3, 1, 2))
kinds = ("NHWC", "HWIO", "NHWC")
f = lambda x: jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=kinds, feature_group_count=2)
same = bool(jnp.allclose(jax.jit(accelerate(f))(x), f(x)))
print(json.dumps([same, "platform_index" in str(jax.make_jaxpr(accelerate(f))(x)), "jaxplain" in sys.modules]))
"""


def test_fast_can_be_lifted_out_with_the_graph(tmp_path):
    for part in ("fast", "_graph"):
        shutil.copytree(LIBRARY / part, tmp_path / "lifted" / part, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "lifted/__init__.py").touch()
    assert run(LIFTED, cwd=tmp_path) == [True, True, False]


@pytest.mark.parametrize("name", ["_convention", "propagation._summary", "metrics._common", "features._cam"])
def test_whichever_module_is_imported_first_explanations_are_accelerated(name):
    code = f"""
import json, jaxplain.{name}
from jaxplain import _execution, fast
print(json.dumps(_execution._transform is fast._accelerate.accelerated_for))
"""
    assert run(code, cwd=LIBRARY.parent) is True
