"""Masks learned by gradient descent, one for each example and all of a batch at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from .._convention import Array, require_positive
from ._attacks import initial_state, optimizer_step

if TYPE_CHECKING:
    import optax

Loss = Callable[[Array, Array], Array]


def optimise(
    loss: Loss, start: Array, optimizer: optax.GradientTransformation, steps: int, history: int | None
) -> Array:
    """Minimise a loss over masks in [0, 1], each example on its own whatever the optimizer couples.

    Args:
      loss: ``(masks (N, h, w), step) -> (N,)``, of each example its own.
      start: the first masks, ``(N, h, w)``.
      optimizer: any optax transformation; every example has its own state.
      steps: how many steps are taken.
      history: how many masks are returned along the way, in equal distances and the last one included.

    Returns:
      The masks ``(N, history, h, w)``, or the last ones ``(N, h, w)`` if ``history`` is None.
    """

    def step(state: tuple[Array, optax.OptState], t: Array) -> tuple[tuple[Array, optax.OptState], None]:
        masks, inner = state
        slope = jax.grad(lambda masks: loss(masks, t).sum())(masks)
        masks, inner = optimizer_step(optimizer, slope, inner, masks)
        return (jnp.clip(masks, 0, 1), inner), None

    def segment(state: tuple[Array, optax.OptState], ts: Array) -> tuple[tuple[Array, optax.OptState], Array]:
        state, _ = jax.lax.scan(step, state, ts)
        return state, state[0]

    ts = jnp.arange(steps).reshape(history or 1, -1)
    _, masks = jax.lax.scan(segment, (start, initial_state(optimizer, start)), ts)
    return masks[0] if history is None else masks.swapaxes(0, 1)


def require_steps(steps: int, history: int | None) -> None:
    """Check how many steps are taken, and how many masks are asked for along the way."""
    require_positive(steps=steps, history=1 if history is None else history)
    if history is not None and steps % history:
        raise ValueError(f"{steps=} do not divide into {history=} equal stretches: choose a divisor")


def require_optimizer(optimizer: optax.GradientTransformation | None) -> None:
    """Check that an optimizer is one of optax's."""
    if optimizer is not None and not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(f"optimizer is {type(optimizer).__name__}: pass an optax transformation like optax.adam(0.1)")


def constant(value: float, shape: tuple[int, int], x: Array) -> Array:
    """Masks of one value, ``(N, h, w)``, in at least float32 and with the sharding of the examples."""
    zero = jnp.zeros_like(x[:, :1, :1, 0], jnp.promote_types(x.dtype, jnp.float32))
    return zero + jnp.full((1, *shape), value, zero.dtype)


def each_in(history: int | None, fn: Callable[[Array], Array], masks: Array) -> Array:
    """Apply ``fn`` to masks ``(N, h, w)``, or to each of a history ``(N, history, h, w)``."""
    return fn(masks) if history is None else jax.vmap(fn, in_axes=1, out_axes=1)(masks)
