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
def _columns(x, width, row, block, totals):
    """``width`` columns; ``row`` is a multiple of it, and ``block`` one of ``row``."""
    for b in prange(totals.shape[0]):
        total = np.zeros(row, np.float32)
        start, stop = b * block, min((b + 1) * block, x.size)
        for first in range(start, stop, row):
            for k in range(min(row, stop - first)):
                total[k] += wide(x[first + k])
        for k in range(row):
            totals[b, k % width] += total[k]


def sum(x: NDArray, axis: Any, keepdims: bool) -> NDArray:
    """See the reference kernel; ``axis`` is all but the one whose elements are neighbours."""
    channel = next(a for a in range(x.ndim) if a not in axis)
    width = x.shape[channel]
    row = width * -(-_ROW // width)
    block = row * -(-_BLOCK // row)
    totals = np.zeros((-(-x.size // block), width))
    loop = _columns if x.size >= _PARALLEL else _columns.serial
    loop(flat(x), width, row, block, totals)
    total = totals.sum(0).astype(np.float32).astype(x.dtype, copy=False)
    if keepdims:
        total = total.reshape([width if a == channel else 1 for a in range(x.ndim)])
    return total
