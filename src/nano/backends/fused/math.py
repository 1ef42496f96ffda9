"""exp, log, tanh, erf and others of float32 numbers, made so that loops over them vectorise.

``math.exp`` is a call into the C library, one number at a time. Here each function is a
polynomial without a branch: both sides of a choice are computed, and one is kept. Errors
are below 1.5 units in the last place (sigmoid: 3; GELU's: 2 of the number 1); infinities,
NaN and the ends of the range come out as they should. Also here: bfloat16 numbers, which
Numba knows only as 16-bit integers.

Sources: S. L. Moshier, Cephes mathematical library (exp, log, tanh); N. Juffa, "erff"
(two minimax polynomials, error below 1 unit in the last place).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from . import bits
from .bits import larger, narrow, narrow_result, wide
from .linking import inner
from .vectors import at_least

__all__ = [
    "erf",
    "exp",
    "exp_of_vector",
    "exp_within_range",
    "expm1",
    "gelu_slope",
    "larger",
    "log",
    "log1p",
    "maximum",
    "minimum",
    "narrow",
    "narrow_result",
    "normal_cdf",
    "plus",
    "relu",
    "rounded",
    "sigmoid",
    "tanh",
    "wide",
]


def exact(function: Any) -> Any:
    """Compile into the caller, with roundings where they are written.

    The kernels allow the compiler to reorder sums, which would undo reductions such as
    (x - n high) - n low. Only joining a product and a sum is allowed here.
    """
    return inner(function, {"contract"}, forceinline=True)


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
    n = bits.nearest(held * _LOG2_E)
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
    first = bits.nearest(n * _HALF)
    y = p * bits.power_of_two(first) * bits.power_of_two(n - first)
    return y if x == x else x


#: Here n is -127, whose power of two is 0 in the bits.
_EXP_VANISHES = _f(-88)


@exact
def exp_within_range(x):
    """e^x where it is a normal number; 0 below. For x up to 88: no overflow is looked for."""
    return _exp_between(_EXP_VANISHES if x < _EXP_VANISHES else x)  # NaN stays


@exact
def exp_of_vector(x):
    """``exp_within_range`` of each number of a vector."""
    return _exp_between(at_least(x, _EXP_VANISHES))


@exact
def _exp_between(x):
    """e^x for -88 <= x <= 88, a number or a vector of them."""
    n = bits.nearest(_LOG2_E * x)
    r = x - _LN2_HIGH * n
    r = r - _LN2_LOW * n
    p = _E1 + _E0 * r
    p = _E2 + p * r
    p = _E3 + p * r
    p = _E4 + p * r
    p = _E5 + p * r
    p = _ONE + (r + p * (r * r))
    return p * bits.power_of_two(n)


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
    e = bits.exponent(normal)
    e = e - _f(23) if tiny else e
    m = bits.mantissa(normal)
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
    e = exp_within_range(-abs(x))
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
    far = bits.copysign(_ONE - _TWO / (exp(size + size) + _ONE), x)
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
    far = bits.copysign(_ONE - exp(r), x)
    p = _S0
    p = p * s + _S1
    p = p * s + _S2
    p = p * s + _S3
    p = p * s + _S4
    p = p * s + _S5
    near = p * x + x
    return far if t > _ERF_SMALL else near


# Of GELU: 1/2 + x P(x^2) / Q(x^2), for the functions less 1/2 are odd. The two polynomials of
# each are the best ones (least largest error, by weighted least squares), to 7e-9 and 5e-9.
_CDF_END = _f(5.5)
_C0, _C1, _C2, _C3, _C4, _C5 = (
    _f(c)
    for c in (
        2.27493225e-8,
        6.35213178e-6,
        1.68827131e-4,
        4.67726953e-3,
        3.38527853e-2,
        3.98942235e-1,
    )
)
_D0, _D1, _D2, _D3, _D4 = (
    _f(c) for c in (1.19750371e-6, 7.36479901e-5, 1.88445305e-3, 2.8645952e-2, 2.51522267e-1)
)


@exact
def normal_cdf(x):
    """The standard normal distribution function, to 2e-7; 0 below -5.5, 1 above."""
    held = x if x < _CDF_END else _CDF_END
    held = held if held > -_CDF_END else -_CDF_END
    z = held * held
    p = _C0
    p = p * z + _C1
    p = p * z + _C2
    p = p * z + _C3
    p = p * z + _C4
    p = p * z + _C5
    q = _D0
    q = q * z + _D1
    q = q * z + _D2
    q = q * z + _D3
    q = q * z + _D4
    q = q * z + _ONE
    y = held * p / q + _HALF
    return y if x > -_CDF_END else (_ZERO if x == x else x)


_SLOPE_END = _f(6)
_G0, _G1, _G2, _G3, _G4, _G5, _G6, _G7 = (
    _f(c)
    for c in (
        -2.88803748e-11,
        1.30031416e-8,
        1.1219456e-6,
        3.20271576e-5,
        2.85228063e-4,
        1.35690015e-2,
        -1.8037798e-2,
        7.97884522e-1,
    )
)
_H0, _H1, _H2, _H3, _H4, _H5 = (
    _f(c)
    for c in (
        3.6363962e-7,
        1.0812287e-5,
        2.58607144e-4,
        4.15023087e-3,
        4.55828986e-2,
        3.10725823e-1,
    )
)


@exact
def gelu_slope(x):
    """Phi(x) + x phi(x), to 2e-7: the derivative of x Phi(x); NaN at the infinities."""
    held = x if x < _SLOPE_END else _SLOPE_END
    held = held if held > -_SLOPE_END else -_SLOPE_END
    z = held * held
    p = _G0
    p = p * z + _G1
    p = p * z + _G2
    p = p * z + _G3
    p = p * z + _G4
    p = p * z + _G5
    p = p * z + _G6
    p = p * z + _G7
    q = _H0
    q = q * z + _H1
    q = q * z + _H2
    q = q * z + _H3
    q = q * z + _H4
    q = q * z + _H5
    q = q * z + _ONE
    y = held * p / q + _HALF
    # What is infinite or NaN times 0 is NaN.
    return (_ZERO if x < -_SLOPE_END else y) + x * _ZERO


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


@partial(inner, fastmath={"reassoc"}, forceinline=True)
def plus(x, y):
    """x + y, which may be added in another order: so that a loop over it vectorises."""
    return x + y
