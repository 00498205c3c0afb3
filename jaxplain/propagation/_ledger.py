"""The ledger of one unit: what it keeps of the relevance that it receives, by where that goes."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._convention import Array
from .._reductions import divide as quotient


class Entry(NamedTuple):
    """The ledger of one unit, summed over the batch: ``relevance_in = relevance_out + bias + stabilizer + dead``.

    Attributes:
      relevance_in: what its output received.
      relevance_out: what its inputs got.
      bias: absorbed by biases and other constants.
      stabilizer: absorbed by the stabiliser of the denominators.
      dead: lost where a denominator is zero.
    """

    relevance_in: Any
    relevance_out: Any
    bias: Any
    stabilizer: Any
    dead: Any

    @property
    def gap(self) -> Any:
        """What is unaccounted for: not 0 where a rule neither conserves relevance nor records what it keeps."""
        return self.relevance_in - self.relevance_out - self.bias - self.stabilizer - self.dead


class Account:
    """What a rule records while it runs; nothing is summed where nobody asks for the ledger.

    Attributes:
      is_kept: whether somebody does.
      bias: what biases and other constants absorbed so far, summed over the batch.
      stabilizer: what the stabiliser of the denominators absorbed.
      dead: what was lost where a denominator is zero.
    """

    def __init__(self, is_kept: bool = True):
        self.is_kept = is_kept
        self.bias = self.stabilizer = self.dead = 0.0

    def record(self, *, bias: Any = 0.0, stabilizer: Any = 0.0, dead: Any = 0.0) -> None:
        """Add what biases take, what the stabiliser takes, and what dead denominators lose."""
        if self.is_kept:
            self.bias += total(bias)
            self.stabilizer += total(stabilizer)
            self.dead += total(dead)

    def divide(self, relevance: Array, z: Array, stabilizer: Any, bias: Any = 0.0) -> Array:
        """``R / (z + ε sign z)``, recording what the bias, the stabiliser and dead denominators take.

        Where the denominator is zero, nothing flows.

        Args:
          relevance: R.
          z: the denominator, the sum of all contributions.
          stabilizer: ε.
          bias: the part of ``z`` that no input made.
        """
        denominator = stabilize(z, stabilizer)
        share = quotient(relevance, denominator)
        if self.is_kept:
            lost = jnp.where(z == 0, 0, share * (denominator - z))
            self.record(bias=share * bias, stabilizer=lost, dead=jnp.where(z == 0, relevance, 0))
        return share.astype(z.dtype)

    def entry(self, relevance_in: Any, relevance_out: Any) -> Entry | None:
        """The ledger, given the relevance that arrived and that which was handed on; None where nobody asks for it."""
        if not self.is_kept:
            return None
        return Entry(*map(total, (relevance_in, relevance_out, self.bias, self.stabilizer, self.dead)))


def no_entry() -> Entry:
    """The ledger of a unit before anything has happened."""
    return Entry(*[jnp.zeros(())] * len(Entry._fields))


def stabilize(z: Array, stabilizer: Any) -> Array:
    """``z + ε sign z``, with sign 0 = 1."""
    return z + jnp.where(z >= 0, stabilizer, -jnp.asarray(stabilizer)).astype(z.dtype)


def total(values: Any) -> Array:
    """The sum of all relevance in a tree, in the default precision."""
    dtype = jnp.zeros(()).dtype
    leaves = (jnp.asarray(v) for v in jax.tree.leaves(values) if getattr(v, "dtype", None) != jax.dtypes.float0)
    return sum((jnp.sum(v.real, dtype=dtype) for v in leaves), jnp.zeros((), dtype))
