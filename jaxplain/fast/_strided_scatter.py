"""Add terms into one array at given offsets and strides: the transpose of strided slicing, as loops fast on a CPU."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array: TypeAlias = jax.Array
Term: TypeAlias = "tuple[Sequence[int], Array]"


def sum_of_shifted(terms: Sequence[Term], strides: Sequence[int], shape: tuple[int, ...]) -> Array:
    """``y[i] = Σ over (offset, term) of term[(i + offset) / stride]``, where that is whole and inside.

    The outputs are sorted by the remainder of ``i / stride``. Those of one remainder are a dense array, to which a term
    contributes everywhere or nowhere; zeros are put between them after they are summed. Terms with zeros between their
    values, as the transpose of a slice has them, would add up mostly zeros.

    Args:
      terms: pairs of an offset, one number an axis, and an array.
      strides: one an axis.
      shape: of the result.
    """
    zero = jnp.zeros((), terms[0][1].dtype)
    add = functools.partial(functools.reduce, jnp.add)

    def outputs_of(remainder: tuple[int, ...]) -> list[Array]:
        # The outputs i = remainder + stride * j inside the shape are those of j = 0, ..., count - 1 of each axis.
        counts = [-(-(n - r) // stride) for n, r, stride in zip(shape, remainder, strides, strict=True)]
        aligned = []
        for offset, term in terms:
            # (i + offset) / stride is j + start where the rest is zero, and whole for no j elsewhere. So output j reads
            # term[j + start]: the term is cut off, or padded with zeros, to the `count` values from `start` on.
            start, rest = np.divmod(np.add(remainder, offset), strides)
            if not rest.any():
                edges = zip(start.tolist(), counts, term.shape, strict=True)
                aligned.append(lax.pad(term, zero, [(-i, i + count - n, 0) for i, count, n in edges]))
        # Back to i: `remainder` zeros before the first output, stride - 1 between two, the missing ones after the last.
        axes = zip(shape, remainder, counts, strides, strict=True)
        between = [(r, n - r - (count - 1) * stride - 1, stride - 1) for n, r, count, stride in axes]
        return [lax.pad(add(aligned), zero, between)] if aligned and 0 not in counts else []

    sums = [y for remainder in np.ndindex(*strides) for y in outputs_of(remainder)]
    return add(sums) if sums else jnp.broadcast_to(zero, shape)
