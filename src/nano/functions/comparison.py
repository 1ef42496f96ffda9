"""Comparisons, logical and bitwise operators. Their answers have no derivative."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.function import Function
from ..backends import kernels
from ..dtypes import bool_
from ..errors import DtypeError, ShapeError
from ..hook import hooks, reading
from ..tensor import Tensor
from .operands import apply_binary, check_tensor, result_type

__all__ = [
    "allclose",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "eq",
    "equal",
    "ge",
    "greater",
    "greater_equal",
    "gt",
    "isclose",
    "le",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lt",
    "ne",
    "not_equal",
]


class Comparison(Function):
    """A question about two operands, element by element."""

    differentiable = False


class Equal(Comparison):
    """Whether x = y; NaN equals nothing."""

    formula = "x == y"

    @staticmethod
    def forward(ctx, x, y):
        return kernels.equal(x, y)


def eq(input: Any, other: Any) -> Tensor:
    """Whether input = other, element by element; NaN equals nothing.

    Args:
        input: Tensor or number.
        other: Tensor or number, broadcastable with ``input``.

    Returns:
        bool Tensor of the broadcast shape.

    Raises:
        RuntimeError: if the shapes cannot be broadcast together.

    >>> nano.eq(nano.tensor([1.0, 2.0]), 2)
    tensor([False,  True])
    """
    return apply_binary(Equal, "eq", input, other)


class NotEqual(Comparison):
    """Whether x differs from y."""

    formula = "x != y"

    @staticmethod
    def forward(ctx, x, y):
        return kernels.not_equal(x, y)


def ne(input: Any, other: Any) -> Tensor:
    """Whether input differs from other, element by element.

    >>> nano.ne(nano.tensor([1.0, 2.0]), 2)
    tensor([ True, False])
    """
    return apply_binary(NotEqual, "ne", input, other)


class Less(Comparison):
    """Whether x < y."""

    formula = "x < y"

    @staticmethod
    def forward(ctx, x, y):
        return kernels.less(x, y)


def lt(input: Any, other: Any) -> Tensor:
    """Whether input < other, element by element.

    >>> nano.lt(nano.tensor([1.0, 2.0]), 2)
    tensor([ True, False])
    """
    return apply_binary(Less, "lt", input, other)


class LessEqual(Comparison):
    """Whether x <= y."""

    formula = "x <= y"

    @staticmethod
    def forward(ctx, x, y):
        return kernels.less_equal(x, y)


def le(input: Any, other: Any) -> Tensor:
    """Whether input <= other, element by element.

    >>> nano.le(nano.tensor([1.0, 2.0, 3.0]), 2)
    tensor([ True,  True, False])
    """
    return apply_binary(LessEqual, "le", input, other)


class Greater(Comparison):
    """Whether x > y."""

    formula = "x > y"

    @staticmethod
    def forward(ctx, x, y):
        return kernels.greater(x, y)


def gt(input: Any, other: Any) -> Tensor:
    """Whether input > other, element by element.

    >>> nano.gt(nano.tensor([1.0, 2.0, 3.0]), 2)
    tensor([False, False,  True])
    """
    return apply_binary(Greater, "gt", input, other)


class GreaterEqual(Comparison):
    """Whether x >= y."""

    formula = "x >= y"

    @staticmethod
    def forward(ctx, x, y):
        return kernels.greater_equal(x, y)


def ge(input: Any, other: Any) -> Tensor:
    """Whether input >= other, element by element.

    >>> nano.ge(nano.tensor([1.0, 2.0, 3.0]), 2)
    tensor([False,  True,  True])
    """
    return apply_binary(GreaterEqual, "ge", input, other)


# Nearness and equality of whole tensors -------------------------------------------------


class IsClose(Comparison):
    """Whether |x - y| <= atol + rtol |y|, or x = y."""

    @staticmethod
    def forward(ctx, x, y, *, rtol, atol, equal_nan):
        close = np.asarray(kernels.equal(x, y))
        if equal_nan:
            close = close | (np.isnan(x) & np.isnan(y))
        if rtol == 0 and atol == 0:
            return close
        if x.dtype.kind in "iub":
            x, y = x.astype(np.float64), y.astype(np.float64)
        allowed = atol + np.abs(rtol * y)
        # The difference to an infinity is infinite, which no tolerance allows.
        distance = np.abs(x - y)
        return close | (np.isfinite(distance) & (distance <= allowed))


def isclose(
    input: Tensor,
    other: Tensor,
    rtol: float = 1e-05,
    atol: float = 1e-08,
    equal_nan: bool = False,
) -> Tensor:
    """Whether |input - other| <= atol + rtol |other|, element by element.

    Args:
        input: any dtype.
        other: of the same dtype, broadcastable with ``input``.
        rtol: allowed difference relative to ``other``.
        atol: allowed difference.
        equal_nan: whether NaN is close to NaN.

    Raises:
        RuntimeError: if the dtypes differ or a tolerance is negative.

    >>> nano.isclose(nano.tensor([1.0, 1.1]), nano.tensor([1.000001, 1.0]))
    tensor([ True, False])
    """
    a, b = check_tensor("isclose", input), check_tensor("isclose", other, "other")
    if a._data.dtype != b._data.dtype:
        raise DtypeError("isclose", f"dtypes differ: {a.dtype} and {b.dtype}.")
    if rtol < 0 or atol < 0:
        raise ShapeError("isclose", f"tolerances cannot be negative: rtol {rtol}, atol {atol}.")
    try:
        return IsClose.apply(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan)
    except ValueError:
        raise ShapeError(
            "isclose", f"shapes {a.shape} and {b.shape} cannot be broadcast together."
        ) from None


def allclose(
    input: Tensor,
    other: Tensor,
    rtol: float = 1e-05,
    atol: float = 1e-08,
    equal_nan: bool = False,
) -> bool:
    """Whether all elements are close; see :func:`isclose`. Gives a Python bool.

    >>> nano.allclose(nano.tensor([1.0, 2.0]), nano.tensor([1.0, 2.000001]))
    True
    """
    close = isclose(input, other, rtol, atol, equal_nan)
    if hooks:
        reading("allclose", close)
    return bool(close._data.all())


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and the same elements. Gives a Python bool.

    >>> nano.equal(nano.tensor([1, 2]), nano.tensor([1, 2]))
    True
    """
    a, b = check_tensor("equal", input)._data, check_tensor("equal", other, "other")._data
    if a.shape != b.shape:
        return False
    same = eq(input, other)
    if hooks:
        reading("equal", same)
    return bool(same._data.all())


# Logic ----------------------------------------------------------------------------------


class LogicalNot(Comparison):
    """Whether x is 0."""

    formula = "x == 0"

    @staticmethod
    def forward(ctx, x):
        return kernels.logical_not(x)


def logical_not(input: Tensor) -> Tensor:
    """Whether each element is 0 (or False).

    >>> nano.logical_not(nano.tensor([0.0, 2.0]))
    tensor([ True, False])
    """
    return LogicalNot.apply(check_tensor("logical_not", input))


def _truth(owner: str, x: Any, name: str) -> Tensor:
    """Whether each element is not 0."""
    if check_tensor(owner, x, name)._data.dtype.kind == "b":
        return x
    return ne(x, 0)


def logical_and(input: Tensor, other: Tensor) -> Tensor:
    """Whether both are nonzero, element by element; any dtypes, a bool Tensor comes out.

    >>> nano.logical_and(nano.tensor([0, 1, 2]), nano.tensor([1, 1, 0]))
    tensor([False,  True, False])
    """
    a, b = _truth("logical_and", input, "input"), _truth("logical_and", other, "other")
    return apply_binary(BitwiseAnd, "logical_and", a, b)


def logical_or(input: Tensor, other: Tensor) -> Tensor:
    """Whether one of them or both are nonzero, element by element.

    >>> nano.logical_or(nano.tensor([0, 1, 0]), nano.tensor([1, 1, 0]))
    tensor([ True,  True, False])
    """
    a, b = _truth("logical_or", input, "input"), _truth("logical_or", other, "other")
    return apply_binary(BitwiseOr, "logical_or", a, b)


def logical_xor(input: Tensor, other: Tensor) -> Tensor:
    """Whether exactly one of them is nonzero, element by element.

    >>> nano.logical_xor(nano.tensor([0, 1, 2]), nano.tensor([1, 1, 0]))
    tensor([ True, False,  True])
    """
    a, b = _truth("logical_xor", input, "input"), _truth("logical_xor", other, "other")
    return apply_binary(BitwiseXor, "logical_xor", a, b)


# Bits -----------------------------------------------------------------------------------


class BitwiseAnd(Comparison):
    """The bits set in both; for booleans, and."""

    formula = "x & y"

    @staticmethod
    def forward(ctx, x, y):
        return kernels.bitwise_and(x, y)


class BitwiseOr(Comparison):
    """The bits set in either; for booleans, or."""

    formula = "x | y"

    @staticmethod
    def forward(ctx, x, y):
        return kernels.bitwise_or(x, y)


class BitwiseXor(Comparison):
    """The bits set in exactly one; for booleans, exclusive or."""

    formula = "x ^ y"

    @staticmethod
    def forward(ctx, x, y):
        return kernels.bitwise_xor(x, y)


class BitwiseNot(Comparison):
    """All bits turned; for booleans, not."""

    formula = "~x"

    @staticmethod
    def forward(ctx, x):
        return kernels.bitwise_not(x)


def _apply_bitwise(function: type[Function], name: str, a: Any, b: Any) -> Tensor:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        try:
            common = result_type(a, b)
        except TypeError:
            common = bool_  # apply_binary explains what is no operand
        if common.is_floating_point:
            raise DtypeError(
                name,
                f"only booleans and integers have bits to combine, got {common}.",
                hint="To combine conditions, compare first: (x > 0) & (y > 0).",
            )
    return apply_binary(function, name, a, b)


def bitwise_and(input: Any, other: Any) -> Tensor:
    """input & other, bit by bit; for booleans, logical and.

    Args:
        input: Tensor or number, bool or integer.
        other: Tensor or number, bool or integer.

    Raises:
        RuntimeError: for floating point, or shapes that cannot be broadcast together.

    >>> nano.bitwise_and(nano.tensor([6, 3]), 5)
    tensor([4, 1])
    """
    return _apply_bitwise(BitwiseAnd, "bitwise_and", input, other)


def bitwise_or(input: Any, other: Any) -> Tensor:
    """input | other, bit by bit; for booleans, logical or.

    >>> nano.bitwise_or(nano.tensor([6, 3]), 5)
    tensor([7, 7])
    """
    return _apply_bitwise(BitwiseOr, "bitwise_or", input, other)


def bitwise_xor(input: Any, other: Any) -> Tensor:
    """input ^ other, bit by bit; for booleans, exclusive or.

    >>> nano.bitwise_xor(nano.tensor([6, 3]), 5)
    tensor([3, 6])
    """
    return _apply_bitwise(BitwiseXor, "bitwise_xor", input, other)


def bitwise_not(input: Tensor) -> Tensor:
    """~input: every bit turned; for booleans, logical not.

    >>> nano.bitwise_not(nano.tensor([True, False]))
    tensor([False,  True])
    """
    if check_tensor("bitwise_not", input)._data.dtype.kind not in "iub":
        # PyTorch raises TypeError for the operator and the function alike.
        raise DtypeError(
            "bitwise_not",
            f"only booleans and integers have bits to turn, got {input.dtype}.",
            hint="To invert a condition, compare first: ~(x > 0).",
        )
    return BitwiseNot.apply(input)


less, less_equal, greater, greater_equal, not_equal = lt, le, gt, ge, ne
