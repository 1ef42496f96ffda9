"""Sums over everything but the last axis in memory: the gradients of biases.

Blocks of rows are summed in float32, the blocks' sums in float64. Short rows are
taken several at a time, as one long row, so that the loop over it is vectorised.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .elementwise import flat
from .jit import kernel, prange
from .math import wide

__all__ = ["sum"]

#: Elements: of a block, and at least of a row that is summed at once.
_BLOCK, _ROW = 1 << 15, 512
_PARALLEL = 1 << 17


@kernel
def _columns(x, block, totals):
    """Sums of ``block`` rows each of x (rows, long)."""
    rows, long = x.shape
    for b in prange(totals.shape[0]):
        for k in range(long):
            totals[b, k] = np.float32(0)
        for r in range(b * block, min(b * block + block, rows)):
            for k in range(long):
                totals[b, k] += wide(x[r, k])


def sum(x: NDArray, axis: Any, keepdims: bool) -> NDArray:
    """See the reference kernel; ``axis`` is all but the one whose elements are neighbours."""
    channel = next(a for a in range(x.ndim) if a not in axis)
    width = x.shape[channel]
    joined = -(-_ROW // width)
    elements = flat(x)
    rows = elements.size // (width * joined)
    matrix = elements[: rows * joined * width].reshape(rows, joined * width)
    block = max(_BLOCK // matrix.shape[1], 1)
    totals = np.empty((-(-rows // block), matrix.shape[1]), np.float32)
    loop = _columns if x.size >= _PARALLEL else _columns.serial
    loop(matrix, block, totals)
    total = totals.reshape(-1, width).sum(0, np.float64)
    rest = elements[rows * joined * width :]
    if rest.size:
        total += _widened(rest, x.dtype).reshape(-1, width).sum(0, np.float64)
    total = total.astype(np.float32).astype(x.dtype, copy=False)
    if keepdims:
        total = total.reshape([width if a == channel else 1 for a in range(x.ndim)])
    return total


def _widened(elements: NDArray, dtype: np.dtype) -> NDArray:
    """Elements of ``dtype``, given as their bits if it is bfloat16, as NumPy can add them."""
    return elements.view(dtype).astype(np.float32)
