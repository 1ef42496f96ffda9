"""The innermost loop of a direct convolution: a block of sums that stay in vector registers.

Source: E. Georganas et al., "Anatomy of high-performance deep learning convolutions on SIMD
architectures", SC 2018, arXiv:1808.05567: blocks of registers, and one factor broadcast.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .tiles import LANES

__all__ = ["LANES", "SUMS", "tile"]

#: Vectors of sums for which there are registers, beside what is multiplied.
SUMS = 28 if LANES == 16 else 12

_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
_VECTOR, _INDICES = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)
_MASKED = f"v{LANES}f32.p0"


@intrinsic(prefer_literal=True)
def tile(typing: Any, high: Any, low: Any, vectors: Any, step: Any, shape: Any, a: Any,
         a_steps: Any, b: Any, b_steps: Any, columns: Any, first: Any, add: Any, c: Any,
         places: Any) -> Any:  # fmt: skip
    """c[i, j] = first + the sum over p and q of a[i, j, p, q] b[p, q], for i < high and j < low.

    Or c + that, if ``add``. a, b, ``first`` and c are addresses of float32. c[i, j], b[p, q] and
    ``first`` are rows of ``columns``, of which ``vectors`` vectors are computed; in ``first``,
    and c that is added to, so many are there.

    Args:
        high, low, vectors: constants; their product is at most ``SUMS``.
        step: elements from a[i, j] to a[i, j + 1]; a constant.
        shape: how many p and q.
        a_steps: elements from one i, p and q of a to the next.
        b_steps: from one p and q of b to the next.
        places: the address of int64 numbers: where c[0, 0], c[0, 1] ... are, from c on.
    """
    constants = (high, low, vectors, step)
    if not all(isinstance(n, types.IntegerLiteral) for n in constants):
        return None
    highs, lows, vectors_in, stride = (n.literal_value for n in constants)
    i64, two, three = types.int64, types.UniTuple(types.int64, 2), types.UniTuple(types.int64, 3)
    operands = (two, i64, three, i64, two, i64, i64, types.boolean, i64, i64)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        shape, a, a_steps, b, b_steps, columns, first, add, c, places = args[4:]
        (outer, inner), (b_outer, b_inner) = (_parts(builder, t, 2) for t in (shape, b_steps))
        a_high, a_outer, a_inner = _parts(builder, a_steps, 3)
        last = _Last(builder, builder.sub(columns, _I64(LANES * (vectors_in - 1))))
        rows = [(i, j) for i in range(highs) for j in range(lows)]
        numbers = range(vectors_in)
        sums = {row: [cgutils.alloca_once(builder, _VECTOR) for _ in numbers] for row in rows}
        for row in rows:
            for total in sums[row]:
                builder.store(ir.Constant(_VECTOR, [0.0] * LANES), total)

        with cgutils.for_range(builder, outer, intp=_I64) as loop:
            a_there = _moved(builder, a, loop.index, a_outer)
            b_there = _moved(builder, b, loop.index, b_outer)
            with cgutils.for_range(builder, inner, intp=_I64) as loop:
                a_here = _moved(builder, a_there, loop.index, a_inner)
                b_here = _moved(builder, b_there, loop.index, b_inner)
                factors = [
                    last.load(b_here, v) if v == numbers[-1] else _load(builder, b_here, v)
                    for v in numbers
                ]
                starts = [_moved(builder, a_here, _I64(i), a_high) for i in range(highs)]
                for i, j in rows:
                    x = builder.add(starts[i], _I64(4 * j * stride))
                    x = builder.load(builder.inttoptr(x, _F32.as_pointer()), align=4)
                    x = _spread(builder, x, _VECTOR)
                    for total, factor in zip(sums[i, j], factors, strict=True):
                        part = builder.fmul(x, factor, flags=["contract"])
                        so_far = builder.load(total)
                        builder.store(builder.fadd(so_far, part, flags=["contract"]), total)

        table = builder.inttoptr(places, _I64.as_pointer())
        for n, row in enumerate(rows):
            place = builder.load(builder.gep(table, [_I64(n)]))
            place = _moved(builder, c, place, _I64(1))
            start = builder.select(add, place, first)
            for v in numbers:
                total = builder.fadd(builder.load(sums[row][v]), _load(builder, start, v))
                if v == numbers[-1]:
                    last.store(total, place, v)
                else:
                    builder.store(total, _vector(builder, place, v), align=4)
        return context.get_dummy_value()

    return types.void(*constants, *operands), code


class _Last:
    """Reads and writes a row's last vector, of which the first ``count`` elements are there."""

    def __init__(self, builder: Any, count: Any) -> None:
        self.builder = builder
        numbers = ir.Constant(_INDICES, list(range(LANES)))
        count = _spread(builder, builder.trunc(count, _I32), _INDICES)
        self.mask = builder.icmp_signed("<", numbers, count)

    def load(self, row: Any, v: int) -> Any:
        zeros = ir.Constant(_VECTOR, [0.0] * LANES)
        return self._call("load", _VECTOR, _vector(self.builder, row, v), _I32(4), self.mask, zeros)

    def store(self, x: Any, row: Any, v: int) -> None:
        place = _vector(self.builder, row, v)
        self._call("store", ir.VoidType(), x, place, _I32(4), self.mask)

    def _call(self, name: str, result: Any, *args: Any) -> Any:
        kind = ir.FunctionType(result, [a.type for a in args])
        name = f"llvm.masked.{name}.{_MASKED}"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, args)


def _parts(builder: Any, values: Any, count: int) -> list[Any]:
    return [builder.extract_value(values, i) for i in range(count)]


def _moved(builder: Any, address: Any, count: Any, step: Any) -> Any:
    """The address ``count`` times ``step`` elements on."""
    return builder.add(address, builder.mul(count, builder.mul(step, _I64(4))))


def _vector(builder: Any, row: Any, v: int) -> Any:
    """The address of a row's vector ``v``."""
    return builder.inttoptr(builder.add(row, _I64(4 * LANES * v)), _VECTOR.as_pointer())


def _load(builder: Any, row: Any, v: int) -> Any:
    return builder.load(_vector(builder, row, v), align=4)


def _spread(builder: Any, x: Any, kind: Any) -> Any:
    """x in all elements of a vector."""
    undefined = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(undefined, x, _I64(0))
    return builder.shuffle_vector(one, undefined, ir.Constant(_INDICES, [0] * LANES))
