"""Attacks: small changes of an image after which the network sees another class, and what they share.

An attack is called like an explainer, ``attack(*args, target=None, key=None)``, and returns images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .. import _reductions as reductions
from .._batching import vmap_behind
from .._convention import (
    Apply,
    Array,
    Explain,
    Function,
    Heed,
    Target,
    chosen_class,
    example_keys,
    explainer,
    heed_logits,
    require_positive,
    require_several,
    scores,
    weighted_sum,
    zero_each,
)
from .._gradients import slope_of
from .._images import like_examples
from .._reductions import at_least_float32, largest, or_one

__all__ = ["deepfool", "fgsm", "pgd"]

if TYPE_CHECKING:
    import optax

Bounds: TypeAlias = tuple[ArrayLike, ArrayLike] | None
Norm: TypeAlias = Literal["inf", "2"]


def fgsm(apply: Apply, *, epsilon: ArrayLike, bounds: Bounds = None, toward: ArrayLike | None = None) -> Explain:
    """The fast gradient sign method: one step that changes every value by ε.

    ``x' = x - ε sign(∂ log p_c/∂x)``; with ``toward``, ``x' = x + ε sign(∂ log p_toward/∂x)``.

    A target that is no class is taken as the score to lower: of float weights, that of the log-probabilities.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      epsilon: the size of the step, in the input's (preprocessed) units.
      bounds: the lowest and highest value of the input, ``(low, high)``, which broadcast against it; None does not
        clip.
      toward: the class, or ``(N,)`` classes, to reach; None only leaves the target.

    Returns:
      A function ``(*args, target=None, key=None) -> images``, no value further than ε from the input's.

    Raises:
      ValueError: if the bounds do not broadcast.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxplain.perturbation import fgsm
      >>> fgsm(lambda x: x @ jnp.eye(2), epsilon=0.5)(jnp.array([[2.0, 0.0]]))
      Array([[1.5, 0.5]], dtype=float32)

    Reference:
      Goodfellow, Shlens, Szegedy: Explaining and Harnessing Adversarial Examples. ICLR 2015, arXiv:1412.6572.
    """

    @explainer(apply, heed=heed(toward))
    def attack(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        """Attack the last positional argument; the others, target and key are those of an explainer."""
        slope = slope_of(attack_score(f, x, target, toward))
        return clipper(bounds, x)(x - jnp.asarray(epsilon, x.dtype) * jnp.sign(slope(x)))

    return attack


def pgd(
    apply: Apply,
    *,
    epsilon: ArrayLike,
    step: ArrayLike,
    steps: int,
    norm: Norm = "inf",
    bounds: Bounds = None,
    toward: ArrayLike | None = None,
    random_start: bool = True,
) -> Explain:
    """Projected gradient descent: steps of steepest descent that stay in a ball around the input.

    ``x_{j+1} = Π(x_j - step · direction(∂ log p_c/∂x))``, with the sign of the gradient for the norm ``"inf"``, the
    gradient over its length for ``"2"``, and Π the projection to the ball of radius ε and to the bounds.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      epsilon: the radius of the ball, in the input's (preprocessed) units.
      step: the length of one step, in the same norm.
      steps: the number of steps.
      norm: ``"inf"`` or ``"2"``, of all values of an image together.
      bounds: as for `fgsm`; an input outside of them leaves the ball when it is clipped.
      toward: as for `fgsm`.
      random_start: whether to start at a random point of the ball, rather than at the input.

    Returns:
      A function ``(*args, target=None, key=None) -> images``; a random start needs ``key``.

    Raises:
      ValueError: if an option is out of range, the bounds do not broadcast, or a random start gets no ``key``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxplain.perturbation import pgd
      >>> attack = pgd(lambda x: x @ jnp.eye(2), epsilon=5.0, step=2.5, steps=4, norm="2", random_start=False)
      >>> attack(jnp.array([[3.0, 3.0]]), target=0).round(1)
      Array([[-0.5,  6.5]], dtype=float32)

    Reference:
      Madry, Makelov, Schmidt, Tsipras, Vladu: Towards Deep Learning Models Resistant to Adversarial Attacks. ICLR 2018,
      arXiv:1706.06083.
    """
    require_positive(steps=steps)
    if norm not in BALLS:
        raise ValueError(f"unknown norm {norm!r}: choose {' or '.join(BALLS)}")
    direction, project, draw = BALLS[norm]

    @explainer(apply, heed=heed(toward))
    def attack(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        """Attack the last positional argument; the others, target and key are those of an explainer."""
        clip, radius = clipper(bounds, x), jnp.asarray(epsilon, x.dtype)
        slope = slope_of(attack_score(f, x, target, toward))
        start = x
        if random_start:
            keys = example_keys(key, x, "pgd with a random start")
            noise = jax.vmap(lambda key: draw(key, x.shape[1:]))(keys)
            start = clip(x + radius * noise.astype(x.dtype))

        def turn(now: Array, _: None) -> tuple[Array, None]:
            then = now - jnp.asarray(step, x.dtype) * direction(slope(now))
            return clip(x + project(then - x, radius)), None

        return jax.lax.scan(turn, start, length=steps)[0]

    return attack


def deepfool(apply: Apply, *, steps: int = 50, overshoot: float = 0.02, candidates: int = 10) -> Explain:
    """The smallest change of the image, in the L2 norm, after which the network sees another class.

    With ``g_k = z_k - z_c`` for every other class k, lessened by ``overshoot · |g_k(x)|``, the nearest boundary of the
    linearised network is that of ``l = argmin_k |g_k| / ‖∂g_k/∂x‖``; step by step until the class has changed,
    ``r += |g_l| / ‖∂g_l/∂x‖² · ∂g_l/∂x``, evaluated at ``x + r``; ``A = r``. The paper aims at the boundary itself and
    multiplies r by ``1 + overshoot``, which is the same where the network is linear. Steps that are evaluated there and
    aim at the boundary come so close to it that rounding decides on which side they end.

    The change takes from the class and adds to its rival, both at once: where the rival's evidence appears elsewhere,
    that place is marked as much as the evidence of the class. An image that is not seen as the target needs no change:
    its map is zero.

    Args:
      apply: ``apply(*args) -> logits (N, K)``, any JAX function.
      steps: the largest number of steps.
      overshoot: how far to go beyond the boundary, as a share of the way to it.
      candidates: how many other classes are rivals, the strongest first, all where there are fewer.

    Returns:
      An explainer; the attribution is the change, signed, of the input's shape and unit.

    Raises:
      ValueError: if an option is out of range, ``apply`` returns no logits, or the target is no class.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxplain.perturbation import deepfool
      >>> explain = deepfool(lambda x: x @ jnp.array([[1.0, 0.0], [1.0, 0.0]]), overshoot=0.0)
      >>> explain(jnp.array([[1.0, 0.0]]))  # the logit 1, over 2, the squared length of its gradient (1, 1)
      Array([[-0.5, -0.5]], dtype=float32)

    Reference:
      Moosavi-Dezfooli, Fawzi, Frossard: DeepFool: a simple and accurate method to fool deep neural networks. CVPR 2016,
      arXiv:1511.04599.
    """
    require_positive(steps=steps, candidates=candidates)
    if not overshoot >= 0:
        raise ValueError(f"{overshoot=} must not be negative")

    @explainer(apply)
    def explain(f: Function, x: Array, target: Target, key: Array | None) -> Array:
        dtype, (f, x) = x.dtype, in_float32(f, x)
        outputs = f(x)
        chosen = chosen_class("deepfool", target, outputs)
        strongest = jax.lax.top_k(jnp.where(chosen == 1, -jnp.inf, outputs), min(candidates, outputs.shape[1] - 1))[1]
        rivals = jax.nn.one_hot(strongest.T, outputs.shape[1], dtype=outputs.dtype)
        directions = rivals - chosen[None]
        gaps_of = lambda z: weighted_sum(z[None], directions)
        beyond = overshoot * jnp.abs(gaps_of(outputs))

        def step(r: Array) -> tuple[Array, Array]:
            z, pullback = jax.vjp(f, x + r)
            slopes = vmap_behind(lambda direction: pullback(direction)[0])(directions)
            gaps = jnp.abs(gaps_of(z) - beyond)
            lengths = reductions.norm(slopes, tuple(range(2, slopes.ndim)))
            reachable = lengths > 0  # not a rival without a slope
            lengths = or_one(lengths)
            distances = jnp.where(reachable, gaps / lengths, jnp.inf)
            nearest = jax.nn.one_hot(distances.argmin(axis=0), len(distances), axis=0, dtype=x.dtype)
            weights = nearest * jnp.where(reachable, distances / lengths, 0)
            return r + jnp.einsum("kn,kn...->n...", weights, slopes), still_predicted(z, chosen)

        r, _ = scan_until_done(step, jnp.zeros_like(x), jnp.ones_like(outputs[:, 0], bool), steps)
        return r.astype(dtype)

    return explain


# ------------------------------------------------------------------------------------------- balls around an image


def norm_of(v: Array) -> Array:
    """The L2 norm of each example, 1 where it is zero."""
    length = reductions.norm(v, tuple(range(1, v.ndim)), keepdims=True)
    return or_one(length)


def in_unit_ball(key: Array, shape: tuple[int, ...]) -> Array:
    """A point drawn uniformly from the unit ball of the L2 norm."""
    where, how_far = jax.random.split(key)
    v = jax.random.normal(where, shape, jnp.float32)
    return v / jnp.sqrt((v**2).sum()) * jax.random.uniform(how_far, (), jnp.float32) ** (1 / v.size)


BALLS: dict[str, tuple[Function, Callable[[Array, Array], Array], Callable[..., Array]]] = {
    "inf": (  # the steepest direction, the projection, a point of the unit ball
        jnp.sign,
        lambda v, radius: jnp.clip(v, -radius, radius),
        lambda key, shape: jax.random.uniform(key, shape, jnp.float32, -1, 1),
    ),
    "2": (
        lambda v: v / norm_of(v),
        lambda v, radius: v * jnp.minimum(1, radius / norm_of(v)),
        in_unit_ball,
    ),
}


# ----------------------------------------------------------------------------------- what the adversarial methods share


AS_CALLABLE = "pass a callable target"


def heed(toward: ArrayLike | None) -> Heed:
    """What `explainer` heeds before `attack_score` takes the softmax of the outputs."""
    warn = heed_logits(AS_CALLABLE)
    return lambda outputs, target: warn(outputs, target) if toward is not None or not callable(target) else None


def attack_score(f: Function, x: Array, target: Target, toward: ArrayLike | None) -> Function:
    """The score ``x -> (N,)`` that an attack lowers: the log-probability, or minus that of the class to reach."""
    if toward is None and (callable(target) or jax.eval_shape(f, x).ndim != 2):
        return scores(f, x, target)
    require_several(jax.eval_shape(f, x), AS_CALLABLE)
    log_p = lambda x: jax.nn.log_softmax(f(x))
    if toward is None:
        return scores(log_p, x, target)
    reached = scores(log_p, x, toward)
    return lambda x: -reached(x)


def in_float32(f: Function, x: Array) -> tuple[Function, Array]:
    """The network and its input in at least float32; the network itself sees the input's own dtype."""
    return lambda v: at_least_float32(f(v.astype(x.dtype))), at_least_float32(x)


def clipper(bounds: Bounds, x: Array) -> Function:
    """A function that clips images like ``x`` to the lowest and highest values they may have."""
    if bounds is None:
        return lambda x: x
    try:
        low, high = (jnp.broadcast_to(jnp.asarray(bound, x.dtype), x.shape) for bound in bounds)
    except (TypeError, ValueError):
        raise ValueError(
            f"bounds must be (low, high), each of which broadcasts against the input's {x.shape}: pass two numbers, or "
            "two arrays with one value per channel"
        ) from None
    return lambda x: jnp.clip(x, low.astype(x.dtype), high.astype(x.dtype))


def margin(outputs: Array, chosen: Array) -> Array:
    """``z_c - max_{j != c} z_j``, the class given as one-hot rows."""
    return weighted_sum(outputs, chosen) - largest(jnp.where(chosen == 1, -jnp.inf, outputs))[..., 0]


def still_predicted(outputs: Array, chosen: Array) -> Array:
    """Whether the class is still predicted; True for an invalid class, so that its NaN reaches the map."""
    return ~(margin(outputs, chosen) <= 0)


def initial_state(solver: optax.GradientTransformation, at: Array) -> Any:
    """The state of an Optax optimiser at the start, one for each example and on its device."""
    return jax.tree.map(lambda a: a + like_examples(zero_each(at, a.dtype), a), jax.vmap(solver.init)(at))


def optimizer_step(solver: optax.GradientTransformation, slope: Any, inner: Any, at: Any) -> tuple[Any, Any]:
    """One step of an Optax optimiser, each example on its own: where it leads, and the new state."""
    import optax  # which takes long to import

    updates, inner = jax.vmap(solver.update)(slope, inner, at)
    return optax.apply_updates(at, updates), inner


def scan_until_done(
    step: Callable[[Any], tuple[Any, Array]], state: Any, active: Array, steps: int
) -> tuple[Any, Array]:
    """Take steps, at most so many, with every example that asks for one; what is finished stays as it is.

    A scan, so that an explanation can be differentiated; once all are finished, its turns cost nothing.

    Args:
      step: ``state -> (next state, going)``; ``going`` says which examples were not finished at ``state``.
      state: a tree of arrays, the axes of ``active`` in front.
      active: which examples take part.
      steps: the largest number of steps.

    Returns:
      The last state, and which examples were not seen to be finished.
    """

    def go(carry: tuple[Any, Array]) -> tuple[Any, Array]:
        state, active = carry
        moved, going = step(state)
        active = active & going
        along = lambda a: active.reshape(active.shape + (1,) * (a.ndim - active.ndim))
        return jax.tree.map(lambda new, old: jnp.where(along(new), new, old), moved, state), active

    def turn(carry: tuple[Any, Array], _: None) -> tuple[tuple[Any, Array], None]:
        return jax.lax.cond(carry[1].any(), go, lambda carry: carry, carry), None

    return jax.lax.scan(turn, (state, active), length=steps)[0]
