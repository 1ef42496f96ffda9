"""What loops do with the bits of float32 and bfloat16 numbers, for which Python has no words."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .processor import rounds_to_bfloat16

__all__ = [
    "copysign",
    "exponent",
    "larger",
    "mantissa",
    "narrow",
    "narrow_result",
    "nearest",
    "power_of_two",
    "wide",
]

_I16, _I32, _F32 = ir.IntType(16), ir.IntType(32), ir.FloatType()


def _integers(x: Any, value: int) -> Any:
    """An integer of 32 bits for a float32; a vector of it for a vector."""
    if isinstance(x.type, ir.VectorType):
        return ir.Constant(ir.VectorType(_I32, x.type.count), [value] * x.type.count)
    return _I32(value)


@intrinsic
def nearest(typing: Any, x: Any) -> Any:
    """The nearest integer of a float32, or those of a vector, as float32."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        name = f"v{kind.count}f32" if isinstance(kind, ir.VectorType) else "f32"
        function = ir.FunctionType(kind, [kind])
        rint = cgutils.get_or_insert_function(builder.module, function, f"llvm.rint.{name}")
        return builder.call(rint, args)

    return x(x), code


@intrinsic
def power_of_two(typing: Any, n: Any) -> Any:
    """2^n for integral float32 n from -126 to 127, by its exponent's bits; 0 for -127."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        n = args[0]
        bias, place = _integers(n, 127), _integers(n, 23)
        exponent = builder.add(builder.fptosi(n, bias.type), bias)
        return builder.bitcast(builder.shl(exponent, place), n.type)

    return n(n), code


@intrinsic
def exponent(typing: Any, x: Any) -> Any:
    """For a positive normal x = m 2^e with 1 <= m < 2: e, as a float32."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.lshr(builder.bitcast(args[0], _I32), _I32(23))
        return builder.sitofp(builder.sub(bits, _I32(127)), _F32)

    return types.float32(types.float32), code


@intrinsic
def mantissa(typing: Any, x: Any) -> Any:
    """For a positive normal x = m 2^e with 1 <= m < 2: m."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.and_(builder.bitcast(args[0], _I32), _I32(0x007FFFFF))
        return builder.bitcast(builder.or_(bits, _I32(0x3F800000)), _F32)

    return types.float32(types.float32), code


@intrinsic
def copysign(typing: Any, x: Any, sign: Any) -> Any:
    """|x| with the sign of ``sign``."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_F32, [_F32, _F32])
        function = builder.module.declare_intrinsic("llvm.copysign", [_F32], kind)
        return builder.call(function, args)

    return types.float32(types.float32, types.float32), code


@intrinsic
def larger(typing: Any, x: Any, y: Any) -> Any:
    """The larger of two numbers that are not NaN; of NaN and a number, either.

    A loop over it is one vector instruction a step, unlike a choice that minds NaN.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        above = builder.fcmp_ordered(">", args[0], args[1], flags=["nnan", "nsz"])
        return builder.select(above, args[0], args[1], flags=["nnan", "nsz"])

    return types.float32(types.float32, types.float32), code


# bfloat16 --------------------------------------------------------------------------------


class _BFloat(ir.Type):
    """bfloat16 as LLVM knows it, which llvmlite does not."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


@intrinsic
def wide(typing: Any, x: Any) -> Any:
    """An element as float32: itself, or the upper half of the bits if it is a uint16."""
    if x == types.uint16:

        def widen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            bits = builder.shl(builder.zext(args[0], _I32), _I32(16))
            return builder.bitcast(bits, _F32)

        return types.float32(x), widen

    def keep(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return args[0]

    return types.float32(types.float32), keep


def _cut(builder: Any, x: Any) -> Any:
    """The upper half of the bits, rounded to nearest even."""
    bits = builder.bitcast(x, _I32)
    high = builder.lshr(bits, _I32(16))
    # Half of the last place that stays, less one if that place is even.
    half = builder.add(builder.and_(high, _I32(1)), _I32(0x7FFF))
    near = builder.lshr(builder.add(bits, half), _I32(16))
    # The sum could carry a NaN into infinity: there, cut and keep a bit.
    nan = builder.fcmp_unordered("uno", x, x)
    return builder.trunc(builder.select(nan, builder.or_(high, _I32(0x40)), near), _I16)


def _convert(builder: Any, x: Any) -> Any:
    """The same by the processor's own instruction."""
    return builder.bitcast(builder.fptrunc(x, _BFloat()), _I16)


def _narrowing(like: Any, to_half: Any) -> Any:
    """What an intrinsic returns that makes elements of ``like``'s kind."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return to_half(builder, args[0]) if like == types.uint16 else args[0]

    kind = types.uint16 if like == types.uint16 else types.float32
    return kind(types.float32, like), code


@intrinsic
def narrow(typing: Any, x: Any, like: Any) -> Any:
    """A float32 as an element of ``like``'s kind: rounded to nearest even for uint16."""
    return _narrowing(like, _cut)


@intrinsic
def narrow_result(typing: Any, x: Any, like: Any) -> Any:
    """As ``narrow``, for results of arithmetic: one instruction a vector, where there is one.

    A denormal number, which no arithmetic of the thread pool makes, may become 0.
    """
    return _narrowing(like, _convert if rounds_to_bfloat16() else _cut)
