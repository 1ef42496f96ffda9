"""Element-wise kernels: one pass over memory, on all cores, for float32 and bfloat16.

An operator is a formula for one element, and a loop. The loops run over the
elements in the order in which they lie in memory, whatever the shape; bfloat16
numbers are read as 16-bit integers, widened, computed with as float32, and
rounded once at the end.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import math
from .jit import Kernel, kernel, prange
from .math import exact, narrow, wide

__all__ = [
    "add",
    "divide",
    "exp",
    "gelu",
    "gelu_backward",
    "gelu_tanh",
    "gelu_tanh_backward",
    "leaky_relu",
    "multiply",
    "relu",
    "relu_backward",
    "sigmoid",
    "silu",
    "silu_backward",
    "subtract",
    "tanh",
]

#: With fewer elements, one thread is done before the others are awake: for formulas that
#: wait for memory, and for those with an exponential.
_PARALLEL, _PARALLEL_COSTLY = 1 << 17, 1 << 15

_f = np.float32
_ZERO, _ONE = _f(0), _f(1)
_TWICE_SCALE, _TANH_CUBIC = _f(2 * sqrt(2 / pi)), _f(0.044715)
_THREE = _f(3)


def flat(x: NDArray) -> NDArray:
    """The elements of a dense array in the order of memory, not copied; bfloat16 as uint16."""
    row = x.reshape(-1) if x.flags.c_contiguous else x.ravel("K")
    return row if row.itemsize == 4 else row.view(np.uint16)


def _into_new(loop: Kernel, parallel: int, x: NDArray, *others: Any) -> NDArray:
    """A new array like ``x``, filled by the loop, from ``x`` and other arrays and numbers."""
    y = np.empty_like(x)
    arguments = [flat(a) if isinstance(a, np.ndarray) else a for a in others]
    (loop if x.size >= parallel else loop.serial)(flat(x), *arguments, flat(y))
    return y


# Formulas -------------------------------------------------------------------------------


@exact
def _gelu_tanh(x):
    # 0.5 (1 + tanh u) is sigmoid(2 u).
    return x * math.sigmoid(_TWICE_SCALE * (x + _TANH_CUBIC * x * x * x))


@exact
def _gelu_tanh_slope(x):
    square = x * x
    twice = _TWICE_SCALE * x * (_ONE + _TANH_CUBIC * square)
    s = math.sigmoid(twice)
    inner = _TWICE_SCALE * (_ONE + _THREE * _TANH_CUBIC * square)
    return s + x * (s * math.sigmoid(-twice)) * inner


@exact
def _silu_slope(x):
    s = math.sigmoid(x)
    return s * (_ONE + x * (_ONE - s))


# Loops of one array ---------------------------------------------------------------------


@kernel
def _relu(x, y):
    for i in prange(x.size):
        y[i] = narrow(math.relu(wide(x[i])), x[i])


@kernel
def _exp(x, y):
    for i in prange(x.size):
        y[i] = narrow(math.exp(wide(x[i])), x[i])


@kernel
def _tanh(x, y):
    for i in prange(x.size):
        y[i] = narrow(math.tanh(wide(x[i])), x[i])


@kernel
def _sigmoid(x, y):
    for i in prange(x.size):
        y[i] = narrow(math.sigmoid(wide(x[i])), x[i])


@kernel
def _silu(x, y):
    for i in prange(x.size):
        a = wide(x[i])
        y[i] = narrow(a * math.sigmoid(a), x[i])


@kernel
def _gelus(x, y):
    for i in prange(x.size):
        v = wide(x[i])
        y[i] = narrow(v * math.normal_cdf(v), x[i])


@kernel
def _gelus_tanh(x, y):
    for i in prange(x.size):
        y[i] = narrow(_gelu_tanh(wide(x[i])), x[i])


def relu(x: NDArray) -> NDArray:
    """See the reference kernel, here and below."""
    return _into_new(_relu, _PARALLEL, x)


def exp(x: NDArray) -> NDArray:
    return _into_new(_exp, _PARALLEL_COSTLY, x)


def tanh(x: NDArray) -> NDArray:
    return _into_new(_tanh, _PARALLEL_COSTLY, x)


def sigmoid(x: NDArray) -> NDArray:
    return _into_new(_sigmoid, _PARALLEL_COSTLY, x)


def silu(x: NDArray) -> NDArray:
    return _into_new(_silu, _PARALLEL_COSTLY, x)


def gelu(x: NDArray) -> NDArray:
    return _into_new(_gelus, _PARALLEL_COSTLY, x)


def gelu_tanh(x: NDArray) -> NDArray:
    return _into_new(_gelus_tanh, _PARALLEL_COSTLY, x)


# Loops of a gradient and another array --------------------------------------------------


@kernel
def _relu_backward(g, y, dx):
    for i in prange(g.size):
        # Only where the output is 0 does nothing pass: through NaN, the gradient does.
        dx[i] = narrow(_ZERO if wide(y[i]) <= _ZERO else wide(g[i]), g[i])


@kernel
def _leaky_relu(value, x, slope, y):
    for i in prange(x.size):
        v = wide(value[i])
        y[i] = narrow(v if wide(x[i]) > _ZERO else v * slope, x[i])


@kernel
def _silu_backward(g, x, dx):
    for i in prange(x.size):
        dx[i] = narrow(wide(g[i]) * _silu_slope(wide(x[i])), x[i])


@kernel
def _gelu_backward(g, x, dx):
    for i in prange(x.size):
        dx[i] = narrow(wide(g[i]) * math.gelu_slope(wide(x[i])), x[i])


@kernel
def _gelu_tanh_backward(g, x, dx):
    for i in prange(x.size):
        dx[i] = narrow(wide(g[i]) * _gelu_tanh_slope(wide(x[i])), x[i])


def relu_backward(grad_output: NDArray, y: NDArray) -> NDArray:
    return _into_new(_relu_backward, _PARALLEL, grad_output, y)


def leaky_relu(value: NDArray, x: NDArray, negative_slope: float) -> NDArray:
    return _into_new(_leaky_relu, _PARALLEL, value, x, _f(negative_slope))


def silu_backward(grad_output: NDArray, x: NDArray) -> NDArray:
    return _into_new(_silu_backward, _PARALLEL_COSTLY, grad_output, x)


def gelu_backward(grad_output: NDArray, x: NDArray) -> NDArray:
    return _into_new(_gelu_backward, _PARALLEL_COSTLY, grad_output, x)


def gelu_tanh_backward(grad_output: NDArray, x: NDArray) -> NDArray:
    return _into_new(_gelu_tanh_backward, _PARALLEL_COSTLY, grad_output, x)


# Arithmetic -----------------------------------------------------------------------------


@kernel
def _add(x, y, z):
    for i in prange(x.size):
        z[i] = narrow(wide(x[i]) + wide(y[i]), x[i])


@kernel
def _subtract(x, y, z):
    for i in prange(x.size):
        z[i] = narrow(wide(x[i]) - wide(y[i]), x[i])


@kernel
def _multiply(x, y, z):
    for i in prange(x.size):
        z[i] = narrow(wide(x[i]) * wide(y[i]), x[i])


@kernel
def _divide(x, y, z):
    for i in prange(x.size):
        z[i] = narrow(wide(x[i]) / wide(y[i]), x[i])


def add(x: NDArray, y: NDArray) -> NDArray:
    return _into_new(_add, _PARALLEL, x, y)


def subtract(x: NDArray, y: NDArray) -> NDArray:
    return _into_new(_subtract, _PARALLEL, x, y)


def multiply(x: NDArray, y: NDArray) -> NDArray:
    return _into_new(_multiply, _PARALLEL, x, y)


def divide(x: NDArray, y: NDArray) -> NDArray:
    return _into_new(_divide, _PARALLEL, x, y)
