"""Sanity checks: an explanation must change when the network, or the class it explains, does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._compose import heatmap, transformed
from .._convention import (
    Apply,
    Array,
    Explain,
    Target,
    chosen_class,
    example_keys,
    fix_target,
    network,
    outputs_at,
    outputs_of,
    split,
)
from .._graph.trace import trace
from ._common import to_heatmap
from ._robustness import CALL
from ._similarity import rank_correlation, ssim

__all__ = ["mprt", "parameter_layers", "random_logit"]

Similarity: TypeAlias = Callable[[Array, Array], Array]
Randomise: TypeAlias = Callable[[Array, str, Array], ArrayLike]


def mprt(
    explain: Explain,
    *,
    order: Literal["top_down", "bottom_up", "independent"] = "top_down",
    layers: Sequence[str] | None = None,
    randomise: Literal["permute", "normal"] | Randomise = "permute",
    similarity: Similarity = rank_correlation,
    absolute: bool = True,
    curve: bool = False,
) -> Callable[..., Array]:
    """The model parameter randomisation test: how similar the explanation stays while layers lose what they learned.

    ``mean over layers l of sim(|A(θ)|, |A(θ with layer l, and all layers before it in the order, randomised)|)``

    Near 0 is good. An explanation that stays as it was, as guided backprop's does, does not depend on the weights.

    The arguments before the input are the parameters: a pytree like the variables of Flax Linen, of whose collections
    only ``"params"`` is randomised, or any other. The leaves of a module (those with the same path but for its last
    part) are a layer. Quantus re-initialises modules by PyTorch's defaults, batch statistics included.

    Args:
      explain: an explainer that says which network it explains (all of jaxplain's do), called with the parameters
        before the input.
      order: which layers are randomised: ``"top_down"``, the last layer, then the last two, ...; ``"bottom_up"``, the
        first, then the first two, ...; ``"independent"``, each alone.
      layers: their names, first to last, as `parameter_layers` gives them, in the order in which the network uses them;
        that is the default. A name stands for all layers below it.
      randomise: ``"permute"`` shuffles the values of each array; ``"normal"`` draws new ones with its mean and standard
        deviation; or a function ``(key, path, array) -> array``.
      similarity: of two maps ``(N, H, W)``, such as `rank_correlation`, `ssim` or `pcc`.
      absolute: whether to compare absolute values.
      curve: whether to return the similarity for every layer, in the order of randomisation, ``(N, L)``, instead of the
        mean.

    Returns:
      A metric ``(*args, target=None, key=None) -> (N,)``. The target is the class predicted by the intact network. NaN
      where an explanation is 0 everywhere.

    Raises:
      ValueError: if ``key`` is missing or not a single one, or there is no such layer.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> f = lambda w, x: jnp.tanh(x.reshape(-1, 4) @ w["a"]["kernel"]) @ w["b"]["kernel"]
      >>> w = {"a": {"kernel": jnp.diag(jnp.array([1.0, 2.0, 3.0, 4.0]))}, "b": {"kernel": jnp.ones((4, 2))}}
      >>> x = jnp.array([0.1, 0.2, 0.0, 0.3]).reshape(1, 2, 2, 1)
      >>> metric = jaxplain.metrics.mprt(jaxplain.gradient(f), curve=True)
      >>> metric(w, x, target=0, key=jax.random.key(0))[:, 0].round(4)  # all weights of the last layer are equal
      Array([1.], dtype=float32)

    Reference:
      Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim: Sanity Checks for Saliency Maps. NeurIPS 2018, arXiv:1810.03292.
    """
    if order not in ("top_down", "bottom_up", "independent"):
        raise ValueError(f"unknown {order=}: choose top_down, bottom_up or independent")
    if not callable(randomise) and randomise not in RANDOMISE:
        raise ValueError(f"unknown {randomise=}: choose {', '.join(RANDOMISE)}, or pass a function of key, path, array")
    fresh = randomise if callable(randomise) else RANDOMISE[randomise]

    @transformed(explain)
    def measured(*args: Any, target: Target = None, key: Array | None = None) -> Array:
        *context, params, x = with_parameters(args)
        draw, key = jax.random.split(example_keys(key, jnp.zeros(1), "mprt")[0])
        target = fix_target(explain, args, target)
        names = list(layers) if layers is not None else parameter_layers(network(explain))(*args)
        layer_of = numbered(params, names)
        leaves, structure = jax.tree.flatten(params)
        last = len(names) - 1
        is_randomised: dict[str, Callable[[int, Array], Any]] = {
            "top_down": lambda layer, step: layer >= last - step,
            "bottom_up": lambda layer, step: layer <= step,
            "independent": lambda layer, step: layer == step,
        }

        def randomised(step: Array) -> Any:
            changed = list(leaves)
            for (index, path), layer in layer_of.items():
                new = jnp.asarray(fresh(jax.random.fold_in(draw, index), path, leaves[index]), leaves[index].dtype)
                changed[index] = jnp.where(is_randomised[order](layer, step), new, leaves[index])
            return jax.tree.unflatten(structure, changed)

        def shown(params: Any) -> Array:
            maps = to_heatmap(heatmap(explain)(*context, params, x, target=target, key=key))
            return jnp.abs(maps) if absolute else maps

        intact = shown(params)
        similarities = jax.lax.map(lambda step: similarity(intact, shown(randomised(step))), jnp.arange(len(names))).T
        return similarities if curve else similarities.mean(axis=1)

    measured.__doc__ = CALL
    return measured


def random_logit(
    explain: Explain, *, other: ArrayLike | None = None, similarity: Similarity = ssim
) -> Callable[..., Array]:
    """How similar the explanation of the target is to that of another class; lower is better.

    ``sim(A_c, A_k),  k ≠ c drawn at random``

    Quantus compares the maps as one row of pixels after the other; here the windows of `ssim` are squares.

    Args:
      explain: an explainer that says which network it explains (all of jaxplain's do), of a class.
      other: k, a class or ``(N,)`` of them, instead of drawing it; needs no key.
      similarity: of two maps ``(N, H, W)``, such as `ssim`, `rank_correlation` or `pcc`.

    Returns:
      A metric ``(*args, target=None, key=None) -> (N,)``; the target is a class.

    Raises:
      ValueError: if ``key`` is missing, the target is no class, or there is only one.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> f = lambda x: jnp.stack([x.sum(axis=(1, 2, 3)), 2 * x.sum(axis=(1, 2, 3))], axis=1)
      >>> metric = jaxplain.metrics.random_logit(jaxplain.input_x_gradient(f), similarity=jaxplain.metrics.pcc)
      >>> metric(jnp.arange(4.0).reshape(1, 2, 2, 1), target=0, key=jax.random.key(0)).round(4)
      Array([1.], dtype=float32)

    Reference:
      Sixt, Granz, Landgraf: When Explanations Lie: Why Many Modified BP Attributions Fail. ICML 2020, arXiv:1912.09818.
    """

    @transformed(explain)
    def measured(*args: Any, target: Target = None, key: Array | None = None) -> Array:
        context, x = split(args)
        f = lambda x: outputs_of(network(explain), (*context, x))
        rows = chosen_class("random_logit", target, outputs_at(f, x, target))
        chosen, classes = rows.argmax(axis=1), rows.shape[1]
        if other is None:
            keys = example_keys(key, x, "random_logit")
            key = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
            random = jax.vmap(lambda key: jax.random.randint(key, (), 0, classes - 1, dtype=chosen.dtype))(keys)
            against: Any = random + (random >= chosen)
        else:
            against = other
        maps = [to_heatmap(heatmap(explain)(*args, target=classes, key=key)) for classes in (chosen, against)]
        return similarity(*maps)

    measured.__doc__ = CALL
    return measured


# ------------------------------------------------------------------------------------------------------- parameters


def permute(key: Array, path: str, value: Array) -> Array:
    """The same values in random order."""
    return jax.random.permutation(key, value.reshape(-1)).reshape(value.shape)


def normal(key: Array, path: str, value: Array) -> Array:
    """Normal values with the same mean and standard deviation."""
    return value.mean() + value.std() * jax.random.normal(key, value.shape, jnp.float32).astype(value.dtype)


RANDOMISE: dict[str, Randomise] = {"permute": permute, "normal": normal}


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
