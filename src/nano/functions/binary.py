"""Arithmetic of two operands, element by element, with broadcasting and promotion."""

from __future__ import annotations

from typing import Any

from ..autograd.derivatives import Broadcasting
from ..autograd.function import Function
from ..backends import kernels
from ..errors import ArgumentError, DtypeError, InputError
from ..tensor import Tensor
from .operands import apply_binary, check_tensor, is_number, result_type

__all__ = [
    "add",
    "div",
    "divide",
    "floor_divide",
    "fmod",
    "maximum",
    "minimum",
    "mul",
    "multiply",
    "pow",
    "remainder",
    "sub",
    "subtract",
    "true_divide",
]


class Binary(Broadcasting, Function):
    """An element-wise operator of two operands; one of them may be a Python number."""


class Add(Binary):
    """x + y; d/dx = d/dy = 1."""

    formula = "x + y"

    @staticmethod
    def forward(ctx, x, y):
        return kernels.add(x, y)

    @staticmethod
    def backward(ctx, grad_output):
        need_x, need_y = ctx.needs_input_grad
        return (
            ctx.undo_broadcast(grad_output, 0) if need_x else None,
            ctx.undo_broadcast(grad_output, 1) if need_y else None,
        )


def add(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """input + alpha * other, element by element.

    Args:
        input: Tensor or number.
        other: Tensor or number, broadcastable with ``input``.
        alpha: number that multiplies ``other``.

    Returns:
        Tensor of the broadcast shape and the promoted dtype.

    Raises:
        RuntimeError: if the shapes cannot be broadcast together.

    >>> nano.add(nano.tensor([1, 2]), 0.5)
    tensor([1.5000, 2.5000])
    """
    return apply_binary(Add, "add", input, _scaled("add", input, other, alpha))


class Sub(Binary):
    """x - y; d/dx = 1, d/dy = -1."""

    formula = "x - y"

    @staticmethod
    def forward(ctx, x, y):
        return kernels.subtract(x, y)

    @staticmethod
    def backward(ctx, grad_output):
        need_x, need_y = ctx.needs_input_grad
        return (
            ctx.undo_broadcast(grad_output, 0) if need_x else None,
            ctx.undo_broadcast(-grad_output, 1) if need_y else None,
        )


def sub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """input - alpha * other, element by element. Booleans cannot be subtracted.

    >>> nano.sub(nano.tensor([1.0, 2.0]), nano.tensor([3.0, 3.0]), alpha=2)
    tensor([-5., -4.])
    """
    for x in (input, other):
        if _is_boolean(x):
            raise DtypeError(
                "sub",
                "booleans cannot be subtracted.",
                hint="Use the ^ or logical_xor() operator, or ~ to invert a mask.",
            )
    return apply_binary(Sub, "sub", input, _scaled("sub", input, other, alpha))


def _scaled(name: str, input: Any, other: Any, alpha: Any) -> Any:
    if type(alpha) is int and alpha == 1:
        return other
    if not is_number(alpha):
        raise InputError(name, f"alpha must be a number, got {type(alpha).__name__}.")
    if isinstance(alpha, float) and not result_type(input, other).is_floating_point:
        raise DtypeError(name, "for integer tensors, alpha must be an integer.")
    return other * alpha


class Mul(Binary):
    """x y; d/dx = y, d/dy = x."""

    formula = "x * y"

    @staticmethod
    def forward(ctx, x, y):
        need_x, need_y = ctx.needs_input_grad
        ctx.save_for_backward(x if need_y else None, y if need_x else None)
        return kernels.multiply(x, y)

    @staticmethod
    def backward(ctx, grad_output):
        x, y = ctx.saved_tensors
        need_x, need_y = ctx.needs_input_grad
        return (
            ctx.undo_broadcast(grad_output * y, 0) if need_x else None,
            ctx.undo_broadcast(grad_output * x, 1) if need_y else None,
        )


def mul(input: Any, other: Any) -> Tensor:
    """input * other, element by element.

    >>> nano.mul(nano.tensor([[1.0], [2.0]]), nano.tensor([3.0, 4.0]))
    tensor([[3., 4.],
            [6., 8.]])
    """
    return apply_binary(Mul, "mul", input, other)


class Div(Binary):
    """x / y; d/dx = 1 / y, d/dy = -x / y^2."""

    formula = "x / y"

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, y)
        return kernels.divide(x, y)

    @staticmethod
    def backward(ctx, grad_output):
        x, y = ctx.saved_tensors
        need_x, need_y = ctx.needs_input_grad
        grad_x = grad_output / y
        return (
            ctx.undo_broadcast(grad_x, 0) if need_x else None,
            ctx.undo_broadcast(-grad_x * (x / y), 1) if need_y else None,
        )


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """input / other, element by element; integers become floating point.

    Args:
        input: Tensor or number.
        other: Tensor or number.
        rounding_mode: None; ``"floor"`` rounds towards minus infinity as Python's ``//``,
            ``"trunc"`` towards zero. Both keep integers integers.

    >>> nano.div(nano.tensor([7, -7]), 2), nano.div(nano.tensor([7, -7]), 2, rounding_mode="floor")
    (tensor([ 3.5000, -3.5000]), tensor([ 3, -4]))
    """
    if rounding_mode is None:
        return apply_binary(Div, "div", input, other, divides=True)
    if rounding_mode == "floor":
        _refuse_booleans("div", input, other)
        return apply_binary(DivFloor, "div", input, other)
    if rounding_mode == "trunc":
        _refuse_booleans("div", input, other)
        return apply_binary(TruncDivide, "div", input, other)
    raise ArgumentError(
        "div", f'rounding_mode must be None, "floor" or "trunc", got {rounding_mode!r}.'
    )


def _is_boolean(x: Any) -> bool:
    return isinstance(x, bool) or (isinstance(x, Tensor) and x._data.dtype.kind == "b")


def _refuse_booleans(name: str, a: Any, b: Any) -> None:
    """An error where both operands are booleans, of which the operator makes no sense."""
    if _is_boolean(a) and _is_boolean(b):
        raise DtypeError(name, "two booleans are not supported.", hint="Convert one with .int().")


class FloorDivide(Binary):
    """floor(x / y). PyTorch has no derivative for ``//``, so it has none here."""

    refuses = True

    @staticmethod
    def forward(ctx, x, y):
        return kernels.floor_divide(x, y)


class DivFloor(FloorDivide):
    """floor(x / y), as ``div`` rounds it. Constant between its jumps: d/dx = d/dy = 0."""

    @staticmethod
    def backward(ctx, grad_output):
        return _no_slope(ctx, grad_output)


class TruncDivide(Binary):
    """x / y rounded towards zero. Constant between its jumps: d/dx = d/dy = 0."""

    refuses = True

    @staticmethod
    def forward(ctx, x, y):
        return kernels.trunc_divide(x, y)

    @staticmethod
    def backward(ctx, grad_output):
        return _no_slope(ctx, grad_output)


def _no_slope(ctx: Any, grad: Tensor) -> tuple[Any, Any]:
    """Zeros in the shapes of both operands."""
    zero = grad.detach() * 0.0
    need_x, need_y = ctx.needs_input_grad
    return (
        ctx.undo_broadcast(zero, 0) if need_x else None,
        ctx.undo_broadcast(zero, 1) if need_y else None,
    )


def floor_divide(input: Any, other: Any) -> Tensor:
    """floor(input / other), element by element: Python's ``//``.

    It has no derivative, as in PyTorch: ``backward()`` through it is an error. That of
    ``div(..., rounding_mode="floor")`` is 0.

    Raises:
        RuntimeError: if an integer is divided by zero.

    >>> nano.floor_divide(nano.tensor([7, -7]), 2)
    tensor([ 3, -4])
    """
    _refuse_booleans("floor_divide", input, other)
    return apply_binary(FloorDivide, "floor_divide", input, other)


class Remainder(Binary):
    """x - y floor(x / y); d/dx = 1, d/dy = -floor(x / y)."""

    refuses = True

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return kernels.remainder(x, y)

    @staticmethod
    def backward(ctx, grad_output):
        x, y = ctx.saved_tensors
        need_x, need_y = ctx.needs_input_grad
        steps = div(x, y, rounding_mode="floor") if need_y else None
        return (
            ctx.undo_broadcast(grad_output, 0) if need_x else None,
            ctx.undo_broadcast(-grad_output * steps, 1) if need_y else None,
        )


def remainder(input: Any, other: Any) -> Tensor:
    """The remainder with the sign of ``other``: Python's ``%``.

    >>> nano.remainder(nano.tensor([7, -7]), 3)
    tensor([1, 2])
    """
    _refuse_booleans("remainder", input, other)
    return apply_binary(Remainder, "remainder", input, other)


class Fmod(Binary):
    """x - y trunc(x / y); d/dx = 1, d/dy = -trunc(x / y)."""

    refuses = True

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return kernels.fmod(x, y)

    @staticmethod
    def backward(ctx, grad_output):
        x, y = ctx.saved_tensors
        need_x, need_y = ctx.needs_input_grad
        steps = div(x, y, rounding_mode="trunc") if need_y else None
        return (
            ctx.undo_broadcast(grad_output, 0) if need_x else None,
            ctx.undo_broadcast(-grad_output * steps, 1) if need_y else None,
        )


def fmod(input: Any, other: Any) -> Tensor:
    """The remainder with the sign of ``input``: C's ``fmod``.

    >>> nano.fmod(nano.tensor([7, -7]), 3)
    tensor([ 1, -1])
    """
    _refuse_booleans("fmod", input, other)
    return apply_binary(Fmod, "fmod", input, other)


class Pow(Binary):
    """x^y; d/dx = y x^(y-1), d/dy = x^y log(x), where 0 log(0) counts as 0."""

    formula = "x ** y"

    @staticmethod
    def forward(ctx, x, y):
        out = kernels.power(x, y)
        ctx.save_for_backward(x, y, out if ctx.needs_input_grad[1] else None)
        return out

    @staticmethod
    def backward(ctx, grad_output):
        x, y, out = ctx.saved_tensors
        need_x, need_y = ctx.needs_input_grad
        grad_x = grad_y = None
        if need_x:
            grad_x = ctx.undo_broadcast(grad_output * _power_slope(x, y), 0)
        if need_y:
            log_x = x.log() if isinstance(x, Tensor) else _log_of_number(x, y)
            slope = grad_output * out * log_x
            if isinstance(x, Tensor):
                slope = slope.masked_fill((x == 0) & (y >= 0), 0.0)
            elif x == 0:
                slope = slope.masked_fill(y >= 0, 0.0)
            grad_y = ctx.undo_broadcast(slope, 1)
        return grad_x, grad_y


def _power_slope(x: Any, y: Any) -> Tensor:
    """y x^(y-1), and 0 where y is 0 (also for x = 0)."""
    if isinstance(y, Tensor):
        return (y * x ** (y - 1)).masked_fill(y == 0, 0.0)
    if y == 0:
        return x * 0.0
    return x * 2.0 if y == 2 else y * x ** (y - 1)


def _log_of_number(x: float, like: Tensor) -> Tensor:
    return (like * 0.0 + x).log()


def pow(input: Any, exponent: Any) -> Tensor:
    """input to the power of exponent, element by element.

    Args:
        input: Tensor or number.
        exponent: Tensor or number.

    Raises:
        RuntimeError: for an integer Tensor to the power of a negative integer. (In a Tensor
            of exponents it is allowed, and the fraction is cut off.)

    >>> nano.pow(nano.tensor([1.0, 2.0, 3.0]), 2)
    tensor([1., 4., 9.])
    """
    if isinstance(exponent, int) and not isinstance(exponent, bool) and isinstance(input, Tensor):
        if input._data.dtype.kind in "fV":
            exponent = float(exponent)
        elif exponent < 0:
            raise DtypeError(
                "pow",
                "integers to negative integer powers are not allowed.",
                hint="Convert the base with .float().",
            )
    _refuse_booleans("pow", input, exponent)
    return apply_binary(Pow, "pow", input, exponent)


class Maximum(Binary):
    """max(x, y); the gradient goes to the larger one, half to each where they are equal."""

    formula = "maximum(x, y)"

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return kernels.maximum(x, y)

    @staticmethod
    def backward(ctx, grad_output):
        x, y = ctx.saved_tensors
        return _to_winner(ctx, grad_output, x < y, x > y)


class Minimum(Binary):
    """min(x, y); the gradient goes to the smaller one, half to each where they are equal."""

    formula = "minimum(x, y)"

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return kernels.minimum(x, y)

    @staticmethod
    def backward(ctx, grad_output):
        x, y = ctx.saved_tensors
        return _to_winner(ctx, grad_output, x > y, x < y)


def _to_winner(ctx: Any, grad: Tensor, lost: Tensor, won: Tensor) -> tuple[Any, Any]:
    """Share the gradient: none to a loser, half each in a draw; all to both beside a NaN."""
    x, y = ctx.saved_tensors
    half = 1.0 - (x == y).to(grad.dtype) * 0.5
    need_x, need_y = ctx.needs_input_grad
    return (
        ctx.undo_broadcast(grad * (half - lost.to(grad.dtype)), 0) if need_x else None,
        ctx.undo_broadcast(grad * (half - won.to(grad.dtype)), 1) if need_y else None,
    )


def maximum(input: Tensor, other: Tensor) -> Tensor:
    """The larger of two elements; NaN if one of them is.

    >>> nano.maximum(nano.tensor([1.0, 5.0]), nano.tensor([3.0, 2.0]))
    tensor([3., 5.])
    """
    return apply_binary(
        Maximum, "maximum", check_tensor("maximum", input), check_tensor("maximum", other, "other")
    )


def minimum(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of two elements; NaN if one of them is.

    >>> nano.minimum(nano.tensor([1.0, 5.0]), nano.tensor([3.0, 2.0]))
    tensor([1., 2.])
    """
    return apply_binary(
        Minimum, "minimum", check_tensor("minimum", input), check_tensor("minimum", other, "other")
    )


subtract, multiply, divide, true_divide = sub, mul, div, div
