"""Softmax and its logarithm along the axis that lies in a row, with their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..memory import empty
from .jit import kernel, prange
from .math import exp_within_range, larger, log, narrow, wide
from .rows import as_rows, rows_of_a_block

__all__ = ["log_softmax", "log_softmax_backward", "softmax", "softmax_backward"]

_f = np.float32


@kernel
def _softmax(x, y):
    rows, c = x.shape
    block = rows_of_a_block(c)
    for b in prange((rows + block - 1) // block):
        e = np.empty(c, np.float32)
        for r in range(b * block, min(b * block + block, rows)):
            highest = _f(-np.inf)
            for j in range(c):
                highest = larger(highest, wide(x[r, j]))
            total = _f(0)
            for j in range(c):
                e[j] = exp_within_range(wide(x[r, j]) - highest)
                total += e[j]
            share = _f(1) / total
            for j in range(c):
                y[r, j] = narrow(e[j] * share, y[r, j])


@kernel
def _log_softmax(x, y):
    rows, c = x.shape
    block = rows_of_a_block(c)
    for b in prange((rows + block - 1) // block):
        for r in range(b * block, min(b * block + block, rows)):
            highest = _f(-np.inf)
            for j in range(c):
                highest = larger(highest, wide(x[r, j]))
            total = _f(0)
            for j in range(c):
                total += exp_within_range(wide(x[r, j]) - highest)
            shift = log(total)
            for j in range(c):
                y[r, j] = narrow((wide(x[r, j]) - highest) - shift, y[r, j])


@kernel
def _softmax_backward(g, y, dx):
    rows, c = y.shape
    block = rows_of_a_block(c)
    for b in prange((rows + block - 1) // block):
        for r in range(b * block, min(b * block + block, rows)):
            total = _f(0)
            for j in range(c):
                total += wide(g[r, j]) * wide(y[r, j])
            for j in range(c):
                dx[r, j] = narrow(wide(y[r, j]) * (wide(g[r, j]) - total), dx[r, j])


@kernel
def _log_softmax_backward(g, y, dx):
    rows, c = y.shape
    block = rows_of_a_block(c)
    for b in prange((rows + block - 1) // block):
        for r in range(b * block, min(b * block + block, rows)):
            total = _f(0)
            for j in range(c):
                total += wide(g[r, j])
            for j in range(c):
                dx[r, j] = narrow(wide(g[r, j]) - exp_within_range(wide(y[r, j])) * total, dx[r, j])


def _by_rows(run: Any, axis: int, *arrays: NDArray) -> NDArray:
    """Call ``run`` with the arrays as matrices whose rows go along ``axis``, and the result's."""
    if axis not in (-1, arrays[0].ndim - 1):
        moved = [np.moveaxis(a, axis, -1) for a in arrays]
        return np.moveaxis(_by_rows(run, -1, *moved), -1, axis)
    shape = arrays[0].shape
    y = empty(shape, arrays[-1].dtype)
    rows = y.size // shape[-1]
    run.over(y.size)(*[as_rows(a, rows) for a in arrays], as_rows(y, rows))
    return y


def softmax(x: NDArray, axis: int) -> NDArray:
    return _by_rows(_softmax, axis, x)


def log_softmax(x: NDArray, axis: int) -> NDArray:
    return _by_rows(_log_softmax, axis, x)


def softmax_backward(grad_output: NDArray, y: NDArray, axis: int) -> NDArray:
    return _by_rows(_softmax_backward, axis, grad_output, y)


def log_softmax_backward(grad_output: NDArray, y: NDArray, axis: int) -> NDArray:
    return _by_rows(_log_softmax_backward, axis, grad_output, y)
