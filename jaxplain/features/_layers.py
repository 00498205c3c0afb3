"""The names of a network's layers, listed as a tree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._convention import Apply, outputs_of, split
from .._graph.described import Description
from .._graph.names import marked_trace, sites_by_name
from .._html import html_table
from .._text import text_table

__all__ = ["layers"]

HEADING = ("layer", "kind", "output", "parameters")


@dataclass(frozen=True)
class Line:
    """A layer in the tree.

    Attributes:
      name: its name, as every ``layer=`` takes it.
      kind: what is done with its weights, or the operation that its value comes from; empty for a module of several.
      shape: the shape of its value.
      parameters: how many numbers its weights have.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """What is printed: the last part of the name, indented by those in front of it."""
        *above, last = self.name.split("/")
        return (
            "  " * len(above) + last,
            self.kind,
            str(self.shape or ""),
            f"{self.parameters:,}" if self.parameters else "",
        )


class Layers(dict[str, tuple[int, ...]]):
    """The shapes of layers by name, in the order of evaluation; printed as a tree with their kinds and parameters."""

    lines: tuple[Line, ...] = ()

    def __str__(self) -> str:
        return text_table(HEADING, (line.cells for line in self.tree()), numbers_from=3)

    def _repr_html_(self) -> str:
        unbroken = lambda cell: cell.replace(" ", "\N{NO-BREAK SPACE}")  # which keeps the tree's indents
        return html_table(HEADING, (map(unbroken, line.cells) for line in self.tree()))

    def tree(self) -> list[Line]:
        """The layers, each behind the module that it is in; modules without a value of their own included."""
        first: dict[str, int] = {}
        for number, line in enumerate(self.lines):
            parts = line.name.split("/")
            for n in range(1, len(parts) + 1):
                first.setdefault("/".join(parts[:n]), number)
        known = {line.name: line for line in self.lines}
        place = lambda name: [first["/".join(name.split("/")[: n + 1])] for n in range(name.count("/") + 1)]
        names = sorted(first, key=lambda name: (place(name), name.count("/")))
        return [known.get(name, Line(name, "", (), 0)) for name in names]


def layers(apply: Apply) -> Callable[..., Layers]:
    """The names of a network's layers, for the ``layer=`` of every method, for composites and for ``--layer``.

    A layer is called as its framework calls it: by the path of the module in Flax Linen and NNX, Haiku and Keras; by
    the path of its weights among the parameters, ``"blocks/0/conv"``, in Equinox and in plain functions; by the name
    that ``jax.ad_checkpoint.checkpoint_name`` gave its value; by the path in what Flax's ``capture_intermediates``,
    ``sow`` and ``nnx.capture`` return beside the outputs; by its `jax.named_scope`.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function. Pass parameters as arguments in front of the input where
        they are in no closure, object or global of ``apply``.

    Returns:
      A function ``(*args) -> {name: shape of its output}``, in the order of evaluation; printed, a tree with kinds and
      numbers of parameters. Layers that are called several times, lie in a loop or return several arrays appear as
      ``"name[0]"``, ``"name[1]"``, ...

    Example:
      >>> import jax, jax.numpy as jnp, jaxplain, flax.linen as nn
      >>> net = nn.Sequential([nn.Conv(4, (3, 3)), nn.relu, nn.Conv(8, (3, 3), strides=2)])
      >>> x = jnp.ones((1, 6, 6, 3))
      >>> found = jaxplain.layers(net.apply)(net.init(jax.random.key(0), x), x)
      >>> found
      {'layers_0': (1, 6, 6, 4), 'layers_2': (1, 3, 3, 8)}
      >>> print(found)
      layer     kind  output        parameters
      --------  ----  ------------  ----------
      layers_0  conv  (1, 6, 6, 4)         112
      layers_2  conv  (1, 3, 3, 8)         296
    """

    def listed(*args: Any) -> Layers:
        context, x = split(args)
        graph = marked_trace(lambda x: outputs_of(apply, (*context, x)), x)
        described, lines = Description(graph), []
        for name, sites in sites_by_name(graph).items():
            for i, site in enumerate(sites):
                numbered = f"{name}[{i}]" if len(sites) > 1 else name
                lines.append(Line(numbered, described.kind(name, site), site.shape, described.parameters(name)))
        found = Layers({line.name: line.shape for line in lines})
        found.lines = tuple(lines)
        return found

    return listed
