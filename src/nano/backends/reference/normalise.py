"""Softmax and its logarithm, with their gradients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..registry import register


def _widened(x: NDArray) -> NDArray:
    """float32 for 16-bit floats, whose exponentials and sums would lose digits."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 else x


def softmax(x: NDArray, axis: int) -> NDArray:
    """exp(x - max) / sum exp(x - max): the shift keeps exp from overflowing."""
    wide = _widened(x)
    if not x.size:
        return x.copy()
    e = np.subtract(wide, np.maximum.reduce(wide, axis=axis, keepdims=True))
    np.exp(e, out=e)
    e /= np.add.reduce(e, axis=axis, keepdims=True)
    return e.astype(x.dtype, copy=False)


def log_softmax(x: NDArray, axis: int) -> NDArray:
    """x - max - log sum exp(x - max)."""
    wide = _widened(x)
    if not x.size:
        return x.copy()
    shifted = np.subtract(wide, np.maximum.reduce(wide, axis=axis, keepdims=True))
    shifted -= np.log(np.add.reduce(np.exp(shifted), axis=axis, keepdims=True))
    return shifted.astype(x.dtype, copy=False)


def softmax_backward(grad_output: NDArray, y: NDArray, axis: int) -> NDArray:
    """y (g - sum(g y))."""
    wide = _widened(y)
    gy = np.multiply(_widened(grad_output), wide)
    gy -= np.multiply(wide, np.add.reduce(gy, axis=axis, keepdims=True))
    return gy.astype(y.dtype, copy=False)


def log_softmax_backward(grad_output: NDArray, y: NDArray, axis: int) -> NDArray:
    """g - exp(y) sum(g)."""
    wide = _widened(grad_output)
    grad = np.exp(_widened(y))
    grad *= np.add.reduce(wide, axis=axis, keepdims=True)
    return np.subtract(wide, grad, out=grad).astype(y.dtype, copy=False)


for _kernel in (softmax, log_softmax, softmax_backward, log_softmax_backward):
    register(_kernel.__name__, _kernel)
