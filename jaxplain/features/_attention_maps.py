"""Maps of vision transformers, made of the attentions between their tokens."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TypedDict, Unpack

import jax
import jax.numpy as jnp

from .._convention import Apply, Array, Explain, OfImages, Target, channels_last, explainer, score_gradient, scorer
from .._graph.layout import layouts
from .._graph.trace import Graph
from .._images import enlarge
from .._reductions import deviation
from ._attention import AttentionNetwork, require_sequence

__all__ = ["attention_relevance", "attention_rollout", "legrad", "rfem"]

MOST_OTHERS = 16  # tokens in front of those of the image: a class token, registers


class TokenOptions(TypedDict, total=False):
    """The options of every method that makes a map of tokens.

    Attributes:
      upsample: whether the map is enlarged to the input's height and width, bilinearly; else it has the tokens'.
      grid: rows and columns of the tokens of the image. None finds them: they are the positions of the convolution that
        makes the patches, or have the proportions of the input, alone or behind one class token. What other tokens
        there are stand in front, the first one of them as the class token.
    """

    upsample: bool
    grid: tuple[int, int] | None


def attention_rollout(apply: Apply, **options: Unpack[TokenOptions]) -> Explain:
    """Attention rollout: how attention hands tokens on from layer to layer, whatever the class.

    ``R = Â_L ... Â_2 Â_1``,  ``Â_l = (mean over heads of A_l + I) / 2``; rows of R sum to 1

    The map is the class token's row of R, at the tokens of the image; without a class token the mean of all rows.

    In a small vision transformer, of two garments in an image and of four, the maximum of the map was in the one
    that was asked for in 65 % and 27 %; of the older methods lime found most, 94 % and 54 % (24 images)
    (``benchmarks/results/planted_evidence.md``).

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function with attentions between tokens (see `jaxplain.attentions`).
      **options: see `TokenOptions`.

    Returns:
      An explainer; maps ``(N, H, W)``. The target does not matter.

    Raises:
      ValueError: if the network has no attention between tokens, if attentions are not between the same tokens or
        not one behind the other, or the tokens fit no grid.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> def f(x):  # four tokens that read each other, no class token
      ...     tokens = x.reshape(1, 4, 1)
      ...     return (jax.nn.softmax(tokens @ tokens.swapaxes(1, 2)) @ tokens).mean(axis=1)
      >>> x = jnp.array([[[[0.0], [0.0]], [[0.0], [2.0]]]])
      >>> print((100 * jaxplain.attention_rollout(f)(x)).round())
      [[[22. 22.]
        [22. 34.]]]

    Reference:
      Abnar, Zuidema: Quantifying Attention Flow in Transformers. ACL 2020.
    """

    def rollout(net: AttentionNetwork, target: Target) -> Array:
        require_sequence(net.graph, net.places)
        _, _, weights = net.vjp()
        return rolled_out([half_residual(A.mean(axis=1)) for A in weights])

    return token_map(apply, rollout, **options)


def attention_relevance(apply: Apply, **options: Unpack[TokenOptions]) -> Explain:
    """Attention weighted by its gradient, rolled out: which tokens the score is read from.

    ``R ← R + Ā_l R`` from the first layer to the last, ``R = I`` before it,  ``Ā_l = mean over heads of
    max(∂s/∂A_l · A_l, 0)``

    This is the rule for self-attention of the paper that treats attentions in general; that of CVPR 2021 by the same
    authors is another one. The map is the class token's row of R, at the tokens of the image; without a class token the
    mean of all rows.

    In a small vision transformer, of two garments in an image and of four, the maximum of the map was in the one
    that was asked for in 75 % and 40 %; of the older methods lime found most, 94 % and 54 % (24 images)
    (``benchmarks/results/planted_evidence.md``).

    Args:
      apply: as for `attention_rollout`.
      **options: see `TokenOptions`.

    Returns:
      An explainer; maps ``(N, H, W)``, nowhere negative.

    Raises:
      ValueError: as `attention_rollout`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> def f(x):
      ...     tokens = x.reshape(1, 4, 1)
      ...     return (jax.nn.softmax(tokens @ tokens.swapaxes(1, 2)) @ tokens).mean(axis=1)
      >>> x = jnp.array([[[[0.0], [0.0]], [[0.0], [2.0]]]])
      >>> print((100 * jaxplain.attention_relevance(f)(x, target=0)).round())
      [[[25. 25.]
        [25. 46.]]]

    Reference:
      Chefer, Gur, Wolf: Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
      Transformers. ICCV 2021.
    """

    def relevance(net: AttentionNetwork, target: Target) -> Array:
        require_sequence(net.graph, net.places)
        products = gradient_times_weights(net, target)
        return rolled_out([with_identity(jnp.maximum(gA, 0).mean(axis=1)) for gA in products])

    return token_map(apply, relevance, **options)


def legrad(apply: Apply, **options: Unpack[TokenOptions]) -> Explain:
    """LeGrad: the positive gradient of the score in every attention, the score read behind its own block.

    ``E = mean over layers, heads and queries of max(∂s_l/∂A_l, 0)``,  ``s_l``: the score of what the network's head
    makes of the tokens behind block l

    The tokens behind a block are found by data flow: the last sum before the next attention through which everything
    passes. The authors scale maps to [0, 1]; pictures do that here.

    In a small vision transformer, of two garments in an image and of four, the maximum of the map was in the one
    that was asked for in 54 % and 46 %; of the older methods lime found most, 94 % and 54 % (24 images)
    (``benchmarks/results/planted_evidence.md``).

    Args:
      apply: as for `attention_rollout`.
      **options: see `TokenOptions`.

    Returns:
      An explainer; maps ``(N, H, W)``, nowhere negative.

    Raises:
      ValueError: as `attention_rollout`, and if the tokens behind an attention are not added to those before it.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> def f(x):
      ...     tokens = x.reshape(1, 4, 1)
      ...     return (tokens + jax.nn.softmax(tokens @ tokens.swapaxes(1, 2)) @ tokens).mean(axis=1)
      >>> x = jnp.array([[[[0.0], [0.0]], [[0.0], [2.0]]]])
      >>> print((100 * jaxplain.legrad(f)(x, target=0)).round())
      [[[ 0.  0.]
        [ 0. 50.]]]

    Reference:
      Bousselham, Boggust, Chaybouti, Strobelt, Kuehne: LeGrad: An Explainability Method for Vision Transformers via
      Feature Formation Sensitivity. ICCV 2025.
    """

    def sensitivity(net: AttentionNetwork, target: Target) -> Array:
        outputs, by_block, pullback = net.vjp_by_block()
        score = scorer(target, outputs)
        cotangents = [jax.grad(lambda outputs: score(outputs).sum())(block) for block in by_block]
        positive = [jnp.maximum(g, 0).mean(axis=(1, 2)) for g in pullback(cotangents)]
        return jnp.stack(positive).mean(axis=0)[:, None]

    return token_map(apply, sensitivity, **options)


def rfem(apply: Apply, *, k: float = 1.0, class_specific: bool = False, **options: Unpack[TokenOptions]) -> Explain:
    """FEM of attentions: every head rolled out by itself, and of each what stands out.

    ``M = mean over heads of r_h [r_h > μ_h + k σ_h]``; r_h is the class token's row of
    ``R_h = Â_Lh ... Â_2h Â_1h``, at the tokens of the image, with mean μ_h and standard deviation σ_h;
    ``Â_lh = (A_lh + I) / 2``

    In the class form ``Â_lh = max(∂s/∂A_lh · A_lh, 0) + I``. The authors keep heads apart across layers, filter them as
    FEM filters channels, and fuse them; what their abstract leaves open, the rollout and the mean, is our reading. They
    find k between 0.5 and 1 best.

    In a small vision transformer, of two garments in an image and of four, the maximum of the map was in the one
    that was asked for in 67 % and 22 %, in the class form in 79 % and 44 %; of the older methods lime found most,
    94 % and 54 % (24 images) (``benchmarks/results/planted_evidence.md``).

    Args:
      apply: as for `attention_rollout`.
      k: how many standard deviations make a token unusual.
      class_specific: whether weights are multiplied by the score's derivative, its negative part cut.
      **options: see `TokenOptions`.

    Returns:
      An explainer; maps ``(N, H, W)``, nowhere negative. The target matters in the class form only.

    Raises:
      ValueError: as `attention_rollout`, and if layers have different numbers of heads.

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain
      >>> def f(x):
      ...     tokens = x.reshape(1, 4, 1)
      ...     return (jax.nn.softmax(tokens @ tokens.swapaxes(1, 2)) @ tokens).mean(axis=1)
      >>> x = jnp.array([[[[0.0], [0.0]], [[0.0], [2.0]]]])
      >>> print((100 * jaxplain.rfem(f)(x)).round())
      [[[ 0.  0.]
        [ 0. 34.]]]

    Reference:
      Ayyar, Benois-Pineau, Zemmari: There is More to Attention: Statistical Filtering Enhances Explanations in Vision
      Transformers. 2025.
    """

    def rollout(net: AttentionNetwork, target: Target) -> Array:
        require_sequence(net.graph, net.places)
        if not class_specific:
            return rolled_out([half_residual(A) for A in net.vjp()[2]])
        return rolled_out([with_identity(jnp.maximum(gA, 0)) for gA in gradient_times_weights(net, target)])

    def unusual(rows: Array) -> Array:
        limit = rows.mean(axis=-1, keepdims=True) + k * deviation(rows, (-1,), keepdims=True)
        return jnp.where(rows > limit, rows, 0).mean(axis=1)

    return token_map(apply, rollout, unusual, **options)


# ------------------------------------------------------------------------------------------------ from layer to layer


def gradient_times_weights(net: AttentionNetwork, target: Target) -> list[Array]:
    """The weights of every attention, times the derivative of the score in them."""
    outputs, pullback, weights = net.vjp()
    gradients = pullback(score_gradient(target, outputs))
    return [g * A for g, A in zip(gradients, weights, strict=True)]


def with_identity(A: Array) -> Array:
    """Attention and the skip connection around it."""
    if A.shape[-2] != A.shape[-1]:
        raise ValueError(
            f"an attention of {A.shape[-2]} tokens to {A.shape[-1]} has no skip connection: it is not rolled out"
        )
    return A + jnp.broadcast_to(jnp.eye(A.shape[-1], dtype=A.dtype), A.shape)


def half_residual(A: Array) -> Array:
    """Attention and the skip connection around it, half each."""
    return with_identity(A) / 2


def rolled_out(steps: Sequence[Array]) -> Array:
    """The product of all steps ``(N, ..., tokens, tokens)``, the first one on the right."""
    shapes = [step.shape[1:] for step in steps]
    if len({*shapes}) > 1:
        raise ValueError(
            f"attentions of shapes {shapes} are not between the same tokens and heads: they are not rolled out"
        )
    return functools.reduce(lambda R, step: step @ R, steps)


# ------------------------------------------------------------------------------------------------------------- a map


def token_map(
    apply: Apply,
    attribute: Callable[[AttentionNetwork, Target], Array],
    finish: Callable[[Array], Array] = lambda rows: rows,
    *,
    upsample: bool = True,
    grid: tuple[int, int] | None = None,
) -> Explain:
    """An explainer of how much is read of each token.

    Args:
      apply: the network.
      attribute: ``(network, target) -> (N, ..., readers, tokens)``.
      finish: ``(N, ..., tokens of the image) -> (N, tokens of the image)``, of what the class token reads.
      upsample: see `TokenOptions`.
      grid: see `TokenOptions`.
    """

    @explainer(apply)
    @channels_last
    def explain(f: OfImages, x: Array, target: Target, key: Array | None) -> Array:
        net = AttentionNetwork(f, x)
        read = attribute(net, target)
        shape = grid or token_grid(net.graph, read.shape[-1], x)
        others = read.shape[-1] - math.prod(shape)
        if others < 0:
            raise ValueError(f"{grid=} needs {math.prod(shape)} tokens, the network has {read.shape[-1]}")
        rows = read[..., 0, :] if others else read.mean(axis=-2)
        maps = finish(rows[..., others:]).reshape(x.shape[0], *shape)
        return enlarge(maps, x) if upsample else maps.astype(x.dtype)

    return explain


def token_grid(graph: Graph, tokens: int, x: Array) -> tuple[int, ...]:
    """Rows and columns of the tokens of an image."""
    behind_convolutions = {layout.positions for layout in layouts(graph).values()}
    fitting = [shape for shape in behind_convolutions if 0 <= tokens - math.prod(shape) <= MOST_OTHERS]
    if fitting:
        return max(fitting, key=math.prod)
    for others in (0, 1):
        height, width = x.shape[1:3]
        rows = math.isqrt((tokens - others) * height // width) if x.ndim == 4 else 0
        if rows and rows * rows * width == (tokens - others) * height:
            return rows, (tokens - others) // rows
    raise ValueError(f"{tokens} tokens fit no grid of an image {x.shape[1:-1]}: say grid=(rows, columns)")
