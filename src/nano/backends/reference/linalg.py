"""Matrix products."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..registry import register

_FLOAT32 = np.dtype(np.float32)


def _is_small_float(x: NDArray) -> bool:
    """float16 or bfloat16: BLAS has neither, and sums in them lose digits."""
    return x.dtype.itemsize == 2 and x.dtype.kind in "fV"


def matmul(x: NDArray, y: NDArray) -> NDArray:
    """Matrix product of the last two dimensions; 16-bit floats are summed in float32."""
    if _is_small_float(x):
        return np.matmul(x.astype(_FLOAT32), y.astype(_FLOAT32)).astype(x.dtype)
    return np.matmul(x, y)


def linear(x: NDArray, weight: NDArray, bias: NDArray | None) -> NDArray:
    """x weight^T + bias, with x (..., in), weight (out, in), bias (out,)."""
    if x.ndim > 2 and x.size:
        # One large product is faster than a batch of small ones by the same matrix.
        rows = linear(x.reshape(-1, x.shape[-1]), weight, bias)
        return rows.reshape(*x.shape[:-1], len(weight))
    y = matmul(x, weight.T)
    if bias is not None:
        np.add(y, bias, out=y)
    return y


def einsum(equation: str, *arrays: NDArray) -> NDArray:
    """Einstein summation with an explicit output; 16-bit floats are summed in float32."""
    x = arrays[0]
    small = _is_small_float(x)
    if small:
        arrays = tuple([a.astype(_FLOAT32) for a in arrays])
    # Two or more operands go through BLAS where they can; for one, planning only costs.
    y = np.einsum(equation, *arrays, optimize=len(arrays) > 1)
    return y.astype(x.dtype) if small else np.asarray(y)


for _kernel in (matmul, linear, einsum):
    register(_kernel.__name__, _kernel)
