"""Who makes a value of a graph, and which values are divided by their own sum."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.extend import core as jexc
from jax.extend.core import primitives as P

from .primitives import RELABEL
from .trace import Graph, Op


class Makers:
    """Which operation makes a value of a graph."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.producer = {out: op for op in graph.ops for out in op.outputs}

    def normalised_axis(self, op: Op) -> int | None:
        """The axis along which an operation divides a value by its own sum, as a softmax does.

        That may be done in logarithms: ``exp(z - log Σ exp z)``, with a maximum taken out and put back or not.
        """
        if op.primitive is P.exp_p:
            return self.axis_of_logsumexp(op.inputs[0])
        if op.primitive is not P.div_p or not all(isinstance(a, int) for a in op.inputs):
            return None
        value, total = map(self.behind_moves, op.inputs)
        sums = self.producer.get(total)
        if sums is None or sums.primitive is not P.reduce_sum_p or len(sums.params["axes"]) != 1:
            return None
        same_rank = len(self.graph.aval(sums.inputs[0]).shape) == len(self.graph.aval(op.outputs[0]).shape)
        return sums.params["axes"][0] if same_rank and self.behind_moves(sums.inputs[0]) == value else None

    def axis_of_logsumexp(self, atom: Any) -> int | None:
        """The axis along which a value has the logarithm of the sum of its exponentials subtracted."""
        difference = self.made(atom, P.sub_p)
        if difference is None:
            return None
        value, logarithm = difference.inputs
        sum_of_both = self.made(logarithm, P.add_p)  # where a maximum was taken out before, it comes back
        terms = sorted(sum_of_both.inputs, key=lambda a: self.made(a, P.log_p) is None) if sum_of_both else [logarithm]
        log = self.made(terms[0], P.log_p)
        size = log and self.made(log.inputs[0], P.abs_p)
        total = log and self.made((size or log).inputs[0], P.reduce_sum_p)
        power = total and self.made(total.inputs[0], P.exp_p)
        if total is None or power is None or len(total.params["axes"]) != 1:
            return None
        (exponent,) = power.inputs
        if sum_of_both:
            less = self.made(exponent, P.sub_p)
            if less is None or self.behind_moves(less.inputs[1]) != self.behind_moves(terms[1]):
                return None
            exponent = less.inputs[0]
        return total.params["axes"][0] if self.behind_moves(exponent) == self.behind_moves(value) else None

    def made(self, atom: Any, by: jexc.Primitive) -> Op | None:
        """The operation that makes a value, but for its axes and the like, if it is of this kind."""
        op = self.maker(self.behind_moves(atom))
        return op if op is not None and op.primitive is by else None

    def maker(self, atom: Any) -> Op | None:
        """The operation that makes a value; None for what is given, and for numbers."""
        return self.producer.get(atom) if isinstance(atom, int) else None

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
