"""Small matrix products inside of compiled loops, tile by tile in the vector registers.

For matrices of some tens of rows and columns, a call of a library takes about as long as the
product; and it computes all of it, also where half is known to be 0. Here the caller says for
each group of rows how far it reaches.

Source: K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM
Transactions on Mathematical Software 34, 2008: the innermost kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .addresses import start_of
from .jit import inline

__all__ = ["GROUP", "LANES", "LINE", "lines", "product", "products", "transpose"]

_FEATURES = get_host_cpu_features()
_WIDE = bool(_FEATURES.get("avx512f"))
#: Numbers in a vector, and rows of a tile: its sums, two vectors a row, fill half of the registers.
LANES = 16 if _WIDE else 8
GROUP = 8 if _WIDE else 4
#: Bytes of a line of the processor's cache.
LINE = 64

_ONE = np.float32(1)
_I64, _F32 = ir.IntType(64), ir.FloatType()
_VECTOR, _INDICES = ir.VectorType(_F32, LANES), ir.VectorType(ir.IntType(32), LANES)


def _vector(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _VECTOR.as_pointer())


@inline
def lines(rows, columns):
    """A new float32 matrix whose first element begins a line of the cache.

    A vector that lies on two lines takes twice as long.
    """
    memory = np.empty(rows * columns + LINE // 4, np.float32)
    skip = -start_of(memory) % LINE // 4
    return memory[skip : skip + rows * columns].reshape((rows, columns))


@intrinsic
def transpose(typing: Any, x: Any, x_row: Any, y: Any, y_row: Any) -> Any:
    """y = x^T for ``LANES`` rows and columns at addresses, whose rows begin so many elements apart.

    Blocks of half the size change places across the diagonal, then blocks within the blocks.
    """
    i64 = types.int64

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, x_row, y, y_row = args

        def place(start: Any, row: Any, i: int) -> Any:
            return _vector(builder, builder.add(start, builder.mul(row, _I64(4 * i))))

        rows = [builder.load(place(x, x_row, i), align=4) for i in range(LANES)]
        half = LANES // 2
        while half:
            for i in range(LANES):
                if not i & half:
                    upper, lower = rows[i], rows[i + half]
                    # From one vector behind the other, LANES more count from the second.
                    ups = [j if not j & half else LANES + j - half for j in range(LANES)]
                    downs = [j + half if not j & half else LANES + j for j in range(LANES)]
                    for to, chosen in ((i, ups), (i + half, downs)):
                        mask = ir.Constant(_INDICES, chosen)
                        rows[to] = builder.shuffle_vector(upper, lower, mask)
            half //= 2
        for i in range(LANES):
            builder.store(rows[i], place(y, y_row, i), align=4)
        return context.get_dummy_value()

    return types.void(i64, i64, i64, i64), code


def _tile(rows: int, vectors: int, step: int | None = None) -> Any:
    """The product of ``rows`` rows of a and ``vectors`` vectors of columns of b.

    With ``step`` in place of ``a_row``, addresses need no additions.
    """

    @intrinsic
    def tile(typing: Any, depth: Any, scale: Any, a: Any, a_row: Any, a_column: Any,
             b: Any, b_row: Any, add: Any, c: Any, c_row: Any) -> Any:  # fmt: skip
        i64 = types.int64
        signature = types.void(
            i64, types.float32, i64, i64, i64, i64, i64, types.boolean, i64, i64
        )  # fmt: skip

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            depth, scale, a, a_row, a_column, b, b_row, add, c, c_row = args
            if step is not None:
                a_row = _I64(step)
            sums = [
                [cgutils.alloca_once(builder, _VECTOR) for _ in range(vectors)] for _ in range(rows)
            ]
            zero = ir.Constant(_VECTOR, [0.0] * LANES)
            for row in sums:
                for s in row:
                    builder.store(zero, s)

            def at(start: Any, *steps: Any) -> Any:
                for i, step in zip(steps[::2], steps[1::2], strict=True):
                    start = builder.add(start, builder.mul(i, builder.mul(step, _I64(4))))
                return start

            def spread(x: Any) -> Any:
                first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), x, _I64(0))
                mask = ir.Constant(_INDICES, [0] * LANES)
                return builder.shuffle_vector(first, first, mask)

            with cgutils.for_range(builder, depth, intp=_I64) as loop:
                start = at(b, loop.index, b_row)
                columns = [
                    builder.load(_vector(builder, builder.add(start, _I64(4 * LANES * j))), align=4)
                    for j in range(vectors)
                ]
                start = at(a, loop.index, a_column)
                for i in range(rows):
                    x = builder.inttoptr(at(start, _I64(i), a_row), _F32.as_pointer())
                    x = spread(builder.load(x, align=4))
                    for j in range(vectors):
                        part = builder.fmul(x, columns[j], flags=["contract"])
                        total = builder.fadd(builder.load(sums[i][j]), part, flags=["contract"])
                        builder.store(total, sums[i][j])
            scale = spread(scale)
            with builder.if_else(add) as (adds, writes):
                for adding, branch in ((True, adds), (False, writes)):
                    with branch:
                        for i in range(rows):
                            for j in range(vectors):
                                place = builder.add(at(c, _I64(i), c_row), _I64(4 * LANES * j))
                                place = _vector(builder, place)
                                total = builder.fmul(builder.load(sums[i][j]), scale)
                                if adding:
                                    total = builder.fadd(total, builder.load(place, align=4))
                                builder.store(total, place, align=4)
            return context.get_dummy_value()

        return signature, code

    return tile


_group_2, _group_1, _row_2, _row_1 = _tile(GROUP, 2), _tile(GROUP, 1), _tile(1, 2), _tile(1, 1)
#: As many sums, where there is one vector of columns only; and where a's rows are one, too.
_tall, _tall_dense = _tile(2 * GROUP, 1), _tile(2 * GROUP, 1, LANES)


@inline
def product(rows, columns, depth, scale, a, a_row, a_column, b, b_row, add, c, c_row):
    """c = scale a b, or c + that if ``add``, for at most ``GROUP`` rows.

    Matrices are addresses; elements of a lie ``a_row`` and ``a_column`` apart, rows of b and c
    ``b_row`` and ``c_row``, all in elements. ``columns`` is a multiple of ``LANES``.
    """
    for j in range(0, columns, 2 * LANES):
        two = j + LANES < columns
        b_at, c_at = b + 4 * j, c + 4 * j
        if rows == GROUP:
            if two:
                _group_2(depth, scale, a, a_row, a_column, b_at, b_row, add, c_at, c_row)
            else:
                _group_1(depth, scale, a, a_row, a_column, b_at, b_row, add, c_at, c_row)
        else:
            for i in range(rows):
                a_at, to = a + 4 * i * a_row, c_at + 4 * i * c_row
                if two:
                    _row_2(depth, scale, a_at, a_row, a_column, b_at, b_row, add, to, c_row)
                else:
                    _row_1(depth, scale, a_at, a_row, a_column, b_at, b_row, add, to, c_row)


@inline
def products(rows, columns, depth, a, a_row, a_column, b, b_row, add, c, c_row):
    """c = a b, or c + that if ``add``, for any number of rows; see ``product``."""
    i = 0
    while columns == LANES and i + 2 * GROUP <= rows:
        a_at, c_at = a + 4 * i * a_row, c + 4 * i * c_row
        if a_row == LANES:
            _tall_dense(depth, _ONE, a_at, a_row, a_column, b, b_row, add, c_at, c_row)
        else:
            _tall(depth, _ONE, a_at, a_row, a_column, b, b_row, add, c_at, c_row)
        i += 2 * GROUP
    while i < rows:
        some = min(GROUP, rows - i)
        a_at, c_at = a + 4 * i * a_row, c + 4 * i * c_row
        product(some, columns, depth, _ONE, a_at, a_row, a_column, b, b_row, add, c_at, c_row)
        i += some
