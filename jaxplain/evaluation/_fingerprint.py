"""Checksums of arrays and of networks, the same in every process, by which a change since the last run is noticed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.extend import core as jexc

from .._convention import Apply
from .._graph.equations import unclose

ADDRESS = re.compile(r"0x[0-9a-fA-F]+")


def fingerprint(value: Any) -> str:
    """A checksum of arrays in any pytree: of their values, shapes, dtypes and places, and of what else it holds.

    Example:
      >>> import numpy as np
      >>> from jaxplain.evaluation._fingerprint import fingerprint
      >>> fingerprint({"x": np.zeros(2)}) == fingerprint({"x": np.zeros(2)}) != fingerprint({"x": np.zeros((2, 1))})
      True
    """
    leaves = jax.tree_util.tree_leaves_with_path(value)
    return checksum(part for path, leaf in leaves for part in (jax.tree_util.keystr(path), *described(leaf)))


def network_fingerprint(apply: Apply, context: tuple[Any, ...], x: Any) -> str:
    """A checksum of a network: of the operations that it does for such an input, and of all its constants and arrays.

    The network is traced and not run. A custom derivative is told by its name only.

    Args:
      apply: ``apply(*context, x) -> outputs``.
      context: variables, state.
      x: an input, of which the shape and dtype count.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxplain.evaluation._fingerprint import network_fingerprint
      >>> before, now = [network_fingerprint(lambda w, x: a * (x @ w), (jnp.eye(2),), jnp.ones((1, 2))) for a in (1, 2)]
      >>> before == now
      False
    """
    leaves, tree = jax.tree.flatten((*context, x))
    is_array = [isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves]
    arrays = [leaf for leaf, array in zip(leaves, is_array, strict=True) if array]

    def traced(*arrays: Any) -> Any:
        given = iter(arrays)
        args = [next(given) if array else leaf for leaf, array in zip(leaves, is_array, strict=True)]
        return jax.tree.leaves(apply(*tree.unflatten(args)))

    jaxpr = jax.make_jaxpr(traced)(*arrays)
    return checksum((*described(jaxpr), fingerprint(context)))


def checksum(parts: Iterator[str] | tuple[str, ...]) -> str:
    """A checksum of texts."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part.encode(errors="surrogatepass") + b"\0")
    return whole.hexdigest()[:32]


def described(value: Any) -> Iterator[str]:
    """A value in words that are the same in every process: without addresses, and sets in order."""
    if isinstance(value, jexc.Jaxpr | jexc.ClosedJaxpr):
        yield from described_jaxpr(value)
    elif isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        yield from described(jax.random.key_data(value))
    elif isinstance(value, jax.Array | np.ndarray | np.generic):
        array = whole(value)
        yield f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"
    elif isinstance(value, tuple | list):
        yield from (part for item in ("(", *value, ")") for part in described(item))
    elif isinstance(value, dict):
        yield from (part for item in sorted(value.items(), key=lambda item: repr(item[0])) for part in described(item))
    elif isinstance(value, set | frozenset):
        yield from sorted(" ".join(described(item)) for item in value)
    else:
        yield ADDRESS.sub("", repr(value))


def whole(value: Any) -> np.ndarray:
    """An array's values; of one that other processes have parts of, all processes have to ask."""
    if isinstance(value, jax.Array) and not (value.is_fully_addressable or value.is_fully_replicated):
        return np.asarray(multihost_utils.process_allgather(value, tiled=True))
    return np.asarray(value)


def described_jaxpr(closed: Any) -> Iterator[str]:
    """A jaxpr's constants, and its equations, their variables numbered in order."""
    jaxpr, constants = unclose(closed)
    numbers: dict[Any, str] = {}
    number: Callable[[Any], str] = lambda var: numbers.setdefault(var, f"{len(numbers)}:{var.aval}")
    read = lambda atom: atom.val if isinstance(atom, jexc.Literal) else number(atom)
    yield from described([*map(number, (*jaxpr.constvars, *jaxpr.invars)), *constants])
    for eqn in jaxpr.eqns:
        yield eqn.primitive.name
        yield from described([list(map(read, eqn.invars)), dict(eqn.params), list(map(number, eqn.outvars))])
    yield from described(list(map(read, jaxpr.outvars)))
