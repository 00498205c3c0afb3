"""Sums of shifted terms with strides, the transpose of strided slices, in a form that XLA runs fast on a CPU."""

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


def placed(terms: Sequence[Term], strides: Sequence[int], shape: tuple[int, ...]) -> Array:
    """``y[i] = Σ over (offset, term) of term[(i + offset) / stride]``, where that is whole and inside.

    One sum for each remainder of ``i / stride``, and zeros between its values only then: terms with zeros between their
    values would add up mostly zeros.
    """
    zero = jnp.zeros((), terms[0][1].dtype)
    add = functools.partial(functools.reduce, jnp.add)

    def of(remainder: tuple[int, ...]) -> list[Array]:
        counts = [-(-(n - r) // stride) for n, r, stride in zip(shape, remainder, strides, strict=True)]
        found = []
        for offset, term in terms:
            start, rest = np.divmod(np.add(remainder, offset), strides)
            if not rest.any():
                edges = zip(start.tolist(), counts, term.shape, strict=True)
                found.append(lax.pad(term, zero, [(-i, i + count - n, 0) for i, count, n in edges]))
        gaps = zip(shape, remainder, counts, strides, strict=True)
        between = [(r, n - r - (count - 1) * stride - 1, stride - 1) for n, r, count, stride in gaps]
        return [lax.pad(add(found), zero, between)] if found and 0 not in counts else []

    sums = [y for remainder in np.ndindex(*strides) for y in of(remainder)]
    return add(sums) if sums else jnp.broadcast_to(zero, shape)
