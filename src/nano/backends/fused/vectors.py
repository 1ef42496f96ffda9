"""Vectors as values of compiled loops: loaded, added, multiplied by numbers and stored.

A formula over vectors stays in the registers, whether or not the compiler sees that what is
read and what is written do not overlap. Formulas for numbers hold for vectors as they stand.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from .tiles import LANES

__all__ = [
    "LANES",
    "at_least",
    "behind",
    "groups",
    "larger_ones",
    "load",
    "load_groups",
    "load_some",
    "spread",
    "store",
    "store_some",
    "total",
    "transposed",
    "where_above",
    "where_equal",
    "zeros",
]

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_VECTOR, _INDICES = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(_I32, LANES)
#: As in all kernels: a product and a sum may be one step.
_FLAGS = ["contract"]


class _Type(types.Type):
    """``LANES`` numbers of float32."""

    def __init__(self) -> None:
        super().__init__(name=f"float32 x {LANES}")


_vector = _Type()


@register_model(_Type)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def _operator(function: Any, instruction: str) -> None:
    """Let ``function`` take two vectors, or a number and a vector."""

    class Signatures(ConcreteTemplate):
        cases = (
            signature(_vector, _vector, _vector),
            signature(_vector, types.float32, _vector),
        )

    infer_global(function)(Signatures)

    @lower_builtin(function, _vector, _vector)
    def vectors(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args, flags=_FLAGS)

    @lower_builtin(function, types.float32, _vector)
    def number(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return getattr(builder, instruction)(_spread(builder, args[0]), args[1], flags=_FLAGS)


def _spread(builder: Any, x: Any) -> Any:
    kind = ir.VectorType(x.type, LANES)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), x, _I64(0))
    return builder.shuffle_vector(first, first, ir.Constant(_INDICES, [0] * LANES))


for _function, _instruction in (
    *((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")),
    *((operator.iadd, "fadd"),),
):
    _operator(_function, _instruction)


def _place(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _VECTOR.as_pointer())


@intrinsic
def load(typing: Any, address: Any) -> Any:
    """The vector at an address."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_place(builder, args[0]), align=4)

    return _vector(types.int64), code


@intrinsic
def store(typing: Any, x: Any, address: Any) -> Any:
    """Write a vector to an address."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[0], _place(builder, args[1]), align=4)
        return context.get_dummy_value()

    return types.void(_vector, types.int64), code


@intrinsic
def zeros(typing: Any) -> Any:
    """The vector of zeros."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(_VECTOR, [0.0] * LANES)

    return _vector(), code


@intrinsic
def total(typing: Any, x: Any) -> Any:
    """The sum of a vector's numbers."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number = ir.FloatType()
        add = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(number, [number, _VECTOR]),
            f"llvm.vector.reduce.fadd.v{LANES}f32",
        )
        return builder.call(add, [number(0.0), args[0]], fastmath=["reassoc"])

    return types.float32(_vector), code


@intrinsic
def at_least(typing: Any, x: Any, lowest: Any) -> Any:
    """The number ``lowest`` where x is below it; NaN stays."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, lowest = args[0], _spread(builder, args[1])
        return builder.select(builder.fcmp_ordered("<", x, lowest), lowest, x)

    return _vector(_vector, types.float32), code


@intrinsic
def larger_ones(typing: Any, x: Any, y: Any) -> Any:
    """The larger of two numbers in each place; of NaN and a number, either."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        above = builder.fcmp_ordered(">", *args, flags=["nnan", "nsz"])
        return builder.select(above, *args, flags=["nnan", "nsz"])

    return _vector(_vector, _vector), code


@intrinsic
def behind(typing: Any, x: Any, first: Any, low: Any) -> Any:
    """The number ``low`` in the first places, and x from place ``first`` on."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, first, low = args
        return builder.select(_first(builder, first), _spread(builder, low), x)

    return _vector(_vector, types.int64, types.float32), code


@intrinsic
def transposed(typing: Any, columns: Any) -> Any:
    """The rows of a matrix of vectors that is given by its columns, as tuples."""
    rows = types.UniTuple(types.UniTuple(_vector, len(columns)), len(columns[0]))

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        result = ir.Constant(context.get_value_type(rows), ir.Undefined)
        for j in range(len(columns)):
            for i in range(len(columns[0])):
                x = builder.extract_value(args[0], [j, i])
                result = builder.insert_value(result, x, [i, j])
        return result

    return rows(columns), code


@intrinsic
def spread(typing: Any, x: Any) -> Any:
    """A number in all places of a vector."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _spread(builder, args[0])

    return _vector(types.float32), code


@intrinsic
def where_above(typing: Any, x: Any, y: Any, a: Any, b: Any) -> Any:
    """a where x > y or x is NaN, else b."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, y, a, b = args
        above = builder.fcmp_ordered(">", x, y)
        return builder.select(builder.or_(above, builder.fcmp_unordered("uno", x, x)), a, b)

    return _vector(_vector, _vector, _vector, _vector), code


@intrinsic
def where_equal(typing: Any, x: Any, y: Any, a: Any) -> Any:
    """a where x = y, else 0."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, y, a = args
        return builder.select(builder.fcmp_ordered("==", x, y), a, ir.Constant(_VECTOR, None))

    return _vector(_vector, _vector, _vector), code


# Parts of vectors, and other elements ------------------------------------------------------


@intrinsic
def load_some(typing: Any, address: Any, count: Any, like: Any) -> Any:
    """The ``count`` elements at an address, and zeros behind them if they fill no vector.

    They are of the kind of ``like``: float32, bfloat16 as uint16, uint8 or int32.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, count, like = args
        return _widened(builder, _read(builder, address, _first(builder, count), like.type))

    return _vector(types.int64, types.int64, like), code


@intrinsic
def store_some(typing: Any, x: Any, address: Any, count: Any, like: Any) -> Any:
    """Write the first ``count`` numbers, or all, as elements of the kind of ``like``.

    Numbers must be elements of that kind already: none is rounded.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, address, count, like = args
        x = _narrowed(builder, x, like.type)
        place = builder.inttoptr(address, x.type.as_pointer())
        operands = x, place, _I32(_bytes(like.type)), _first(builder, count)
        _masked(builder, "store", ir.VoidType(), like.type, operands)
        return context.get_dummy_value()

    return types.void(_vector, types.int64, types.int64, like), code


def groups(together: int, times: int, step: int) -> int:
    """How many groups :func:`load_groups` puts into a vector; 0 if one does not fit."""
    count = LANES // (together * times)
    while (count - 1) * step + together > 2 * LANES:
        count -= 1
    return count


@intrinsic(prefer_literal=True)
def load_groups(typing: Any, address: Any, like: Any, together: Any, times: Any, step: Any) -> Any:
    """As many groups of ``together`` elements as fit, each so many ``times``.

    They begin ``step`` elements apart. What fills no group is undefined. The last three are
    constants.
    """
    constants = (together, times, step)
    if not all(isinstance(n, types.IntegerLiteral) for n in constants):
        return None
    size, again, apart = (n.literal_value for n in constants)
    count = groups(size, again, apart)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, like = args[:2]
        reach = (count - 1) * apart + size
        inside = [_first(builder, _I64(n)) for n in (reach, reach - LANES)]
        behind = builder.add(address, _I64(LANES * _bytes(like.type)))
        x = _read(builder, address, inside[0], like.type)
        y = _read(builder, behind, inside[1], like.type) if reach > LANES else x
        places = [lane // (size * again) * apart + lane % size for lane in range(LANES)]
        places = [place if place < reach else 0 for place in places]
        return _widened(builder, builder.shuffle_vector(x, y, ir.Constant(_INDICES, places)))

    return _vector(types.int64, like, *constants), code


def _bytes(element: Any) -> int:
    return element.width // 8 if isinstance(element, ir.IntType) else 4


def _first(builder: Any, count: Any) -> Any:
    """Which places of a vector are among the first ``count``."""
    places = ir.Constant(_INDICES, list(range(LANES)))
    # More than there are places, and more than 32 bits say, is all of them.
    fewer = builder.icmp_signed("<", count, _I64(LANES))
    count = builder.trunc(builder.select(fewer, count, _I64(LANES)), _I32)
    return builder.icmp_signed("<", places, _spread(builder, count))


def _read(builder: Any, address: Any, inside: Any, element: Any) -> Any:
    """Elements at an address, and 0 for those not ``inside``, which need not exist."""
    kind = ir.VectorType(element, LANES)
    place = builder.inttoptr(address, kind.as_pointer())
    operands = place, _I32(_bytes(element)), inside, ir.Constant(kind, None)
    return _masked(builder, "load", kind, element, operands)


def _masked(builder: Any, name: str, result: Any, element: Any, operands: Any) -> Any:
    kind = "f32" if isinstance(element, ir.FloatType) else f"i{element.width}"
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(result, [x.type for x in operands]),
        f"llvm.masked.{name}.v{LANES}{kind}.p0",
    )
    return builder.call(function, operands)


def _widened(builder: Any, x: Any) -> Any:
    """Elements as float32: 16 bits are a number's upper half, other integers are themselves."""
    element = x.type.element
    if isinstance(element, ir.FloatType):
        return x
    if element.width < 32:
        x = builder.zext(x, _INDICES)
    if element.width == 16:
        return builder.bitcast(builder.shl(x, ir.Constant(_INDICES, [16] * LANES)), _VECTOR)
    return builder.sitofp(x, _VECTOR)


def _narrowed(builder: Any, x: Any, element: Any) -> Any:
    """The reverse of :func:`_widened`."""
    if isinstance(element, ir.FloatType):
        return x
    if element.width == 16:
        sixteen = ir.Constant(_INDICES, [16] * LANES)
        x = builder.lshr(builder.bitcast(x, _INDICES), sixteen)
    else:
        x = builder.fptosi(x, _INDICES)
    return builder.trunc(x, ir.VectorType(element, LANES)) if element.width < 32 else x
