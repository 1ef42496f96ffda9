"""exp, log, tanh, erf and sigmoid of float32 numbers, made so that loops over them vectorise.

``math.exp`` is a call into the C library, one number at a time. Here each function is a
polynomial without a branch: both sides of a choice are computed, and one is kept. Errors
are below 1.5 units in the last place (sigmoid: 3); infinities, NaN and the ends of the
range come out as they should. Also here: bfloat16 numbers, which Numba knows only as
16-bit integers.

Sources: S. L. Moshier, Cephes mathematical library (exp, log, tanh); N. Juffa, "erff"
(two minimax polynomials, error below 1 unit in the last place).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = [
    "erf",
    "exp",
    "exp_within_range",
    "expm1",
    "larger",
    "log",
    "log1p",
    "maximum",
    "minimum",
    "narrow",
    "plus",
    "relu",
    "rounded",
    "sigmoid",
    "tanh",
    "wide",
]

_I16, _I32, _F32 = ir.IntType(16), ir.IntType(32), ir.FloatType()


def exact(function: Any) -> Any:
    """Compile into the caller, with roundings where they are written.

    The kernels allow the compiler to reorder sums, which would undo reductions such as
    (x - n high) - n low. Only joining a product and a sum is allowed here.
    """
    return numba.njit(fastmath={"contract"}, error_model="numpy", nogil=True, forceinline=True)(
        function
    )


# Bits ------------------------------------------------------------------------------------


@intrinsic
def _bits(typing: Any, x: Any) -> Any:
    """A float32 as the int32 of the same bits."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _I32)

    return types.int32(types.float32), code


@intrinsic
def _from_bits(typing: Any, i: Any) -> Any:
    """An int32 as the float32 of the same bits."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _F32)

    return types.float32(types.int32), code


@intrinsic
def _round(typing: Any, x: Any) -> Any:
    """The nearest integer, as a float32."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.call(builder.module.declare_intrinsic("llvm.rint", [_F32]), args)

    return types.float32(types.float32), code


@intrinsic
def _power_of_two(typing: Any, n: Any) -> Any:
    """2^n for an integral float32 n from -126 to 127: the number whose exponent bits are n."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        exponent = builder.add(builder.fptosi(args[0], _I32), _I32(127))
        return builder.bitcast(builder.shl(exponent, _I32(23)), _F32)

    return types.float32(types.float32), code


@intrinsic
def _exponent(typing: Any, x: Any) -> Any:
    """For a positive normal x = m 2^e with 1 <= m < 2: e, as a float32."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.lshr(builder.bitcast(args[0], _I32), _I32(23))
        return builder.sitofp(builder.sub(bits, _I32(127)), _F32)

    return types.float32(types.float32), code


@intrinsic
def _mantissa(typing: Any, x: Any) -> Any:
    """For a positive normal x = m 2^e with 1 <= m < 2: m."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.and_(builder.bitcast(args[0], _I32), _I32(0x007FFFFF))
        return builder.bitcast(builder.or_(bits, _I32(0x3F800000)), _F32)

    return types.float32(types.float32), code


@intrinsic
def _copysign(typing: Any, x: Any, sign: Any) -> Any:
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


@intrinsic
def narrow(typing: Any, x: Any, like: Any) -> Any:
    """A float32 as an element of ``like``'s kind: rounded to nearest even for uint16."""
    if like == types.uint16:

        def cut(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            bits = builder.bitcast(args[0], _I32)
            high = builder.lshr(bits, _I32(16))
            # Half of the last place that stays, less one if that place is even.
            half = builder.add(builder.and_(high, _I32(1)), _I32(0x7FFF))
            near = builder.lshr(builder.add(bits, half), _I32(16))
            # The sum could carry a NaN into infinity: there, cut and keep a bit.
            nan = builder.fcmp_unordered("uno", args[0], args[0])
            return builder.trunc(builder.select(nan, builder.or_(high, _I32(0x40)), near), _I16)

        return types.uint16(types.float32, like), cut

    def keep(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return args[0]

    return types.float32(types.float32, like), keep


# Functions -------------------------------------------------------------------------------

_f = np.float32
_ZERO, _HALF, _ONE, _TWO = _f(0), _f(0.5), _f(1), _f(2)

_LOG2_E = _f(1.44269504088896341)
#: log 2 in two parts: n times the first is exact for every n that occurs.
_LN2_HIGH, _LN2_LOW = _f(0.693359375), _f(-2.12194440e-4)
_EXP_LOWEST, _EXP_HIGHEST = _f(-104.0), _f(89.0)
_EXP = tuple(
    _f(c)
    for c in (
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    )
)
_E0, _E1, _E2, _E3, _E4, _E5 = _EXP


@exact
def exp(x):
    """e^x = 2^n e^r with n the integer nearest to x / log 2, so that |r| < 0.35.

    Beyond the limits (0 below -103.98, infinity above 88.73) x is held at them.
    """
    held = x if x > _EXP_LOWEST else _EXP_LOWEST
    held = held if held < _EXP_HIGHEST else _EXP_HIGHEST
    n = _round(held * _LOG2_E)
    r = held - n * _LN2_HIGH
    r = r - n * _LN2_LOW
    p = _E0
    p = p * r + _E1
    p = p * r + _E2
    p = p * r + _E3
    p = p * r + _E4
    p = p * r + _E5
    p = p * (r * r) + r + _ONE
    # In two steps: 2^n itself may be beyond the range where the result is not.
    first = _round(n * _HALF)
    y = p * _power_of_two(first) * _power_of_two(n - first)
    return y if x == x else x


_EXP_LOWEST_NORMAL = _f(-87.33654)


@exact
def exp_within_range(x):
    """e^x where it is a normal number; 0 below. For x up to 88: no overflow is looked for."""
    held = x if x > _EXP_LOWEST_NORMAL else _EXP_LOWEST_NORMAL
    n = _round(held * _LOG2_E)
    r = held - n * _LN2_HIGH
    r = r - n * _LN2_LOW
    p = _E0
    p = p * r + _E1
    p = p * r + _E2
    p = p * r + _E3
    p = p * r + _E4
    p = p * r + _E5
    p = p * (r * r) + r + _ONE
    y = p * _power_of_two(n)
    return y if x > _EXP_LOWEST_NORMAL else (_ZERO if x == x else x)


_SMALLEST_NORMAL, _TWO_23 = _f(1.17549435e-38), _f(8388608.0)
_SQRT_TWO = _f(1.41421356237)
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = (
    _f(c)
    for c in (
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    )
)
_INFINITY, _NAN = _f(np.inf), _f(np.nan)


@exact
def log(x):
    """log x = log m + e log 2, for x = m 2^e with m from sqrt(1/2) to sqrt 2."""
    tiny = x < _SMALLEST_NORMAL
    normal = x * _TWO_23 if tiny else x
    e = _exponent(normal)
    e = e - _f(23) if tiny else e
    m = _mantissa(normal)
    large = m > _SQRT_TWO
    e = e + _ONE if large else e
    m = (m * _HALF if large else m) - _ONE
    p = _L0
    p = p * m + _L1
    p = p * m + _L2
    p = p * m + _L3
    p = p * m + _L4
    p = p * m + _L5
    p = p * m + _L6
    p = p * m + _L7
    p = p * m + _L8
    z = m * m
    y = p * (m * z)
    y = y + e * _LN2_LOW
    y = y - _HALF * z
    y = (m + y) + e * _LN2_HIGH
    y = y if x < _INFINITY else x
    y = y if x > _ZERO else (-_INFINITY if x == _ZERO else _NAN)
    return y


@exact
def sigmoid(x):
    """1 / (1 + e^-|x|), times e^-|x| where x is negative: nothing overflows."""
    e = exp(-abs(x))
    y = _ONE / (_ONE + e)
    return y if x >= _ZERO else e * y


_T0, _T1, _T2, _T3, _T4 = (
    _f(c)
    for c in (
        -5.70498872745e-3,
        2.06390887954e-2,
        -5.37397155531e-2,
        1.33314422036e-1,
        -3.33332819422e-1,
    )
)
_TANH_SMALL = _f(0.625)


@exact
def tanh(x):
    """Near 0 an odd polynomial, else 1 - 2 / (e^2|x| + 1) with the sign of x."""
    size = abs(x)
    z = x * x
    p = _T0
    p = p * z + _T1
    p = p * z + _T2
    p = p * z + _T3
    p = p * z + _T4
    near = p * (z * x) + x
    far = _copysign(_ONE - _TWO / (exp(size + size) + _ONE), x)
    return near if size < _TANH_SMALL else far


_R0, _R1, _R2, _R3, _R4, _R5, _R6 = (
    _f(c)
    for c in (
        -1.72853470e-5,
        3.83197126e-4,
        -3.88396438e-3,
        2.42546219e-2,
        -1.06777877e-1,
        -6.34846687e-1,
        -1.28717512e-1,
    )
)
_S0, _S1, _S2, _S3, _S4, _S5 = (
    _f(c)
    for c in (
        -5.96761703e-4,
        4.99119423e-3,
        -2.67681349e-2,
        1.12819925e-1,
        -3.76125336e-1,
        1.28379166e-1,
    )
)
_ERF_SMALL = _f(0.927734375)


@exact
def erf(x):
    """Near 0 an odd polynomial, else 1 - e^p(|x|) with the sign of x."""
    t = abs(x)
    s = x * x
    r = _R0 * t + _R1
    u = _R2 * t + _R3
    r = r * s + u
    r = r * t + _R4
    r = r * t + _R5
    r = r * t + _R6
    r = r * t - t
    far = _copysign(_ONE - exp(r), x)
    p = _S0
    p = p * s + _S1
    p = p * s + _S2
    p = p * s + _S3
    p = p * s + _S4
    p = p * s + _S5
    near = p * x + x
    return far if t > _ERF_SMALL else near


@exact
def relu(x):
    """max(x, 0); NaN stays."""
    return x if x > _ZERO else (_ZERO if x == x else x)


@exact
def log1p(x):
    """log(1 + x): the logarithm of the rounded sum u, times what the rounding took, x / (u - 1)."""
    u = _ONE + x
    # Where u is infinite, so is x.
    taken = _ONE if u == _INFINITY else u - _ONE
    y = log(u) * (x / taken)
    return x if u == _ONE else y


@exact
def expm1(x):
    """e^x - 1: that of the rounded u = e^x, times x / log u."""
    u = exp(x)
    y = (u - _ONE) * (x / log(u))
    near = x if u == _ONE else y
    # Below, u is 0 or lost in the sum; above, it is infinite.
    return near if abs(x) < _f(40) else u - _ONE


# For generated kernels: of any floating dtype ----------------------------------------------


@exact
def maximum(x, y):
    """The larger one; NaN if one of them is."""
    return x if x >= y or x != x else y


@exact
def minimum(x, y):
    """The smaller one; NaN if one of them is."""
    return x if x <= y or x != x else y


_SIXTEEN_BITS = np.uint16(0)


@exact
def rounded(x):
    """A float32 rounded to the nearest bfloat16, to even."""
    return wide(narrow(x, _SIXTEEN_BITS))


@numba.njit(fastmath={"reassoc"}, error_model="numpy", nogil=True, forceinline=True)
def plus(x, y):
    """x + y, which may be added in another order: so that a loop over it vectorises."""
    return x + y
