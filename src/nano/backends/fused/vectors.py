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

__all__ = ["LANES", "at_least", "load", "store", "total", "transposed", "zeros"]

_VECTOR, _INDICES = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.IntType(32), LANES)
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
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), x, ir.IntType(64)(0))
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
