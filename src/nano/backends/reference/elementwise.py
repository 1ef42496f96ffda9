"""Element-wise kernels. Most are NumPy's ufuncs themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import ZeroDivisorError
from ..registry import register

_UFUNCS = {
    "abs": np.absolute,
    "add": np.add,
    "ceil": np.ceil,
    "cos": np.cos,
    "divide": np.true_divide,
    "equal": np.equal,
    "exp": np.exp,
    "expm1": np.expm1,
    "floor": np.floor,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "isfinite": np.isfinite,
    "isinf": np.isinf,
    "isnan": np.isnan,
    "less": np.less,
    "less_equal": np.less_equal,
    "log": np.log,
    "log1p": np.log1p,
    "logical_not": np.logical_not,
    "bitwise_and": np.bitwise_and,
    "bitwise_not": np.invert,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "multiply": np.multiply,
    "negative": np.negative,
    "not_equal": np.not_equal,
    "reciprocal": np.reciprocal,
    "rint": np.rint,
    "sign": np.sign,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "square": np.square,
    "subtract": np.subtract,
    "tanh": np.tanh,
    "where": np.where,
}

for _name, _ufunc in _UFUNCS.items():
    register(_name, _ufunc)


class _Zeros(dict):
    """A 0-d zero for each dtype: NumPy takes it twice as fast as Python's 0."""

    def __missing__(self, dtype: np.dtype) -> NDArray:
        zero = self[dtype] = np.zeros((), dtype)
        return zero


_ZERO = _Zeros()
_FLOAT = np.dtype(np.float64)


def relu(x: NDArray) -> NDArray:
    """max(x, 0), with NaN kept."""
    return np.maximum(x, _ZERO[x.dtype])


def relu_backward(grad_output: NDArray, y: NDArray) -> NDArray:
    """The gradient, but 0 where the output is 0; where that is NaN, the gradient passes."""
    dead = np.less_equal(y, _ZERO[y.dtype])
    if y.size < 2048:
        return np.where(dead, _ZERO[grad_output.dtype], grad_output)
    # NumPy chooses between two numbers seven times more slowly than it joins two masks of bits.
    bits = np.dtype(f"i{grad_output.dtype.itemsize}")
    passing = np.subtract(dead.view(np.int8), 1, dtype=bits)
    return np.bitwise_and(grad_output.view(bits), passing).view(grad_output.dtype)


def power(x: NDArray, y: NDArray) -> NDArray:
    """x^y; an integer to a negative power has its fraction cut off, which NumPy refuses."""
    if getattr(x, "dtype", _FLOAT).kind != "i" or not np.any(np.less(y, 0)):
        return np.power(x, y)
    odd = np.where(np.bitwise_and(y, 1), x, 1)
    inverse = np.where(np.abs(x) == 1, odd, 0)
    return np.where(np.less(y, 0), inverse, np.power(x, np.maximum(y, 0))).astype(x.dtype)


def sigmoid(x: NDArray) -> NDArray:
    """1 / (1 + exp(-x)), written with exp(-|x|), which cannot overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype, copy=False)


def clip(x: NDArray, low: NDArray | float | None, high: NDArray | float | None) -> NDArray:
    """min(max(x, low), high); where low > high the result is high."""
    if low is not None:
        x = np.maximum(x, low)
    return np.minimum(x, high) if high is not None else x


for _kernel in (relu, relu_backward, power, sigmoid, clip):
    register(_kernel.__name__, _kernel)


def _refuse_zero(y: NDArray | int) -> None:
    if np.asarray(y).dtype.kind in "iub" and not np.all(y):
        raise ZeroDivisorError("division", "an integer was divided by zero.")


def floor_divide(x: NDArray, y: NDArray) -> NDArray:
    """floor(x / y); x / y itself where y is a floating-point zero."""
    _refuse_zero(y)
    quotient = np.floor_divide(x, y)
    if quotient.dtype.kind == "f":
        return np.where(np.equal(y, 0), np.true_divide(x, y), quotient)
    return quotient


def trunc_divide(x: NDArray, y: NDArray) -> NDArray:
    """x / y rounded towards zero."""
    _refuse_zero(y)
    if np.result_type(x, y).kind in "fV":
        return np.trunc(np.true_divide(x, y))
    return (x - np.fmod(x, y)) // y


def remainder(x: NDArray, y: NDArray) -> NDArray:
    """x - y floor(x / y)."""
    _refuse_zero(y)
    return np.remainder(x, y)


def fmod(x: NDArray, y: NDArray) -> NDArray:
    """x - y trunc(x / y)."""
    _refuse_zero(y)
    return np.fmod(x, y)


for _kernel in (floor_divide, trunc_divide, remainder, fmod):
    register(_kernel.__name__, _kernel)
