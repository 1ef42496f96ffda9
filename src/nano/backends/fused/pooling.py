"""Means of windows of channels-last images: all channels of a window's place in one step.

The loops go over rows of the result, so no two threads write to one place: also
backward, where each row of the image gathers what the windows over it give. What
the geometry alone decides (which places of which windows lie where) is put in
small tables beforehand, and kept.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..memory import as_pixels, channels_last
from .jit import Kernel, kernel, prange
from .math import narrow, wide

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
]

Pair = tuple[int, int]

#: With fewer elements read, one thread is done before the others are awake.
_PARALLEL = 1 << 16
_ZERO = np.float32(0)


def rows_of(x: NDArray) -> NDArray:
    """The image as (n, h, w, c) without gaps; bfloat16 as uint16. Copied if it lies otherwise."""
    image = as_pixels(x)
    return image.view(np.uint16) if image.dtype.itemsize == 2 else image


def new_rows(like: NDArray, c: int, size: Pair, dtype: Any = None) -> tuple[NDArray, NDArray]:
    """A new image of shape (n, c, *size), and the same memory as :func:`rows_of` gives it."""
    y = channels_last((like.shape[0], c, *size), dtype or like.dtype)
    return y, rows_of(y)


def call(loop: Kernel, work: int, *arguments: Any) -> None:
    (loop if work >= _PARALLEL else loop.serial)(*arguments)


# Tables ---------------------------------------------------------------------------------


def both_axes(table: Any, *values: Any) -> list[Any]:
    """A table for each of the two axes; the values are pairs."""
    return [table(*axis) for axis in zip(*values, strict=True)]


# The mean -------------------------------------------------------------------------------


@kernel
def _mean(x, rows, columns, divisors, y):
    n, oh, ow, c = y.shape
    for r in prange(n * oh):
        image, row = r // oh, r % oh
        total = np.empty(c, np.float32)
        for column in range(ow):
            for k in range(c):
                total[k] = _ZERO
            for i in range(rows[row, 0], rows[row, 1]):
                for j in range(columns[column, 0], columns[column, 1]):
                    for k in range(c):
                        total[k] += wide(x[image, i, j, k])
            divisor = divisors[row, column]
            for k in range(c):
                y[image, row, column, k] = narrow(total[k] / divisor, x[0, 0, 0, 0])


@kernel
def _mean_backward(g, rows, columns, divisors, dx):
    n, h, w, c = dx.shape
    for r in prange(n * h):
        image, row = r // h, r % h
        total = np.empty(c, np.float32)
        for column in range(w):
            for k in range(c):
                total[k] = _ZERO
            for i in range(rows[row, 0], rows[row, 1]):
                for j in range(columns[column, 0], columns[column, 1]):
                    divisor = divisors[i, j]
                    for k in range(c):
                        total[k] += wide(g[image, i, j, k]) / divisor
            for k in range(c):
                dx[image, row, column, k] = narrow(total[k], g[0, 0, 0, 0])


class _Windows:
    """Windows of a mean along one axis: [start, stop) of each, cut at the image's edges."""

    def __init__(self, start: NDArray, stop: NDArray, size: int) -> None:
        self.inside = np.stack([np.clip(start, 0, size), np.clip(stop, 0, size)], 1)
        self.inside[:, 1] = np.maximum(self.inside[:, 0], self.inside[:, 1])
        # Both ends rise from window to window: those over an element follow each other.
        element = np.arange(size)
        first = np.searchsorted(self.inside[:, 1], element, "right")
        last = np.searchsorted(self.inside[:, 0], element, "right")
        self.over = np.stack([first, np.maximum(first, last)], 1)


@lru_cache(256)
def _regular(
    size: int, outputs: int, kernel: int, stride: int, padding: int, count_padding: bool
) -> tuple[_Windows, NDArray]:
    """Windows at equal distances, and how many elements each counts."""
    start = np.arange(outputs) * stride - padding
    margin = padding if count_padding else 0
    counts = np.minimum(start + kernel, size + margin) - np.maximum(start, -margin)
    return _Windows(start, start + kernel, size), counts


@lru_cache(256)
def _adaptive(size: int, outputs: int) -> tuple[_Windows, NDArray]:
    """Windows that cover the axis about evenly, and how many elements each counts."""
    i = np.arange(outputs)
    start, stop = i * size // outputs, -(-(i + 1) * size // outputs)
    return _Windows(start, stop, size), stop - start


def _divisors(counts: tuple[NDArray, ...], divisor: int | None = None) -> NDArray:
    """By what each window's sum is divided, (oh, ow)."""
    table = np.multiply.outer(*counts).astype(np.float32)
    if divisor is not None:
        table[...] = divisor
    return table


def _forward(x: NDArray, axes: list[Any], divisor: int | None = None) -> NDArray:
    (rows, columns), counts = zip(*axes, strict=True)
    divisors = _divisors(counts, divisor)
    y, y_rows = new_rows(x, x.shape[1], divisors.shape)
    work = max(x.size, y.size)
    call(_mean, work, rows_of(x), rows.inside, columns.inside, divisors, y_rows)
    return y


def _backward(g: NDArray, size: Pair, axes: list[Any], divisor: int | None = None) -> NDArray:
    (rows, columns), counts = zip(*axes, strict=True)
    dx, dx_rows = new_rows(g, g.shape[1], size)
    divisors = _divisors(counts, divisor)
    work = max(g.size, dx.size)
    call(_mean_backward, work, rows_of(g), rows.over, columns.over, divisors, dx_rows)
    return dx


def avg_pool2d(
    x: NDArray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    output_size: Pair,
    count_include_pad: bool,
    divisor: int | None,
) -> NDArray:
    count = (count_include_pad, count_include_pad)
    axes = both_axes(_regular, x.shape[2:], output_size, kernel_size, stride, padding, count)
    return _forward(x, axes, divisor)


def avg_pool2d_backward(
    grad_output: NDArray,
    input_size: Pair,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    count_include_pad: bool,
    divisor: int | None,
) -> NDArray:
    count, size = (count_include_pad, count_include_pad), grad_output.shape[2:]
    axes = both_axes(_regular, input_size, size, kernel_size, stride, padding, count)
    return _backward(grad_output, input_size, axes, divisor)


def adaptive_avg_pool2d(x: NDArray, output_size: Pair) -> NDArray:
    return _forward(x, both_axes(_adaptive, x.shape[2:], output_size))


def adaptive_avg_pool2d_backward(grad_output: NDArray, input_size: Pair) -> NDArray:
    axes = both_axes(_adaptive, input_size, grad_output.shape[2:])
    return _backward(grad_output, input_size, axes)
