"""Arrays by their address: how compiled loops get at more arrays than a call would carry."""

from __future__ import annotations

from ctypes import addressof, c_char
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = ["address_of", "pointer", "prefetch", "start_of"]


def address_of(a: NDArray) -> int:
    """Where the first element of an array lies."""
    try:
        return addressof(c_char.from_buffer(a))
    except (TypeError, ValueError, BufferError):  # read-only, empty, or no buffer of bytes
        return a.ctypes.data


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
