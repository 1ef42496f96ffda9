"""Arrays as oneDNN sees them: descriptors of shape, type and strides, and reordering.

oneDNN describes memory by a *memory descriptor*. One with strides is an ordinary
array; one "of any format" lets a primitive say which order it would like best.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from .library import Dims, OneDnnError, library

__all__ = [
    *("BFLOAT16", "FLOAT32", "Descriptor", "alike", "any_order"),
    *("channels_last", "describe", "plain"),
]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT32 = np.dtype(np.float32)
#: NumPy's dtypes as oneDNN numbers them (dnnl_data_type_t).
DATA_TYPES = {
    FLOAT32: 3,
    BFLOAT16: 2,
    np.dtype(np.int32): 4,
    np.dtype(np.uint8): 6,
}
_ANY = 1  # dnnl_format_tag_any


class Descriptor:
    """A memory descriptor: what an array of some shape, type and order looks like."""

    __slots__ = ("handle", "nbytes")

    def __init__(self, handle: ctypes.c_void_p) -> None:
        self.handle = handle
        self.nbytes = library().plain("dnnl_memory_desc_get_size", handle)

    def __del__(self, at_exit: Callable[[], bool] = sys.is_finalizing) -> None:
        if not at_exit():
            library().call("dnnl_memory_desc_destroy", self.handle)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Descriptor) and bool(
            library().plain("dnnl_memory_desc_equal", self.handle, other.handle)
        )

    __hash__ = object.__hash__


@lru_cache(maxsize=4096)
def alike(one: Descriptor, other: Descriptor) -> bool:
    """Whether two describe the same memory: asked of the library once, as each call asks."""
    return one == other


def dims(numbers: Any) -> Any:
    """Numbers as oneDNN takes them."""
    return Dims(*numbers)


@lru_cache(maxsize=4096)
def strided(shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...]) -> Descriptor:
    """An ordinary array; ``strides`` in elements."""
    handle = library().create(
        "dnnl_memory_desc_create_with_strides",
        len(shape),
        dims(shape),
        DATA_TYPES[dtype],
        dims(strides),
    )
    return Descriptor(handle)


def plain(shape: tuple[int, ...], dtype: np.dtype) -> Descriptor:
    """An array in C order."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return strided(shape, dtype, tuple(reversed(strides)))


def channels_last(shape: tuple[int, ...], dtype: np.dtype) -> Descriptor:
    """(n, c, h, w) that lies as (n, h, w, c)."""
    _, c, h, w = shape
    return strided(shape, dtype, (h * w * c, 1, w * c, c))


@lru_cache(maxsize=4096)
def any_order(shape: tuple[int, ...], dtype: np.dtype) -> Descriptor:
    """An array in whichever order the primitive likes best."""
    return Descriptor(
        library().create(
            "dnnl_memory_desc_create_with_tag", len(shape), dims(shape), DATA_TYPES[dtype], _ANY
        )
    )


def describe(x: NDArray) -> Descriptor | None:
    """The descriptor of an array; None if oneDNN cannot describe its strides."""
    return _describe(x.shape, x.dtype, x.strides)


@lru_cache(maxsize=16384)
def _describe(
    shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...]
) -> Descriptor | None:
    size = dtype.itemsize
    if len(shape) == 4 and _is_channels_last(shape, [s / size for s in strides]):
        return channels_last(shape, dtype)
    elements = []
    for n, stride in zip(shape, strides, strict=True):
        if n > 1 and (stride <= 0 or stride % size):
            return None
        # The stride of a dimension of one element says nothing, and may be anything.
        elements.append(max(stride // size, 1))
    try:
        return strided(shape, dtype, tuple(elements))
    except OneDnnError:
        return None  # elements share memory, as in a view of sliding windows


def _is_channels_last(shape: tuple[int, ...], strides: list[float]) -> bool:
    """Whether (n, c, h, w) lies densely as (n, h, w, c); strides in elements."""
    _, c, h, w = shape
    dense = (h * w * c, 1, w * c, c)
    return all(m == 1 or has == want for m, has, want in zip(shape, strides, dense, strict=True))
