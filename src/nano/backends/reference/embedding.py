"""Embedding: reading rows of a table, and adding gradients to those rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..registry import register


def embedding(weight: NDArray, index: NDArray) -> NDArray:
    """The rows of ``weight`` at ``index``, of shape (*index.shape, columns)."""
    return np.take(weight, index, axis=0)


def embedding_backward(
    grad_output: NDArray, index: NDArray, rows: int, padding_idx: int
) -> NDArray:
    """Zeros of ``rows`` rows, with ``grad_output`` added at ``index``; repeats add up.

    What stands at ``padding_idx`` is left out (-1: nothing is). 16-bit floats are summed
    in float32.
    """
    dtype = grad_output.dtype
    columns = grad_output.shape[-1]
    flat = index.reshape(-1)
    values = grad_output.reshape(flat.size, columns)
    if padding_idx >= 0:
        kept = flat != padding_idx
        flat, values = flat[kept], values[kept]
    out = np.zeros((rows, columns), np.float32 if dtype.itemsize == 2 else dtype)
    np.add.at(out, flat, values.astype(out.dtype, copy=False))
    return out.astype(dtype, copy=False)


for _kernel in (embedding, embedding_backward):
    register(_kernel.__name__, _kernel)
