"""Where relevance goes: a table of a network's units with their rules, and what each of them keeps from its inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from .._convention import Apply, Array, Target, full_precision, outputs_of, split
from .._execution import executable
from .._html import counted, html_table
from .._text import text_table
from . import composites
from ._ledger import Entry, no_entry, total
from ._lrp import prepared, start
from ._unit_call import Composite, Rule, UnitCall
from ._units import Unit
from .composites import NamedComposite

__all__ = ["summary"]

HEADING = ("", "path", "kind", "input", "output", "rule", "in", "out", "bias", "stabiliser", "dead")


@dataclass(frozen=True)
class Row:
    """One unit: what it is, which rule it has, its ledger."""

    unit: Unit
    rule: str
    ledger: Entry


@dataclass(frozen=True)
class Summary:
    """A table of units; print it.

    Attributes:
      rows: every unit that has a rule, in the order of evaluation.
      start: the relevance of the outputs, summed over the batch.
      total: the relevance of the input, summed over the batch.
    """

    rows: tuple[Row, ...]
    start: float
    total: float

    @property
    def gap(self) -> float:
        """``start`` less the input's relevance and all that units kept: 0 where nothing is unaccounted for."""
        kept = sum(r.ledger.bias + r.ledger.stabilizer + r.ledger.dead for r in self.rows)
        return self.start - self.total - kept

    def __repr__(self) -> str:
        """How many units there are, and the sums; `print` shows the table."""
        return f"Summary({counted(len(self.rows), 'unit')}; {self._sums()})"

    def _repr_html_(self) -> str:
        return html_table(HEADING, map(_cells, self._shown()), caption=self._sums())

    def _shown(self) -> list[Row]:
        """The units that weigh or keep something."""
        return [row for row in self.rows if row.unit.kind != "shape" or row.ledger.bias]

    def _sums(self) -> str:
        return (
            f"relevance of the outputs {self.start:.6g}, of the input {self.total:.6g}, unaccounted for {self.gap:.2g}"
        )

    def __str__(self) -> str:
        return f"{text_table(HEADING, map(_cells, self._shown()), numbers_from=6)}\n\n{self._sums()}"


def _cells(row: Row) -> tuple[str, ...]:
    unit = row.unit
    shape = lambda s: "x".join(map(str, s)) or "()"
    first = "first " if unit.first and unit.affine else ""
    return (
        str(unit.position),
        unit.path or "-",
        first + unit.kind,
        " ".join(map(shape, unit.input_shapes)),
        shape(unit.output_shape),
        row.rule,
        *(f"{value:.4g}" for value in row.ledger),
    )


def summary(apply: Apply, composite: NamedComposite = "epsilon_plus") -> Callable[..., Summary]:
    """The units of a network, the rule of each, and the ledger of relevance.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      composite: as for `jaxplain.lrp`.

    Returns:
      A function ``(*args, target=None) -> Summary``; it compiles the explanation to run it once.

    Raises:
      ValueError, TypeError: as `jaxplain.lrp`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: jnp.maximum(x @ jnp.array([[1.0, -1.0], [2.0, 1.0]]) + 0.5, 0)
      >>> table = jaxplain.summary(f)(jnp.array([[1.0, 1.0]]), target=0)
      >>> [(row.unit.kind, row.rule) for row in table.rows]
      [('dense', 'epsilon(1e-06)'), ('activation', 'pass_through()')]
      >>> round(table.rows[0].ledger.bias, 3), round(table.total, 3)
      (0.5, 3.0)
    """
    composite = composites.resolve(composite)

    def summarize(*args: Any, target: Target = None) -> Summary:
        context, x = split(args)

        def ledger(context: Any, x: Array) -> tuple[Array, Array, Any]:
            network, rule_of = prepared(lambda x: outputs_of(apply, (*context, x)), x, composite)
            entries = {unit.position: no_entry() for unit in network.plan.units()}
            run = lambda x, entries: network(with_ledger(rule_of), x, entries=entries)
            outputs, pullback = jax.vjp(run, x, entries)
            relevance = start(outputs, target)
            result, entries = pullback(relevance)
            return relevance.sum(), result.sum(), entries

        network, rule_of = prepared(lambda x: outputs_of(apply, (*context, x)), x, composite)
        first, last, entries = jax.jit(executable(apply, full_precision(ledger)))(context, x)
        rows = tuple(
            Row(unit, getattr(rule_of(unit), "__name__", "-"), Entry(*map(float, entries[unit.position])))
            for unit in network.plan.units()
        )
        return Summary(rows, float(first), float(last))

    return summarize


def with_ledger(rule_of: Composite) -> Composite:
    """The same rules; operations that only move numbers record what falls on constants."""

    def moved(call: UnitCall, x: Any, y: Array, r: Array) -> Any:
        result = call.vjp(x, r)
        call.account.record(bias=total(r) - total(result))
        return result

    def noted(unit: Unit) -> Rule | None:
        return moved if unit.kind == "shape" and unit.is_float else rule_of(unit)

    return noted
