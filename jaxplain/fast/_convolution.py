"""Convolutions in the forms that XLA runs fast on a CPU.

XLA hands a convolution to a library that is good at dense kernels with many channels and slow at others, at depthwise
ones by a factor of up to a hundred. Written as sums of shifted slices, or as one matrix product, they become loops that
XLA compiles well. The forms hold for any layout, stride, dilation and padding, and are differentiable.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.export import is_symbolic_dim

from ._strided_scatter import Array, Term, placed

Form: TypeAlias = Callable[[Array, Array], Array]

FEW_CHANNELS = 8  # of a group: with more, multiplying them one at a time loses
FEW_GROUPS = 8
MOST_TERMS = 128  # of a sum that is written out
MOST_STEPS, MOST_TIMES = 8, 16  # of a dilation; and as large as its output may be what a product holds before its sum
ODD_CHANNELS, SLOW_OUTPUTS = (3, 5, 7), range(17, 33)  # with which the library is up to ten times slower
MANY_CHANNELS, FEW_OUTPUTS, MOST_PRODUCTS = 512, 2**18, 9  # where matrix products win: large kernels, small features


@dataclass(frozen=True)
class Convolution:
    """One convolution.

    Attributes:
      params: those of `jax.lax.conv_general_dilated`.
      lhs: the shape of its input.
      rhs: the shape of its kernel.
      out: the shape of its output.
      dtype: that of its output.
    """

    params: dict[str, Any]
    lhs: tuple[int, ...]
    rhs: tuple[int, ...]
    out: tuple[int, ...]
    dtype: Any

    def faster(self) -> Form | None:
        """A function ``(input, kernel) -> output`` that is faster than the library, where one is known."""
        form = self.form()
        if form is None:
            return None
        spec = self.params["dimension_numbers"]
        batch, channels, *space = spec.lhs_spec
        outputs, inputs, *window = spec.rhs_spec
        made = (spec.out_spec[0], *spec.out_spec[2:], spec.out_spec[1])

        def convolve(x: Array, w: Array) -> Array:
            order = sorted((inputs, outputs)) if form in (self.product, self.scattered) else (inputs, outputs)
            y = form(x.transpose(batch, *space, channels), w.transpose(*window, *order))
            return y.astype(self.dtype).transpose([made.index(axis) for axis in range(y.ndim)])

        return convolve

    def form(self) -> Form | None:
        """The same for an input ``(N, ..., channels)`` and a kernel ``(..., channels of a group, outputs)``."""
        spec, groups = self.params["dimension_numbers"], self.params["feature_group_count"]
        sizes = (*self.rhs, *(self.lhs[axis] for axis in spec.lhs_spec[2:]))
        if self.params["batch_group_count"] != 1 or any(map(is_symbolic_dim, sizes)) or 0 in self.rhs:
            return None
        channels, positions = self.rhs[spec.rhs_spec[1]], math.prod(self.rhs[axis] for axis in spec.rhs_spec[2:])
        if groups == 1 and self.is_scattered(positions):
            return self.scattered
        if groups == 1 and positions == 1:
            return self.product
        if groups == 1 and self.is_odd():
            return self.evenly
        if groups == 1:
            return None if self.is_canonical else self.by_group
        if channels <= FEW_CHANNELS and 0 < channels * positions <= MOST_TERMS:
            return self.slices
        return self.by_group if groups <= FEW_GROUPS else None

    @property
    def is_slices(self) -> bool:
        """Whether it becomes a sum of slices, its channels last."""
        return self.form() == self.slices and self.params["dimension_numbers"].out_spec[1] == len(self.out) - 1

    def is_scattered(self, positions: int) -> bool:
        """Whether one product for all positions is faster, and precise enough: of a dilated input, or few features."""
        strides = self.params["lhs_dilation"]
        steps = math.prod(strides)  # as many sums are written out, of all positions together: few, and not of patches
        if positions > MOST_TIMES * steps or max(self.params["window_strides"], default=1) > 1:
            return False
        if positions > 1 and (steps > MOST_STEPS or jnp.finfo(self.dtype).bits <= 16):
            return False
        return max(strides, default=1) > 1 or self.is_large_over_few(positions)

    def is_large_over_few(self, positions: int) -> bool:
        """Whether this is the derivative of a large kernel over small features."""
        return (
            self.inputs_last
            and not any(map(is_symbolic_dim, self.out))
            and self.rhs[self.params["dimension_numbers"].rhs_spec[1]] >= MANY_CHANNELS
            and positions <= MOST_PRODUCTS
            and math.prod(self.out) <= FEW_OUTPUTS
        )

    def is_odd(self) -> bool:
        """Whether this is a convolution of few channels, such as colours, that the library is slow at."""
        outputs, channels, *_ = (self.rhs[axis] for axis in self.params["dimension_numbers"].rhs_spec)
        return channels in ODD_CHANNELS and outputs in SLOW_OUTPUTS and self.dtype == jnp.float32

    @property
    def is_canonical(self) -> bool:
        """Whether channels come last, and the kernel's outputs behind its inputs."""
        spec = self.params["dimension_numbers"]
        last = tuple(range(len(self.lhs)))
        return all(s == (last[0], last[-1], *last[1:-1]) for s in (spec.lhs_spec, spec.out_spec)) and (
            spec.rhs_spec == (last[-1], last[-2], *last[:-2])
        )

    @property
    def inputs_last(self) -> bool:
        """Whether the kernel's inputs lie behind its outputs, as they do in the derivative of a convolution."""
        outputs, inputs, *_ = self.params["dimension_numbers"].rhs_spec
        return inputs > outputs

    def product(self, x: Array, w: Array) -> Array:
        """The matrix product of what the kernel's one position sees with the weights there."""
        position = (0,) * (w.ndim - 2)
        return self.multiplied(self.seen(self.padded(x), position, position), w.reshape(w.shape[-2:]))

    def scattered(self, x: Array, w: Array) -> Array:
        """One matrix product of the input with the weights of all positions, its terms added where they belong."""
        space = range(w.ndim - 2)
        turned = self.inputs_last  # a derivative's kernel is the network's turned; turned again, XLA takes that one
        w = lax.rev(w, space) if turned else w
        y = self.multiplied(x, w)
        low = [low for low, _ in self.params["padding"]]

        def term(position: tuple[int, ...]) -> Term:
            offset = np.multiply(position, self.params["rhs_dilation"]) - low
            there = tuple(w.shape[axis] - 1 - position[axis] for axis in space) if turned else position
            return (0, *offset.tolist(), 0), y[(slice(None),) * (x.ndim - 1) + there]

        out = self.params["dimension_numbers"].out_spec
        shape = (x.shape[0], *(self.out[axis] for axis in out[2:]), self.out[out[1]])
        return placed(list(map(term, np.ndindex(*w.shape[:-2]))), (1, *self.params["lhs_dilation"], 1), shape)

    def multiplied(self, x: Array, w: Array) -> Array:
        """The matrix product ``(N, ..., *window, outputs)`` with the kernel's matrices as they lie."""
        turned = self.inputs_last
        inputs = w.ndim - 1 if turned else w.ndim - 2
        matrix = w.reshape(-1, w.shape[-1]) if turned else jnp.moveaxis(w, inputs, 0).reshape(w.shape[inputs], -1)
        y = lax.dot_general(
            x,
            matrix,
            (((x.ndim - 1,), (int(turned),)), ((), ())),
            precision=self.params["precision"],
            preferred_element_type=self.dtype,
        )
        return y.reshape(*x.shape[:-1], *w.shape[:inputs], *w.shape[inputs + 1 :])

    def slices(self, x: Array, w: Array) -> Array:
        """The sum over the kernel's positions of the shifted input times the weights there."""
        groups = self.params["feature_group_count"]
        precise = self.dtype if jnp.finfo(self.dtype).bits > 32 else jnp.float32
        *window, channels, outputs = w.shape
        weights = w.astype(precise).reshape(-1, *[1] * (x.ndim - 1), groups, outputs // groups)
        x = self.padded(x.astype(precise))
        of_groups = jnp.unstack(x.reshape(*x.shape[:-1], groups, channels, 1), axis=-2)
        last = tuple(size - 1 for size in window)
        seen = (self.seen(x, position, last) for position in np.ndindex(*window) for x in of_groups)
        y = functools.reduce(jnp.add, map(jnp.multiply, seen, jnp.unstack(weights)))
        return y.reshape(*y.shape[:-2], outputs)

    def evenly(self, x: Array, w: Array) -> Array:
        """With channels of zeros, up to a multiple of four."""
        none, more = jnp.zeros((), x.dtype), -x.shape[-1] % 4
        x = lax.pad(x, none, [*[(0, 0, 0)] * (x.ndim - 1), (0, more, 0)])
        return self.by_group(x, lax.pad(w, none, [*[(0, 0, 0)] * (w.ndim - 2), (0, more, 0), (0, 0, 0)]))

    def by_group(self, x: Array, w: Array) -> Array:
        """One convolution for each group, in the only layout that the library knows inside loops."""
        groups, axes = self.params["feature_group_count"], range(x.ndim)
        layout = (axes[0], axes[-1], *axes[1:-1])
        spec = lax.ConvDimensionNumbers(layout, (axes[-1], axes[-2], *axes[:-2]), layout)
        params = self.params | {"feature_group_count": 1, "dimension_numbers": spec}
        parts = zip(jnp.split(x, groups, axis=-1), jnp.split(w, groups, axis=-1), strict=True)
        return jnp.concatenate([lax.conv_general_dilated_p.bind(x, w, **params) for x, w in parts], axis=-1)

    def padded(self, x: Array) -> Array:
        """With the padding, and with zeros between pixels where the input is dilated."""
        space = zip(self.params["padding"], self.params["lhs_dilation"], strict=True)
        rest = [(0, 0, 0)] * (x.ndim - 1 - len(self.params["padding"]))
        return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*p, dilation - 1) for p, dilation in space), *rest])

    def seen(self, x: Array, position: tuple[int, ...], last: tuple[int, ...]) -> Array:
        """What one position of the kernel sees of the padded input, for every output; ``last`` is its last position."""
        start, stop, step = [0] * x.ndim, list(x.shape), [1] * x.ndim
        spaces = zip(position, last, self.params["rhs_dilation"], self.params["window_strides"], strict=True)
        for axis, (here, end, dilation, stride) in enumerate(spaces, start=1):
            start[axis], step[axis] = here * dilation, stride
            stop[axis] = x.shape[axis] - (end - here) * dilation
        return lax.slice(x, start, stop, step)
