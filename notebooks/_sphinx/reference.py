"""What the reference lists: the `__all__` of each public package, the methods by their families."""

import functools
import importlib
import inspect
import sys

import jaxplain

PAGES = (
    "jaxplain",
    "jaxplain.metrics",
    "jaxplain.metrics.quantus",
    "jaxplain.evaluation",
    "jaxplain.visualize",
    "jaxplain.composites",
    "jaxplain.rules",
    "jaxplain.models",
    "jaxplain.perturbation",
    "jaxplain.perturbation.generators",
)


# Names that the package has for modules that lie elsewhere: autodoc imports what it documents by name.
for page in PAGES:
    package, _, name = page.rpartition(".")
    if package and inspect.ismodule(module := getattr(importlib.import_module(package), name, None)):
        sys.modules.setdefault(page, module)


def about(page: str) -> str:
    """What the module says of itself."""
    return inspect.getdoc(importlib.import_module(page)) or ""


def groups(page: str) -> dict[str, list[str]]:
    """Heading -> public names of a module, in its order; those that another page has are left to it."""
    module = importlib.import_module(page)
    names = [
        name for name in module.__all__ if inspect.isroutine(value := getattr(module, name)) or inspect.isclass(value)
    ]
    if page != "jaxplain":
        top = set(jaxplain.__all__) if page in ("jaxplain.perturbation", "jaxplain.evaluation") else set()
        return {"": [name for name in names if name not in top]}
    families = {family: [m.name for m in methods] for family, methods in by_family().items()}
    methods = {name for family in families.values() for name in family}
    return {"Explainers and what surrounds them": [n for n in names if n not in methods]} | {
        f"Methods: {family}": [n for n in names if n in members] for family, members in families.items()
    }


@functools.cache
def by_family() -> dict:
    """The methods of each family."""
    families = dict.fromkeys(method.family for method in jaxplain.methods())
    return {family: jaxplain.methods(family=family) for family in families}


def find(app, env, node, contnode):
    """Resolve a name that docstrings give without its module, as `MapOptions`, where only one thing has it."""
    if node.get("refdomain") != "py":
        return None
    domain = env.get_domain("py")
    target = node["reftarget"].lstrip(".")
    names = {name for name in domain.objects if name.rpartition(".")[2] == target}
    if len(names) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", names.pop(), node, contnode)


def setup(app):
    """Tell Sphinx."""
    app.connect("missing-reference", find)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
