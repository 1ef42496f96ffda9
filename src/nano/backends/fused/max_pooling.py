"""The maximum of windows of channels-last images, a vector of the result at a time.

Its numbers stay in the registers over all taps of their windows. Where channels are few,
windows beside each other share a vector. An image's gradient is added up where windows
overlap, and else picked: a pixel has the gradient of its window, if it was the highest there.
"""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from .jit import Kernel, kernel, prange
from .math import narrow, wide
from .pooling import Pair, both_axes, call, new_rows, rows_of
from .vectors import (
    LANES,
    groups,
    load,
    load_groups,
    load_some,
    spread,
    store_some,
    where_above,
    where_equal,
)

__all__ = ["max_pool2d", "max_pool2d_backward", "max_pool2d_gather"]

_f = np.float32
#: No tap's number.
_NONE = -1 << 20


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
def _over(size: int, outputs: int, kernel: int, stride: int, padding: int) -> NDArray:
    """Along one axis, for each pixel: the window over it, and which of its taps it is.

    For windows that do not overlap. A pixel below none has a tap that there is not.
    """
    window, tap = np.divmod(np.arange(size) + padding, stride)
    below = (tap < kernel) & (window < outputs)
    return np.stack([np.where(below, window, 0), np.where(below, tap, _NONE)], 1)


@lru_cache(256)
def _steps(kernel_size: Pair, dilation: Pair, width: int, c: int) -> NDArray:
    """How far in memory each tap lies behind the first, in an image so wide, row by row."""
    i, j = np.indices(kernel_size)
    return ((i * dilation[0] * width + j * dilation[1]) * c).reshape(-1)


@lru_cache(256)
def _windows_in_vectors(c: int, *axis: int) -> tuple[NDArray, NDArray]:
    """In a row, the windows that begin vectors which neighbours share; and those in none.

    They must have all of their taps in the image.
    """
    _, outputs, kernel, stride, _, _ = axis
    windows = _inside(*axis)
    whole = np.flatnonzero((windows[:, 1] == 0) & (windows[:, 2] == kernel))
    first = int(whole[0]) if whole.size else 0
    return _shared(first, whole.size, groups(c, 1, c * stride), 1, outputs)


@lru_cache(256)
def _pixels_in_vectors(
    c: int, size: int, outputs: int, kernel: int, stride: int, padding: int
) -> tuple[NDArray, NDArray, NDArray]:
    """In a row, the pixels that begin vectors which windows share; those in none; and which tap
    each number of such a vector is. For windows that do not overlap."""
    first = -padding % stride
    count = (min(outputs * stride - padding, size) - first) // stride
    tap = np.arange(LANES) // c % stride
    taps = np.where(tap < kernel, tap, _NONE).astype(np.float32)
    return *_shared(first, count, groups(c, stride, c), stride, size), taps


def _shared(first: int, count: int, many: int, step: int, size: int) -> tuple[NDArray, NDArray]:
    """Of ``count`` pieces from ``first`` on, each ``step`` long, where every ``many``-th begins;
    and what of [0, size) is in no piece. The last ``many`` may overlap those before."""
    starts = np.arange(0, count - many + 1, many) if many else np.arange(0)
    if starts.size and starts[-1] + many < count:
        starts = np.append(starts, count - many)
    alone = np.ones(size, bool)
    if starts.size:
        alone[first : first + count * step] = False
    return first + starts * step, np.flatnonzero(alone)


# The maximum ----------------------------------------------------------------------------


@cache
def _maximum(channels: int, step: int) -> Kernel:
    """The loop for windows that share vectors, of so many channels and a stride of ``step``
    elements; or, with 0 and 0, for any number of channels and no sharing."""
    many = groups(channels, 1, step) if channels else 0

    def loop(x, rows, columns, starts, singles, kernel_width, dilation_h, dilation_w, y, offsets):
        n, oh, ow, c = y.shape
        height, width = x.shape[1], x.shape[2]
        pixel, like, place_like = c * x.itemsize, x[0, 0, 0, 0], offsets[0, 0, 0, 0]
        down, right = dilation_h * width * pixel, dilation_w * pixel
        for r in prange(n * oh):
            image, row = r // oh, r % oh
            top, bottom = rows[row, 1], rows[row, 2]
            line = x.ctypes.data + (image * height + rows[row, 0]) * width * pixel + top * down
            y_at = y.ctypes.data + r * ow * pixel
            place_at = offsets.ctypes.data + r * ow * c * offsets.itemsize
            if many:
                for k in range(starts.size):
                    start = starts[k]
                    at = line + columns[start, 0] * pixel
                    best = load_groups(at, like, channels, 1, step)
                    place = spread(_f(top * kernel_width))
                    for i in range(top, bottom):
                        for j in range(kernel_width):
                            value = load_groups(at + j * right, like, channels, 1, step)
                            tap = spread(_f(i * kernel_width + j))
                            place = where_above(value, best, tap, place)
                            best = where_above(value, best, value, best)
                        at += down
                    store_some(best, y_at + start * pixel, many * channels, like)
                    to = place_at + start * channels * offsets.itemsize
                    store_some(place, to, many * channels, place_like)
            for k in range(singles.size):
                column = singles[k]
                first, last = columns[column, 1], columns[column, 2]
                for lane in range(0, c, LANES):
                    at = line + columns[column, 0] * pixel + lane * x.itemsize
                    best = load_some(at + first * right, c - lane, like)
                    place = spread(_f(top * kernel_width + first))
                    for i in range(top, bottom):
                        for j in range(first, last):
                            value = load_some(at + j * right, c - lane, like)
                            tap = spread(_f(i * kernel_width + j))
                            place = where_above(value, best, tap, place)
                            best = where_above(value, best, value, best)
                        at += down
                    to = y_at + column * pixel + lane * x.itemsize
                    store_some(best, to, c - lane, like)
                    to = place_at + (column * c + lane) * offsets.itemsize
                    store_some(place, to, c - lane, place_like)

    return Kernel(loop)


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
    y, y_rows = new_rows(x, c, output_size)
    offsets, offset_rows = new_rows(x, c, output_size, np.uint8 if places <= 256 else np.int32)
    windows = x.shape[2:], output_size, kernel_size, stride, padding, dilation
    rows, columns = both_axes(_inside, *windows)
    starts, singles = _windows_in_vectors(c, *[pair[1] for pair in windows])
    call(
        _maximum(c, c * stride[1]) if starts.size else _maximum(0, 0),
        y.size * places,
        *(rows_of(x), rows, columns, starts, singles, kernel_size[1], *dilation),
        *(y_rows, offset_rows),
    )
    return y, offsets


# Its gradient ---------------------------------------------------------------------------


@cache
def _picks(channels: int, times: int) -> Kernel:
    """The loop for windows that do not overlap, so wide, of so many channels, which share
    vectors; or, with 0 and 0, for any number of channels and no sharing."""
    many = groups(channels, times, channels) if channels else 0

    def loop(g, offsets, down, across, starts, singles, kernel_width, taps, dx):
        n, oh, ow, c = g.shape
        _, height, width, _ = dx.shape
        size, place_size = g.itemsize, offsets.itemsize
        like, place_like = g[0, 0, 0, 0], offsets[0, 0, 0, 0]
        for r in prange(n * height):
            image, row = r // height, r % height
            first = _f(down[row, 1] * kernel_width)
            window = (image * oh + down[row, 0]) * ow * c
            g_at = g.ctypes.data + window * size
            place_at = offsets.ctypes.data + window * place_size
            dx_at = dx.ctypes.data + r * width * c * size
            if many:
                these = spread(first) + load(taps.ctypes.data)
                for k in range(starts.size):
                    at = across[starts[k], 0] * channels
                    from_place = place_at + at * place_size
                    place = load_groups(from_place, place_like, channels, times, channels)
                    value = load_groups(g_at + at * size, like, channels, times, channels)
                    to = dx_at + starts[k] * channels * size
                    store_some(where_equal(place, these, value), to, many * channels * times, like)
            for k in range(singles.size):
                column = singles[k]
                this = spread(first + _f(across[column, 1]))
                for lane in range(0, c, LANES):
                    at, to = across[column, 0] * c + lane, column * c + lane
                    place = load_some(place_at + at * place_size, c - lane, place_like)
                    value = load_some(g_at + at * size, c - lane, like)
                    store_some(where_equal(place, this, value), dx_at + to * size, c - lane, like)

    return Kernel(loop)


@kernel
def _scattered(g, offsets, rows, columns, steps, dx):
    """For windows that overlap: their gradients are added up."""
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
def _gather(x, offsets, rows, columns, steps, y):
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
    dx, dx_rows = new_rows(grad_output, c, input_size)
    g, places = rows_of(grad_output), rows_of(offsets)
    if dilation == (1, 1) and kernel_size[0] <= stride[0] and kernel_size[1] <= stride[1]:
        windows = input_size, size, kernel_size, stride, padding
        down, across = both_axes(_over, *windows)
        starts, singles, taps = _pixels_in_vectors(c, *[pair[1] for pair in windows])
        loop = _picks(c, stride[1]) if starts.size else _picks(0, 0)
        tables = down, across, starts, singles, kernel_size[1], taps
        call(loop, dx.size, g, places, *tables, dx_rows)
    else:
        rows, columns = both_axes(_inside, input_size, size, kernel_size, stride, padding, dilation)
        steps = _steps(kernel_size, dilation, input_size[1], c)
        call(_scattered, dx.size, g, places, rows, columns, steps, dx_rows)
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
    y, y_rows = new_rows(x, c, size)
    tables = both_axes(_inside, x.shape[2:], size, kernel_size, stride, padding, dilation)
    steps = _steps(kernel_size, dilation, x.shape[3], c)
    call(_gather, y.size, rows_of(x), rows_of(offsets), *tables, steps, y_rows)
    return y
