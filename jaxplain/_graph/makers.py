"""Who makes a value of a graph, and which values are divided by their own sum."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.extend.core import primitives as P

from .primitives import RELABEL
from .trace import Graph, Op


class Makers:
    """Which operation makes a value of a graph."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.producer = {out: op for op in graph.ops for out in op.outputs}

    def normalised_axis(self, op: Op) -> int | None:
        """The axis along which an operation divides a value by its own sum, as a softmax does."""
        if op.primitive is not P.div_p or not all(isinstance(a, int) for a in op.inputs):
            return None
        value, total = map(self.behind_moves, op.inputs)
        sums = self.producer.get(total)
        if sums is None or sums.primitive is not P.reduce_sum_p or len(sums.params["axes"]) != 1:
            return None
        same_rank = len(self.graph.aval(sums.inputs[0]).shape) == len(self.graph.aval(op.outputs[0]).shape)
        return sums.params["axes"][0] if same_rank and self.behind_moves(sums.inputs[0]) == value else None

    def behind_moves(self, value: Any) -> Any:
        """The value that another one is, but for its axes, their sizes, its precision, and what a mask makes zero."""
        while isinstance(value, int) and (op := self.producer.get(value)) is not None:
            if op.primitive in RELABEL | {P.broadcast_in_dim_p}:
                (value, *_) = op.inputs
            elif (kept := self.kept_by_mask(op)) is not None:
                value = kept
            else:
                break
        return value

    def kept_by_mask(self, op: Op) -> int | None:
        """The value that an operation keeps where a mask says so, if it is zero elsewhere."""
        if op.primitive is not P.select_n_p or len(op.inputs) != 3:
            return None
        kept = [a for a in op.inputs[1:] if not self.is_zero(a)]
        return kept[0] if len(kept) == 1 and isinstance(kept[0], int) else None

    def is_zero(self, atom: Any) -> bool:
        """Whether a value is a zero that stands in the network."""
        while isinstance(atom, int) and (op := self.producer.get(atom)) is not None:
            if op.primitive not in RELABEL | {P.broadcast_in_dim_p}:
                return False
            (atom, *_) = op.inputs
        value = self.graph.constants.get(atom) if isinstance(atom, int) else atom.val
        return value is not None and np.ndim(value) == 0 and value == 0
