"""Pooling of channels-last images: all channels of a window's place in one step.

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

from ..memory import channels_last
from .jit import Kernel, kernel, prange
from .math import narrow, wide

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_gather",
]

Pair = tuple[int, int]

#: With fewer elements read, one thread is done before the others are awake.
_PARALLEL = 1 << 16
#: From here on, a loop over the channels of one place is long enough to be vectorised.
_MANY_CHANNELS = 16
#: Rows of the result that one thread does in a row, with the same buffers.
_ROWS = 8
_ZERO, _LOWEST = np.float32(0), np.float32(-np.inf)


def _rows(x: NDArray) -> NDArray:
    """The image as (n, h, w, c) without gaps; bfloat16 as uint16. Copied if it lies otherwise."""
    image = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    return image.view(np.uint16) if image.dtype.itemsize == 2 else image


def _new(like: NDArray, c: int, size: Pair, dtype: Any = None) -> tuple[NDArray, NDArray]:
    """A new image of shape (n, c, *size), and the same memory as :func:`_rows` gives it."""
    y = channels_last((like.shape[0], c, *size), dtype or like.dtype)
    return y, _rows(y)


def _call(loop: Kernel, work: int, *arguments: Any) -> None:
    (loop if work >= _PARALLEL else loop.serial)(*arguments)


# Tables ---------------------------------------------------------------------------------


@lru_cache(256)
def _inside(
    size: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int
) -> NDArray:
    """Along one axis, for each window: its start, and the first and last + 1 tap in the image."""
    start = np.arange(outputs) * stride - padding
    first = -(-np.maximum(-start, 0) // dilation)
    last = np.clip((size - 1 - start) // dilation + 1, 0, kernel)
    return np.stack([start, first, last], 1)


@lru_cache(256)
def _steps(kernel_size: Pair, dilation: Pair, width: int, c: int) -> NDArray:
    """How far in memory each tap lies behind the first, in an image so wide, row by row."""
    i, j = np.indices(kernel_size)
    return ((i * dilation[0] * width + j * dilation[1]) * c).reshape(-1)


def _axes(table: Any, *values: Any) -> list[Any]:
    """A table for each of the two axes; the values are pairs."""
    return [table(*axis) for axis in zip(*values, strict=True)]


# The maximum ----------------------------------------------------------------------------


@kernel
def _max(x, rows, columns, kernel_width, dilation_h, dilation_w, y, offsets):
    n, oh, ow, c = y.shape
    for r in prange(n * oh):
        image, row = r // oh, r % oh
        for column in range(ow):
            # The first place inside counts also where it is -inf or NaN.
            first_row, first_column = rows[row, 1], columns[column, 1]
            start = first_row * kernel_width + first_column
            h, w = rows[row, 0] + first_row * dilation_h, columns[column, 0]
            w += first_column * dilation_w
            for k in range(c):
                y[image, row, column, k] = x[image, h, w, k]
                offsets[image, row, column, k] = start
            for i in range(first_row, rows[row, 2]):
                h = rows[row, 0] + i * dilation_h
                for j in range(first_column, columns[column, 2]):
                    tap = offsets.dtype.type(i * kernel_width + j)
                    if tap != start:
                        w = columns[column, 0] + j * dilation_w
                        for k in range(c):
                            value = x[image, h, w, k]
                            best, place = y[image, row, column, k], offsets[image, row, column, k]
                            better = wide(value) > wide(best) or wide(value) != wide(value)
                            y[image, row, column, k] = value if better else best
                            offsets[image, row, column, k] = tap if better else place


@kernel
def _max_few_channels(x, rows, columns, kernel_width, dilation_h, dilation_w, y, offsets):
    """As :func:`_max`, by windows at every column, of which those asked for are picked.

    A row of the image is then one long vector, and each tap is that vector moved.
    """
    n, oh, ow, c = y.shape
    width = x.shape[2] * c
    reach = width - (kernel_width - 1) * dilation_w * c
    for block in prange((n * oh + _ROWS - 1) // _ROWS):
        best = np.empty(width, np.float32)
        place = np.empty(width, np.int32)
        for r in range(block * _ROWS, min(block * _ROWS + _ROWS, n * oh)):
            image, row = r // oh, r % oh
            first = rows[row, 1]
            for i in range(first, rows[row, 2]):
                line = x[image, rows[row, 0] + i * dilation_h].reshape(-1)
                for j in range(kernel_width):
                    tap, moved = i * kernel_width + j, line[j * dilation_w * c :]
                    if i == first and j == 0:
                        for k in range(reach):
                            best[k] = wide(moved[k])
                            place[k] = tap
                    else:
                        for k in range(reach):
                            value = wide(moved[k])
                            better = (value > best[k]) | (value != value)
                            best[k] = value if better else best[k]
                            place[k] = tap if better else place[k]
            for column in range(ow):
                start, first_column = columns[column, 0], columns[column, 1]
                if first_column == 0 and columns[column, 2] == kernel_width:
                    values, places = best[start * c :], place[start * c :]
                    for k in range(c):
                        y[image, row, column, k] = narrow(values[k], x[0, 0, 0, 0])
                        offsets[image, row, column, k] = places[k]
                    continue
                for k in range(c):
                    highest, tap = _LOWEST, first * kernel_width + first_column
                    for i in range(first, rows[row, 2]):
                        h = rows[row, 0] + i * dilation_h
                        for j in range(first_column, columns[column, 2]):
                            value = wide(x[image, h, start + j * dilation_w, k])
                            if value > highest or value != value:
                                highest, tap = value, i * kernel_width + j
                    y[image, row, column, k] = narrow(highest, x[0, 0, 0, 0])
                    offsets[image, row, column, k] = tap


@kernel
def _max_backward(g, offsets, rows, columns, steps, dx):
    n, oh, ow, c = g.shape
    _, h, w, _ = dx.shape
    for image in prange(n):
        total = np.zeros(h * w * c, np.float32)
        for row in range(oh):
            for column in range(ow):
                start = (rows[row, 0] * w + columns[column, 0]) * c
                for k in range(c):
                    place = start + steps[offsets[image, row, column, k]] + k
                    total[np.uint64(place)] += wide(g[image, row, column, k])
        target = dx[image].reshape(-1)
        for k in range(h * w * c):
            target[k] = narrow(total[k], g[0, 0, 0, 0])


@kernel
def _max_gather(x, offsets, rows, columns, steps, y):
    n, oh, ow, c = y.shape
    w = x.shape[2]
    for image in prange(n):
        source = x[image].reshape(-1)
        for row in range(oh):
            for column in range(ow):
                start = (rows[row, 0] * w + columns[column, 0]) * c
                for k in range(c):
                    place = start + steps[offsets[image, row, column, k]] + k
                    y[image, row, column, k] = source[np.uint64(place)]


def max_pool2d(
    x: NDArray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    output_size: Pair,
) -> tuple[NDArray, NDArray]:
    """See the reference kernel, here and below."""
    c, places = x.shape[1], kernel_size[0] * kernel_size[1]
    y, y_rows = _new(x, c, output_size)
    offsets, offset_rows = _new(x, c, output_size, np.uint8 if places <= 256 else np.int32)
    tables = _axes(_inside, x.shape[2:], output_size, kernel_size, stride, padding, dilation)
    loop = _max if c >= _MANY_CHANNELS else _max_few_channels
    arguments = _rows(x), *tables, kernel_size[1], *dilation, y_rows, offset_rows
    _call(loop, y.size * places, *arguments)
    return y, offsets


def max_pool2d_backward(
    grad_output: NDArray,
    offsets: NDArray,
    input_size: Pair,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> NDArray:
    size, c = grad_output.shape[2:], grad_output.shape[1]
    dx, dx_rows = _new(grad_output, c, input_size)
    tables = _axes(_inside, input_size, size, kernel_size, stride, padding, dilation)
    steps = _steps(kernel_size, dilation, input_size[1], c)
    _call(_max_backward, dx.size, _rows(grad_output), _rows(offsets), *tables, steps, dx_rows)
    return dx


def max_pool2d_gather(
    x: NDArray,
    offsets: NDArray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> NDArray:
    size, c = offsets.shape[2:], x.shape[1]
    y, y_rows = _new(x, c, size)
    tables = _axes(_inside, x.shape[2:], size, kernel_size, stride, padding, dilation)
    steps = _steps(kernel_size, dilation, x.shape[3], c)
    _call(_max_gather, y.size, _rows(x), _rows(offsets), *tables, steps, y_rows)
    return y


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


def _divisors(counts: list[NDArray], divisor: int | None = None) -> NDArray:
    """By what each window's sum is divided, (oh, ow)."""
    table = np.multiply.outer(*counts).astype(np.float32)
    if divisor is not None:
        table[...] = divisor
    return table


def _forward(x: NDArray, axes: list[Any], divisor: int | None = None) -> NDArray:
    (rows, columns), counts = zip(*axes, strict=True)
    divisors = _divisors(counts, divisor)
    y, y_rows = _new(x, x.shape[1], divisors.shape)
    work = max(x.size, y.size)
    _call(_mean, work, _rows(x), rows.inside, columns.inside, divisors, y_rows)
    return y


def _backward(g: NDArray, size: Pair, axes: list[Any], divisor: int | None = None) -> NDArray:
    (rows, columns), counts = zip(*axes, strict=True)
    dx, dx_rows = _new(g, g.shape[1], size)
    divisors = _divisors(counts, divisor)
    work = max(g.size, dx.size)
    _call(_mean_backward, work, _rows(g), rows.over, columns.over, divisors, dx_rows)
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
    axes = _axes(_regular, x.shape[2:], output_size, kernel_size, stride, padding, count)
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
    axes = _axes(_regular, input_size, size, kernel_size, stride, padding, count)
    return _backward(grad_output, input_size, axes, divisor)


def adaptive_avg_pool2d(x: NDArray, output_size: Pair) -> NDArray:
    return _forward(x, _axes(_adaptive, x.shape[2:], output_size))


def adaptive_avg_pool2d_backward(grad_output: NDArray, input_size: Pair) -> NDArray:
    axes = _axes(_adaptive, input_size, grad_output.shape[2:])
    return _backward(grad_output, input_size, axes)
