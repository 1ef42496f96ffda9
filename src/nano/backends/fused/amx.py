"""Products of bfloat16 matrices in the processor's tile registers (Intel's AMX).

A tile has 16 rows of 64 bytes. One instruction adds to a tile of 16x16 float32 sums the product
of 16 rows of 32 bfloat16 numbers and 32 rows of 16; the latter lie in pairs: a row of such a
tile has two numbers of each column, one below the other. Of the eight tiles, four hold a block
of 2x2 sums, four what is multiplied: as many products as tiles are read.

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = [
    "BLOCK",
    "DEPTH",
    "TILE",
    "begin",
    "clear",
    "collect",
    "configuration",
    "end",
    "interleave",
    "multiply",
    "read",
    "write",
]

#: Bytes of a tile and of 2x2 of them; numbers of bfloat16 in a row.
TILE, BLOCK, DEPTH = 1024, 4096, 32
_ROW, _ROWS = 64, 16
_SUMS = range(4)
_LEFT, _RIGHT = (4, 5), (6, 7)

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_HALVES = ir.VectorType(_I16, 32)


def configuration() -> NDArray:
    """What :func:`begin` reads: all tiles have 16 rows of 64 bytes."""
    values = np.zeros(64, np.uint8)
    values[0] = 1  # the palette
    values[16:32].view(np.uint16)[:] = _ROW
    values[48:56] = _ROWS
    return values


def _call(builder: Any, name: str, *args: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [a.type for a in args])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}")
    builder.call(function, args)


def _place(builder: Any, address: Any, offset: int = 0) -> Any:
    return builder.inttoptr(builder.add(address, _I64(offset)), _I8.as_pointer())


@intrinsic
def begin(typing: Any, configuration: Any) -> Any:
    """Let this thread use the tiles, as the configuration at an address says."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _call(builder, "ldtilecfg", _place(builder, args[0]))
        return context.get_dummy_value()

    return types.void(types.int64), code


@intrinsic
def end(typing: Any) -> Any:
    """Give the tiles back: what is in them need not be kept for this thread any more."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def clear(typing: Any) -> Any:
    """Set the sums to 0."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for tile in _SUMS:
            _call(builder, "tilezero", _I8(tile))
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def read(typing: Any, address: Any) -> Any:
    """Set the sums to the 2x2 tiles that lie one after another at an address."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for tile in _SUMS:
            place = _place(builder, args[0], TILE * tile)
            _call(builder, "tileloadd64", _I8(tile), place, _I64(_ROW))
        return context.get_dummy_value()

    return types.void(types.int64), code


@intrinsic
def write(typing: Any, address: Any) -> Any:
    """Write the sums to an address, as ``read`` reads them."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for tile in _SUMS:
            place = _place(builder, args[0], TILE * tile)
            _call(builder, "tilestored64", _I8(tile), place, _I64(_ROW))
        return context.get_dummy_value()

    return types.void(types.int64), code


@intrinsic
def multiply(typing: Any, count: Any, a: Any, a_other: Any, a_step: Any, b: Any, b_other: Any,
             b_step: Any) -> Any:  # fmt: skip
    """Add ``count`` products to the sums: of two tiles at a, ``a_other`` apart, and two at b.

    The next ones lie ``a_step`` and ``b_step`` bytes on. Tiles of b are in pairs.
    """
    i64 = types.int64

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        count, a, a_other, a_step, b, b_other, b_step = args
        with cgutils.for_range(builder, count, intp=_I64) as loop:
            left = builder.add(a, builder.mul(loop.index, a_step))
            right = builder.add(b, builder.mul(loop.index, b_step))
            places = {
                _LEFT[0]: left,
                _LEFT[1]: builder.add(left, a_other),
                _RIGHT[0]: right,
                _RIGHT[1]: builder.add(right, b_other),
            }

            def load(tile: int) -> None:
                place = _place(builder, places[tile])
                _call(builder, "tileloadd64", _I8(tile), place, _I64(_ROW))

            load(_LEFT[0])
            for i, row in enumerate(_LEFT):
                for j, column in enumerate(_RIGHT):
                    if i == 0:
                        load(column)
                    _call(builder, "tdpbf16ps", _I8(2 * i + j), _I8(row), _I8(column))
                if i == 0:
                    load(_LEFT[1])
        return context.get_dummy_value()

    return types.void(*[i64] * 7), code


@intrinsic
def interleave(typing: Any, first: Any, second: Any, low: Any, high: Any) -> Any:
    """Pairs of the numbers at first and second: 16 to the address low, the next 16 to high."""
    i64 = types.int64

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def at(address: Any) -> Any:
            return builder.inttoptr(address, _HALVES.as_pointer())

        x, y = (builder.load(at(address), align=2) for address in args[:2])
        for half, address in enumerate(args[2:]):
            chosen = [i for j in range(16 * half, 16 * half + 16) for i in (j, j + 32)]
            mask = ir.Constant(ir.VectorType(_I32, 32), chosen)
            builder.store(builder.shuffle_vector(x, y, mask), at(address), align=_ROW)
        return context.get_dummy_value()

    return types.void(i64, i64, i64, i64), code


@intrinsic
def collect(typing: Any, first: Any, step: Any, to: Any) -> Any:
    """32 numbers of 16 bits, ``step`` numbers apart from the address first on, in a row."""
    i64 = types.int64
    numbers, choices = ir.VectorType(_I32, _ROWS), ir.VectorType(ir.IntType(1), _ROWS)
    kind = ir.FunctionType(numbers, [numbers, _I8.as_pointer(), numbers, choices, _I32])

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first, step, to = args
        gather = cgutils.get_or_insert_function(
            builder.module, kind, "llvm.x86.avx512.mask.gather.dpi.512"
        )

        def constant(values: Any) -> Any:
            return ir.Constant(numbers, list(values))

        def from_there(address: Any) -> Any:
            """32 bits at every second number."""
            place, every = _place(builder, address), ir.Constant(choices, [1] * _ROWS)
            return builder.call(gather, [constant([0] * _ROWS), place, places, every, _I32(2)])

        one = builder.insert_element(constant([0] * _ROWS), builder.trunc(step, _I32), _I32(0))
        steps = builder.shuffle_vector(one, one, constant([0] * _ROWS))
        places = builder.mul(steps, constant(range(0, 2 * _ROWS, 2)))
        # What lies behind the first of two goes, and what lies before the second.
        second = builder.sub(builder.add(first, builder.mul(step, _I64(2))), _I64(2))
        low = builder.and_(from_there(first), constant([0xFFFF] * _ROWS))
        high = builder.and_(from_there(second), constant([-0x10000] * _ROWS))
        place = builder.inttoptr(to, numbers.as_pointer())
        builder.store(builder.or_(low, high), place, align=_ROW)
        return context.get_dummy_value()

    return types.void(i64, i64, i64), code
