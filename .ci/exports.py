"""Write what the packages export: `python .ci/exports.py`, or `--check` that it is written.

A module says in its ``__all__`` what is public. Its package's ``__init__`` imports that, and the modules without an
underscore, and names it all in an ``__all__`` of its own. At the top stand the explanation methods, which are the rows
of the taxonomy, and what TOP names. What stands below the ``__all__`` of an ``__init__`` is written by hand, and stays.
"""

import ast
import sys
from pathlib import Path

LIBRARY = Path(__file__).parents[1] / "jaxplain"
IMPORTED_BY_USERS = ("generators",)  # since it needs Flax
PACKAGES = (
    "bulk",
    "evaluation",
    "fast",
    "features",
    "metrics/faithfulness",
    "metrics",
    "models",
    "perturbation",
    "propagation",
    "visualize",
)
TOP = [
    "Comparison",
    "accelerate",
    "augment",
    "attentions",
    "cam",
    "chunked",
    "cite",
    "compare",
    "composites",
    "contrast",
    "ensemble",
    "explainer",
    "fit_patterns",
    "full_precision",
    "heatmap",
    "layers",
    "layout",
    "methods",
    "metrics",
    "multiply",
    "recommend",
    "rules",
    "scores",
    "smooth",
    "summary",
    "tap",
]


def exported(module: Path) -> list[str]:
    """What a module says that it exports."""
    for node in ast.parse(module.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return []


def methods() -> list[str]:
    """The names of the methods: the function is the second argument of each row of the taxonomy."""
    body = ast.parse((LIBRARY / "_taxonomy.py").read_text("utf-8")).body
    (rows,) = (n.value.elts for n in body if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "_TABLE")
    return [row.args[1].attr for row in rows]


def sources(package: Path) -> dict[str, list[str]]:
    """The public names of a package's modules and packages, by module."""
    found = {"": [m.stem for m in sorted(package.glob("*.py")) if m.stem[0] != "_" and m.stem not in IMPORTED_BY_USERS]}
    found |= {m.stem: exported(m) for m in package.glob("_[a-z]*.py")}
    return found | {m.parent.name: exported(m) for m in package.glob("*/__init__.py")}


def in_order(names: list[str]) -> list[str]:
    """Constants, classes, functions."""
    return sorted(set(names), key=lambda name: (not name.isupper(), name.islower(), name))


def statement(start: str, names: list[str], brackets: str) -> str:
    """``start`` and names, on one line if they fit."""
    line = f"{start}{', '.join(names)}" if brackets == "()" else f"{start}[{', '.join(names)}]"
    lines = "".join(f"    {name},\n" for name in names)
    return line if len(line) <= 120 else f"{start}{brackets[0]}\n{lines}{brackets[1]}"


def written(package: Path) -> str:
    """The text of a package's ``__init__``."""
    init = (package / "__init__.py").read_text("utf-8")
    tree = ast.parse(init)
    (all_names,) = (node for node in tree.body if getattr(getattr(node, "targets", [None])[0], "id", "") == "__all__")
    found = sources(package)
    if package == LIBRARY:
        top = {*TOP, *methods()}
        found = {name: [n for n in names if n in top] for name, names in found.items()}
        missing = top.difference(*found.values())
        found[""] = ["metrics"]
        if missing - {"metrics"}:
            sys.exit(f"no module exports {', '.join(sorted(missing - {'metrics'}))}")
    imports = [statement(f"from .{m} import ", in_order(names), "()") for m, names in sorted(found.items()) if names]
    names = in_order([name for names in found.values() for name in names])
    parts = [f'"""{ast.get_docstring(tree, clean=False)}"""', "\n".join(imports)]
    parts.append(statement("__all__ = ", [f'"{name}"' for name in names], "[]"))
    by_hand = "\n".join(init.splitlines()[all_names.end_lineno :]).strip()
    return "\n\n".join([*parts, by_hand] if by_hand else parts) + "\n"


for package in [*(LIBRARY / name for name in PACKAGES), LIBRARY]:
    init, text = package / "__init__.py", written(package)
    if init.read_text("utf-8") != text:
        if "--check" in sys.argv:
            sys.exit(f"{init} is not what its modules export: python .ci/exports.py writes it")
        init.write_text(text, "utf-8")
