"""A function with what it refers to replaced, nothing of the user's changed: new closures, objects and arguments."""

from __future__ import annotations

import dataclasses
import dis
import functools
import types
from collections.abc import Callable
from typing import Any

import jax

from .weights import LIBRARY, OPAQUE, globals_of, is_filled

JITTED = type(jax.jit(lambda: None))


def replaced(node: Any, is_wanted: Callable[[Any], bool], new: Callable[[Any], Any]) -> Any:
    """A function with what it refers to replaced: its arguments, closure, defaults, globals, object, trees of those.

    Args:
      node: the function.
      is_wanted: what is to be replaced.
      new: what it is replaced by.

    Returns:
      Another function, or the same one where nothing was replaced.
    """
    known: dict[int, Any] = {}

    def again(node: Any) -> Any:
        if id(node) not in known:
            known[id(node)] = node, node  # while it is looked into, a function that refers to itself stays as it is
            known[id(node)] = node, new(node) if is_wanted(node) else rebound(node, again)
        return known[id(node)][1]

    return again(node)


def rebound(node: Any, again: Callable[[Any], Any]) -> Any:
    """One form of function or tree, with ``again`` applied to its parts."""
    if isinstance(node, types.MethodType):
        owner = again(node.__self__)
        return node if owner is node.__self__ else types.MethodType(node.__func__, owner)
    if isinstance(node, functools.partial):
        parts = [node.func, *node.args, *node.keywords.values()]
        func, *others = map(again, parts)
        args, keywords = others[: len(node.args)], dict(zip(node.keywords, others[len(node.args) :], strict=True))
        return node if same(parts, [func, *others]) else functools.partial(func, *args, **keywords)
    if isinstance(node, types.FunctionType):
        return with_closure(node, again)
    if isinstance(node, tuple | list | dict):
        return with_parts(node, again)
    if isinstance(node, type) or not callable(node):
        return node
    is_own = type(node).__module__.startswith(f"{LIBRARY}.")
    if is_own and dataclasses.is_dataclass(node) and not isinstance(node, type):
        f = getattr(node, "f", None)  # jaxplain's own, around a network
        return node if again(f) is f else dataclasses.replace(node, f=again(f))
    if isinstance(node, JITTED):  # which here only call; other wrappers may mean more, as a derivative of their own
        wrapped = getattr(node, "__wrapped__", None)
        return node if again(wrapped) is wrapped else again(wrapped)
    return node


def with_parts(node: Any, again: Callable[[Any], Any]) -> Any:
    """A tuple, list or dict with other parts; the same one where none changes."""
    parts = list(node.values() if isinstance(node, dict) else node)
    others = [part if isinstance(part, OPAQUE) else again(part) for part in parts]
    if same(parts, others):
        return node
    if isinstance(node, dict):
        return dict(zip(node, others, strict=True))
    return type(node)(*others) if hasattr(node, "_fields") else type(node)(others)


def same(before: list[Any], after: list[Any]) -> bool:
    """Whether nothing was replaced."""
    return all(a is b for a, b in zip(before, after, strict=True))


def with_closure(f: types.FunctionType, again: Callable[[Any], Any]) -> types.FunctionType:
    """A function of the same code with other variables around it; the same one where none changes."""
    cells = list(f.__closure__ or ())
    others = [types.CellType(again(cell.cell_contents)) if is_filled(cell) else cell for cell in cells]
    values = lambda cells: [cell.cell_contents for cell in cells if is_filled(cell)]
    defaults, keywords = again(f.__defaults__), again(f.__kwdefaults__)
    scope = {name: new for name, part in globals_of(f).items() if (new := again(part)) is not part}
    if scope and sets_globals(f.__code__):  # others may read what it sets, and they read the real ones
        scope = {}
    if not scope and same([*values(cells), f.__defaults__, f.__kwdefaults__], [*values(others), defaults, keywords]):
        return f
    scope = {**f.__globals__, **scope} if scope else f.__globals__
    g = types.FunctionType(f.__code__, scope, f.__name__, defaults, tuple(others))
    g.__kwdefaults__ = keywords
    g.__dict__.update(f.__dict__)
    return g


def sets_globals(code: types.CodeType) -> bool:
    """Whether a function's code gives globals other values, which it must find again."""
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return any(i.opname == "STORE_GLOBAL" for i in dis.get_instructions(code)) or any(map(sets_globals, inner))
