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

from ._strided_scatter import Array, Term, sum_of_shifted

Form: TypeAlias = Callable[[Array, Array], Array]

FEW_CHANNELS = 8  # of a group: with more, multiplying them one at a time loses
FEW_GROUPS = 8
MOST_TERMS = 128  # of a sum that is written out
MAX_DILATION = 8  # of the input, all axes multiplied
MAX_INTERMEDIATE = 16  # how much larger than the output a matrix product may be, before its terms are added
SLOW_CHANNELS, SLOW_OUTPUTS = (3, 5, 7), range(17, 33)  # with which the library is up to ten times slower
MANY_CHANNELS, FEW_OUTPUTS, MOST_PRODUCTS = 512, 2**18, 9  # where matrix products win: large kernels, small features
ROWS, SOME_CHANNELS, FEW_FEATURES, SMALL_FEATURES = 3, 16, 96, 2**21  # where all rows of a kernel at once win


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
        result = (spec.out_spec[0], *spec.out_spec[2:], spec.out_spec[1])
        is_matmul = form in (self.as_matmul, self.as_matmul_then_scatter)

        def convolve(x: Array, w: Array) -> Array:
            # All forms are written for channels last. A matrix product takes the kernel's two axes of channels in the
            # order in which they lie, so that the kernel is not transposed in memory.
            order = sorted((inputs, outputs)) if is_matmul else (inputs, outputs)
            y = form(x.transpose(batch, *space, channels), w.transpose(*window, *order))
            return y.astype(self.dtype).transpose([result.index(axis) for axis in range(y.ndim)])

        return convolve

    def form(self) -> Form | None:
        """The same for an input ``(N, ..., channels)`` and a kernel ``(..., channels of a group, outputs)``."""
        spec, groups = self.params["dimension_numbers"], self.params["feature_group_count"]
        sizes = (*self.rhs, *(self.lhs[axis] for axis in spec.lhs_spec[2:]))
        if self.params["batch_group_count"] != 1 or any(map(is_symbolic_dim, sizes)) or 0 in self.rhs:
            return None
        channels, positions = self.rhs[spec.rhs_spec[1]], math.prod(self.rhs[axis] for axis in spec.rhs_spec[2:])
        if groups != 1:
            is_thin = channels <= FEW_CHANNELS and 0 < channels * positions <= MOST_TERMS
            return self.as_shifted_sum if is_thin else self.one_conv_per_group if groups <= FEW_GROUPS else None
        if is_fast_as_matmul(self, positions):
            return self.as_matmul_then_scatter
        if positions == 1:
            return self.as_matmul
        if is_fast_by_rows(self):
            return self.as_sum_of_rows
        if has_slow_channels(self):
            return self.pad_channels_to_4
        return None if self.is_canonical else self.one_conv_per_group

    @property
    def is_shifted_sum(self) -> bool:
        """Whether it becomes a sum of slices."""
        return self.form() == self.as_shifted_sum

    @property
    def is_canonical(self) -> bool:
        """Whether channels come last, and the kernel's outputs behind its inputs."""
        spec = self.params["dimension_numbers"]
        last = tuple(range(len(self.lhs)))
        return all(s == (last[0], last[-1], *last[1:-1]) for s in (spec.lhs_spec, spec.out_spec)) and (
            spec.rhs_spec == (last[-1], last[-2], *last[:-2])
        )

    @property
    def has_inputs_last(self) -> bool:
        """Whether the kernel's inputs lie behind its outputs, as they do in the derivative of a convolution."""
        outputs, inputs, *_ = self.params["dimension_numbers"].rhs_spec
        return inputs > outputs

    def as_matmul(self, x: Array, w: Array) -> Array:
        """``y[i] = x[i * stride] @ w``, for a kernel of one position and the padded input."""
        position = (0,) * (w.ndim - 2)
        return self.matmul_all_positions(self.window(self.padded(x), position, position), w.reshape(w.shape[-2:]))

    def as_matmul_then_scatter(self, x: Array, w: Array) -> Array:
        """``y[i] = Σ over positions p of (x @ w[p])[(i + p * rhs_dilation - padding) / lhs_dilation]``.

        One matrix product of the input with the weights of all positions, its terms added where they belong.
        """
        # The derivative of a convolution has the network's kernel, reversed along space. Reversing it once more cancels
        # that, and XLA reads the network's kernel as it lies.
        space = range(w.ndim - 2)
        is_reversed = self.has_inputs_last
        w = lax.rev(w, space) if is_reversed else w

        # The terms of all positions: (N, *space of the input, *window, outputs).
        y = self.matmul_all_positions(x, w)
        low = [low for low, _ in self.params["padding"]]

        # A position of the kernel adds its term to the output, moved by where it lies in the window.
        def term(position: tuple[int, ...]) -> Term:
            offset = np.multiply(position, self.params["rhs_dilation"]) - low
            here = tuple(w.shape[axis] - 1 - position[axis] for axis in space) if is_reversed else position
            return (0, *offset.tolist(), 0), y[(slice(None),) * (x.ndim - 1) + here]

        # A dilated input has zeros between its pixels. They are never written: the sum puts terms at strided outputs.
        out = self.params["dimension_numbers"].out_spec
        shape = (x.shape[0], *(self.out[axis] for axis in out[2:]), self.out[out[1]])
        return sum_of_shifted(list(map(term, np.ndindex(*w.shape[:-2]))), (1, *self.params["lhs_dilation"], 1), shape)

    def matmul_all_positions(self, x: Array, w: Array) -> Array:
        """The matrix product ``(N, ..., *window, outputs)`` with the weights of every position."""
        # The kernel as one matrix, window and outputs along one axis, the inputs along the other. Where the inputs lie
        # last already this is a reshape, and the product contracts its second axis.
        last = self.has_inputs_last
        inputs = w.ndim - 1 if last else w.ndim - 2
        matrix = w.reshape(-1, w.shape[-1]) if last else jnp.moveaxis(w, inputs, 0).reshape(w.shape[inputs], -1)
        y = lax.dot_general(
            x,
            matrix,
            (((x.ndim - 1,), (int(last),)), ((), ())),
            precision=self.params["precision"],
            preferred_element_type=self.dtype,
        )
        return y.reshape(*x.shape[:-1], *w.shape[:inputs], *w.shape[inputs + 1 :])

    def as_shifted_sum(self, x: Array, w: Array) -> Array:
        """The sum over the kernel's positions of the shifted input times the weights there."""
        # Half precision would lose a digit in every addition, where the library adds in single precision.
        groups = self.params["feature_group_count"]
        precise = self.dtype if jnp.finfo(self.dtype).bits > 32 else jnp.float32
        *window, channels, outputs = w.shape
        weights = w.astype(precise).reshape(-1, *[1] * (x.ndim - 1), groups, outputs // groups)
        x = self.padded(x.astype(precise))

        # One term for each position of the window and each channel of a group; all groups at once, along the last axes.
        of_groups = jnp.unstack(x.reshape(*x.shape[:-1], groups, channels, 1), axis=-2)
        last = tuple(size - 1 for size in window)
        windows = (self.window(x, position, last) for position in np.ndindex(*window) for x in of_groups)
        y = functools.reduce(jnp.add, map(jnp.multiply, windows, jnp.unstack(weights)))
        return y.reshape(*y.shape[:-2], outputs)

    def as_sum_of_rows(self, x: Array, w: Array) -> Array:
        """One convolution for all rows of the kernel, ``y[i] = Σ_r (x * w[r])[i + r * rhs_dilation]``.

        Its kernel has one row, and the outputs of all: with more outputs the library is faster.
        """
        rows, *others, channels, outputs = w.shape
        w = jnp.moveaxis(w, 0, -2).reshape(1, *others, channels, rows * outputs)
        none, padding = (0, 0), self.params["padding"]
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (*padding[0], 0), *[(0, 0, 0)] * (x.ndim - 2)])
        y = self.native(x, w, padding=(none, *padding[1:]))
        below = np.arange(rows) * self.params["rhs_dilation"][0]
        height = y.shape[1] - below[-1]
        parts = (y[:, low : low + height, ..., r * outputs : (r + 1) * outputs] for r, low in enumerate(below))
        return functools.reduce(jnp.add, parts)

    def pad_channels_to_4(self, x: Array, w: Array) -> Array:
        """With channels of zeros, up to a multiple of four."""
        none, more = jnp.zeros((), x.dtype), -x.shape[-1] % 4
        x = lax.pad(x, none, [*[(0, 0, 0)] * (x.ndim - 1), (0, more, 0)])
        return self.one_conv_per_group(x, lax.pad(w, none, [*[(0, 0, 0)] * (w.ndim - 2), (0, more, 0), (0, 0, 0)]))

    def one_conv_per_group(self, x: Array, w: Array) -> Array:
        """One convolution for each group, in the only layout that the library knows inside loops."""
        groups = self.params["feature_group_count"]
        parts = zip(jnp.split(x, groups, axis=-1), jnp.split(w, groups, axis=-1), strict=True)
        return jnp.concatenate([self.native(x, w) for x, w in parts], axis=-1)

    def native(self, x: Array, w: Array, **changes: Any) -> Array:
        """The library's own, of one group, with NHWC and HWIO or their like in other dimensions."""
        axes = range(x.ndim)
        layout = (axes[0], axes[-1], *axes[1:-1])
        spec = lax.ConvDimensionNumbers(layout, (axes[-1], axes[-2], *axes[:-2]), layout)
        params = self.params | {"feature_group_count": 1, "dimension_numbers": spec} | changes
        return lax.conv_general_dilated_p.bind(x, w, **params)

    def padded(self, x: Array) -> Array:
        """With the padding, and with zeros between pixels where the input is dilated."""
        space = zip(self.params["padding"], self.params["lhs_dilation"], strict=True)
        rest = [(0, 0, 0)] * (x.ndim - 1 - len(self.params["padding"]))
        return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*p, dilation - 1) for p, dilation in space), *rest])

    def window(self, x: Array, position: tuple[int, ...], last: tuple[int, ...]) -> Array:
        """What one position of the kernel sees of the padded input, for every output; ``last`` is its last position."""
        # From where this position lies for the first output to where it lies for the last one, a stride apart.
        start, stop, step = [0] * x.ndim, list(x.shape), [1] * x.ndim
        spaces = zip(position, last, self.params["rhs_dilation"], self.params["window_strides"], strict=True)
        for axis, (here, end, dilation, stride) in enumerate(spaces, start=1):
            start[axis], step[axis] = here * dilation, stride
            stop[axis] = x.shape[axis] - (end - here) * dilation
        return lax.slice(x, start, stop, step)


# ------------------------------------------------------------------------------------- where a form is faster


def is_fast_as_matmul(conv: Convolution, positions: int) -> bool:
    """Whether one product for all positions is faster, and precise enough: of a dilated input, or few features."""
    strides = conv.params["lhs_dilation"]
    # The output is larger than the input by this factor, and so many sums are written out.
    dilation = math.prod(strides)
    if positions > MAX_INTERMEDIATE * dilation or max(conv.params["window_strides"], default=1) > 1:
        return False
    if positions > 1 and (dilation > MAX_DILATION or jnp.finfo(conv.dtype).bits <= 16):
        return False
    return max(strides, default=1) > 1 or is_large_kernel_over_small_features(conv, positions)


def is_large_kernel_over_small_features(conv: Convolution, positions: int) -> bool:
    """Whether this is the derivative of a large kernel over small features."""
    return (
        conv.has_inputs_last
        and not any(map(is_symbolic_dim, conv.out))
        and conv.rhs[conv.params["dimension_numbers"].rhs_spec[1]] >= MANY_CHANNELS
        and positions <= MOST_PRODUCTS
        and math.prod(conv.out) <= FEW_OUTPUTS
    )


def is_fast_by_rows(conv: Convolution) -> bool:
    """Whether this has so few outputs that the library is faster at three times as many."""
    outputs, channels, *space = conv.params["dimension_numbers"].rhs_spec
    return (
        conv.dtype == jnp.float32
        and len(space) == 2
        and conv.rhs[space[0]] == ROWS
        and conv.rhs[channels] >= SOME_CHANNELS
        and conv.rhs[outputs] <= FEW_FEATURES
        and (conv.params["window_strides"][0], conv.params["lhs_dilation"][0]) == (1, 1)
        and not any(map(is_symbolic_dim, conv.out))
        and 0 < math.prod(conv.out) <= SMALL_FEATURES
    )


def has_slow_channels(conv: Convolution) -> bool:
    """Whether this is a convolution of few channels, such as colours, that the library is slow at."""
    outputs, channels, *_ = (conv.rhs[axis] for axis in conv.params["dimension_numbers"].rhs_spec)
    return channels in SLOW_CHANNELS and outputs in SLOW_OUTPUTS and conv.dtype == jnp.float32
