"""The parameters of a network: which layers they belong to, in the order of their use, and how they are randomised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._convention import Apply, Array, outputs_of, split
from .._graph.trace import trace

__all__ = ["parameter_layers"]

Randomise: TypeAlias = Callable[[Array, str, Array], ArrayLike]


def parameter_layers(apply: Apply) -> Callable[..., list[str]]:
    """The layers of a network that have parameters, in the order in which the network uses them.

    Args:
      apply: ``apply(*args) -> outputs``; the argument before the input is a pytree of parameters.

    Returns:
      A function ``(*args) -> names``: the path of each layer, such as ``"block1/conv"``. Parameters that the network
      never combines with the input are left out.

    Raises:
      TypeError: if there is no argument before the input.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda w, x: jnp.tanh(x @ w["first"]["kernel"]) @ w["a"]["kernel"]
      >>> w = {"a": {"kernel": jnp.ones((3, 2))}, "first": {"kernel": jnp.ones((4, 3))}}
      >>> jaxplain.metrics.parameter_layers(f)(w, jnp.ones((1, 4)))
      ['first', 'a']
    """

    def layers(*args: Any) -> list[str]:
        *context, params, x = with_parameters(args)
        leaves, structure = jax.tree.flatten(params)
        entries = parameters(params)
        chosen = [index for index, _, _ in entries]

        def network(values: list[Array], x: Array) -> Array:
            replaced = dict(zip(chosen, values, strict=True))
            replaced_leaves = [replaced.get(index, leaf) for index, leaf in enumerate(leaves)]
            return outputs_of(apply, (*context, jax.tree.unflatten(structure, replaced_leaves), x))

        first = first_uses(network, [leaves[index] for index in chosen], x)
        used = sorted((use, layer) for use, (_, _, layer) in zip(first, entries, strict=True) if use is not None)
        return list(dict.fromkeys(layer for _, layer in used))

    return layers


def first_uses(f: Callable[..., Array], values: list[Array], x: Array) -> list[int | None]:
    """The number of the first operation that combines each value, or something made of it, with what depends on x."""
    graph, _ = trace(f, values, x)
    *inputs, explained = graph.inputs
    depends, made_of = {explained}, {number: {i} for i, number in enumerate(inputs)}
    first: list[int | None] = [None] * len(inputs)
    for position, op in enumerate(graph.ops):
        sources = set().union(*(made_of.get(number, set()) for number in op.reads))
        if depends.isdisjoint(op.reads):
            made_of.update(dict.fromkeys(op.outputs, sources))
            continue
        depends.update(op.outputs)
        for i in sources:
            first[i] = position if first[i] is None else first[i]
    return first


def parameters(tree: Any) -> list[tuple[int, str, str]]:
    """The floating-point leaves that are parameters: number among all leaves, path, and layer.

    Of the collections of Flax Linen, only ``"params"``.
    """
    collections = isinstance(tree, Mapping) and "params" in tree
    entries = []
    for index, (keys, leaf) in enumerate(jax.tree_util.tree_flatten_with_path(tree)[0]):
        path = jax.tree_util.keystr(keys, simple=True, separator="/").removesuffix("/value")  # of Flax NNX
        is_array = isinstance(leaf, jax.Array | np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.floating)
        if is_array and (path.startswith("params/") or not collections):
            path = path.removeprefix("params/")
            entries.append((index, path, path.rpartition("/")[0] or path))
    return entries


def numbered(tree: Any, names: Sequence[str]) -> dict[tuple[int, str], int]:
    """Which of the named layers each parameter belongs to, by its number and path."""
    entries = parameters(tree)
    below = lambda layer, name: layer == name or layer.startswith(f"{name}/")
    for name in names:
        if not any(below(layer, name) for _, _, layer in entries):
            layers = ", ".join(dict.fromkeys(layer for _, _, layer in entries))
            raise ValueError(f"there is no layer {name!r} with parameters, there are: {layers or 'none'}")
    if not names:
        raise ValueError("the argument before the input holds no parameters that the network uses")
    hits = {(i, path): [n for n, name in enumerate(names) if below(layer, name)] for i, path, layer in entries}
    return {leaf: layer[0] for leaf, layer in hits.items() if layer}


def with_parameters(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments, checked: at least the parameters and the input."""
    context, x = split(args)
    if not context:
        raise TypeError("there is no argument before the input: pass the parameters there, as in explain(variables, x)")
    return (*context, x)


# ---------------------------------------------------------------------------------------------------- random values


def permute(key: Array, path: str, value: Array) -> Array:
    """The same values in random order."""
    return jax.random.permutation(key, value.reshape(-1)).reshape(value.shape)


def normal(key: Array, path: str, value: Array) -> Array:
    """Normal values with the same mean and standard deviation."""
    return value.mean() + value.std() * jax.random.normal(key, value.shape, jnp.float32).astype(value.dtype)


RANDOMISE: dict[str, Randomise] = {"permute": permute, "normal": normal}


def randomiser(randomise: str | Randomise) -> Randomise:
    """A way to randomise, by its name or as a function."""
    if callable(randomise):
        return randomise
    if randomise not in RANDOMISE:
        raise ValueError(f"unknown {randomise=}: choose {', '.join(RANDOMISE)}, or pass a function of key, path, array")
    return RANDOMISE[randomise]
