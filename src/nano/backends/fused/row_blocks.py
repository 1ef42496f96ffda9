"""What generated chains of operators call that go through blocks of rows; matrices by address.

See ``nano.compiler.row_blocks``. All numbers are float32, and all matrices are rows one behind
the other, but for operands of products, whose rows may begin further apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from .addresses import pointer
from .jit import inline, kernel, prange
from .sgemm import NORMAL, TRANSPOSED, sgemm
from .tiles import LANES, transpose

__all__ = [
    "add_product",
    "addresses",
    "collect",
    "doubles",
    "gather",
    "over_parts",
    "product",
    "row",
    "table",
    "turned",
]

_f = np.float32
_ONE, _ZERO = _f(1), _f(0)


@inline
def table(address, rows, columns):
    """The matrix at an address."""
    return carray(pointer(np.uint64(address)), (rows, columns), _f)


@inline
def row(address, count):
    """The numbers at an address."""
    return carray(pointer(np.uint64(address)), (count,), _f)


@inline
def doubles(address, count):
    """The numbers of float64 at an address."""
    return carray(pointer(np.uint64(address)), (count,), np.float64)


@inline
def addresses(at, count):
    """A table of addresses."""
    return carray(pointer(np.uint64(at)), (count,), np.int64)


@inline
def turned(w, y):
    """y = w^T."""
    rows, columns = w.shape
    whole_rows, whole = rows // LANES * LANES, columns // LANES * LANES
    for r in range(0, whole_rows, LANES):
        for c in range(0, whole, LANES):
            to = y.ctypes.data + 4 * (c * rows + r)
            transpose(w.ctypes.data + 4 * (r * columns + c), columns, to, rows)
    for r in range(rows):
        for c in range(whole if r < whole_rows else 0, columns):
            y[c, r] = w[r, c]


@inline
def product(sgemm_at, x, w, turn, y):
    """y = x w, or x w^T if ``turn``; rows of x may be longer than is read."""
    depth, order = (w.shape[1], TRANSPOSED) if turn else (w.shape[0], NORMAL)
    sgemm(
        *(sgemm_at, NORMAL, order, y.shape[0], y.shape[1], depth, _ONE),
        *(x.ctypes.data, x.shape[1], w.ctypes.data, w.shape[1]),
        *(_ZERO, y.ctypes.data, y.shape[1]),
    )


@inline
def add_product(sgemm_at, x, y, add, total):
    """total = x^T y, or total + that if ``add``; rows of x and y may be longer than is read."""
    beta = _ONE if add else _ZERO
    sgemm(
        *(sgemm_at, TRANSPOSED, NORMAL, total.shape[0], total.shape[1], x.shape[0], _ONE),
        *(x.ctypes.data, x.shape[1], y.ctypes.data, y.shape[1]),
        *(beta, total.ctypes.data, total.shape[1]),
    )


@inline
def gather(some, total):
    """Add float32 sums to those of float64, and begin anew."""
    for j in range(some.size):
        total[j] += some[j]
        some[j] = 0


@intrinsic
def _call(typing: Any, function: Any, at: Any, part: Any, parts: Any) -> Any:
    """A function of three integers, by its address."""
    i64 = types.int64

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [a.type for a in args[1:]])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(i64, i64, i64, i64), code


@kernel
def over_parts(function, at, parts):
    """Call the function at an address for each part of the rows."""
    for part in prange(parts):
        _call(function, at.ctypes.data, np.int64(part), parts)


@kernel
def collect(totals, parts, scratch, step):
    """Put the sums of all parts together.

    A row of ``totals`` says where a sum goes, where in the scratch memory of a part that part's
    lies, of how many numbers, and whether they are of float64. If not, the first part's is where
    it goes. The parts' memories are ``step`` bytes apart.
    """
    for part in prange(parts):
        p = np.int64(part)
        for k in range(totals.shape[0]):
            where, own, size, wide = totals[k, 0], totals[k, 1], totals[k, 2], totals[k, 3]
            first, end = size * p // parts, size * (p + 1) // parts
            total = row(where, size)
            if wide:
                for j in range(first, end):
                    s = 0.0
                    for q in range(parts):
                        s += doubles(scratch + q * step + own, size)[j]
                    total[j] = s
            else:
                for q in range(1, parts):
                    other = row(scratch + q * step + own, size)
                    for j in range(first, end):
                        total[j] += other[j]
