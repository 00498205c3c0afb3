"""Test-time augmentation: the mean explanation of an image and of changed copies, each map changed back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from ._compose import transformed
from ._convention import Array, Explain, Target, attributed_axis, example_keys, fix_target, split

__all__ = ["augment"]

Augmentation: TypeAlias = "tuple[Callable[[Array], Array], Callable[[Array], Array]]"


def augment(explain: Explain, augmentations: Sequence[Augmentation] | None = None) -> Explain:
    """The mean map over changed copies of the input, each changed back to where the pixels were.

    ``A = (1/M) Σ_m undo_m(a(change_m(x)))``

    With ``target=None`` every copy explains the class that is predicted for the input itself. A map of the mean is
    mirrored where the image is, which convolutions with strides do not see to.

    Of mosaics of photographs Grad-CAM found the one that was asked for in 94 %, its mean in 96 %, lime in all of 24;
    of two garments, seen by a small vision transformer, both in 40 %, lime in 94 % (24 images;
    ``benchmarks/results/planted_evidence.md``).

    Args:
      explain: any explainer.
      augmentations: pairs ``(change, undo)``: of images to images of the same shape, and of maps to maps. None takes
        the image as it is, and mirrored from left to right. An image as it is, is a pair like others.

    Returns:
      An explainer; its maps have the shape of ``explain``'s.

    Raises:
      ValueError: if there is no augmentation, one changes the shape of images, or the input is no image and there is
        nothing to mirror.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: (x * jnp.array([1.0, 3.0]).reshape(1, 1, 2, 1)).sum(axis=(1, 2))
      >>> jaxplain.augment(jaxplain.gradient(f))(jnp.ones((1, 1, 2, 1))).ravel()
      Array([2., 2.], dtype=float32)

    Reference:
      The averages over mirrored and scaled copies of Gildenblat et al.: PyTorch library for CAM methods. 2021.
    """
    own = None if augmentations is None else list(augmentations)
    if own == []:
        raise ValueError("no augmentation: pass pairs (change, undo), or None for the image and its mirror image")
    for number, pair in enumerate(own or []):
        if not (isinstance(pair, tuple | list) and len(pair) == 2 and all(map(callable, pair))):
            raise TypeError(f"augmentation {number} is no pair of functions (change, undo): pass a list of such pairs")

    @transformed(explain)
    def augmented(*args: Any, target: Target = None, key: Array | None = None) -> Array:
        context, x = split(args)
        keys = None if key is None else example_keys(key, x, "augment")
        target = fix_target(explain, args, target)
        pairs = mirror_images(explain, args) if own is None else own
        maps = []
        for number, (change, undo) in enumerate(pairs):
            copy = change(x)
            if copy.shape != x.shape:
                raise ValueError(f"augmentation {number} makes images of shape {copy.shape} of those of {x.shape}")
            draw = None if keys is None else jax.vmap(lambda key, i=number: jax.random.fold_in(key, i))(keys)
            changed = explain(*context, copy, target=target, key=draw)
            maps.append(undo(changed))
            if jnp.shape(maps[-1]) != changed.shape:
                raise ValueError(f"undo of augmentation {number} makes {jnp.shape(maps[-1])} of maps {changed.shape}")
        return sum(maps[1:], maps[0]) / len(maps)

    return augmented


def mirror_images(explain: Explain, args: tuple[Any, ...]) -> list[Augmentation]:
    """The image as it is, and mirrored from left to right, wherever its channels are."""

    def mirrored(a: Array) -> Array:
        if a.ndim not in (3, 4) or args[-1].ndim != 4:
            raise ValueError(f"what has the shape {a.shape} has no left and right: pass augmentations=")
        return jnp.flip(a, 3 if a.ndim == 4 and attributed_axis(explain, args, a) == 1 else 2)

    return [(lambda a: a, lambda a: a), (mirrored, mirrored)]
