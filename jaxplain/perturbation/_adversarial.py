"""Adversarial explanations: what has to change in an image for the network to see another class."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._batching import vmap_behind
from .._channels import channel_axis
from .._chunking import blocks
from .._convention import (
    Apply,
    Array,
    Explain,
    Function,
    Target,
    chosen_class,
    concrete,
    example_keys,
    explainer,
    full_precision,
    heed_logits,
    inherit,
    require_positive,
    zero_each,
)
from .._images import gaussian_blur, like_examples
from .._reductions import at_least_float32, or_one, root_mean_square
from ..features import tap
from ..propagation._engine import trace_network
from ..propagation._units import WEIGHTED
from ._attacks import Bounds, clipper, in_float32, initial_state, margin, norm_of, optimizer_step, scan_until_done
from ._mask_optimisation import require_optimizer

__all__ = ["adversarial_gradient_integration", "perceptual_ball", "similar_adversarial"]

if TYPE_CHECKING:
    import optax


def adversarial_gradient_integration(
    apply: Apply,
    *,
    classes: int | ArrayLike = 20,
    steps: int = 20,
    epsilon: float = 0.05,
    bounds: Bounds = None,
    chunk: int | None = 5,
) -> Explain:
    """Adversarial gradient integration: gradients along paths that lead to other classes, summed over the classes.

    For each class i: ``x_{j+1} = clip(x_j + ε sign(∂p_i/∂x))`` from the image until the network sees i, and
    ``A += -∂p_c/∂x (x_j) · (x_{j+1} - x_j)``, with p = softmax(z).

    There is no baseline to choose. The path to one class sums to ``p_c(x) - p_c(x')``, x' its end, up to the error of a
    left Riemann sum. (The authors' program takes every step from the image itself; this is the paper's.)

    Args:
      apply: ``apply(*args) -> logits (N, K)``, any JAX function.
      classes: how many other classes are drawn for each example, all where there are fewer; or the classes themselves,
        ``(M,)`` ints, of which the target's own counts nothing.
      steps: the largest number of steps towards a class.
      epsilon: the size of a step, in the input's (preprocessed) units; 0.05 is the paper's for pixels from 0 to 1.
      bounds: the lowest and the highest value of the input, ``(low, high)``, each of which broadcasts against it; None
        does not clip.
      chunk: how many classes are approached at once; memory does not depend on ``classes``.

    Returns:
      An explainer that needs ``key`` where classes are drawn; the attribution has the input's shape and the unit of a
      probability.

    Raises:
      ValueError: if an option is out of range, ``key`` is missing, ``apply`` returns no logits, or the target is no
        class.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxplain.perturbation import adversarial_gradient_integration
      >>> explain = adversarial_gradient_integration(lambda x: x @ jnp.eye(3), classes=[1], epsilon=0.01, steps=200)
      >>> explain(jnp.array([[1.0, 0.5, 0.0]])).round(2)  # to (0.75, 0.75, -0.25)
      Array([[ 0.06,  0.04, -0.02]], dtype=float32)

    Reference:
      Pan, Li, Zhu: Explaining Deep Neural Network Models with Adversarial Gradient Integration. IJCAI 2021.
    """
    require_positive(steps=steps, classes=classes if isinstance(classes, int) else 1)

    @full_precision
    @explainer(apply, heed=heed_logits())
    def explain(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        dtype, (f, x) = x.dtype, in_float32(f, x)
        outputs = f(x)
        chosen = chosen_class("adversarial_gradient_integration", target, outputs)
        if isinstance(classes, int):
            keys = example_keys(key, x, "adversarial_gradient_integration")
            others = jax.vmap(functools.partial(draw_others, count=classes))(keys, chosen).T
        else:
            others = given_classes(classes, outputs)

        def add(total: Array, block: tuple[Array, Array]) -> tuple[Array, None]:
            goals, valid = jax.nn.one_hot(block[0], outputs.shape[1], dtype=outputs.dtype), block[1]
            active = valid[:, None] & ~((goals * chosen[None]).sum(axis=-1) == 1)
            _, paths = ascend(f, x, chosen, goals, active, clipper(bounds, x), epsilon, steps)
            return total + paths.sum(axis=0), None

        return jax.lax.scan(add, jnp.zeros_like(x), blocks(others, chunk))[0].astype(dtype)

    return explain


def ascend(
    f: Function, x: Array, chosen: Array, goals: Array, active: Array, clip: Function, epsilon: float, steps: int
) -> tuple[Array, Array]:
    """Follow the paths from ``x`` to several classes, one-hot rows ``(M, N, K)``: their ends, and their integrals."""
    log_p = vmap_behind(lambda x: jax.nn.log_softmax(f(x)))

    def step(state: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        now, path = state
        value, pullback = jax.vjp(log_p, now)
        (towards,), (slope,) = pullback(goals), pullback(chosen[None] * jnp.exp(value))  # ∂p_c = p_c ∂log p_c
        then = jax.vmap(clip)(now + epsilon * jnp.sign(towards))
        return (then, path - slope * (then - now)), value.argmax(axis=-1) != goals.argmax(axis=-1)

    start = jnp.broadcast_to(x[None], (goals.shape[0], *x.shape))
    return scan_until_done(step, (start, jnp.zeros_like(start)), active, steps)[0]


def draw_others(key: Array, chosen: Array, count: int) -> Array:
    """Different classes at random, none of them the one of the one-hot row."""
    others = jax.random.permutation(key, jnp.arange(chosen.shape[0] - 1, dtype=jnp.int32))[:count]
    return others + (others >= chosen.argmax())


def given_classes(classes: ArrayLike, outputs: Array) -> Array:
    """The user's classes, the same for every example, ``(M, N)``."""
    numbers = classes if isinstance(classes, jax.Array) else np.asarray(classes)
    if numbers.ndim != 1 or numbers.size == 0 or not jnp.issubdtype(numbers.dtype, jnp.integer):
        raise ValueError(f"{classes=} must be a number of classes to draw, or the classes, (M,) ints")
    if concrete(numbers) and (wrong := [c for c in np.ravel(numbers).tolist() if not 0 <= c < outputs.shape[1]]):
        raise ValueError(f"class {wrong[0]} of classes= is out of range: there are 0 to {outputs.shape[1] - 1}")
    return jnp.broadcast_to(jnp.asarray(numbers)[:, None], (numbers.shape[0], outputs.shape[0]))


def perceptual_ball(
    apply: Apply,
    *,
    layers: int | Sequence[str] = 6,
    features: Callable[..., Sequence[Array]] | None = None,
    gamma: float = 1e2,
    confidence: float = 2.0,
    steps: int = 100,
    blur: float = 2.0,
    bounds: Bounds = None,
    optimizer: optax.GradientTransformation | None = None,
) -> Explain:
    """The change to another class that is the least visible, to the eye and to a network's features φ.

    ``min over x' of γ Σ_l MSE(φ_l(x'), φ_l(x)) + MSE(x', x) + (z_c(x') - max_{j≠c} z_j(x') + confidence)²``,
    ``A = Gauss * RMS over colours of x' - x``, x' the best point on the way of L-BFGS from x.

    Args:
      apply: ``apply(*args) -> logits (N, K)``, any JAX function.
      layers: the layers whose outputs, over their root mean square at x, are φ: how many of the network's convolutions
        (dense layers where it has none), evenly spaced; or names out of `jaxplain.layers`.
      features: φ itself, a function ``(*args) -> arrays``, the batch in front, called like ``apply``.
      gamma: γ. The paper's 1e4 is for a VGG, whose features are small; with it, images of EfficientNet-Lite0 stay what
        they are.
      confidence: by how much another logit is to exceed the target's.
      steps: the number of steps.
      blur: the standard deviation of the Gaussian, in pixels.
      bounds: as for `adversarial_gradient_integration`.
      optimizer: an Optax optimiser of the image; L-BFGS without a line search, as the authors run it, where None.

    Returns:
      An explainer; the map is ``(N, H, W)``, in the input's unit, and not negative.

    Raises:
      ValueError: if an option is out of range, the input is not ``(N, H, W, C)``, ``apply`` returns no logits, the
        target is no class, or a layer is unknown.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxplain.perturbation import perceptual_ball
      >>> f = lambda x: x.reshape(len(x), 4) @ jnp.eye(4)[:, :2]
      >>> x = jnp.array([1.0, 0.0, 5.0, 5.0]).reshape(1, 2, 2, 1)
      >>> perceptual_ball(f, gamma=0.0, confidence=1.25, blur=0.0)(x).round(1)  # 1.125, less what the distance costs
      Array([[[1., 1.],
              [0., 0.]]], dtype=float32)

    Reference:
      Elliott, Law, Russell: Explaining Classifiers using Adversarial Perturbations on the Perceptual Ball. CVPR 2021,
      arXiv:1912.09405.
    """
    require_positive(steps=steps, layers=layers if isinstance(layers, int) else 1)
    require_optimizer(optimizer)
    solver = lbfgs() if optimizer is None else optimizer
    decorate = explainer(apply)

    def explain(*args: Any, target: Target = None, key: Array | None = None) -> Array:
        @decorate
        def attribute(f: Function, x: Array, target: Target, key: Array | None) -> Array:
            if x.ndim != 4:
                raise ValueError(f"perceptual_ball explains images (N, H, W, C), got shape {x.shape}")
            axis = channel_axis(f, x)
            look = layer_features(f, x, layers) if features is None else functools.partial(features, *args[:-1])
            phi = lambda v: jax.tree.map(at_least_float32, list(look(v.astype(x.dtype))))
            g, image = in_float32(f, x)
            chosen = chosen_class("perceptual_ball", target, g(image) if target is None else jax.eval_shape(g, image))
            loss = perceptual_loss(g, phi, image, chosen, gamma, confidence)
            change = minimise(loss, image, solver, steps, clipper(bounds, image)) - image
            rms = root_mean_square(change, axis)
            return gaussian_blur(rms[..., None], blur)[..., 0].astype(x.dtype)

        return attribute(*args, target=target, key=key)

    return inherit(explain, explain, apply)


def perceptual_loss(
    f: Function, phi: Callable[[Array], list[Array]], x: Array, chosen: Array, gamma: float, confidence: float
) -> Function:
    """The loss of each example's image: how far from ``x`` it looks, and how far from the other class it is."""
    seen = phi(x)

    def loss(v: Array) -> Array:
        noticed = sum(mean_square(a - b) for a, b in zip(phi(v), seen, strict=True))
        return gamma * noticed + mean_square(v - x) + (margin(f(v), chosen) + confidence) ** 2

    return loss


def layer_features(f: Function, x: Array, layers: int | Sequence[str]) -> Callable[[Array], list[Array]]:
    """The features of named layers, or of so many evenly spaced convolutions, over their root mean square at x."""
    if isinstance(layers, int):
        network = trace_network(f, x)
        kinds = {place: call.unit.kind for place, (call, _, _) in network.affine_values(x).items()}
        candidates = next(filter(None, ([p for p, kind in kinds.items() if kind == k] for k in WEIGHTED)), None)
        if candidates is None:
            raise ValueError("perceptual_ball found no convolution or dense layer outside loops: pass features=")
        places = {candidates[round(i)] for i in np.linspace(0, len(candidates) - 1, layers)}
        look = lambda x: [y for place, (_, _, y) in network.affine_values(x).items() if place in places]
    else:
        look = lambda x: [tap(f, name)(x).features for name in layers]
    sizes = [root_mean_square(at_least_float32(y), tuple(range(1, y.ndim)), keepdims=True) for y in look(x)]
    return lambda x: [y / or_one(size) for y, size in zip(look(x), sizes, strict=True)]


def lbfgs() -> optax.GradientTransformation:
    """L-BFGS without a line search."""
    import optax  # which takes long to import

    return optax.lbfgs(1.0, linesearch=None)


def minimise(
    loss: Function, x: Array, solver: optax.GradientTransformation, steps: int, clip: Function = lambda x: x
) -> Array:
    """The best of the points, example by example, that an optimiser visits on its way from ``x``."""

    def turn(carry: Any, _: None) -> tuple[Any, None]:
        x, inner, best, lowest = carry
        value, pullback = jax.vjp(lambda x: loss(clip(x)), x)
        best = jnp.where(like_examples(value < lowest, x), x, best)
        x, inner = optimizer_step(solver, pullback(jnp.ones_like(value))[0], inner, x)
        return (x, inner, best, jnp.minimum(value, lowest)), None

    unknown = jnp.full_like(x, jnp.nan)  # and so it stays where the class is out of range
    start = (x, initial_state(solver, x), unknown, zero_each(x) + jnp.inf)
    return clip(jax.lax.scan(turn, start, length=steps)[0][2])


def mean_square(v: Array) -> Array:
    """The mean of the squares of each example."""
    return (v**2).mean(axis=tuple(range(1, v.ndim)))


def similar_adversarial(
    apply: Apply,
    *,
    confidence: float = 1.0,
    closeness: float = 1.0,
    steps: int = 100,
    bounds: Bounds = None,
    optimizer: optax.GradientTransformation | None = None,
) -> Explain:
    """The difference of two images close to the input, one of them seen as the target's class and one not.

    ``min over x_s, x_a of [confidence - M(x_s)]₊² + [confidence + M(x_a)]₊²
    + closeness (d(x_a, x_s)² + d(x_s, x)² + d(x_a, x)²)``, ``A = |x_a - x_s|``

    with the margin ``M = z_c - max_{j≠c} z_j``, and d the L2 distance over ``(|M(x)| + confidence) / ‖∂M/∂x‖``, which
    is how far the other class would be, were the network linear: so that the weights suit every network.

    The paper trains two generators to make such images: see `jaxplain.perturbation.generators`. Here, the two images
    are optimised for each input by itself, by L-BFGS. The loss is ours.

    Args:
      apply: ``apply(*args) -> logits (N, K)``, any JAX function.
      confidence: by how much the target's logit is to exceed the others, and to fall behind one.
      closeness: the weight of the distances.
      steps: the number of steps.
      bounds: as for `adversarial_gradient_integration`.
      optimizer: as for `perceptual_ball`; it moves the images in the unit of d.

    Returns:
      An explainer; the attribution has the input's shape and unit, and is not negative.

    Raises:
      ValueError: if an option is out of range, ``apply`` returns no logits, or the target is no class.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxplain.perturbation import similar_adversarial
      >>> explain = similar_adversarial(lambda x: 10 * x @ jnp.eye(3)[:, :2])
      >>> explain(jnp.array([[1.0, 0.5, 0.0]])).round(1)
      Array([[0.1, 0.1, 0. ]], dtype=float32)

    Reference:
      Charachon, Hudelot, Cournède, Ruppli, Ardon: Combining Similarity and Adversarial Learning to Generate Visual
      Explanation. ICPR 2020, arXiv:2012.07332.
    """
    require_positive(steps=steps)
    require_optimizer(optimizer)
    solver = lbfgs() if optimizer is None else optimizer

    @explainer(apply)
    def explain(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        dtype, (f, x) = x.dtype, in_float32(f, x)
        chosen = chosen_class("similar_adversarial", target, f(x) if target is None else jax.eval_shape(f, x))
        similar, adversarial = optimise_pair(f, x, chosen, clipper(bounds, x), confidence, closeness, solver, steps)
        return jnp.abs(adversarial - similar).astype(dtype)

    return explain


def optimise_pair(
    f: Function,
    x: Array,
    chosen: Array,
    clip: Function,
    confidence: float,
    closeness: float,
    solver: optax.GradientTransformation,
    steps: int,
) -> tuple[Array, Array]:
    """The similar and the adversarial image of each image."""
    unit = boundary_distance(f, x, chosen, confidence)
    pair = lambda changes: (clip(x + unit * changes[:, 0]), clip(x + unit * changes[:, 1]))

    def loss(changes: Array) -> Array:
        return pair_loss(f, x, *pair(changes), chosen, unit, confidence, closeness)

    return pair(minimise(loss, jnp.zeros_like(jnp.stack([x, x], axis=1)), solver, steps))


def pair_loss(
    f: Function,
    x: Array,
    similar: Array,
    adversarial: Array,
    chosen: Array,
    unit: Array,
    confidence: float,
    closeness: float,
) -> Array:
    """How far the margins of two images are from where they should be, and the images from each other and ``x``."""
    missing = jnp.maximum(confidence - margin(f(similar), chosen), 0) ** 2
    missing += jnp.maximum(confidence + margin(f(adversarial), chosen), 0) ** 2
    apart = (adversarial - similar, similar - x, adversarial - x)
    return missing + closeness * sum(((d / unit) ** 2).sum(axis=tuple(range(1, x.ndim))) for d in apart)


def boundary_distance(f: Function, x: Array, chosen: Array, confidence: float) -> Array:
    """``(|M| + confidence) / ‖∂M/∂x‖`` of each image: the L2 distance to another class, were the network linear."""
    value, pullback = jax.vjp(lambda x: margin(f(x), chosen), x)
    return like_examples(jnp.abs(value) + confidence, x) / norm_of(*pullback(jnp.ones_like(value)))
