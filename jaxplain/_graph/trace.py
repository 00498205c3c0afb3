"""A network as a flat list of operations.

`trace` inlines what has no meaning of its own here (``jit``, ``remat``, custom derivatives of whole layers) and keeps
what has: control flow, with its bodies as graphs, and elementwise functions with a derivative of their own, such as
``jax.nn.relu``, as one operation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import jax
from jax.extend import core as jexc
from jax.extend import source_info_util
from jax.extend.core import primitives as P

from .equations import is_elementwise_call, jaxpr_to_inline, subgraph_jaxprs, unclose
from .rewrite import Rewrite, rewrite_jaxpr

Atom: TypeAlias = "int | jexc.Literal"

NAMES = "a value named by jaxplain: "  # in front of a name that is noted in the graph, its operation dropped


class Weight(NamedTuple):
    """An array among a network's parameters.

    Attributes:
      layer: the path of the layer that it belongs to, such as ``blocks/0/conv``.
      leaf: its own path, such as ``blocks/0/conv/kernel/value``.
      size: how many numbers it has.
    """

    layer: str
    leaf: str
    size: int


@dataclass(frozen=True, eq=False)
class Op:
    """One operation.

    Attributes:
      eqn: the equation it was traced from.
      inputs: values by number, or literals.
      outputs: values by number.
      path: the names of the modules it was called in, such as ``ResNet/layer4.1/conv2``, or the path of its weights.
      line: file and line in the user's code.
      bodies: the graphs of a control-flow operation.
      weights: which of the network's parameters it reads, beside the explained input (see `name_weights`).
      scope: the names of the modules alone; None where the path is the same.
    """

    eqn: Any
    inputs: tuple[Atom, ...]
    outputs: tuple[int, ...]
    path: str
    line: str
    bodies: tuple[Graph, ...] = ()
    weights: tuple[Weight, ...] = ()
    scope: str | None = None

    @property
    def primitive(self) -> jexc.Primitive:
        """What is done."""
        return self.eqn.primitive

    @property
    def params(self) -> dict[str, Any]:
        """How."""
        return self.eqn.params

    @property
    def reads(self) -> tuple[int, ...]:
        """The inputs that are no literals."""
        return numbered(self.inputs)

    @property
    def place(self) -> str:
        """Where the user wrote it: module path, file and line."""
        return f"{self.path or 'the top level'} ({self.line})"

    def bind(self, *values: Any) -> list[Any]:
        """Apply the operation as the network does."""
        stack = source_info_util.current_name_stack() + self.eqn.source_info.name_stack
        with source_info_util.user_context(self.eqn.source_info.traceback, name_stack=stack):
            out = self.primitive.bind(*values, **self.primitive.get_bind_params(self.params))
        return list(out) if self.primitive.multiple_results else [out]


@dataclass(frozen=True, eq=False)
class Graph:
    """Operations in an order in which they can be evaluated.

    Attributes:
      ops: the operations.
      inputs: the numbers of the arguments.
      outputs: what is returned.
      constants: values known when the network was traced.
      avals: the type of each value, ``avals[number].shape`` and ``.dtype``.
      names: names of values, with the values' numbers, in the order in which they were given.
    """

    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[Atom, ...]
    constants: dict[int, Any]
    avals: dict[int, Any]
    names: tuple[tuple[str, int], ...] = ()

    def aval(self, atom: Atom) -> Any:
        """The type of a value."""
        return self.avals[atom] if isinstance(atom, int) else atom.aval


def numbered(atoms: Iterable[Atom]) -> tuple[int, ...]:
    """The atoms that are no literals."""
    return tuple(a for a in atoms if isinstance(a, int))


def read(atoms: Sequence[Atom], env: dict[int, Any]) -> list[Any]:
    """The values of atoms: literals know theirs."""
    return [env[a] if isinstance(a, int) else a.val for a in atoms]


def evaluate(graph: Graph, args: Sequence[Any]) -> list[Any]:
    """Evaluate a graph."""
    return read(graph.outputs, run(graph.ops, {**graph.constants, **dict(zip(graph.inputs, args, strict=True))}))


def run(ops: Sequence[Op], env: dict[int, Any]) -> dict[int, Any]:
    """Evaluate operations in order, adding what they return to ``env``."""
    for op in ops:
        env.update(zip(op.outputs, op.bind(*read(op.inputs, env)), strict=True))
    return env


def trace(
    f: Callable[..., Any],
    *args: Any,
    keep_call: Callable[[Any], bool] | None = None,
    rewrite: Rewrite | None = None,
) -> tuple[Graph, Any]:
    """Trace a function of arrays to a graph, and the structure of what it returns.

    Args:
      f: any JAX function of arrays.
      args: its arguments, or their shapes and dtypes.
      keep_call: ``equation -> bool``, which functions with a derivative of their own stay one operation; by default the
        elementwise ones.
      rewrite: other forms of equations, as for `with_rewritten_equations`.

    Returns:
      The graph and the structure.
    """
    closed, shape = jax.make_jaxpr(lambda *args: f(*args), return_shape=True)(*args)  # a fresh function: it is cached
    closed = rewrite_jaxpr(closed, rewrite) if rewrite else closed
    return flatten(closed, keep_call=keep_call or is_elementwise_call), jax.tree.structure(shape)


def flatten(jaxpr: Any, path: str = "", line: str = "line unknown", *, keep_call: Callable[[Any], bool]) -> Graph:
    """Inline calls until only operations and control flow are left."""
    ops: list[Op] = []
    constants: dict[int, Any] = {}
    avals: dict[int, Any] = {}
    names: list[tuple[str, int]] = []

    def number(aval: Any) -> int:
        avals[len(avals)] = aval
        return len(avals) - 1

    def inline(jaxpr: Any, args: Sequence[Atom], path: str, line: str, is_shared: bool = False) -> list[Atom]:
        jaxpr, consts = unclose(jaxpr)
        env: dict[Any, Atom] = dict(zip(jaxpr.invars, args, strict=True))
        for var, value in zip(jaxpr.constvars, consts, strict=True):
            env[var] = constant = number(var.aval)
            constants[constant] = value
        read = lambda atom: atom if isinstance(atom, jexc.Literal) else env[atom]
        for eqn in jaxpr.eqns:
            here = path_inside(path, eqn)
            # Inside JAX's own functions, and those that equal operations share: where they were called.
            at = (not is_shared and source_info_util.summarize(eqn.source_info)) or line
            inputs = tuple(map(read, eqn.invars))
            if eqn.primitive is P.name_p and eqn.params["name"].startswith(NAMES):
                (env[eqn.outvars[0]],) = inputs
                names.extend((eqn.params["name"].removeprefix(NAMES), a) for a in numbered(inputs))
                continue
            body = jaxpr_to_inline(eqn, keep_call)
            if body is not None:
                is_choice = bool(eqn.params.get("branches_platforms"))  # the first input says which
                results = inline(body, inputs[is_choice:], here, at, is_shared or is_choice)
                env.update(zip(eqn.outvars, results, strict=True))
                continue
            outputs = tuple(number(var.aval) for var in eqn.outvars)
            env.update(zip(eqn.outvars, outputs, strict=True))
            graphs = tuple(flatten(body, here, at, keep_call=keep_call) for body in subgraph_jaxprs(eqn))
            ops.append(Op(eqn, inputs, outputs, here, at, graphs))
        return list(map(read, jaxpr.outvars))

    open_jaxpr, _ = unclose(jaxpr)
    inputs = tuple(number(var.aval) for var in open_jaxpr.invars)
    outputs = tuple(inline(jaxpr, inputs, path, line))
    return Graph(tuple(ops), inputs, outputs, constants, avals, tuple(names))


def without_dead(graph: Graph) -> Graph:
    """The graph without operations that its outputs do not depend on, and that have no other effect."""
    needed, ops = set(numbered(graph.outputs)), []
    for op in reversed(graph.ops):
        if op.eqn.effects or not needed.isdisjoint(op.outputs):
            needed.update(op.reads)
            ops.append(op)
    return replace(graph, ops=tuple(reversed(ops)))


def path_inside(path: str, eqn: Any) -> str:
    """The module path of an equation, given that of the call that it belongs to, without transforms.

    ``conv`` in ``vmap(Net)`` is ``Net/conv``.
    """
    names = (re.sub(r"\w+\(|\)", "", name) for name in str(eqn.source_info.name_stack).split("/"))
    return "/".join(name for name in (path, *names) if name)


def scan_split(op: Op) -> tuple[int, int]:
    """How many of a scan's operands are constants, and how many are carried."""
    if "num_carry" in op.params:
        return op.params["num_consts"], op.params["num_carry"]
    consts, carries, *_ = (len(group) for group in op.params["ft_in"].unpack())  # from JAX 0.11
    return consts, carries


source_info_util.register_exclusion(__file__)  # lines are the user's
