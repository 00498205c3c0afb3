"""Which weights an operation reads, by the paths of the leaves of a network's parameters.

A network is a function; its parameters are the leaves of whatever pytrees it can reach: the arguments bound in front of
the input, its closure, its `functools.partial`, the object that it is a method of, the globals that its code names. No
framework is known here but for its pytrees, and nothing is called: a constant of the traced network *is* one of those
leaves, so its identity says where it comes from. From there the paths follow the data flow, through casts, reshapes and
the arithmetic of statistics, to the operations that meet the explained input.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.extend.core import primitives as P

from .dependence import carried_flags, dependents
from .trace import Graph, Op, Weight

Paths: TypeAlias = dict[Any, Weight]

LEAVES = frozenset(  # what frameworks call the arrays of a layer, whose path is then the layer's
    [
        *(
            "kernel",
            "weight",
            "w",
            "value",
            "bias",
            "b",
            "scale",
            "offset",
            "gamma",
            "beta",
            "mean",
            "var",
            "embedding",
        ),
        *("average", "hidden", "running_mean", "running_var", "moving_mean", "moving_variance"),
    ]
)
OPAQUE = (type, types.ModuleType, types.BuiltinFunctionType, str, bytes, int, float, complex, type(None))
MAX_DEPTH = 32
LIBRARY = __name__.partition(".")[0]


def name_weights(graph: Graph, f: Callable[..., Any]) -> Graph:
    """The graph of ``f``, each operation that meets the explained input with the weights that it reads.

    An operation in no scope of its weights' name is called by the path that they share.
    """
    paths = paths_of_leaves(f)
    known = {a: frozenset([paths[i]]) for a, value in graph.constants.items() if (i := identity(value)) in paths}
    return follow_weights(graph, known, [True] * len(graph.inputs)) if known else graph


# ------------------------------------------------------------------------------------------------ leaves by identity


def identity(array: Any) -> Any:
    """What two references to the same array share; JAX wraps those of NumPy, so theirs is where the numbers lie."""
    if isinstance(array, jax.Array) or not hasattr(array, "__array_interface__"):
        return id(array)
    return array.__array_interface__["data"][0], np.shape(array), str(array.dtype)


def paths_of_leaves(f: Callable[..., Any]) -> Paths:
    """The path of each array that a function can reach, by identity."""
    found: Paths = {}
    variables: dict[Any, str] = {}  # what the code calls a layer that it names by itself, outside any model
    matrices: list[tuple[str, ...]] = []
    seen: dict[int, Any] = {}  # the objects themselves, so that no number is used again

    def visit(node: Any, path: tuple[str, ...], in_tuple: bool, depth: int) -> None:
        if isinstance(node, jax.Array | np.ndarray):
            if path and identity(node) not in found:
                matrices.extend([path] * (node.ndim > 1))
                found[identity(node)] = Weight(layer_path(path, in_tuple), "/".join(path), int(np.prod(node.shape)))
            return
        if id(node) in seen or isinstance(node, OPAQUE) or depth > MAX_DEPTH:
            return
        seen[id(node)] = node
        if is_code(node):
            for name, root in reached(node):
                count = len(found)
                roots = root if type(root) is tuple else (root,)  # arguments, each with names of its own
                for each in roots:
                    visit(each, path, False, depth + 1)
                new = list(found)[count:]
                if name and type(root) is not tuple and not any(found[i].layer for i in new):
                    variables.update((i, name) for i in new if i not in variables)
            return
        below = children(node)
        collections = any(key == "params" for key, _ in below)  # beside batch_stats, or in a training state
        pair = type(node) is tuple and all(isinstance(child, jax.Array | np.ndarray) for _, child in below)
        wrapper = is_leaf(node)  # an object around a function
        for key, child in below:
            same = collections or (wrapper and is_code(child))
            visit(child, path if same else (*path, *key.split("/")), pair, depth + 1)

    visit(f, (), False, 0)
    # What lies at the top is the one layer that there is, which nobody names; beside others it goes by its own name.
    beside_others = len(matrices) > 1 or any(weight.layer for weight in found.values())
    if not beside_others:
        return {}
    name = lambda i, weight: weight.layer or variables.get(i) or own_name(weight.leaf)
    return {i: weight._replace(layer=name(i, weight)) for i, weight in found.items()}


def layer_path(path: Sequence[str], in_tuple: bool) -> str:
    """The layer that an array belongs to: its path without the array's own name, or its place in a pair ``(w, b)``.

    Empty for the arrays of a model that is one layer.
    """
    parts = list(path)
    if len(parts) > 1 and parts[-1] in ("value", "raw_value"):  # of a variable
        parts.pop()
    if parts and (parts[-1] in LEAVES or in_tuple):
        parts.pop()
    if parts and parts[-1].endswith("_ema"):  # in Haiku the averages of a BatchNorm are modules inside it
        parts = parts[: -2 if parts[-2:-1] == ["~"] else -1]
    return "/".join(parts)


def own_name(leaf: str) -> str:
    """The name of an array at the top of the parameters."""
    return leaf.removesuffix("/value").removesuffix("/raw_value")


def is_code(node: Any) -> bool:
    """Whether something is a function in one of Python's or JAX's forms, and no tree of parameters."""
    functions = types.FunctionType | types.MethodType | functools.partial
    return isinstance(node, functions) or wraps_a_function(node)


def wraps_a_function(node: Any) -> bool:
    """Whether an object stands around a function, as `jax.jit` makes one; its attributes are not asked for."""
    return inspect.getattr_static(node, "__wrapped__", None) is not None


def reached(f: Any) -> Iterator[tuple[str, Any]]:
    """What a function refers to, with the names of variables."""
    if isinstance(f, types.MethodType):
        owner = f.__self__
        yield "", owner if callable(owner) or not is_leaf(owner) else dict(getattr(owner, "__dict__", {}))
        yield "", f.__func__
    elif isinstance(f, functools.partial):
        yield from (("", part) for part in (f.func, f.args, *f.keywords.values()))
    elif isinstance(f, types.FunctionType):
        own = str(f.__module__).startswith(f"{LIBRARY}.")  # what this library calls a user's model is no name
        cells = zip(f.__code__.co_freevars, f.__closure__ or (), strict=True)
        yield from (("" if own else name, cell.cell_contents) for name, cell in cells if is_filled(cell))
        yield "", f.__defaults__ or ()
        yield from (f.__kwdefaults__ or {}).items()
        yield from globals_of(f).items()
    else:
        yield "", f.__wrapped__


def globals_of(f: types.FunctionType) -> dict[str, Any]:
    """The globals that a function's code names; of functions, those of its own file."""
    named = {name: f.__globals__[name] for name in names_in(f.__code__) if name in f.__globals__}
    is_foreign = lambda value: isinstance(value, types.FunctionType) and value.__globals__ is not f.__globals__
    return {name: value for name, value in named.items() if not isinstance(value, OPAQUE) and not is_foreign(value)}


def is_filled(cell: types.CellType) -> bool:
    """Whether a variable of a closure has a value yet."""
    try:
        return cell.cell_contents is cell.cell_contents
    except ValueError:
        return False


def names_in(code: types.CodeType) -> Iterator[str]:
    """The names that a function's code looks up, those of functions inside it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_in(constant)


def children(node: Any) -> list[tuple[str, Any]]:
    """The parts of a pytree, or the attributes of an object that is none, with their names."""
    if type(node) in (list, tuple):
        return [(str(i), part) for i, part in enumerate(node) if not isinstance(part, OPAQUE)]
    if isinstance(node, dict):
        return [(str(key), part) for key, part in node.items() if not isinstance(part, OPAQUE)]
    if not is_leaf(node):
        pairs = jax.tree_util.tree_leaves_with_path(node, is_leaf=lambda part: part is not node)
        return [("/".join(key_name(key) for key in path), part) for path, part in pairs]
    if type(node).__module__.partition(".")[0] in ("jax", "jaxlib", "numpy", "keras") or inspect.isbuiltin(node):
        return []
    return list(getattr(node, "__dict__", {}).items()) if callable(node) else []


def is_leaf(node: Any) -> bool:
    """Whether JAX knows nothing inside."""
    return not isinstance(node, dict | list | tuple) and jax.tree_util.all_leaves([node])


def key_name(key: Any) -> str:
    """A key of a pytree path, in words."""
    return str(next((getattr(key, a) for a in ("key", "name", "idx") if hasattr(key, a)), key))


# ---------------------------------------------------------------------------------------------- along the data flow


def follow_weights(graph: Graph, given: dict[int, frozenset[Weight]], flags: Sequence[bool]) -> Graph:
    """The graph, its operations with the weights that they read.

    Args:
      graph: a network, or the body of a loop or a branch.
      given: the weights that its constants, and inputs that are no part of the explained one, come from.
      flags: which of its inputs depend on the explained one.
    """
    varying, known, ops = dependents(graph, flags), dict(given), []
    for op in graph.ops:
        read = frozenset[Weight]().union(*(known.get(a, frozenset()) for a in op.reads if a not in varying))
        if varying.isdisjoint(op.reads):
            known.update(dict.fromkeys(op.outputs, read) if read else {})
            ops.append(op)
        elif read:
            flagged = [isinstance(a, int) and a in varying for a in op.inputs]
            bodies = bodies_with_weights(op, known, flagged) if op.bodies else ()
            ops.append(named_by_weights(dataclasses.replace(op, bodies=bodies), read))
        else:
            ops.append(op)
    return dataclasses.replace(graph, ops=tuple(ops))


def bodies_with_weights(op: Op, known: dict[int, frozenset[Weight]], flags: list[bool]) -> tuple[Graph, ...]:
    """The bodies of a loop or a branch, likewise."""
    operands: Sequence[Any] = op.inputs
    if op.primitive is P.scan_p:
        flags = list(carried_flags(op, flags))
    else:
        operands, flags = operands[1:], flags[1:]
    named = []
    for body in op.bodies:
        pairs = zip(body.inputs, operands, strict=True)
        given = {inner: known[a] for inner, a in pairs if isinstance(a, int) and a in known}
        named.append(follow_weights(body, given, flags))
    return tuple(named)


def named_by_weights(op: Op, read: frozenset[Weight]) -> Op:
    """An operation with its weights, called by their layer where its scope does not say so already.

    Numbers in a list, as Keras keeps its variables, say less than a scope.
    """
    weights = tuple(sorted(w for w in read if not op.path or any(map(str.isalpha, w.layer))))
    layer = common_path([weight.layer for weight in weights])
    scoped = not layer or f"/{layer}/" in f"/{op.path}/"
    return dataclasses.replace(op, weights=weights, path=op.path if scoped else layer, scope=op.path)


def common_path(paths: Sequence[str]) -> str:
    """What paths have in common in front."""
    parts = [path.split("/") for path in paths]
    shared = (names[0] for names in zip(*parts, strict=False) if len(set(names)) == 1)
    count = next((i for i, names in enumerate(zip(*parts, strict=False)) if len(set(names)) > 1), None)
    return "/".join(list(shared)[:count])
