"""Layer normalisation: a row is read, normalised and written while the cache holds it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..memory import empty
from .jit import inline, kernel, prange
from .math import narrow, wide
from .rows import as_rows, numbers, rows_of_a_block, sum_of_parts

__all__ = ["layer_norm", "layer_norm_backward", "normalise", "slopes"]

_f = np.float32


@inline
def normalise(x, weight, bias, eps, y, mean, rstd):
    """y = (x - mean) / sqrt(var + eps) weight + bias; rows of x may be longer."""
    c = weight.size
    for r in range(y.shape[0]):
        total = _f(0)
        for j in range(c):
            total += wide(x[r, j])
        m = total / _f(c)
        square = _f(0)
        for j in range(c):
            d = wide(x[r, j]) - m
            square += d * d
        s = _f(1) / np.sqrt(square / _f(c) + eps)
        for j in range(c):
            z = (wide(x[r, j]) - m) * s
            y[r, j] = narrow(z * weight[j] + bias[j], y[r, j])
        mean[r] = m
        rstd[r] = s


@inline
def slopes(g, x, weight, mean, rstd, dx, products, sums):
    """The gradient of x for each row; those of weight and bias are added to the last two."""
    c = weight.size
    for r in range(dx.shape[0]):
        m, s = mean[r], rstd[r]
        along, total = _f(0), _f(0)
        for j in range(c):
            slope = wide(g[r, j])
            z = (wide(x[r, j]) - m) * s
            products[j] += slope * z
            sums[j] += slope
            h = slope * weight[j]
            along += h * z
            total += h
        along, total = along / _f(c), total / _f(c)
        for j in range(c):
            z = (wide(x[r, j]) - m) * s
            d = (wide(g[r, j]) * weight[j] - total - z * along) * s
            dx[r, j] = narrow(d, dx[r, j])


@kernel
def _forward(x, weight, bias, eps, y, mean, rstd):
    rows, c = x.shape
    block = rows_of_a_block(c)
    for b in prange((rows + block - 1) // block):
        first, end = b * block, min(b * block + block, rows)
        some, means, scales = y[first:end], mean[first:end], rstd[first:end]
        normalise(x[first:end], weight, bias, eps, some, means, scales)


@kernel
def _backward(g, x, weight, mean, rstd, dx, dweight, dbias):
    rows, c = x.shape
    block = rows_of_a_block(c)
    blocks = (rows + block - 1) // block
    products = np.zeros((blocks, c), np.float32)
    sums = np.zeros((blocks, c), np.float32)
    for b in prange(blocks):
        first, end = b * block, min(b * block + block, rows)
        means, scales, some = mean[first:end], rstd[first:end], dx[first:end]
        slopes(g[first:end], x[first:end], weight, means, scales, some, products[b], sums[b])
    sum_of_parts(products, dweight)
    sum_of_parts(sums, dbias)


def layer_norm(
    x: NDArray, weight: NDArray | None, bias: NDArray | None, axes: int, eps: float
) -> tuple[NDArray, NDArray, NDArray]:
    samples = x.shape[: x.ndim - axes]
    mean, rstd = empty(samples, np.float32), empty(samples, np.float32)
    y = empty(x.shape, x.dtype)
    rows = as_rows(x, mean.size)
    c = rows.shape[1]
    _forward.over(x.size)(
        rows,
        numbers(weight, c, 1),
        numbers(bias, c, 0),
        _f(eps),
        as_rows(y, mean.size),
        mean.reshape(-1),
        rstd.reshape(-1),
    )
    return y, mean, rstd


def layer_norm_backward(
    grad_output: NDArray,
    x: NDArray,
    weight: NDArray | None,
    mean: NDArray,
    rstd: NDArray,
    axes: int,
) -> tuple[NDArray, NDArray | None, NDArray | None]:
    dx = empty(x.shape, x.dtype)
    normalized = x.shape[x.ndim - axes :]
    dweight, dbias = empty(normalized, np.float32), empty(normalized, np.float32)
    rows = as_rows(x, mean.size)
    _backward.over(x.size)(
        as_rows(grad_output, mean.size),
        rows,
        numbers(weight, rows.shape[1], 1),
        numbers(mean, mean.size, 0),
        numbers(rstd, mean.size, 0),
        as_rows(dx, mean.size),
        dweight.reshape(-1),
        dbias.reshape(-1),
    )
    return (dx, None, None) if weight is None else (dx, dweight, dbias)
