"""Reductions. ``axis`` is a tuple of axes that are not negative, or None for all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..registry import register

Axis = tuple[int, ...] | None


def _wide(x: NDArray) -> Any:
    """The dtype to sum in: float32 for 16-bit floats, else the dtype itself."""
    return np.float32 if x.dtype.itemsize == 2 and x.dtype.kind in "fV" else None


def sum(x: NDArray, axis: Axis, keepdims: bool) -> NDArray:
    """Sum; 16-bit floats are summed in float32."""
    wide = _wide(x)
    if wide is None:
        return np.add.reduce(x, axis=axis, keepdims=keepdims)
    return np.asarray(np.add.reduce(x, axis=axis, dtype=wide, keepdims=keepdims)).astype(x.dtype)


def mean(x: NDArray, axis: Axis, keepdims: bool) -> NDArray:
    """Mean; 16-bit floats are summed in float32. The mean of nothing is NaN."""
    total = np.asarray(np.add.reduce(x, axis=axis, dtype=_wide(x), keepdims=keepdims))
    count = x.size // total.size if total.size else 0
    if total.size and not count:
        return np.full(total.shape, np.nan, x.dtype)
    return (total / np.asarray(max(count, 1), total.dtype)).astype(x.dtype, copy=False)


def prod(x: NDArray, axis: Axis, keepdims: bool) -> NDArray:
    """Product; 16-bit floats are multiplied in float32."""
    out = np.multiply.reduce(x, axis=axis, dtype=_wide(x), keepdims=keepdims)
    return np.asarray(out).astype(x.dtype, copy=False)


def amax(x: NDArray, axis: Axis, keepdims: bool) -> NDArray:
    """Largest value; NaN if there is one."""
    return np.maximum.reduce(x, axis=axis, keepdims=keepdims)


def amin(x: NDArray, axis: Axis, keepdims: bool) -> NDArray:
    """Smallest value; NaN if there is one."""
    return np.minimum.reduce(x, axis=axis, keepdims=keepdims)


def argmax(x: NDArray, axis: int | None, keepdims: bool) -> NDArray:
    """Index of the first largest value; NaN counts as the largest."""
    return np.argmax(x, axis=axis, keepdims=keepdims)


def argmin(x: NDArray, axis: int | None, keepdims: bool) -> NDArray:
    """Index of the first smallest value; NaN counts as the smallest."""
    return np.argmin(x, axis=axis, keepdims=keepdims)


def all(x: NDArray, axis: Axis, keepdims: bool) -> NDArray:
    """Whether no element is zero."""
    return np.all(x, axis=axis, keepdims=keepdims)


def any(x: NDArray, axis: Axis, keepdims: bool) -> NDArray:
    """Whether some element is not zero."""
    return np.any(x, axis=axis, keepdims=keepdims)


for _kernel in (sum, mean, prod, amax, amin, argmax, argmin, all, any):
    register(_kernel.__name__, _kernel)
