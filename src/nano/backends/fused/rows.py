"""What kernels that go row by row share: arrays as matrices, and blocks of rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .jit import inline
from .suits import BFLOAT16, FLOAT32

__all__ = ["as_bits", "as_rows", "numbers", "rows_of_a_block", "sum_of_parts"]

#: Elements of a block, the piece of work of a thread, and most of its rows: within a block,
#: sums are kept in float32.
_BLOCK, _BLOCK_ROWS = 1 << 16, 512


@inline
def rows_of_a_block(width):
    return min(max(_BLOCK // width, 1), _BLOCK_ROWS)


@inline
def sum_of_parts(parts, result):
    """The sums of the columns j, j + c, j + 2 c ... of ``parts``, with c = result.size,
    added up in float64."""
    c = result.size
    total = np.zeros(c, np.float64)
    for b in range(parts.shape[0]):
        for first in range(0, parts.shape[1], c):
            for j in range(c):
                total[j] += parts[b, first + j]
    for j in range(c):
        result[j] = total[j]


def as_bits(x: NDArray) -> NDArray:
    """bfloat16 numbers as the integers that Numba sees; others as they are."""
    return x.view(np.uint16) if x.dtype is BFLOAT16 else x


def as_rows(x: NDArray, rows: int) -> NDArray:
    """``x`` as a matrix of ``rows`` rows, copied if it does not lie in C order."""
    if not x.flags.c_contiguous:
        x = np.ascontiguousarray(x)
    return as_bits(x).reshape(rows, -1)


def numbers(values: NDArray | None, count: int, default: float) -> NDArray:
    """``values`` in a row as float32, or ``count`` times the default where there are none."""
    if values is None:
        return np.full(count, default, np.float32)
    if values.dtype is not FLOAT32 or not values.flags.c_contiguous:
        values = np.ascontiguousarray(values, np.float32)
    return values.reshape(-1)
