"""Matrix products from within a compiled loop: oneDNN's ``dnnl_sgemm``, called by its address.

Inside a parallel loop oneDNN computes with the calling thread alone.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..onednn.library import library

__all__ = ["NORMAL", "TRANSPOSED", "address", "sgemm"]

NORMAL, TRANSPOSED = np.int8(ord("N")), np.int8(ord("T"))


def address() -> int:
    """Where the function lies in this process."""
    return ctypes.cast(library().sgemm, ctypes.c_void_p).value or 0


@intrinsic
def sgemm(typing: Any, function: Any, ta: Any, tb: Any, m: Any, n: Any, k: Any, alpha: Any,
           a: Any, lda: Any, b: Any, ldb: Any, beta: Any, c: Any, ldc: Any) -> Any:  # fmt: skip
    """c = alpha op(a) op(b) + beta c by ``dnnl_sgemm`` at the address ``function``.

    Matrices are addresses; their rows begin ``ld`` elements after each other. A function
    given as an address, unlike a ctypes function, lets Numba keep the compiled code.
    """
    i8, i64, f32 = types.int8, types.int64, types.float32
    signature = types.int32(
        i64, i8, i8, i64, i64, i64, f32, i64, i64, i64, i64, f32, i64, i64
    )  # fmt: skip

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [a.type for a in args[1:]])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])

    return signature, code
