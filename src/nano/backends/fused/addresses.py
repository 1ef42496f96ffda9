"""Arrays by their address: how compiled loops get at more arrays than a call would carry."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import addressof, c_char
from itertools import chain
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from .jit import kernel

__all__ = ["address_of", "addresses_of", "pointer", "prefetch", "start_of"]

#: Where an array keeps the address of its first element: behind what all objects begin with
#: (NumPy's C API, PyArrayObject_fields).
_DATA = object.__basicsize__


def address_of(a: NDArray) -> int:
    """Where the first element of an array lies."""
    try:
        return addressof(c_char.from_buffer(a))
    except (TypeError, ValueError, BufferError):  # read-only, empty, or no buffer of bytes
        return a.ctypes.data


def addresses_of(lists: Sequence[Sequence[NDArray]]) -> NDArray:
    """:func:`address_of` of every array of lists of the same length: a row for each list.

    Asked one by one they take longer than the loops that need them: 15 us for 36 arrays, in
    place of 3. In CPython an object's id is the address of its memory.
    """
    objects = np.fromiter(map(id, chain.from_iterable(lists)), np.uint64)
    addresses = np.empty((len(lists), len(lists[0])), np.uint64)
    _follow.serial(objects, addresses.reshape(-1))
    return addresses


@intrinsic
def pointer(typing: Any, address: Any) -> Any:
    """In a compiled loop: a number as the address that it is, for ``numba.carray``."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.uint64), code


@intrinsic
def start_of(typing: Any, x: Any) -> Any:
    """In a compiled loop: where the first element of an array lies. Who asks holds the array."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.ptrtoint(array.data, ir.IntType(64))

    return types.int64(x), code


@intrinsic
def prefetch(typing: Any, address: Any) -> Any:
    """In a compiled loop: bring the line at an address to the cache, where it is read soon.

    The processor does so by itself for what is read in order. An address may lie outside.
    """
    i32, place = ir.IntType(32), ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [place, i32, i32, i32])

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # To read, into the second cache, data.
        how = [i32(0), i32(2), i32(1)]
        builder.call(function, [builder.inttoptr(args[0], place), *how])
        return context.get_dummy_value()

    return types.void(types.int64), code


@kernel
def _follow(objects, addresses):
    for i in range(objects.size):
        addresses[i] = carray(pointer(objects[i] + np.uint64(_DATA)), (1,), np.uint64)[0]
