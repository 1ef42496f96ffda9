"""The gradient of an embedding: adding rows to rows of a table.

Threads have columns of their own: none meets another, and the order of the sums is that
of the indices, whatever the number of threads. (Reading rows, NumPy is as fast.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..registry import kernels
from .jit import kernel, prange
from .math import wide
from .rows import as_rows
from .suits import FLOAT32

__all__ = ["embedding_backward"]

#: Columns of a piece of work.
_COLUMNS = 128


@kernel
def _add(g, index, padding_idx, sums):
    columns = sums.shape[1]
    for b in prange((columns + _COLUMNS - 1) // _COLUMNS):
        first = b * _COLUMNS
        last = min(first + _COLUMNS, columns)
        for i in range(index.size):
            r = index[i]
            if r != padding_idx:
                for j in range(first, last):
                    sums[r, j] += wide(g[i, j])


def embedding_backward(
    grad_output: NDArray, index: NDArray, rows: int, padding_idx: int
) -> NDArray:
    flat = np.ascontiguousarray(index, np.int64).reshape(-1)
    sums = np.zeros((rows, grad_output.shape[-1]), np.float32)
    # An addition is quick: only many are worth waking the other threads.
    _add.over(grad_output.size // 4)(as_rows(grad_output, flat.size), flat, padding_idx, sums)
    return sums if grad_output.dtype is FLOAT32 else kernels.cast(sums, grad_output.dtype)
