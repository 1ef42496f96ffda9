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
        # Given the dtype, NumPy does not widen small integers.
        return np.add.reduce(x, axis=axis, dtype=x.dtype, keepdims=keepdims)
    return np.asarray(np.add.reduce(x, axis=axis, dtype=wide, keepdims=keepdims)).astype(x.dtype)


def mean(x: NDArray, axis: Axis, keepdims: bool) -> NDArray:
    """Mean; 16-bit floats are summed in float32. The mean of nothing is NaN."""
    total = np.add.reduce(x, axis=axis, dtype=_wide(x), keepdims=keepdims)
    count = x.size
    if axis is not None:
        count = 1
        for a in axis:
            count *= x.shape[a]
    y = np.true_divide(total, total.dtype.type(count))
    return y if y.dtype == x.dtype else y.astype(x.dtype)


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


def prod_of_others(x: NDArray, axis: int) -> NDArray:
    """For each element, the product of all others along ``axis``.

    What stands before it times what stands after it, so that zeros do no harm.
    """
    x = np.moveaxis(x, axis, -1)
    wide = x.astype(np.float32) if _wide(x) else x
    ones = np.ones((*x.shape[:-1], min(1, x.shape[-1])), wide.dtype)
    before = np.cumprod(np.concatenate([ones, wide[..., :-1]], -1), -1)
    after = np.cumprod(np.concatenate([ones, wide[..., :0:-1]], -1), -1)[..., ::-1]
    return np.moveaxis((before * after).astype(x.dtype, copy=False), -1, axis)


def var(x: NDArray, axis: Axis, keepdims: bool, divisor: float) -> NDArray:
    """Sum of the squared distances from the mean, over ``divisor``; NaN or inf if that is 0."""
    wide = x.astype(np.float32) if _wide(x) else x
    distance = np.subtract(wide, mean(wide, axis, True))
    total = np.asarray(np.add.reduce(np.square(distance), axis=axis, keepdims=keepdims))
    return np.true_divide(total, total.dtype.type(divisor)).astype(x.dtype)


def logsumexp(x: NDArray, axis: Axis, keepdims: bool) -> NDArray:
    """max + log sum exp(x - max): the shift keeps exp from overflowing; -inf of nothing."""
    wide = x.astype(np.float32) if _wide(x) else x
    highest = np.maximum.reduce(wide, axis=axis, keepdims=True, initial=-np.inf)
    # inf - inf would be NaN: where the largest value is infinite, nothing is shifted.
    shift = np.where(np.isfinite(highest), highest, wide.dtype.type(0))
    total = np.log(np.add.reduce(np.exp(wide - shift), axis=axis, keepdims=True)) + shift
    if not keepdims:
        total = total.squeeze(axis)
    return total.astype(x.dtype, copy=False)


def norm(x: NDArray, p: float, axis: Axis, keepdims: bool) -> NDArray:
    """(sum |x|^p)^(1/p)."""
    wide = x.astype(np.float32) if _wide(x) else x
    if p == 1:
        y = np.add.reduce(np.abs(wide), axis=axis, keepdims=keepdims)
    elif p == 2:
        y = np.sqrt(np.add.reduce(np.square(wide), axis=axis, keepdims=keepdims))
    else:
        y = np.add.reduce(np.abs(wide) ** p, axis=axis, keepdims=keepdims) ** (1 / p)
    return np.asarray(y).astype(x.dtype, copy=False)


def argmedian(x: NDArray, axis: int) -> NDArray:
    """Index, with ``axis`` kept, of the lower middle value; of the first NaN if there is one."""
    order = np.argsort(x, axis=axis, kind="stable")
    index = np.take(order, [(x.shape[axis] - 1) // 2], axis)
    if x.dtype.kind in "fV":
        nan = np.isnan(x)
        index = np.where(nan.any(axis, keepdims=True), nan.argmax(axis, keepdims=True), index)
    return index


for _kernel in (
    sum,
    mean,
    prod,
    prod_of_others,
    var,
    norm,
    logsumexp,
    amax,
    amin,
    argmax,
    argmin,
    argmedian,
    all,
    any,
):
    register(_kernel.__name__, _kernel)
