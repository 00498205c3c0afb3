"""One evaluation of a unit: what a rule is given."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import jax

from .._convention import Array
from .._graph.trace import read, run
from ._affine_map import AffineMap
from ._ledger import Account
from ._units import Unit, linear_steps


@dataclass(frozen=True, eq=False)
class UnitCall:
    """A unit together with the values of its constants.

    Attributes:
      unit: what is known of it: its kind, its path, the sign of its input.
      constants: their values, by number.
      account: where a rule records what it keeps from the inputs.
    """

    unit: Unit
    constants: dict[int, Any]
    account: Account = field(default_factory=Account)
    _affine: AffineMap | None = None

    @functools.cached_property
    def affine(self) -> AffineMap:
        """The unit's weight and bias.

        Raises:
          ValueError: if it has none.
        """
        if self._affine is not None:
            return self._affine
        if self.unit.affine is None:
            raise ValueError(
                f"the unit `{self.unit.kind}` at {self.unit.place} has no weight: give it a rule that needs none, "
                "or let the composite answer None there"
            )
        return AffineMap(self.unit, self.unit.affine, self.constants)

    def negated(self) -> UnitCall:
        """The same with the opposite weight and bias."""
        return dataclasses.replace(self, _affine=self.affine.negated())

    def forward(self, *inputs: Array) -> Any:
        """What the network computes here: an array, or a tuple where the unit has several results."""
        outputs = self.results(inputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def with_fixed_scale(self, x: Array) -> Callable[[Array], Array]:
        """What a normalisation computes with its statistics held as they are at ``x``: linear, up to a shift.

        Raises:
          ValueError: if the unit is none.
        """
        ops, (value,), (out, *_) = self.unit.ops, self.unit.inputs, self.unit.outputs
        steps, at_x = linear_steps(ops, value, x.size), run(ops, {**self.constants, value: x})
        if not any(out in op.outputs for op, _ in steps):
            raise ValueError(
                f"the unit `{self.unit.kind}` at {self.unit.place} is not linear where its statistics are held: give "
                "it another rule"
            )

        def normalise(x: Array) -> Array:
            linear = {value: x}
            for op, varies in steps:
                pairs = zip(varies, read(op.inputs, at_x | linear), read(op.inputs, at_x), strict=True)
                operands = [value if flag else held for flag, value, held in pairs]
                linear.update(zip(op.outputs, op.bind(*operands), strict=True))
            return linear[out]

        return normalise

    def results(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """All results of the unit."""
        env = run(self.unit.ops, {**self.constants, **dict(zip(self.unit.inputs, inputs, strict=True))})
        return tuple(env[out] for out in self.unit.outputs)

    def vjp(self, inputs: Any, cotangent: Any) -> Any:
        """The true backward pass of the unit at ``inputs``, an array or a tuple of them."""
        return self.pullback(inputs)(cotangent)

    def pullback(self, inputs: Any) -> Callable[[Any], Any]:
        """The same for any number of cotangents."""
        several = isinstance(inputs, tuple)
        _, pull = jax.vjp(self.forward, *(inputs if several else (inputs,)))
        return pull if several else lambda cotangent: pull(cotangent)[0]


Rule: TypeAlias = Callable[[UnitCall, Any, Any, Any], Any]
Composite: TypeAlias = "Callable[[Unit], Rule | None]"


@dataclass(frozen=True, eq=False)
class TwoWayRule:
    """A rule that says what is computed forward as well.

    Attributes:
      forward: ``(call, inputs in lanes) -> the result in each lane``, in place of the network's own.
      backward: ``(call, inputs, outputs, relevance) -> relevance of the inputs``, as any rule.
    """

    forward: Callable[[UnitCall, Any], tuple[Array, ...]]
    backward: Rule

    def __call__(self, call: UnitCall, inputs: Any, outputs: Any, relevance: Any) -> Any:
        """The backward pass."""
        return self.backward(call, inputs, outputs, relevance)
