"""Masks that outlive a matrix product are kept as bits.

The derivative of a rectifier asks where its input was positive, long after the forward pass. XLA on a CPU then keeps
the input, thirty-two times as large, and compares once more; and most of an explanation's memory is such inputs. It
does not compute sums again, so that a mask which is a sum of bits is kept as it is: the same mask, less memory, and
less time, since fresh memory is slow.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.export import is_symbolic_dim

from .._graph.equations import non_literals
from .._graph.primitives import ELEMENTWISE
from ._equations import multiplies
from ._strided_scatter import Array

LARGE = 2**18  # from here on it is worth the time to compile
BITS = 8  # of the integer that they are kept in


def packed_roundtrip(values: Array, width: int = 1) -> Array:
    """The same values ``(N, ..., C)``, of ``width`` bits, computed through integers that hold several of them.

    XLA keeps the integers, which are a sum, until the values are read, and unpacks them there.
    """
    # The axis is cut into `count` equal parts; elements at the same place of each part share an integer.
    axis, count = packing_axis(jax.typeof(values), BITS // width)
    split = (*values.shape[:axis], count, values.shape[axis] // count, *values.shape[axis + 1 :])

    # Part k is shifted by k * width bits, so that the bits of no two parts meet and their sum holds all.
    place = width * lax.broadcasted_iota(jnp.uint8, split, axis)
    packed = jnp.sum(values.reshape(split).astype(jnp.uint8) << place, axis=axis, keepdims=True, dtype=jnp.uint8)

    # Each part shifts its own bits back and drops the others.
    return ((jnp.broadcast_to(packed, split) >> place) % 2**width).astype(values.dtype).reshape(values.shape)


def packing_axis(values: Any, most: int = BITS) -> tuple[int, int]:
    """Along which axis values share an integer, and how many do; one where none is suitable.

    The last axis but for the channels, since a batch is sharded over the first ones, and never one whose type says that
    it is sharded.
    """
    for axis in (*range(values.ndim - 2, 0, -1), values.ndim - 1):
        if axis > 0 and values.sharding.spec[axis] is None and not is_symbolic_dim(values.shape[axis]):
            count = max(count for count in range(1, most + 1) if values.shape[axis] % count == 0)
            if count >= max(2, most // 2):
                return axis, count
    return 0, 1


def long_lived_masks(jaxpr: Any) -> set[Any]:
    """The masks of a jaxpr that are read after a later matrix product, or outside, while what they compare is not.

    All equations of the jaxpr are to be live.

    Time is counted in matrix products: between two of them XLA fuses operations, and keeps nothing.
    """
    products = 0  # so far
    made: dict[Any, int] = {}  # how many came before a value; a mask counts as made when what it compares was
    compared: dict[Any, set[Any]] = {}  # by each mask, or by the masks that it was made of
    late = set(non_literals(jaxpr.outvars))  # what is read outside, or with a product in between
    constants = set()  # what is made of numbers alone
    earlier = lambda time, values: {v for v in values if made.get(v, 0) < time}
    for eqn in jaxpr.eqns:
        operands, out = non_literals(eqn.invars), eqn.outvars
        if constants.issuperset(operands):
            constants.update(out)
        elif eqn.primitive in ELEMENTWISE and out[0].aval.dtype == bool:
            # A mask, or a combination of masks. It may be computed as soon as its operands are there.
            made[out[0]] = max(made.get(v, 0) for v in operands)
            compared[out[0]] = set().union(*(compared.get(v, [v]) for v in operands))
            late |= earlier(made[out[0]], compared.keys() & operands)
            continue
        # Any other operation reads its operands now; those that were made before the last product were kept for it.
        late |= earlier(products, operands)
        products += multiplies(eqn)
        made |= dict.fromkeys(out, products)

    # Where something reads late what a mask compares, that is kept anyway, and bits beside it save nothing.
    return {v for v, of in compared.items() if v in late and late.isdisjoint(of) and is_large_enough(v.aval)}


def is_large_enough(mask: Any) -> bool:
    """Whether a mask is large, and of a shape that can be kept in bits."""
    return not any(map(is_symbolic_dim, mask.shape)) and mask.size >= LARGE and packing_axis(mask)[1] > 1
