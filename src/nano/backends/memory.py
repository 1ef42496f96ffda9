"""Where kernels put their results: fresh arrays from memory that the process keeps.

A fresh large array usually comes as pages that the system must clear at first
touch, which takes longer than most kernels need to fill it. Freed memory is
therefore kept by the C library and handed out again.
"""

from __future__ import annotations

import ctypes
import sys

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = [
    "aligned",
    "as_pixels",
    "channels_last",
    "empty",
    "empty_as",
    "keep_freed_memory",
    "order_of",
]

#: Bytes of a line of the processor's cache.
_LINE = 64
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Ask the C library not to give freed memory back to the system; whether it can.

    NumPy's arrays come from there too, so they profit as well. Blocks are cut from one
    heap instead of being mapped one by one; the top of the heap stays when it is free.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(
        mallopt(_M_MMAP_MAX, 0)
        and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        and mallopt(_M_TOP_PAD, 16 << 20)
    )


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    """An array of undefined content in C order."""
    return np.empty(shape, dtype)


def empty_as(x: NDArray, shape: tuple[int, ...]) -> NDArray:
    """An array of the dtype of ``x`` and undefined content, with the axes in the same order.

    A shape with another number of axes gives C order.
    """
    if len(shape) != x.ndim or x.flags.c_contiguous:
        return empty(shape, x.dtype)
    order = order_of(x)
    places = sorted(range(x.ndim), key=order.__getitem__)
    return empty(tuple([shape[a] for a in order]), x.dtype).transpose(places)


def order_of(x: NDArray) -> list[int]:
    """The axes from that with the longest way between elements to that with the shortest."""
    if x.flags.c_contiguous:
        return list(range(x.ndim))
    return sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))


def channels_last(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    """An array of shape (n, c, h, w) and undefined content that lies as (n, h, w, c)."""
    n, c, h, w = shape
    return empty((n, h, w, c), dtype).transpose(0, 3, 1, 2)


def as_pixels(x: NDArray) -> NDArray:
    """Images (n, c, h, w) as (n, h, w, c) in C order: the same memory if they lie so, or a copy."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def aligned(nbytes: int) -> NDArray:
    """Bytes that start at a cache line."""
    buffer = np.empty(nbytes + _LINE, np.uint8)
    start = -buffer.ctypes.data % _LINE
    return buffer[start : start + nbytes]
