"""What the methods of this family share: images behind masks, and which score of them is asked for."""

from __future__ import annotations

from typing import Literal, TypeAlias

import jax
import numpy as np

from .._convention import Array, Function, Heed, Target, heed_logits, outputs_at, require_several, scorer

Explained: TypeAlias = Literal["probability", "output"]

DECLINE = "pass of='output'"


def require_images(x: Array | np.ndarray, method: str) -> None:
    """Check that there are pixels to put a mask on."""
    if x.ndim != 4:
        raise ValueError(f"{method} explains images (N, H, W, C), got shape {x.shape}")


def require_pair(**sizes: tuple[int, int]) -> None:
    """Check options that count along the rows and the columns of an image."""
    for name, pair in sizes.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
            raise ValueError(f"{name}={pair!r} must be two positive integers: along the rows, along the columns")


def require_explained(of: Explained) -> None:
    """Check the option that says what is explained."""
    if of not in ("probability", "output"):
        raise ValueError(f"unknown of={of!r}: choose probability or output")


def heed(of: Explained) -> Heed | None:
    """What to look at in the outputs before their softmax is taken."""
    return heed_logits(DECLINE) if of == "probability" else None


def of_classes(outputs: jax.ShapeDtypeStruct | Array, of: Explained) -> bool:
    """Whether a probability is explained: the softmax of logits ``(N, K)``."""
    return of == "probability" and outputs.ndim == 2


def score_of(f: Function, x: Array, target: Target, of: Explained) -> Function:
    """The explained score ``x -> (N,)``, its class fixed at ``x``.

    ``"probability"`` applies the target to the softmax of logits ``(N, K)``; outputs of another shape have no classes
    and are the score themselves, as they are for ``"output"``.
    """
    score = explained_of(outputs_at(f, x, target), target, of)
    return lambda x: score(f(x))


def explained_of(outputs: jax.ShapeDtypeStruct | Array, target: Target, of: Explained) -> Function:
    """The explained score as a function of the outputs, ``outputs -> (N,)``."""
    score = scorer(target, outputs)
    if not of_classes(outputs, of):
        return score
    require_several(outputs, DECLINE)
    return lambda outputs: score(jax.nn.softmax(outputs))


def blend(mask: Array, x: Array, x0: Array) -> Array:
    """``m x + (1 - m) x0`` for masks ``(N, H, W)`` and images ``(N, H, W, C)``, in the images' dtype."""
    m = mask[..., None].astype(x.dtype)
    return m * x + (1 - m) * x0


def per_example(values: Array) -> Array:
    """Values ``(N,)`` that multiply maps ``(N, H, W)``."""
    return values[:, None, None]
