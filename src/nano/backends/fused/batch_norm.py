"""Batch normalisation: one pass over the input for the statistics, one for the result.

Images that lie channels-last are a matrix (pixels, channels), whose rows are joined until
they are long enough for vector loops; images that lie plane by plane are a matrix
(samples times channels, pixels of a plane).
"""

from __future__ import annotations

from math import gcd, inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..memory import empty
from .jit import inline, kernel, prange
from .math import narrow_result, wide
from .rows import as_bits, numbers, rows_of_a_block, sum_of_parts

__all__ = ["batch_norm", "batch_norm_backward", "batch_norm_inference", "moments"]

_f = np.float32

#: Joined rows are at least this long, if their number allows it.
_ROW = 256
#: Planes shorter than this are put channels-last first.
_SHORT_PLANE = 16

#: Which gradients pass the activation: all, those where y > 0, those where y, computed
#: again, is.
_ALL, _BY_OUTPUT, _BY_INPUT = 0, 1, 2


# Pieces of the loops --------------------------------------------------------------------


@inline
def _rstd(var, eps):
    return _f(1) / np.sqrt(var + eps)


@inline
def _bounded(v, lowest):
    """max(v, lowest); NaN stays."""
    return v if v > lowest else (lowest if v == v else v)


@inline
def _passing(g, v, mode):
    """The gradient behind the activation of v, if there is one; not by its result."""
    return g if mode == _ALL or v > _f(0) else _f(0)


@inline
def _kept(g, y, v, mode):
    """The same for an element as it is stored; y is the activation's result."""
    zero = narrow_result(_f(0), g)
    if mode == _BY_OUTPUT:
        return g if y > _f(0) else zero
    return g if mode == _ALL or v > _f(0) else zero


@inline
def _finish_statistics(total, square, shift, count, mean, var):
    """Mean and variance from the sums of x - shift and its square; the sums are float64."""
    for j in range(mean.size):
        m = total[j] / count
        mean[j] = _f(m + shift[j])
        v = square[j] / count - m * m
        var[j] = _f(v if not v < 0 else 0.0)


@inline
def _some_mean(x, c, shift):
    """About the mean of each channel: of 16 rows from all over x. Squares of the distances
    to it do not lose the digits that squares of x would."""
    rows = x.shape[0]
    shift[:] = 0
    step = max(rows // 16, 1)
    count = 0
    for r in range(0, rows, step):
        for j in range(c):
            shift[j] += wide(x[r, j])
        count += 1
    for j in range(c):
        s = shift[j] / _f(count)
        shift[j] = s if abs(s) < _f(inf) else _f(0)


@inline
def _tiled(values, width):
    """``values`` again and again, to the length ``width``."""
    out = np.empty(width, np.float32)
    for j in range(width):
        out[j] = values[j % values.size]
    return out


@inline
def _normalise(x, residual, first, last, centre, scale, offset, lowest, y):
    """Rows of y; the coefficients go along the rows."""
    for r in range(first, last):
        if residual.size:
            for j in range(x.shape[1]):
                v = (wide(x[r, j]) - centre[j]) * scale[j] + offset[j]
                v += wide(residual[r, j])
                y[r, j] = narrow_result(_bounded(v, lowest), y[r, j])
        else:
            for j in range(x.shape[1]):
                v = (wide(x[r, j]) - centre[j]) * scale[j] + offset[j]
                y[r, j] = narrow_result(_bounded(v, lowest), y[r, j])


# Channels last --------------------------------------------------------------------------


@kernel
def _statistics_rows(x, mean, var):
    """x (rows, k c): k pixels a row."""
    rows, width = x.shape
    c = mean.size
    block = rows_of_a_block(width)
    blocks = (rows + block - 1) // block
    few = np.empty(c, np.float32)
    _some_mean(x, c, few)
    shift = _tiled(few, width)
    sums = np.zeros((blocks, width), np.float32)
    squares = np.zeros((blocks, width), np.float32)
    for b in prange(blocks):
        last = min(b * block + block, rows)
        fours = last - (last - b * block) % 4
        for r in range(b * block, fours, 4):
            for j in range(width):
                d, e = wide(x[r, j]) - shift[j], wide(x[r + 1, j]) - shift[j]
                f, g = wide(x[r + 2, j]) - shift[j], wide(x[r + 3, j]) - shift[j]
                sums[b, j] += (d + e) + (f + g)
                squares[b, j] += (d * d + e * e) + (f * f + g * g)
        for r in range(fours, last):
            for j in range(width):
                d = wide(x[r, j]) - shift[j]
                sums[b, j] += d
                squares[b, j] += d * d
    total, square = np.empty(c, np.float64), np.empty(c, np.float64)
    sum_of_parts(sums, total)
    sum_of_parts(squares, square)
    _finish_statistics(total, square, few, float(rows * (width // c)), mean, var)


@kernel
def _normalise_rows(x, residual, weight, bias, mean, var, eps, lowest, y):
    rows, width = x.shape
    block = rows_of_a_block(width)
    scale = np.empty(mean.size, np.float32)
    for j in range(mean.size):
        scale[j] = weight[j] * _rstd(var[j], eps)
    centre, scale, offset = _tiled(mean, width), _tiled(scale, width), _tiled(bias, width)
    for b in prange((rows + block - 1) // block):
        last = min(b * block + block, rows)
        _normalise(x, residual, b * block, last, centre, scale, offset, lowest, y)


@kernel
def _backward_rows(
    g, more, x, y, weight, bias, mean, var, eps, mode, training, dx, dweight, dbias, passed
):
    rows, width = x.shape
    c = mean.size
    block = rows_of_a_block(width)
    blocks = (rows + block - 1) // block
    rstd, slope = np.empty(c, np.float32), np.empty(c, np.float32)
    for j in range(c):
        rstd[j] = _rstd(var[j], eps)
        slope[j] = weight[j] * rstd[j]
    centre, scale, offset = _tiled(mean, width), _tiled(slope, width), _tiled(bias, width)
    sums = np.zeros((blocks, width), np.float32)
    products = np.zeros((blocks, width), np.float32)
    source = passed if passed.size else g
    left = _ALL if passed.size else mode
    for b in prange(blocks):
        for r in range(b * block, min(b * block + block, rows)):
            if more.size:
                for j in range(width):
                    d = wide(x[r, j]) - centre[j]
                    both = narrow_result(wide(g[r, j]) + wide(more[r, j]), g[r, j])
                    m = _kept(both, wide(y[r, j]), d * scale[j] + offset[j], mode)
                    passed[r, j] = m
                    sums[b, j] += wide(m)
                    products[b, j] += wide(m) * d
            elif passed.size:
                for j in range(width):
                    d = wide(x[r, j]) - centre[j]
                    m = _kept(g[r, j], wide(y[r, j]), d * scale[j] + offset[j], mode)
                    passed[r, j] = m
                    sums[b, j] += wide(m)
                    products[b, j] += wide(m) * d
            else:
                for j in range(width):
                    d = wide(x[r, j]) - centre[j]
                    m = _passing(wide(g[r, j]), d * scale[j] + offset[j], mode)
                    sums[b, j] += m
                    products[b, j] += m * d
    total, product = np.empty(c, np.float64), np.empty(c, np.float64)
    sum_of_parts(sums, total)
    sum_of_parts(products, product)
    by_x, constant = np.zeros(c, np.float32), np.zeros(c, np.float32)
    count = float(rows * (width // c))
    for j in range(c):
        dbias[j] = _f(total[j])
        dweight[j] = _f(product[j] * rstd[j])
        if training:
            by_x[j] = _f(-slope[j] * rstd[j] * (product[j] * rstd[j] / count))
            constant[j] = _f(-slope[j] * (total[j] / count))
    by_x, constant = _tiled(by_x, width), _tiled(constant, width)
    for b in prange(blocks):
        for r in range(b * block, min(b * block + block, rows)):
            for j in range(width):
                d = wide(x[r, j]) - centre[j]
                m = _passing(wide(source[r, j]), d * scale[j] + offset[j], left)
                if training:
                    m = m * scale[j] + (d * by_x[j] + constant[j])
                else:
                    m = m * scale[j]
                dx[r, j] = narrow_result(m, dx[r, j])


# Plane by plane -------------------------------------------------------------------------


@kernel
def _statistics_planes(x, mean, var):
    """x (n c, pixels)."""
    rows, pixels = x.shape
    c = mean.size
    n = rows // c
    shift = np.zeros(c, np.float32)
    for j in range(c):
        for t in range(16):  # as in _some_mean
            shift[j] += wide(x[t * n // 16 * c + j, t * pixels // 16]) / _f(16)
        shift[j] = shift[j] if abs(shift[j]) < _f(inf) else _f(0)
    sums = np.empty((n, c), np.float32)
    squares = np.empty((n, c), np.float32)
    for r in prange(rows):
        s, q = _f(0), _f(0)
        centre = shift[r % c]
        for j in range(pixels):
            d = wide(x[r, j]) - centre
            s += d
            q += d * d
        sums[r // c, r % c] = s
        squares[r // c, r % c] = q
    total, square = np.empty(c, np.float64), np.empty(c, np.float64)
    sum_of_parts(sums, total)
    sum_of_parts(squares, square)
    _finish_statistics(total, square, shift, float(n * pixels), mean, var)


@kernel
def _normalise_planes(x, residual, weight, bias, mean, var, eps, lowest, y):
    rows, pixels = x.shape
    c = mean.size
    for r in prange(rows):
        centre, offset = mean[r % c], bias[r % c]
        scale = weight[r % c] * _rstd(var[r % c], eps)
        if residual.size:
            for j in range(pixels):
                v = (wide(x[r, j]) - centre) * scale + offset + wide(residual[r, j])
                y[r, j] = narrow_result(_bounded(v, lowest), y[r, j])
        else:
            for j in range(pixels):
                v = (wide(x[r, j]) - centre) * scale + offset
                y[r, j] = narrow_result(_bounded(v, lowest), y[r, j])


@kernel
def _backward_planes(
    g, more, x, y, weight, bias, mean, var, eps, mode, training, dx, dweight, dbias, passed
):
    rows, pixels = x.shape
    c = mean.size
    n = rows // c
    sums = np.empty((n, c), np.float32)
    products = np.empty((n, c), np.float32)
    source = passed if passed.size else g
    left = _ALL if passed.size else mode
    for r in prange(rows):
        centre, offset = mean[r % c], bias[r % c]
        scale = weight[r % c] * _rstd(var[r % c], eps)
        if passed.size:
            for j in range(pixels):
                m = g[r, j]
                if more.size:
                    m = narrow_result(wide(m) + wide(more[r, j]), m)
                v = (wide(x[r, j]) - centre) * scale + offset
                passed[r, j] = _kept(m, wide(y[r, j]), v, mode)
        s, p = _f(0), _f(0)
        for j in range(pixels):
            d = wide(x[r, j]) - centre
            m = _passing(wide(source[r, j]), d * scale + offset, left)
            s += m
            p += m * d
        sums[r // c, r % c] = s
        products[r // c, r % c] = p
    total, product = np.empty(c, np.float64), np.empty(c, np.float64)
    sum_of_parts(sums, total)
    sum_of_parts(products, product)
    count = float(n * pixels)
    by_x, constant = np.zeros(c, np.float32), np.zeros(c, np.float32)
    for j in range(c):
        rstd = _rstd(var[j], eps)
        slope = weight[j] * rstd
        dbias[j] = _f(total[j])
        dweight[j] = _f(product[j] * rstd)
        if training:
            by_x[j] = _f(-slope * rstd * (product[j] * rstd / count))
            constant[j] = _f(-slope * (total[j] / count))
    for r in prange(rows):
        centre, offset = mean[r % c], bias[r % c]
        scale = weight[r % c] * _rstd(var[r % c], eps)
        per_x, rest = by_x[r % c], constant[r % c]
        for j in range(pixels):
            d = wide(x[r, j]) - centre
            m = _passing(wide(source[r, j]), d * scale + offset, left)
            if training:
                m = m * scale + (d * per_x + rest)
            else:
                m = m * scale
            dx[r, j] = narrow_result(m, dx[r, j])


# The kernels ----------------------------------------------------------------------------


class _Layout:
    """How an array (n, c, ...) is made a matrix, and results are made as it is."""

    def __init__(self, x: NDArray) -> None:
        self.shape = x.shape
        n, c = x.shape[:2]
        pixels = x.size // (n * c)
        self.planes = pixels >= _SHORT_PLANE and x.flags.c_contiguous
        if self.planes:
            self.matrix_shape = (n * c, pixels)
        else:
            rows = n * pixels
            joined = gcd(rows, 1 << max((_ROW // c).bit_length(), 0))
            self.matrix_shape = (rows // joined, c * joined)
        self.last = (n, *x.shape[2:], c)
        self.order = (0, x.ndim - 1, *range(1, x.ndim - 1))

    def matrix(self, x: NDArray) -> NDArray:
        """The elements in this layout's order, copied if they lie in another."""
        x = as_bits(x)
        if not self.planes and x.ndim > 2:
            x = x.transpose(0, *range(2, x.ndim), 1)
        if not x.flags.c_contiguous:
            x = np.ascontiguousarray(x)
        return x.reshape(self.matrix_shape)

    def empty(self, dtype: Any) -> NDArray:
        """An array of the shape of x that lies in this order."""
        if self.planes:
            return empty(self.shape, dtype)
        return empty(self.last, dtype).transpose(self.order)


def _nothing(like: NDArray) -> NDArray:
    return np.empty((0, 0), like.dtype)


def moments(x: NDArray) -> tuple[NDArray, NDArray]:
    """Mean and variance of each channel, float32."""
    layout = _Layout(x)
    return _moments(layout, layout.matrix(x), x)


def _moments(layout: _Layout, matrix: NDArray, x: NDArray) -> tuple[NDArray, NDArray]:
    mean, var = empty(x.shape[1:2], np.float32), empty(x.shape[1:2], np.float32)
    statistics = _statistics_planes if layout.planes else _statistics_rows
    statistics.over(x.size)(matrix, mean, var)
    return mean, var


def batch_norm(
    x: NDArray,
    weight: NDArray | None,
    bias: NDArray | None,
    eps: float,
    residual: NDArray | None,
    activation: str | None,
) -> tuple[NDArray, NDArray, NDArray]:
    layout = _Layout(x)
    matrix = layout.matrix(x)
    mean, var = _moments(layout, matrix, x)
    y = _normalised(layout, matrix, x, weight, bias, mean, var, eps, residual, activation)
    return y, mean, var


def batch_norm_inference(
    x: NDArray,
    weight: NDArray | None,
    bias: NDArray | None,
    mean: NDArray,
    var: NDArray,
    eps: float,
    residual: NDArray | None,
    activation: str | None,
) -> NDArray:
    layout = _Layout(x)
    c = x.shape[1]
    mean, var = numbers(mean, c, 0), numbers(var, c, 1)
    matrix = layout.matrix(x)
    return _normalised(layout, matrix, x, weight, bias, mean, var, eps, residual, activation)


def _normalised(
    layout: _Layout,
    matrix: NDArray,
    x: NDArray,
    weight: NDArray | None,
    bias: NDArray | None,
    mean: NDArray,
    var: NDArray,
    eps: float,
    residual: NDArray | None,
    activation: str | None,
) -> NDArray:
    c = x.shape[1]
    y = layout.empty(x.dtype)
    run = _normalise_planes if layout.planes else _normalise_rows
    run.over(x.size)(
        matrix,
        _nothing(matrix) if residual is None else layout.matrix(residual),
        numbers(weight, c, 1),
        numbers(bias, c, 0),
        mean,
        var,
        _f(eps),
        _f(0) if activation == "relu" else _f(-inf),
        layout.matrix(y),
    )
    return y


def batch_norm_backward(
    grad_output: NDArray,
    x: NDArray,
    y: NDArray | None,
    weight: NDArray | None,
    bias: NDArray | None,
    mean: NDArray,
    var: NDArray,
    eps: float,
    activation: str | None,
    training: bool,
    residual: bool,
    more: NDArray | None = None,
) -> tuple[NDArray, NDArray, NDArray, NDArray | None]:
    layout = _Layout(x)
    c = x.shape[1]
    dx = layout.empty(x.dtype)
    dweight, dbias = empty((c,), np.float32), empty((c,), np.float32)
    matrix, g = layout.matrix(x), layout.matrix(grad_output)
    masked = layout.empty(x.dtype) if activation and residual else None
    mode = _ALL if activation is None else _BY_OUTPUT if residual else _BY_INPUT
    # What passes the activation is kept for the second pass: in a result, or in dx's place.
    passed = masked if masked is not None else None if more is None else dx
    run = _backward_planes if layout.planes else _backward_rows
    run.over(x.size)(
        g,
        _nothing(g) if more is None else layout.matrix(more),
        matrix,
        g if y is None or mode != _BY_OUTPUT else layout.matrix(y),
        numbers(weight, c, 1),
        numbers(bias, c, 0),
        numbers(mean, c, 0),
        numbers(var, c, 1),
        _f(eps),
        mode,
        training,
        layout.matrix(dx),
        dweight,
        dbias,
        _nothing(g) if passed is None else layout.matrix(passed),
    )
    return dx, dweight, dbias, masked
