"""Sanity checks: an explanation must change when the network, or the class it explains, does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy
from jax.typing import ArrayLike

from .._chunking import chunked_sum
from .._compose import heatmap, transformed
from .._convention import (
    Array,
    Explain,
    Target,
    chosen_class,
    example_keys,
    fix_target,
    network,
    outputs_at,
    outputs_of,
    require_positive,
    split,
)
from .._reductions import divide, or_one
from ._common import flat, nan_unless_finite, to_heatmap
from ._parameters import Randomise, numbered, parameter_layers, randomiser, with_parameters
from ._robustness import CALL
from ._similarity import rank_correlation, ssim

__all__ = ["efficient_mprt", "mprt", "random_logit", "smooth_mprt"]

Similarity: TypeAlias = Callable[[Array, Array], Array]
Order: TypeAlias = Literal["top_down", "bottom_up", "independent"]


def mprt(
    explain: Explain,
    *,
    order: Order = "top_down",
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
    fresh = randomiser(randomise)

    @transformed(explain)
    def measured(*args: Any, target: Target = None, key: Array | None = None) -> Array:
        shown, number = under_randomisation("mprt", explain, args, target, key, layers, fresh, absolute)
        last = number - 1
        is_randomised: dict[str, Callable[[int, Array], Any]] = {
            "top_down": lambda layer, step: layer >= last - step,
            "bottom_up": lambda layer, step: layer <= step,
            "independent": lambda layer, step: layer == step,
        }
        intact = shown(None)
        after = lambda step: similarity(intact, shown(lambda layer: is_randomised[order](layer, step)))
        similarities = jax.lax.map(after, jnp.arange(number)).T
        return similarities if curve else similarities.mean(axis=1)

    measured.__doc__ = CALL
    return measured


def smooth_mprt(
    explain: Explain,
    *,
    samples: int = 50,
    stdev: float = 0.1,
    noise: ArrayLike | None = None,
    order: Order = "bottom_up",
    layers: Sequence[str] | None = None,
    randomise: Literal["permute", "normal"] | Randomise = "permute",
    similarity: Similarity = rank_correlation,
    absolute: bool = True,
    curve: bool = False,
    chunk: int | None = 10,
) -> Callable[..., Array]:
    """`mprt` of explanations that are averaged over noisy inputs, so that it does not measure their noise.

    ``mprt of  A'(x) = 1/S (A(x) + Σ_s A(x + n_s)),  s = 1 ... S - 1,  n ~ N(0, (stdev · (max x - min x))²)``

    The same noise is added for every network and example; Quantus draws it anew, and scales the maps, which rank
    correlations do not see.

    Args:
      explain: an explainer, as for `mprt`.
      samples: S, how many explanations are averaged, the one of the input among them.
      stdev: the noise as a share of the example's range.
      noise: ``(S - 1, ...)``, differences to add instead of drawing them, each of which broadcasts against the input.
      order: as for `mprt`; the authors advise ``"bottom_up"``.
      layers: as for `mprt`.
      randomise: as for `mprt`.
      similarity: as for `mprt`.
      absolute: as for `mprt`.
      curve: as for `mprt`.
      chunk: how many noisy inputs are explained at once; memory does not depend on ``samples``.

    Returns:
      A metric ``(*args, target=None, key=None) -> (N,)``, as `mprt`.

    Raises:
      ValueError: as `mprt`, or if an option is out of range.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> f = lambda w, x: jnp.tanh(x.reshape(-1, 4) @ w["a"]["kernel"]) @ w["b"]["kernel"]
      >>> w = {"a": {"kernel": jnp.diag(jnp.array([1.0, 2.0, 3.0, 4.0]))}, "b": {"kernel": jnp.ones((4, 2))}}
      >>> x = jnp.array([0.1, 0.2, 0.0, 0.3]).reshape(1, 2, 2, 1)
      >>> metric = jaxplain.metrics.smooth_mprt(jaxplain.gradient(f), samples=5, order="top_down", curve=True)
      >>> metric(w, x, target=0, key=jax.random.key(0))[:, 0].round(4)  # all weights of the last layer are equal
      Array([1.], dtype=float32)

    Reference:
      Hedström, Weber, Lapuschkin, Höhne: Sanity Checks Revisited: An Exploration to Repair the Model Parameter
      Randomisation Test. 2023, arXiv:2401.06465.
    """
    options = {"layers": layers, "randomise": randomise, "similarity": similarity, "absolute": absolute}
    return mprt(averaged(explain, samples, stdev, noise, chunk), order=order, curve=curve, **options)


def efficient_mprt(
    explain: Explain,
    *,
    layers: Sequence[str] | None = None,
    randomise: Literal["permute", "normal"] | Randomise = "permute",
    complexity: Callable[[Array], Array] | None = None,
    bins: int = 100,
    absolute: bool = False,
) -> Callable[..., Array]:
    """How much more complex the explanation is once all layers have lost what they learned; higher is better.

    ``(ξ(A(θ randomised)) - ξ(A(θ))) / ξ(A(θ)),  ξ(A) = -Σ_b p_b log p_b``

    with p_b the share of the map's values in the b-th of the equal intervals between the smallest and the largest. No
    maps are compared, and there are two networks only.

    Args:
      explain: an explainer, as for `mprt`.
      layers: those that are randomised, as for `mprt`.
      randomise: as for `mprt`.
      complexity: ξ, of maps ``(N, H, W)``, such as `jaxplain.metrics.complexity`, instead of the histogram's entropy.
      bins: how many intervals the histogram has.
      absolute: whether to take absolute values of the maps.

    Returns:
      A metric ``(*args, target=None, key=None) -> (N,)``; NaN where the complexity of the intact explanation is 0.

    Raises:
      ValueError: as `mprt`, or if ``bins`` is no positive integer.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> f = lambda w, x: x.reshape(-1, 4) @ w["kernel"]
      >>> w = {"kernel": jnp.array([[1.0], [1.0], [1.0], [5.0]])}
      >>> distinct = lambda key, path, value: jnp.arange(4.0).reshape(4, 1)
      >>> metric = jaxplain.metrics.efficient_mprt(jaxplain.gradient(f), randomise=distinct)
      >>> metric(w, jnp.ones((1, 2, 2, 1)), target=0, key=jax.random.key(0)).round(4)  # from log 4 - 3/4 log 3 to log 4
      Array([1.4652], dtype=float32)

    Reference:
      Hedström, Weber, Lapuschkin, Höhne: Sanity Checks Revisited: An Exploration to Repair the Model Parameter
      Randomisation Test. 2023, arXiv:2401.06465.
    """
    require_positive(bins=bins)
    fresh = randomiser(randomise)
    measure = complexity or (lambda maps: histogram_entropy(maps, bins))

    @transformed(explain)
    def measured(*args: Any, target: Target = None, key: Array | None = None) -> Array:
        shown, _ = under_randomisation("efficient_mprt", explain, args, target, key, layers, fresh, absolute)
        before, after = measure(shown(None)), measure(shown(lambda layer: True))
        return jnp.where(before == 0, jnp.nan, (after - before) / or_one(before))

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


# ------------------------------------------------------------------------------------------------------ the machinery


def under_randomisation(
    asker: str,
    explain: Explain,
    args: tuple[Any, ...],
    target: Target,
    key: Array | None,
    layers: Sequence[str] | None,
    fresh: Randomise,
    absolute: bool,
) -> tuple[Callable[[Callable[[int], Any] | None], Array], int]:
    """The maps, as a function of which layers are randomised, ``number -> bool``, and how many there are."""
    *context, params, x = with_parameters(args)
    draw, key = jax.random.split(example_keys(key, jnp.zeros(1), asker)[0])
    target = fix_target(explain, args, target)
    names = list(layers) if layers is not None else parameter_layers(network(explain))(*args)
    layer_of = numbered(params, names)
    leaves, structure = jax.tree.flatten(params)

    def randomised(which: Callable[[int], Any]) -> Any:
        changed = list(leaves)
        for (index, path), layer in layer_of.items():
            new = jnp.asarray(fresh(jax.random.fold_in(draw, index), path, leaves[index]), leaves[index].dtype)
            changed[index] = jnp.where(which(layer), new, leaves[index])
        return jax.tree.unflatten(structure, changed)

    def shown(which: Callable[[int], Any] | None) -> Array:
        chosen = params if which is None else randomised(which)
        maps = to_heatmap(heatmap(explain)(*context, chosen, x, target=target, key=key))
        return jnp.abs(maps) if absolute else maps

    return shown, len(names)


def averaged(explain: Explain, samples: int, stdev: float, noise: ArrayLike | None, chunk: int | None) -> Explain:
    """The mean of an explanation and of those of noisy inputs."""
    require_positive(samples=samples)
    if not stdev >= 0:
        raise ValueError(f"{stdev=} must not be negative")

    @transformed(explain)
    def mean(*args: Any, target: Target = None, key: Array | None = None) -> Array:
        context, x = split(args)
        fixed, clean = fix_target(explain, args, target), explain(*args, target=target, key=key)
        if noise is None:
            draw, axes = example_keys(key, jnp.zeros(1), "smooth_mprt")[0], tuple(range(1, x.ndim))
            scale = stdev * (x.max(axis=axes, keepdims=True) - x.min(axis=axes, keepdims=True))
            normal = lambda i: jax.random.normal(jax.random.fold_in(draw, i), x.shape[1:], jnp.float32)
            number, added = samples - 1, lambda i: scale * normal(i)[None].astype(x.dtype)
        else:
            given = jnp.asarray(noise, x.dtype)
            number, added = len(given), lambda i: jnp.broadcast_to(given[i], x.shape)
        if number == 0:
            return clean
        noisy = lambda i: explain(*context, x + added(i), target=fixed, key=key)
        return ((clean + chunked_sum(noisy, jnp.arange(number), chunk)) / (number + 1)).astype(clean.dtype)

    return mean


def histogram_entropy(maps: Array, bins: int) -> Array:
    """The entropy, in nats, of the histogram of each map's values; 0 where all are equal."""
    a = flat(maps)
    low, high = a.min(axis=1, keepdims=True), a.max(axis=1, keepdims=True)
    place = jnp.clip((divide(a - low, high - low) * bins).astype(jnp.int32), 0, bins - 1)
    p = jax.vmap(lambda place: jnp.bincount(place, length=bins))(place).astype(a.dtype) / a.shape[1]
    return nan_unless_finite(a, -xlogy(p, p).sum(axis=1))
