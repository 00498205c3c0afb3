"""Count lines of code: `python .ci/lines.py`. Docstrings, comments and blank lines are none.

It fails where a file, a class, a function, or all that LRP needs has grown beyond its limit.
"""

import ast
import io
import sys
import tokenize
from pathlib import Path

LIBRARY = Path(__file__).parents[1] / "jaxplain"
NEEDED = """_graph/axes.py _graph/canonical.py _graph/clipping.py _graph/dependence.py _graph/equations.py
    _graph/forward.py _graph/primitives.py _graph/rewrite.py _graph/signs.py _graph/trace.py propagation/_affine_map.py
    propagation/_engine.py propagation/_ledger.py propagation/_summary.py propagation/_matchers/_affine.py
    propagation/_matchers/_chain.py propagation/_matchers/_region.py propagation/_matchers/_single.py
    propagation/_matchers/_view.py propagation/_search.py propagation/_unit_call.py propagation/_units.py
    propagation/composites.py propagation/rules.py _graph/makers.py"""
LRP = [LIBRARY / name for name in NEEDED.split()]
LIMITS = {"file": 350, "class": 150, "function": 45}
SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code(file: Path) -> tuple[set[int], ast.Module]:
    """The numbers of the lines with code, and the syntax tree."""
    text = file.read_text("utf-8")
    tree = ast.parse(text)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {n for t in tokens if t.type not in SKIPPED for n in range(t.start[0], t.end[0] + 1)}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines, tree


def main() -> None:
    """Print the counts, and what is too long."""
    total, too_long = {}, []
    for file in sorted(LIBRARY.rglob("*.py")):
        lines, tree = code(file)
        total[file] = len(lines)
        parts = [("file", file.stem, len(lines))]
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                kind = "class" if isinstance(node, ast.ClassDef) else "function"
                parts.append((kind, node.name, len(lines & set(range(node.lineno, node.end_lineno + 1)))))
        too_long += [(kind, f"{file.relative_to(LIBRARY)}:{name}", n) for kind, name, n in parts if n > LIMITS[kind]]
    lrp = sum(total[file] for file in LRP)
    print(f"{sum(total.values())} lines of code in {len(total)} files; LRP needs {lrp}")
    for kind, name, n in too_long:
        print(f"{name}: {n} lines, a {kind} may have {LIMITS[kind]}")
    sys.exit(bool(too_long))


if __name__ == "__main__":
    main()
