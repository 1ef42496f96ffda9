"""Kernels that move elements to other places, or into another dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..memory import empty_as
from ..registry import register
from .scatter import grid_at


def put_slice(shape: tuple[int, ...], key: Any, values: NDArray) -> NDArray:
    """Zeros of ``shape`` with ``values`` at a NumPy index that meets no element twice."""
    out = empty_as(values, shape)
    out[...] = 0
    out[key] = values
    return out


def put_at(x: NDArray, key: Any, values: NDArray | float) -> NDArray:
    """A copy of ``x`` with ``values`` written at a NumPy index."""
    out = x.copy()
    out[key] = values
    return out


def take_at(x: NDArray, key: Any) -> NDArray:
    """The elements at a NumPy index, copied."""
    return np.array(x[key])


def take(x: NDArray, index: NDArray, axis: int) -> NDArray:
    """The slices of ``x`` at ``index`` along ``axis``."""
    return np.take(x, index, axis=axis)


def put_along_axis(x: NDArray, index: NDArray, axis: int, values: NDArray | float) -> NDArray:
    """A copy of ``x`` with out[i][index[i][j][k]][k] = values[i][j][k] for axis 1."""
    out = x.copy()
    out[grid_at(index, axis)] = values
    return out


def pad_constant(x: NDArray, widths: tuple[tuple[int, int], ...], value: float) -> NDArray:
    """``x`` with ``value`` around it: (before, after) for each dimension; negative widths crop."""
    shape = tuple([n + low + high for n, (low, high) in zip(x.shape, widths, strict=True)])
    out = empty_as(x, shape)
    out[...] = value
    # What of x is seen, and where it lies in the result.
    source = [
        slice(max(-low, 0), n - max(-high, 0))
        for n, (low, high) in zip(x.shape, widths, strict=True)
    ]
    target = [
        slice(max(low, 0), n - max(high, 0)) for n, (low, high) in zip(shape, widths, strict=True)
    ]
    out[tuple(target)] = x[tuple(source)]
    return out


def tile(x: NDArray, repeats: tuple[int, ...]) -> NDArray:
    """``x`` laid side by side, ``repeats`` times along each dimension; always a copy."""
    return np.tile(x, repeats)


def flip(x: NDArray, axes: tuple[int, ...]) -> NDArray:
    """``x`` read backwards along ``axes``, copied."""
    return np.flip(x, axes).copy()


def roll(x: NDArray, shifts: tuple[int, ...], axes: tuple[int, ...] | None) -> NDArray:
    """``x`` moved along ``axes``; what falls off one end comes in at the other."""
    return np.roll(x, shifts[0] if axes is None else shifts, axes)


def tril(x: NDArray, diagonal: int) -> NDArray:
    """Zero above the diagonal of the last two dimensions."""
    return np.tril(x, diagonal)


def triu(x: NDArray, diagonal: int) -> NDArray:
    """Zero below the diagonal of the last two dimensions."""
    return np.triu(x, diagonal)


def put_diagonal(
    shape: tuple[int, ...], values: NDArray, offset: int, axis1: int, axis2: int
) -> NDArray:
    """Zeros of ``shape`` with ``values`` on a diagonal."""
    out = np.zeros(shape, values.dtype)
    diagonal = out.diagonal(offset, axis1, axis2)
    diagonal.flags.writeable = True
    diagonal[...] = values
    return out


def cast(x: NDArray, dtype: Any) -> NDArray:
    """A copy in another dtype and the same memory order, converted as C does."""
    return x.astype(dtype)


def _key(x: NDArray) -> NDArray:
    """What to compare: 16-bit floats as float32, where NumPy orders NaN last."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype.kind in "fV" else x


def argsort(x: NDArray, axis: int, descending: bool) -> NDArray:
    """The stable order along ``axis``; NaN counts as the largest value."""
    key = _key(x)
    if not descending:
        return np.argsort(key, axis=axis, kind="stable")
    # Sorted backwards and read backwards, equal elements keep their order.
    order = np.flip(np.argsort(np.flip(key, axis), axis=axis, kind="stable"), axis)
    return x.shape[axis] - 1 - order


def topk(x: NDArray, k: int, axis: int, largest: bool) -> NDArray:
    """Indices of the ``k`` largest (or smallest) elements along ``axis``, best first."""
    n = x.shape[axis]
    if not 0 < k < n:
        order = argsort(x, axis, largest)
        return order if k else np.take(order, [], axis=axis)
    place = n - k if largest else k - 1
    parted = np.argpartition(_key(x), place, axis=axis)
    best = np.take(parted, range(n - k, n) if largest else range(k), axis=axis)
    # By position first, so that equal elements stand in their order.
    best = np.sort(best, axis=axis)
    order = argsort(np.take_along_axis(x, best, axis), axis, largest)
    return np.take_along_axis(best, order, axis)


def cumsum(x: NDArray, axis: int) -> NDArray:
    """Running sum along ``axis``; 16-bit floats are summed in float32."""
    return np.cumsum(_key(x), axis=axis, dtype=None).astype(x.dtype, copy=False)


for _kernel in (
    *(put_slice, put_at, take_at, take, put_along_axis, pad_constant, tile, flip, roll),
    *(tril, triu, put_diagonal, argsort, topk, cumsum, cast),
):
    register(_kernel.__name__, _kernel)
