"""The public names and their signatures: `python -m tests.public_api > tests/data/public_api.txt` takes them down."""

import importlib
import inspect
import re
import sys

PUBLIC = (
    "",
    ".bulk",
    ".composites",
    ".evaluation",
    ".metrics",
    ".metrics.quantus",
    ".models",
    ".perturbation",
    ".perturbation.generators",
    ".rules",
    ".visualize",
)


def lines():
    """``module.name(signature)`` of all that is public, a class with its fields and methods."""
    for suffix in PUBLIC:
        module = importlib.import_module(
            f"jaxplain{suffix}" if suffix not in (".composites", ".rules") else f"jaxplain.propagation{suffix}"
        )
        for name in names(module):
            value = getattr(module, name)
            if inspect.ismodule(value):
                continue
            yield f"jaxplain{suffix}.{name}{signature(value)}"
            if inspect.isclass(value):
                yield from (
                    f"jaxplain{suffix}.{name}.{member}{signature(vars(value)[member])}"
                    for member in sorted(vars(value))
                    if not member.startswith("_") and callable(vars(value)[member])
                )


def names(module):
    """What a module exports: its `__all__`, else the functions and classes that it defines."""
    own = lambda value: getattr(value, "__module__", None) == module.__name__
    defined = [
        name for name, value in vars(module).items() if not name.startswith("_") and callable(value) and own(value)
    ]
    return sorted(getattr(module, "__all__", defined))


def signature(value):
    """How it is called, defaults and all."""
    try:
        return re.sub(" at 0x[0-9a-f]+", "", str(inspect.signature(value))) if callable(value) else ""
    except (TypeError, ValueError):
        return ""


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in lines())
