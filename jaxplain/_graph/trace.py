"""A network as a flat list of operations. The only file that touches jaxprs, by JAX's public modules.

`trace` inlines what has no meaning of its own here (``jit``, ``remat``, custom derivatives of whole layers) and keeps
what has: control flow, with its bodies as graphs, and elementwise functions with a derivative of their own, such as
``jax.nn.relu``, as one operation.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.extend import core as jexc
from jax.extend import source_info_util
from jax.extend.core import primitives as P

from .primitives import CALLS, CONTROL_FLOW, ELEMENTWISE, PRODUCTS

Atom: TypeAlias = "int | jexc.Literal"
Instead: TypeAlias = "Callable[[Any, Sequence[Any]], Sequence[Form]]"


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


class Form(NamedTuple):
    """How an equation of a jaxpr is evaluated.

    Attributes:
      eqn: the equation.
      prepare: what is done to its operands before, a function from a list of them to another one; None for nothing.
      other: a function of its operands to call instead; None evaluates it as it is.
      given: a value computed before it that `prepare` takes as a second argument, by the equation's variable.
    """

    eqn: Any
    prepare: Callable[..., list[Any]] | None = None
    other: Callable[..., Any] | None = None
    given: Any = None


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
        return tuple(a for a in self.inputs if isinstance(a, int))

    @property
    def place(self) -> str:
        """Where the user wrote it: module path, file and line."""
        return f"{self.path or 'the top level'} ({self.line})"

    def bind(self, *values: Any, **other: Any) -> list[Any]:
        """Apply the operation as the network does, or with other parameters."""
        stack = source_info_util.current_name_stack() + self.eqn.source_info.name_stack
        with source_info_util.user_context(self.eqn.source_info.traceback, name_stack=stack):
            out = self.primitive.bind(*values, **self.primitive.get_bind_params(self.params | other))
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

    def returned(self, env: dict[int, Any]) -> list[Any]:
        """What the graph returns, once its values are known."""
        return read(self.outputs, env)

    def aval(self, atom: Atom) -> Any:
        """The type of a value."""
        return self.avals[atom] if isinstance(atom, int) else atom.aval


def read(atoms: Sequence[Atom], env: dict[int, Any]) -> list[Any]:
    """The values of atoms: literals know theirs."""
    return [env[a] if isinstance(a, int) else a.val for a in atoms]


def evaluate(graph: Graph, args: Sequence[Any]) -> list[Any]:
    """Evaluate a graph."""
    return graph.returned(run(graph.ops, {**graph.constants, **dict(zip(graph.inputs, args, strict=True))}))


def run(ops: Sequence[Op], env: dict[int, Any]) -> dict[int, Any]:
    """Evaluate operations in order, adding what they return to ``env``."""
    for op in ops:
        env.update(zip(op.outputs, op.bind(*read(op.inputs, env)), strict=True))
    return env


def trace(
    f: Callable[..., Any],
    *args: Any,
    whole: Callable[[Any], bool] | None = None,
    instead: Instead | None = None,
) -> tuple[Graph, Any]:
    """Trace a function of arrays to a graph, and the structure of what it returns.

    Args:
      f: any JAX function of arrays.
      args: its arguments, or their shapes and dtypes.
      whole: ``equation -> bool``, which functions with a derivative of their own stay one operation; by default the
        elementwise ones.
      instead: other forms of equations, as for `evaluated_with`.

    Returns:
      The graph and the structure.
    """
    closed, shape = jax.make_jaxpr(lambda *args: f(*args), return_shape=True)(*args)  # a fresh function: it is cached
    closed = rewrite(closed, instead) if instead else closed
    return flatten(closed, whole=whole or is_elementwise_call), jax.tree.structure(shape)


def flatten(jaxpr: Any, path: str = "", line: str = "line unknown", *, whole: Callable[[Any], bool]) -> Graph:
    """Inline calls until only operations and control flow are left."""
    ops: list[Op] = []
    constants: dict[int, Any] = {}
    avals: dict[int, Any] = {}
    names: list[tuple[str, int]] = []

    def number(aval: Any) -> int:
        avals[len(avals)] = aval
        return len(avals) - 1

    def inline(jaxpr: Any, args: Sequence[Atom], path: str, line: str) -> list[Atom]:
        jaxpr, values = opened(jaxpr)
        env: dict[Any, Atom] = dict(zip(jaxpr.invars, args, strict=True))
        for var, value in zip(jaxpr.constvars, values, strict=True):
            env[var] = constant = number(var.aval)
            constants[constant] = value
        read = lambda atom: atom if isinstance(atom, jexc.Literal) else env[atom]
        for eqn in jaxpr.eqns:
            here = "/".join(part for part in (path, module_path(str(eqn.source_info.name_stack))) if part)
            at = (
                source_info_util.summarize(eqn.source_info) or line
            )  # inside JAX's own functions: where they were called
            inputs = tuple(map(read, eqn.invars))
            if eqn.primitive is P.name_p and eqn.params["name"].startswith(NAMES):
                (env[eqn.outvars[0]],) = inputs
                names.extend((eqn.params["name"].removeprefix(NAMES), a) for a in inputs if isinstance(a, int))
                continue
            body = callee(eqn, whole)
            if body is not None:
                if eqn.params.get("branches_platforms"):
                    inputs = inputs[1:]  # the first one says which
                env.update(zip(eqn.outvars, inline(body, inputs, here, at), strict=True))
                continue
            outputs = tuple(number(var.aval) for var in eqn.outvars)
            env.update(zip(eqn.outvars, outputs, strict=True))
            ops.append(
                Op(eqn, inputs, outputs, here, at, tuple(flatten(b, here, at, whole=whole) for b in bodies(eqn)))
            )
        return list(map(read, jaxpr.outvars))

    open_jaxpr, _ = opened(jaxpr)
    inputs = tuple(number(var.aval) for var in open_jaxpr.invars)
    outputs = tuple(inline(jaxpr, inputs, path, line))
    return Graph(tuple(ops), inputs, outputs, constants, avals, tuple(names))


def without_dead(graph: Graph) -> Graph:
    """The graph without operations that its outputs do not depend on, and that have no other effect."""
    needed, ops = {a for a in graph.outputs if isinstance(a, int)}, []
    for op in reversed(graph.ops):
        if op.eqn.effects or not needed.isdisjoint(op.outputs):
            needed.update(op.reads)
            ops.append(op)
    return replace(graph, ops=tuple(reversed(ops)))


def evaluated_with(f: Callable[..., Any], instead: Instead, *, before: Instead | None = None) -> Callable[..., Any]:
    """The same function, some of its operations evaluated in another way.

    Args:
      f: any JAX function. What is no array in its arguments and results, numbers included, stays as it is.
      instead: ``(jaxpr, values of its constants) -> forms of its equations``, in order. It may leave out what is not
        live, and change equations. Loops, branches and functions with a derivative of their own are entered and stay
        what they are.
      before: forms that make another function of it first.

    Returns:
      A function of the same arguments.
    """

    def g(*args: Any) -> Any:
        leaves, structure = jax.tree.flatten(args)
        arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array | np.ndarray)]
        kept: list[Any] = []

        def traced(*arrays: Any) -> list[Any]:
            given = iter(arrays)
            args = [next(given) if isinstance(leaf, jax.Array | np.ndarray) else leaf for leaf in leaves]
            out, tree = jax.tree.flatten(f(*structure.unflatten(args)))
            kept[:] = tree, [None if isinstance(leaf, jax.Array) else leaf for leaf in out]
            return [leaf for leaf in out if isinstance(leaf, jax.Array)]

        closed = jax.make_jaxpr(traced)(*arrays)
        jaxpr, consts = opened(rewrite(closed, before) if before else closed)
        values, (tree, out) = iter(interpret(jaxpr, consts, arrays, instead)), kept
        return tree.unflatten([next(values) if leaf is None else leaf for leaf in out])

    return g


def interpret(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any], instead: Instead) -> list[Any]:
    """Evaluate a jaxpr, some of its equations in another way."""
    env = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))
    read = lambda atom: atom.val if isinstance(atom, jexc.Literal) else env[atom]
    for eqn, prepare, other, given in instead(jaxpr, consts):
        stack = source_info_util.current_name_stack() + eqn.source_info.name_stack
        with source_info_util.user_context(eqn.source_info.traceback, name_stack=stack), eqn.ctx.manager:
            values = list(map(read, eqn.invars))
            if prepare:
                values = prepare(values) if given is None else prepare(values, env[given])
            if other is None:
                out = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(with_bodies(eqn, instead)))
            else:
                out = other(*values)
        env.update(zip(eqn.outvars, out if eqn.primitive.multiple_results else [out], strict=True))
    return list(map(read, jaxpr.outvars))


def as_they_are(jaxpr: Any, consts: Sequence[Any]) -> list[Form]:
    """The equations of a jaxpr, none of them evaluated in another way."""
    return [Form(eqn) for eqn in jaxpr.eqns]


def with_bodies(eqn: Any, instead: Instead) -> dict[str, Any]:
    """An equation's parameters, the jaxprs that it runs evaluated in another way."""
    if eqn.primitive not in ENTERED or eqn.params.get("branches_platforms"):  # those are other ways already
        return eqn.params
    one = lambda value: rewritten(value, instead) if isinstance(value, jexc.Jaxpr | jexc.ClosedJaxpr) else value
    return {
        name: tuple(map(one, value)) if isinstance(value, tuple) else one(value) for name, value in eqn.params.items()
    }


@functools.lru_cache(maxsize=512)  # the same jaxpr for the same one, so that what JAX compiled for it is found again
def rewritten(jaxpr: Any, instead: Instead) -> Any:
    """A jaxpr inside another one that computes the same, some of its equations in another way."""
    return rewrite(jaxpr, instead)


def rewrite(jaxpr: Any, instead: Instead) -> Any:
    """A jaxpr that computes the same, some of its equations in another way."""
    inner, consts = opened(jaxpr)
    if not any_other(inner, consts, instead):
        return jaxpr
    types = [v.aval for v in inner.invars]  # with their sharding
    closed = jax.make_jaxpr(lambda *args: interpret(inner, consts, args, instead))(*types)
    return closed if isinstance(jaxpr, jexc.ClosedJaxpr) else opened(closed)[0]


def any_other(jaxpr: Any, consts: Sequence[Any], instead: Instead) -> bool:
    """Whether a jaxpr has an equation that is evaluated in another way, and only values that have a shape."""

    def entered(eqn: Any) -> bool:
        return eqn.primitive in ENTERED and any(
            any_other(*opened(body), instead) for body in jexc.jaxprs_in_params(eqn.params)
        )

    return all(hasattr(v.aval, "weak_type") for v in jaxpr.invars) and any(
        prepare is not None or other is not None or entered(eqn) for eqn, prepare, other, _ in instead(jaxpr, consts)
    )


def live(jaxpr: Any) -> tuple[Any, ...]:
    """The equations of a jaxpr that its results depend on, or that have another effect; NaN in the rest goes unseen."""
    needed, eqns = set(variables(jaxpr.outvars)), []
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or not needed.isdisjoint(eqn.outvars):
            needed.update(variables(eqn.invars))
            eqns.append(eqn)
    return tuple(reversed(eqns))


def variables(atoms: Sequence[Any]) -> list[Any]:
    """Without the literals."""
    return [atom for atom in atoms if not isinstance(atom, jexc.Literal)]


def multiplies(eqn: Any) -> bool:
    """Whether an equation, or what it calls, multiplies matrices."""
    inner = (opened(jaxpr)[0] for jaxpr in jexc.jaxprs_in_params(eqn.params))
    return eqn.primitive in PRODUCTS or any(multiplies(eqn) for jaxpr in inner for eqn in jaxpr.eqns)


def result(eqn: Any) -> Any:
    """The first result of an equation, if it has any."""
    return eqn.outvars[0] if eqn.outvars else None


def without_closure(f: Callable[..., Any], *examples: Any) -> tuple[Callable[..., Any], list[Any]]:
    """``f`` as a function of one more argument, the list of all arrays that it closes over, and that list."""
    closed, shape = jax.make_jaxpr(f, return_shape=True)(*examples)
    jaxpr, consts = opened(closed)

    def converted(*args_and_consts: Any) -> Any:
        *args, consts = args_and_consts
        out = interpret(jaxpr, consts, jax.tree.leaves(args), as_they_are)
        return jax.tree.unflatten(jax.tree.structure(shape), out)

    return converted, list(consts)


def opened(jaxpr: Any) -> tuple[Any, Sequence[Any]]:
    """A jaxpr and its constants, whether it came closed, open, or (from JAX 0.11) as one of both."""
    return getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ())


def module_path(name_stack: str) -> str:
    """A name stack without the transforms that the modules were called under: ``vmap(Net)/conv`` is ``Net/conv``."""
    names = (re.sub(r"\w+\(|\)", "", name) for name in name_stack.split("/"))
    return "/".join(name for name in names if name)


def callee(eqn: Any, whole: Callable[[Any], bool]) -> Any:
    """The jaxpr to inline where an equation only calls one, or chooses one by the platform: all compute the same."""
    if choices := eqn.params.get("branches_platforms"):
        return eqn.params["branches"][choices.index(None) if None in choices else 0]
    if eqn.primitive in PLAIN_CALLS:
        return called(eqn)
    if has_own_derivative(eqn) and not whole(eqn):
        return function_of(eqn)
    return None


def called(eqn: Any) -> Any:
    """The jaxpr that a call runs."""
    return eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))


def has_own_derivative(eqn: Any) -> bool:
    """Whether an equation calls a function that may have a derivative of its own."""
    return eqn.primitive in (P.custom_jvp_call_p, P.custom_vjp_call_p) or hasattr(eqn.params.get("_prim"), "expand")


def function_of(eqn: Any) -> Any:
    """The jaxpr of a function with a derivative of its own, also of those that JAX 0.12 writes as objects (hijax)."""
    if "_prim" in eqn.params:
        return expansion(eqn.params["_prim"])
    return eqn.params.get("call_jaxpr", eqn.params.get("jaxpr"))


@functools.lru_cache(maxsize=512)
def expansion(function: Any) -> Any:
    """What an operation that JAX defines by others is made of."""
    f = lambda *flat: jax.tree.leaves(function.expand(*jax.tree.unflatten(function.in_tree, flat)))
    return jax.make_jaxpr(f)(*function.in_avals_flat)


def bodies(eqn: Any) -> tuple[Any, ...]:
    """The jaxprs that control flow runs."""
    if eqn.primitive is P.scan_p:
        return (eqn.params["jaxpr"],)
    if eqn.primitive is P.cond_p:
        return tuple(eqn.params["branches"])
    return ()


def names_inside(eqn: Any, path: str) -> Iterator[str]:
    """The module paths, and the names given by `checkpoint_name`, in everything that an equation runs."""
    for jaxpr in jexc.jaxprs_in_params(eqn.params):
        for inner in opened(jaxpr)[0].eqns:
            here = "/".join(part for part in (path, module_path(str(inner.source_info.name_stack))) if part)
            yield inner.params["name"].removeprefix(NAMES) if inner.primitive is P.name_p else here
            yield from names_inside(inner, here)


def is_elementwise_call(eqn: Any) -> bool:
    """Whether an equation is a custom derivative around elementwise operations with one result."""
    if not has_own_derivative(eqn) or len(eqn.outvars) != 1:
        return False

    def all_elementwise(jaxpr: Any) -> bool:
        jaxpr, _ = opened(jaxpr)
        return all(
            eqn.primitive in ELEMENTWISE
            or (eqn.primitive is P.broadcast_in_dim_p and not eqn.invars[0].aval.shape)
            or ((inner := callee(eqn, lambda _: False)) is not None and all_elementwise(inner))
            for eqn in jaxpr.eqns
        )

    return all_elementwise(function_of(eqn))


def scan_split(op: Op) -> tuple[int, int]:
    """How many of a scan's operands are constants, and how many are carried."""
    if "num_carry" in op.params:
        return op.params["num_consts"], op.params["num_carry"]
    consts, carries, *_ = (len(group) for group in op.params["ft_in"].unpack())  # from JAX 0.11
    return consts, carries


source_info_util.register_exclusion(__file__)  # lines are the user's
PLAIN_CALLS = (P.jit_p, P.remat_p, P.closed_call_p, P.call_p)  # which only call
ENTERED = (CALLS | CONTROL_FLOW) - {P.call_p}
