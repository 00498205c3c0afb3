"""A network traced with the names that its modules and its own intermediates give to values.

* Flax Linen: an interceptor of Flax's own names every array that a module returns by the module's path.
* Flax NNX: modules that the function can reach are copied inside the trace, and each copy names what it returns. The
  copies are instances of subclasses made here, so that no class and no module of the user's changes.
* What a network returns as its second result, where that is `capture_intermediates`, `nnx.capture`, `sow` or `perturb`.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import sys
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.core
from jax.ad_checkpoint import checkpoint_name

from .rebinding import replaced
from .remedies import EXPLAIN_INSIDE, INFERENCE
from .trace import NAMES, Graph, trace
from .weights import key_name, name_weights

Notes = list[tuple[str, Any]]
PATH = "_jaxplain_path"  # the attribute of a copied module; it travels with it through the transforms of NNX
COLLECTIONS = ("intermediates", "perturbations")
notes_of_trace: contextvars.ContextVar[Notes | None] = contextvars.ContextVar("notes_of_trace", default=None)


def trace_with_names(
    f: Callable[[Any], Any], x: Any, *, as_operations: bool = False, **options: Any
) -> tuple[Graph, Any]:
    """`trace`, with all names that values have.

    Args:
      f: a function of the explained input.
      x: the input, or its shape and dtype.
      as_operations: whether what a module returns is a value of its own, apart from those it is made of, so that the
        network can be cut there; else the value that it is made of has the name.
      options: as for `trace`.

    Returns:
      The graph and the structure of what ``f`` returns.
    """
    names: list[str] = []
    prefix = "" if as_operations else NAMES

    def g(x: Any) -> Any:
        token = notes_of_trace.set(notes := [])
        try:
            with linen_names(prefix):
                outputs = with_copies(f, prefix)(x)
        finally:
            notes_of_trace.reset(token)
        names[:] = [name for name, _ in notes]
        return outputs, [value for _, value in notes]

    graph, tree = trace(g, x, **options)
    outputs, _ = tree.children()
    end = len(graph.outputs) - len(names)
    noted = [(name, a) for name, a in zip(names, graph.outputs[end:], strict=True) if isinstance(a, int)]
    graph = dataclasses.replace(graph, outputs=graph.outputs[:end], names=(*graph.names, *noted))
    return name_weights(graph, f), outputs


def named(prefix: str, values: Any, path: str) -> Any:
    """A tree of values, its arrays under a name."""
    mark = lambda a: checkpoint_name(a, prefix + path) if isinstance(a, jax.Array) else a
    return jax.tree.map(mark, values) if path else values


# ----------------------------------------------------------------------------------------- the user's own intermediates


def without_intermediates(outputs: Any) -> Any:
    """What a network returns, without the intermediates that it captured, whose names are noted for the trace."""
    if type(outputs) is not tuple or len(outputs) < 2 or not all(map(is_captured, outputs[1:])):
        return outputs
    if (notes := notes_of_trace.get()) is not None:
        for state in outputs[1:]:
            for path, value in jax.tree_util.tree_leaves_with_path(dict(state)):
                if isinstance(value, jax.core.Tracer) and (name := captured_name([key_name(key) for key in path])):
                    notes.append((name, value))
    return outputs[0]


def is_captured(state: Any) -> bool:
    """Whether a second result is a Flax state or the collections of intermediates, and nothing that is to be kept."""
    nnx = sys.modules.get("flax.nnx")
    if nnx and isinstance(state, nnx.State):
        kinds = (type(leaf) for leaf in jax.tree.leaves(state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)))
        return not any(issubclass(kind, nnx.Param | nnx.BatchStat | nnx.RngState) for kind in kinds)
    keys = set(state) if hasattr(state, "keys") else set()
    return bool(keys) and keys <= set(COLLECTIONS)


def captured_name(path: list[str]) -> str:
    """The path of a captured value: without its collection, the method and the number of the call."""
    if path and path[0] in COLLECTIONS:
        path = path[1:]
    while path and (path[-1] in ("value", "raw_value", "__call__") or path[-1].isdecimal()):
        path = path[:-1]
    return "/".join(path)


# ------------------------------------------------------------------------------------------------------- Flax Linen


def linen_names(prefix: str) -> Any:
    """Where a network is written in Flax Linen, what each module returns is marked with the module's path."""
    linen = sys.modules.get("flax.linen")  # nobody has a Linen network who has not imported it

    def call_and_mark(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        y = call(*args, **kwargs)
        return named(prefix, y, "/".join(context.module.path)) if context.method_name == "__call__" else y

    return linen.intercept_methods(call_and_mark) if linen else contextlib.nullcontext()


# --------------------------------------------------------------------------------------------------------- Flax NNX


def with_copies(f: Callable[..., Any], prefix: str) -> Callable[..., Any]:
    """The same function, each NNX module that it can reach replaced by a copy that names what it returns."""
    nnx = sys.modules.get("flax.nnx")
    if nnx is None:
        return f
    copies: dict[int, Any] = {}

    def copied(module: Any) -> Any:
        if id(module) not in copies:
            copies[id(module)] = named_copy(module, prefix)
        return copies[id(module)]

    g = replaced(f, lambda node: isinstance(node, nnx.Module), copied)
    if not copies:
        return f

    def call(*args: Any) -> Any:
        before = {i: variables_of(copy) for i, copy in copies.items()}
        outputs = g(*args)
        for i, copy in copies.items():
            after = variables_of(copy)
            if changed := [path for path, value in before[i].items() if after.get(path) is not value]:
                names = ["/".join(map(str, path)) for path in changed]
                remedy = EXPLAIN_INSIDE if len(names) == len(before[i]) else f"switch it to inference, {INFERENCE}"
                raise ValueError(f"the network updates its variables, such as {names[0]}: {remedy}")
        return outputs

    return call


def variables_of(module: Any) -> dict[Any, Any]:
    """The arrays of a module's variables by path, without its intermediates."""
    from flax import nnx

    flat = nnx.to_flat_state(nnx.state(module, nnx.Not(nnx.Intermediate)))
    return {path: variable.get_value() for path, variable in flat}


def named_copy(module: Any, prefix: str) -> Any:
    """A copy of a module, of the trace that it is made in, whose submodules name what they return."""
    from flax import nnx

    copy = nnx.merge(*nnx.split(module), copy=True)  # new variables, of the trace that they are made in
    for path, part in list(nnx.iter_modules(copy)):
        if path and callable(part):
            with contextlib.suppress(TypeError):  # a class that cannot be derived from so easily: it has no name then
                object.__setattr__(part, "__class__", naming_subclass(type(part), prefix))
                object.__setattr__(part, PATH, "/".join(map(str, path)))
    return copy


@functools.cache
def naming_subclass(kind: type, prefix: str) -> type:
    """A class whose instances do as those of ``kind`` and name what they return."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return named(prefix, kind.__call__(self, *args, **kwargs), getattr(self, PATH, ""))

    options = {} if getattr(kind, "_pytree__is_pytree", True) else {"pytree": False}
    body = {"__call__": call, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return types.new_class(kind.__name__, (kind,), options, lambda namespace: namespace.update(body))
