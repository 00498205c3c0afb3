"""Class activation maps that weigh a layer's features by the gradient of the score.

``A`` are the features ``(N, h, w, K)``, channels last, ``g = ∂z_c/∂A`` their gradient, Z the number of positions. Every
map is raw and signed: its positive part, which the papers show, is ``jnp.maximum(map, 0)``.

All take a ``layer`` and the options of `MapOptions`: ``upsample=False`` for the layer's own resolution, ``grid=`` for
the tokens of a vision transformer, ``combine=`` for several layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Unpack

import jax
import jax.numpy as jnp

from .._compose import multiply
from .._convention import Apply, Array, Explain, Function, full_precision
from .._graph.trace import Op
from .._reductions import at_least_float32, divide, norm, scale_of
from ..propagation import guided_backprop
from ..propagation._engine import trace_network
from ..propagation._units import Unit
from ._maps import Layers, LayerView, MapOptions, gradient_at, layer_map, spatial_axes

__all__ = [
    "cam",
    "eigen_cam",
    "eigen_grad_cam",
    "grad_cam",
    "grad_cam_elementwise",
    "grad_cam_plus_plus",
    "guided_grad_cam",
    "hires_cam",
    "layer_cam",
    "shapley_cam",
    "xgrad_cam",
]


def gradient_map(apply: Apply, layer: Layers, combine: Callable[[Array, Array], Array], options: MapOptions) -> Explain:
    """The explainer of a map ``combine(A, g) -> (N, h, w)``."""
    return layer_map(
        apply, layer, lambda at: combine(at_least_float32(at.features), at_least_float32(at.gradient)), **options
    )


def cam(apply: Apply, layer: Layers = None, **options: Unpack[MapOptions]) -> Explain:
    """Class activation map, of networks that end in features, a global average and dense layers without activation.

    ``M = Σ_k w_ck A^k``, w the weights of the dense layer

    Args:
      apply: ``apply(*args) -> logits``, any JAX function of that form.
      layer: the features' name; None takes the last convolutional feature map.
      **options: see `MapOptions`.

    Returns:
      An explainer; maps ``(N, H, W)``, signed; at the layer's resolution their mean is z_c less its bias.

    Raises:
      ValueError: if the network has another form.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: checkpoint_name(x, "features").mean(axis=(1, 2)) @ jnp.array([[2.0], [-1.0]])
      >>> x = jnp.array([1.0, 0.0, 0.0, 1.0]).reshape(1, 1, 2, 2)
      >>> jaxplain.cam(f, "features")(x)
      Array([[[ 2., -1.]]], dtype=float32)

    Reference:
      Zhou, Khosla, Lapedriza, Oliva, Torralba: Learning Deep Features for Discriminative Localization. CVPR 2016,
      arXiv:1512.04150.
    """

    def weighted(at: LayerView) -> Array:
        require_global_average(at.features, at.head)
        weights = at.gradient * math.prod(at.features.shape[1:-1])
        return (weights * at.features).sum(axis=-1)

    return layer_map(apply, layer, weighted, **options)


def require_global_average(A: Array, head: Function) -> None:
    """Raise where features do not go through a global average and then through affine layers alone."""
    steps = [step for step in trace_network(head, A).plan.steps if not isinstance(step, Op)]
    units = [step if isinstance(step, Unit) else None for step in steps]
    pool, *rest = [unit for unit in units if unit is None or unit.kind != "shape"] or [None]
    average = pool is not None and pool.kind == "pool" and math.prod(pool.output_shape) == A.shape[0] * A.shape[-1]
    if not average or any(unit is None or unit.kind not in ("dense", "conv", "scale") for unit in rest):
        path = " > ".join("control flow" if unit is None else unit.kind for unit in units)
        raise ValueError(
            "cam needs a network that ends in features, a global average and dense layers without activation; behind "
            f"the layer come {path}: use grad_cam, its generalisation"
        )


def grad_cam(apply: Apply, layer: Layers = None, **options: Unpack[MapOptions]) -> Explain:
    """Grad-CAM: feature maps weighted by their mean gradient.

    ``M = Σ_k α_k A^k,  α_k = (1/Z) Σ_ij g^k_ij``

    On networks for which `cam` is defined, it is that divided by Z.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      layer: the layer's name (see `jaxplain.layers`), or several; None takes the last convolutional feature map, behind
        its activation, as in the paper. In front of it was measured to find more of a mosaic on EfficientNet only
        (``benchmarks/results/defaults.md``).
      **options: see `MapOptions`.

    Returns:
      An explainer; maps ``(N, H, W)``, signed; the paper shows the positive part.

    Raises:
      ValueError: if no layer has that name, or it has no positions.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: (checkpoint_name(x, "features") ** 2).mean(axis=(1, 2))
      >>> x = jnp.array([1.0, 0.0, 0.0, 3.0]).reshape(1, 1, 2, 2)
      >>> jaxplain.grad_cam(f, "features")(x, target=1)  # α = (0, (0 + 3) / 2)
      Array([[[0. , 4.5]]], dtype=float32)

    Reference:
      Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra: Grad-CAM. ICCV 2017, arXiv:1610.02391.
    """
    return gradient_map(apply, layer, mean_weighted, options)


def mean_weighted(A: Array, g: Array) -> Array:
    """``Σ_k α_k A^k``, α the gradient's mean over positions."""
    return (g.mean(axis=spatial_axes(A), keepdims=True) * A).sum(axis=-1)


def guided_grad_cam(apply: Apply, layer: Layers = None, **options: Unpack[MapOptions]) -> Explain:
    """Guided Grad-CAM: guided backprop where Grad-CAM is positive.

    ``A = guided_backprop · max(M, 0)``, M the Grad-CAM, cut at zero and then enlarged to the input

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      layer: the layer of the Grad-CAM; None takes the last convolutional feature map.
      **options: see `MapOptions`; the map is always enlarged.

    Returns:
      An explainer; the attribution has the input's shape.

    Raises:
      ValueError: as `grad_cam`, and for ``upsample=False``.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: jnp.maximum(checkpoint_name(x, "features"), 0).mean(axis=(1, 2))
      >>> x = jnp.array([1.0, -2.0]).reshape(1, 1, 2, 1)
      >>> jaxplain.guided_grad_cam(f, "features")(x).ravel()  # the gradient's mean is 1/4
      Array([0.125, 0.   ], dtype=float32)

    Reference:
      Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra: Grad-CAM. ICCV 2017, arXiv:1610.02391.
    """
    if not options.get("upsample", True):
        raise ValueError("guided_grad_cam has the input's shape: leave out upsample=")
    positive = gradient_map(apply, layer, lambda A, g: jnp.maximum(mean_weighted(A, g), 0), options)
    return multiply(guided_backprop(apply), positive)


def grad_cam_plus_plus(apply: Apply, layer: Layers = None, **options: Unpack[MapOptions]) -> Explain:
    """Grad-CAM++: positive gradients, weighted so that every occurrence of a feature counts alike.

    ``M = Σ_k w_k A^k,  w_k = Σ_ij α^k_ij max(g^k_ij, 0),  α = g² / (2 g² + (Σ_ij A^k_ij) g³)``, 0 where g is 0

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      layer: the layer's name (see `jaxplain.layers`), or several; None takes the last convolutional feature map.
      **options: see `MapOptions`.

    Returns:
      An explainer; maps ``(N, H, W)``.

    Raises:
      ValueError: as `grad_cam`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: checkpoint_name(x, "features").sum(axis=(1, 2))
      >>> x = jnp.array([1.0, 3.0]).reshape(1, 1, 2, 1)
      >>> jaxplain.grad_cam_plus_plus(f, "features")(x)  # α = 1 / (2 + 4), twice
      Array([[[0.33333334, 1.        ]]], dtype=float32)

    Reference:
      Chattopadhay, Sarkar, Howlader, Balasubramanian: Grad-CAM++. WACV 2018, arXiv:1710.11063.
    """

    def combine(A: Array, g: Array) -> Array:
        # divided by g², as g³ may be too small a number
        alpha = divide(1.0, 2 + A.sum(axis=spatial_axes(A), keepdims=True) * g)
        weights = (alpha * jnp.maximum(g, 0)).sum(axis=spatial_axes(A), keepdims=True)
        return (weights * A).sum(axis=-1)

    return gradient_map(apply, layer, combine, options)


def xgrad_cam(apply: Apply, layer: Layers = None, **options: Unpack[MapOptions]) -> Explain:
    """XGrad-CAM: gradients averaged with the activations as weights.

    ``M = Σ_k w_k A^k,  w_k = Σ_ij g^k_ij A^k_ij / Σ_ij A^k_ij``, 0 where a channel sums to 0

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      layer: the layer's name (see `jaxplain.layers`), or several; None takes the last convolutional feature map.
      **options: see `MapOptions`.

    Returns:
      An explainer; maps ``(N, H, W)``, signed; at the layer's resolution their sum is that of ``g · A``.

    Raises:
      ValueError: as `grad_cam`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: (checkpoint_name(x, "features") ** 2).sum(axis=(1, 2))
      >>> x = jnp.array([1.0, 3.0]).reshape(1, 1, 2, 1)
      >>> jaxplain.xgrad_cam(f, "features")(x)  # w = (2·1 + 6·3) / (1 + 3)
      Array([[[ 5., 15.]]], dtype=float32)

    Reference:
      Fu, Hu, Dong, Guo, Gao, Li: Axiom-based Grad-CAM. BMVC 2020, arXiv:2008.02312.
    """

    def combine(A: Array, g: Array) -> Array:
        weights = divide((g * A).sum(axis=spatial_axes(A), keepdims=True), A.sum(axis=spatial_axes(A), keepdims=True))
        return (weights * A).sum(axis=-1)

    return full_precision(gradient_map(apply, layer, combine, options))


def hires_cam(apply: Apply, layer: Layers = None, **options: Unpack[MapOptions]) -> Explain:
    """HiResCAM: gradient times activation, position by position.

    ``M = Σ_k g^k A^k``

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      layer: the layer's name (see `jaxplain.layers`), or several; None takes the last convolutional feature map.
      **options: see `MapOptions`.

    Returns:
      An explainer; maps ``(N, H, W)``, signed.

    Raises:
      ValueError: as `grad_cam`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: (checkpoint_name(x, "features") ** 2).sum(axis=(1, 2))
      >>> jaxplain.hires_cam(f, "features")(jnp.array([1.0, 3.0]).reshape(1, 1, 2, 1))
      Array([[[ 2., 18.]]], dtype=float32)

    Reference:
      Draelos, Carin: Use HiResCAM instead of Grad-CAM for faithful explanations of CNNs. arXiv:2011.08891, 2020.
    """
    return full_precision(gradient_map(apply, layer, lambda A, g: (g * A).sum(axis=-1), options))


def layer_cam(apply: Apply, layer: Layers = None, **options: Unpack[MapOptions]) -> Explain:
    """LayerCAM: positive gradients times activations, position by position; useful at early layers as well.

    ``M = Σ_k max(g^k, 0) A^k``

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      layer: the layer's name (see `jaxplain.layers`), or several; None takes the last convolutional feature map.
      **options: see `MapOptions`.

    Returns:
      An explainer; maps ``(N, H, W)``.

    Raises:
      ValueError: as `grad_cam`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: (checkpoint_name(x, "features") ** 2).sum(axis=(1, 2))
      >>> jaxplain.layer_cam(f, "features")(jnp.array([1.0, 3.0]).reshape(1, 1, 2, 1))
      Array([[[ 2., 18.]]], dtype=float32)

    Reference:
      Jiang, Zhang, Hou, Cheng, Wei: LayerCAM. IEEE Transactions on Image Processing 2021.
    """
    return gradient_map(apply, layer, lambda A, g: (jnp.maximum(g, 0) * A).sum(axis=-1), options)


def shapley_cam(apply: Apply, layer: Layers = None, **options: Unpack[MapOptions]) -> Explain:
    """ShapleyCAM: Grad-CAM of the gradient less half of what the curvature makes of it.

    ``M = Σ_k α_k A^k,  α_k = (1/Z) Σ_ij (g - H A / 2)^k_ij``,  H the second derivative of the score in the features

    Taken as players of a game, of which the score is known up to second order, features have the Shapley values
    ``A (g - H A / 2)``; that is what the channels are weighted by. Where the network behind the layer is linear in
    pieces, as an average and a dense layer are, a class's score has no curvature, and the map is that of `grad_cam`.
    The authors' score has some: ``target=lambda z: (z + jax.nn.log_softmax(z))[:, c]``.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      layer: the layer's name (see `jaxplain.layers`), or several; None takes the last convolutional feature map.
      **options: see `MapOptions`.

    Returns:
      An explainer; maps ``(N, H, W)``, signed.

    Raises:
      ValueError: as `grad_cam`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: (checkpoint_name(x, "features") ** 2).sum(axis=(1, 2))
      >>> x = jnp.array([1.0, 3.0]).reshape(1, 1, 2, 1)
      >>> jaxplain.shapley_cam(f, "features")(x)  # g = (2, 6), H A / 2 = (1, 3), α = 2
      Array([[[2., 6.]]], dtype=float32)

    Reference:
      Cai: CAMs as Shapley Value-based Explainers. arXiv:2501.06261, 2025.
    """

    def weighted(at: LayerView) -> Array:
        A = at.features
        g, pullback = jax.vjp(lambda A: gradient_at(A, at.head, at.target), A)
        (HA,) = pullback(A)  # H is symmetric
        return mean_weighted(*map(at_least_float32, (A, g - HA / 2)))

    return layer_map(apply, layer, weighted, **options)


def grad_cam_elementwise(apply: Apply, layer: Layers = None, **options: Unpack[MapOptions]) -> Explain:
    """Elementwise Grad-CAM: the positive part of gradient times activation, neuron by neuron.

    ``M = Σ_k max(g^k A^k, 0)``

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      layer: the layer's name (see `jaxplain.layers`), or several; None takes the last convolutional feature map.
      **options: see `MapOptions`.

    Returns:
      An explainer; maps ``(N, H, W)``, not negative.

    Raises:
      ValueError: as `grad_cam`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: (checkpoint_name(x, "features") ** 3).sum(axis=(1, 2))
      >>> jaxplain.grad_cam_elementwise(f, "features")(jnp.array([-1.0, 2.0]).reshape(1, 1, 2, 1))
      Array([[[ 0., 24.]]], dtype=float32)

    Reference:
      Gildenblat and contributors: PyTorch library for CAM methods, `GradCAMElementWise`. GitHub 2021.
    """
    return gradient_map(apply, layer, lambda A, g: jnp.maximum(g * A, 0).sum(axis=-1), options)


def eigen_cam(apply: Apply, layer: Layers = None, **options: Unpack[MapOptions]) -> Explain:
    """Eigen-CAM: the features' first principal component. It knows no class.

    ``M = C v``, C the features as positions x channels less the mean over positions, v the first right singular vector

    The sign of a principal component is free; it is chosen so that ``Σ_ij M_ij Σ_k A^k_ij`` is not negative.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      layer: the layer's name (see `jaxplain.layers`), or several; None takes the last convolutional feature map.
      **options: see `MapOptions`.

    Returns:
      An explainer; maps ``(N, H, W)``, signed; the target does not matter.

    Raises:
      ValueError: as `grad_cam`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: checkpoint_name(x, "features").mean(axis=(1, 2))
      >>> x = jnp.array([[0.0, 1.0], [6.0, 9.0]]).reshape(1, 1, 2, 2)  # the difference is (6, 8), of length 10
      >>> jaxplain.eigen_cam(f, "features")(x).round(3)
      Array([[[-5.,  5.]]], dtype=float32)

    Reference:
      Muhammad, Yeasin: Eigen-CAM. IJCNN 2020, arXiv:2008.00299.
    """
    return layer_map(apply, layer, lambda at: first_component(at_least_float32(at.features)), **options)


def eigen_grad_cam(apply: Apply, layer: Layers = None, **options: Unpack[MapOptions]) -> Explain:
    """Eigen-Grad-CAM: the first principal component of gradient times activation.

    As `eigen_cam`, of ``g · A`` in place of ``A``.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      layer: the layer's name (see `jaxplain.layers`), or several; None takes the last convolutional feature map.
      **options: see `MapOptions`.

    Returns:
      An explainer; maps ``(N, H, W)``, signed.

    Raises:
      ValueError: as `grad_cam`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> f = lambda x: checkpoint_name(x, "features").sum(axis=(1, 2)) @ jnp.array([[1.0], [0.0]])
      >>> x = jnp.array([[0.0, 1.0], [6.0, 9.0]]).reshape(1, 1, 2, 2)
      >>> print(jaxplain.eigen_grad_cam(f, "features")(x).round(2))
      [[[-3.  3.]]]

    Reference:
      Muhammad, Yeasin: Eigen-CAM. IJCNN 2020, arXiv:2008.00299. With gradients: Gildenblat and contributors, PyTorch
      library for CAM methods, GitHub 2021.
    """
    return gradient_map(apply, layer, lambda A, g: first_component(g * A), options)


def first_component(A: Array) -> Array:
    """Each example's projection on its first principal direction, ``(N, h, w, K) -> (N, h, w)``."""
    scale = scale_of(A, tuple(range(1, A.ndim)))
    flat = (A / scale).reshape(A.shape[0], -1, A.shape[-1])
    centred = flat - flat.mean(axis=1, keepdims=True)
    gram_side = centred if centred.shape[1] <= centred.shape[2] else centred.mT  # the smaller of both Gram matrices
    leading = jax.vmap(leading_eigenvector)(gram_side @ gram_side.mT)[..., None]
    along = (
        centred @ leading if gram_side is not centred else leading * norm(centred.mT @ leading, axis=1, keepdims=True)
    )
    along = along[..., 0]
    agreement = (along * flat.sum(axis=-1)).sum(axis=1, keepdims=True)
    return scale[..., 0] * jnp.where(agreement < 0, -along, along).reshape(A.shape[:-1])


@jax.custom_jvp
def leading_eigenvector(gram: Array) -> Array:
    """The eigenvector of a symmetric matrix's largest eigenvalue."""
    return jnp.linalg.eigh(gram)[1][:, -1]


@leading_eigenvector.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """``v' = Σ_i u_i (u_i · G' v) / (λ - λ_i)``: that of `jnp.linalg.eigh` asks for all eigenvalues to be distinct."""
    values, vectors = jnp.linalg.eigh(primals[0])
    leading, others = vectors[:, -1], vectors[:, :-1]
    return leading, others @ divide(others.T @ (tangents[0] @ leading), values[-1] - values[:-1])
