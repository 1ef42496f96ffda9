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
    y = matmul(x, weight.T)
    if bias is not None:
        np.add(y, bias, out=y)
    return y


for _kernel in (matmul, linear):
    register(_kernel.__name__, _kernel)
