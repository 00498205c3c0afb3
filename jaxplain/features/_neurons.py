"""Attributions to the neurons of a layer, and of a neuron to the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._chunking import chunked_sum
from .._convention import (
    Apply,
    Array,
    Explain,
    OfImages,
    Target,
    channels_last,
    explainer,
    full_precision,
    inherit,
    outputs_of,
    scorer,
    split,
)
from .._gradients import Quadrature, gradient, input_x_gradient, quadrature
from .._images import enlarge
from ._maps import gradient_at, on_grid
from ._tap import features_of

__all__ = ["conductance", "internal_influence", "layer_attribution", "neuron_attribution"]

Method = Callable[[Apply], Explain]


def layer_attribution(
    apply: Apply,
    layer: str | None = None,
    method: Method = input_x_gradient,
    *,
    upsample: bool = True,
    grid: tuple[int, int] | None = None,
) -> Explain:
    """Any method that attributes to the input, applied to the features of a layer.

    ``A = method(head)(features)``, where ``head(features)`` is the rest of the network

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      layer: the layer's name (see `jaxplain.layers`); None takes the last convolutional feature map.
      method: ``method(f) -> explainer``, of the gradient or propagation family, its options bound: a baseline is one of
        features, and a composite's first layer the first one after ``layer`` (`lrp` with a layer keeps the network's).
      upsample: whether the channels are summed and the map enlarged to the input; else the attribution of every neuron
        is returned.
      grid: rows and columns of the tokens of a vision transformer, as for `MapOptions`.

    Returns:
      An explainer; maps ``(N, H, W)``, or the attribution in the features' shape ``(N, h, w, K)``, signed. What the
      method promises of its sum holds at the layer.

    Raises:
      ValueError: if no layer has that name, or a map is asked for and it has no positions.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: (checkpoint_name(2 * x, "doubled") ** 2).sum(axis=1)
      >>> explain = jaxplain.layer_attribution(f, "doubled", jaxplain.input_x_gradient, upsample=False)
      >>> explain(jnp.array([[1.0, 3.0]]))  # (2x)² has the derivative 2 · 2x
      Array([[ 8., 72.]], dtype=float32)

    Reference:
      The layer attributions of Kokhlikyan et al.: Captum. arXiv:2009.07896, 2020.
    """

    @full_precision
    @explainer(apply)
    @channels_last
    def explain(f: OfImages, x: Array, target: Target, key: Array | None) -> Array:
        features, head = on_grid(f, x, layer, grid) if upsample else features_of(f, x, layer)
        if not upsample:
            return method(head)(features, target=target, key=key)
        return enlarge(method(head)(features, target=target, key=key).sum(axis=-1), x)

    return explain


def conductance(
    apply: Apply,
    layer: str | None = None,
    *,
    baseline: ArrayLike = 0.0,
    steps: int = 50,
    rule: Quadrature = "gauss_legendre",
    chunk: int | None = 8,
    upsample: bool = True,
) -> Explain:
    """Conductance: what flows through each neuron of a layer along the line from a baseline to the input.

    ``A = ∫₀¹ ∂z_c/∂y · dy/dα dα``, y the features at ``x0 + α (x - x0)``

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      layer: the layer's name (see `jaxplain.layers`); None takes the last convolutional feature map.
      baseline: x0, a number or anything that broadcasts against the input.
      steps: the number of points.
      rule: how the integral is approximated, as for `integrated_gradients`.
      chunk: how many points are evaluated at once.
      upsample: whether the channels are summed and the map enlarged to the input; else every neuron's is returned.

    Returns:
      An explainer; maps ``(N, H, W)`` or ``(N, h, w, K)``, signed. If everything passes through the layer, the neurons'
      sum is ``z_c(x) - z_c(x0)``, up to the error of the quadrature.

    Raises:
      ValueError: as `layer_attribution`, or if the baseline does not fit.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: checkpoint_name(x**2, "squares").sum(axis=1)
      >>> jaxplain.conductance(f, "squares", upsample=False)(jnp.array([[1.0, 3.0]])).round(4)
      Array([[1., 9.]], dtype=float32)

    Reference:
      Dhamdhere, Sundararajan, Yan: How Important Is a Neuron? ICLR 2019, arXiv:1805.12233.
    """
    explain = along_the_line(apply, layer, baseline, steps, rule, chunk, upsample, lambda g, speed: g * speed)
    return full_precision(explain)


def internal_influence(
    apply: Apply,
    layer: str | None = None,
    *,
    baseline: ArrayLike = 0.0,
    steps: int = 50,
    rule: Quadrature = "gauss_legendre",
    chunk: int | None = 8,
    upsample: bool = True,
) -> Explain:
    """Internal influence: the mean gradient in each neuron of a layer along the line from a baseline to the input.

    ``A = ∫₀¹ ∂z_c/∂y dα``, y the features at ``x0 + α (x - x0)``

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      layer: the layer's name (see `jaxplain.layers`); None takes the last convolutional feature map.
      baseline: x0, a number or anything that broadcasts against the input.
      steps: the number of points.
      rule: how the integral is approximated, as for `integrated_gradients`.
      chunk: how many points are evaluated at once.
      upsample: whether the channels are summed and the map enlarged to the input; else every neuron's is returned.

    Returns:
      An explainer; maps ``(N, H, W)`` or ``(N, h, w, K)``, signed.

    Raises:
      ValueError: as `layer_attribution`, or if the baseline does not fit.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: (checkpoint_name(2 * x, "doubled") ** 2).sum(axis=1)
      >>> jaxplain.internal_influence(f, "doubled", upsample=False)(jnp.array([[1.0, 3.0]])).round(4)
      Array([[2., 6.]], dtype=float32)

    Reference:
      Leino, Sen, Datta, Fredrikson, Li: Influence-Directed Explanations for Deep Convolutional Networks. ITC 2018,
      arXiv:1802.03788.
    """
    return along_the_line(apply, layer, baseline, steps, rule, chunk, upsample, lambda g, speed: g)


def along_the_line(
    apply: Apply,
    layer: str | None,
    baseline: ArrayLike,
    steps: int,
    rule: Quadrature,
    chunk: int | None,
    upsample: bool,
    integrand: Callable[[Array, Array], Array],
) -> Explain:
    """The integral of ``integrand(∂z_c/∂y, dy/dα)`` over the features y on the way from a baseline to the input."""
    nodes = quadrature(rule, steps)

    @explainer(apply)
    @channels_last
    def explain(f: OfImages, x: Array, target: Target, key: Array | None) -> Array:
        x0, score = f.reference(baseline, x), scorer(target, f(x))
        precise = jnp.promote_types(x.dtype, jnp.float32)
        at = lambda x: on_grid(f, x, layer, None) if upsample else features_of(f, x, layer)

        def term(node: tuple[Array, Array]) -> Array:
            alpha, weight = node
            point = lambda alpha: (x0 + alpha * (x - x0)).astype(x.dtype)
            features, speed = jax.jvp(lambda alpha: at(point(alpha))[0], (alpha,), (jnp.ones_like(alpha),))
            slope = gradient_at(features, at(point(alpha))[1], score)
            return weight * integrand(slope, speed)

        total = chunked_sum(term, tuple(jnp.asarray(a, precise) for a in nodes), chunk).astype(x.dtype)
        return enlarge(total.sum(axis=-1), x) if upsample else total

    return explain


def neuron_attribution(
    apply: Apply,
    layer: str | None = None,
    neuron: int | tuple[int, ...] | Callable[[Array], Array] = 0,
    method: Method = gradient,
) -> Explain:
    """Any method, applied to one neuron of a layer in place of the network's score.

    ``A = method(x -> y(x)[neuron])(x)``, y the layer's features

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      layer: the layer's name (see `jaxplain.layers`); None takes the last convolutional feature map.
      neuron: ``(row, column, channel)``, as many numbers as the features have axes after the batch; one number is a
        channel, summed over its positions; or a function ``features -> (N,)``.
      method: ``method(f) -> explainer``, its options bound.

    Returns:
      An explainer, called without a target; the attribution has the input's shape and the unit of the neuron.

    Raises:
      ValueError: if no layer has that name, or it has no such neuron.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: checkpoint_name(x @ jnp.array([[1.0, 2.0], [3.0, 4.0]]), "hidden").sum(axis=1)
      >>> jaxplain.neuron_attribution(f, "hidden", 1)(jnp.ones((1, 2)))
      Array([[2., 4.]], dtype=float32)

    Reference:
      The neuron attributions of Kokhlikyan et al.: Captum. arXiv:2009.07896, 2020.
    """

    def activation(*args: Any) -> Array:
        context, x = split(args)
        features, _ = features_of(lambda x: outputs_of(apply, (*context, x)), x, layer)
        return features_neuron(features, neuron)

    return inherit(method(activation), neuron_attribution, activation)


def features_neuron(features: Array, neuron: int | tuple[int, ...] | Callable[[Array], Array]) -> Array:
    """The activation of a neuron, ``(N,)``."""
    if callable(neuron):
        return neuron(features)
    where = neuron if isinstance(neuron, tuple) else (neuron,)
    sizes = features.shape[1:] if isinstance(neuron, tuple) else features.shape[-1:]
    if len(where) != len(sizes) or not all(0 <= i < n for i, n in zip(where, sizes, strict=True)):
        raise ValueError(
            f"neuron={neuron} is none of the layer's, whose features have shape {features.shape}: give a channel, or "
            "one number for each axis after the batch"
        )
    if isinstance(neuron, tuple):
        return features[(slice(None), *neuron)]
    return features[..., neuron].sum(axis=tuple(range(1, features.ndim - 1)))
