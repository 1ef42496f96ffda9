"""The one table that makes functions into methods and operators of Tensor.

Tensor (floor 2) cannot import the functions (floor 3), which need it. Once all
of them exist, this module ties them together: every name below is a function
that becomes a method of the same name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import engine
from ..autograd.views import write_in_place
from ..errors import ShapeError, TypeMismatchError
from ..tensor import Tensor
from . import (
    along,
    binary,
    choosing,
    comparison,
    conversion,
    creation,
    drawing,
    extremes,
    indexing,
    joining,
    matmul,
    movement,
    parts,
    rearrange,
    reduction,
    rounding,
    selection,
    softmax,
    statistics,
    unary,
)
from .operands import check_tensor, fitting, is_number

__all__: list[str] = []

#: Functions that are methods too, by module. Methods that end in _ are below.
METHODS: dict[Any, str] = {
    unary: """abs absolute cos exp expm1 log log1p neg negative positive reciprocal relu rsqrt
        sigmoid sin sqrt square tanh""",
    rounding: "ceil floor isfinite isinf isnan round sign",
    binary: """add div divide floor_divide fmod maximum minimum mul multiply pow remainder sub
        subtract true_divide""",
    conversion: "clone contiguous to type_as",
    comparison: """allclose bitwise_and bitwise_not bitwise_or bitwise_xor eq equal ge greater
        greater_equal gt isclose le less less_equal logical_and logical_not logical_or
        logical_xor lt ne not_equal""",
    choosing: "bernoulli multinomial",
    matmul: "addmm bmm dot inner matmul mm mv outer",
    extremes: "amax amin argmax argmin max median min",
    reduction: "all any count_nonzero mean prod sum",
    statistics: "logsumexp norm std var",
    softmax: "log_softmax softmax",
    movement: """adjoint broadcast_to expand expand_as flatten moveaxis movedim permute reshape
        reshape_as squeeze swapaxes swapdims t transpose unflatten unsqueeze view view_as""",
    parts: "as_strided diagonal narrow select shrink",
    rearrange: "flip fliplr flipud pad repeat roll tile tril triu",
    indexing: "masked_select nonzero take",
    along: """gather index_add index_copy index_fill index_select scatter scatter_add
        take_along_dim""",
    joining: "chunk tensor_split unbind",
    selection: """argsort clamp clamp_max clamp_min clip cumsum masked_fill msort sort topk
        unique""",
}


def _bind_methods() -> None:
    for module, names in METHODS.items():
        for name in names.split():
            setattr(Tensor, name, getattr(module, name))
    for table in (conversion.CONVERTERS, creation.NEW_METHODS, drawing.DRAWING_METHODS):
        for name, function in table.items():
            setattr(Tensor, name, function)


# Python's operators ---------------------------------------------------------------------


def _is_operand(x: Any) -> bool:
    return isinstance(x, Tensor) or is_number(x)


def _operator(function: Callable[[Any, Any], Any], kernel: Any = None, kinds: str = "") -> Any:
    """``self op other``; NotImplemented for what is no operand, so that Python can go on.

    Two tensors of the same dtype need no promotion: where the dtype is of one of
    ``kinds`` (of any, if there are none), the Function is applied at once; likewise for
    a float and a tensor of one of NumPy's own floating-point dtypes.
    """
    apply = kernel.apply if kernel else None
    numbers = apply is not None and (not kinds or "f" in kinds)

    def method(self: Tensor, other: Any) -> Any:
        if isinstance(other, Tensor):
            d = self._data.dtype
            if apply and d is other._data.dtype and (not kinds or d.kind in kinds):
                try:
                    return apply(self, other)
                except ValueError:
                    return function(self, other)
        elif numbers and type(other) is float and self._data.dtype.kind == "f":
            return apply(self, other)
        elif isinstance(other, np.ndarray):
            other = conversion.as_tensor(other)
        elif not _is_operand(other):
            return NotImplemented
        return function(self, other)

    method.__doc__ = function.__doc__
    return method


def _reflected(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """``other op self``."""

    def method(self: Tensor, other: Any) -> Any:
        return function(other, self) if _is_operand(other) else NotImplemented

    method.__doc__ = function.__doc__
    return method


def _as_operand(other: Any) -> Any:
    """An array as the Tensor over its memory; anything else as it is."""
    return conversion.as_tensor(other) if isinstance(other, np.ndarray) else other


def _matmul(self: Tensor, other: Any) -> Any:
    """``self @ other``."""
    if not isinstance(other, Tensor):
        other = _as_operand(other)
    return matmul.matmul(self, other) if isinstance(other, Tensor) else NotImplemented


def _reflected_matmul(self: Tensor, other: Any) -> Any:
    """``other @ self``."""
    other = _as_operand(other)
    return matmul.matmul(other, self) if isinstance(other, Tensor) else NotImplemented


def _invert(self: Tensor) -> Tensor:
    """``~self``; a TypeError for floating point, as Python has it."""
    if self._data.dtype.kind in "fV":
        raise TypeMismatchError(
            "~",
            f"only booleans and integers have bits to turn, got {self.dtype}.",
            hint="To invert a condition, compare first: ~(x > 0).",
        )
    return comparison.bitwise_not(self)


def _bind_operators() -> None:
    for name, function, kernel, kinds in (
        ("add", binary.add, binary.Add, ""),
        ("sub", binary.sub, binary.Sub, "fViu"),
        ("mul", binary.mul, binary.Mul, ""),
        ("truediv", binary.div, binary.Div, "fV"),
        ("floordiv", binary.floor_divide, None, ""),
        ("mod", binary.remainder, None, ""),
        ("pow", binary.pow, None, ""),
        ("and", comparison.bitwise_and, comparison.BitwiseAnd, "b"),
        ("or", comparison.bitwise_or, comparison.BitwiseOr, "b"),
        ("xor", comparison.bitwise_xor, comparison.BitwiseXor, "b"),
    ):
        setattr(Tensor, f"__{name}__", _operator(function, kernel, kinds))
        setattr(Tensor, f"__r{name}__", _reflected(function))
        setattr(Tensor, f"__i{name}__", _in_place_operator(f"{name}_", function))
    for name, function, kernel in (
        ("eq", comparison.eq, comparison.Equal),
        ("ne", comparison.ne, comparison.NotEqual),
        ("lt", comparison.lt, comparison.Less),
        ("le", comparison.le, comparison.LessEqual),
        ("gt", comparison.gt, comparison.Greater),
        ("ge", comparison.ge, comparison.GreaterEqual),
    ):
        # Python itself turns ``number < tensor`` into ``tensor > number``.
        setattr(Tensor, f"__{name}__", _operator(function, kernel))
    for name, function in (
        ("neg", unary.neg),
        ("pos", unary.positive),
        ("abs", unary.abs),
        ("invert", _invert),
    ):
        setattr(Tensor, f"__{name}__", function)
    Tensor.__matmul__ = _matmul  # type: ignore[attr-defined]
    Tensor.__rmatmul__ = _reflected_matmul  # type: ignore[attr-defined]


# In-place forms -------------------------------------------------------------------------


class _Compute:
    """Lets ``write_in_place`` run a public function as it runs a Function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.apply = function


def _in_place(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` writing its result into its first argument."""
    compute = _Compute(function)

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return write_in_place(name, self, compute, self, *args, **kwargs)  # type: ignore[arg-type]

    method.__name__ = name
    method.__doc__ = f"In-place form of :func:`nano.{name.strip('_')}`."
    return method


def _in_place_operator(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """``self op= other``: as :func:`_in_place`, and ``other`` may be an array."""
    compute = _Compute(function)

    def method(self: Tensor, other: Any) -> Tensor:
        if not isinstance(other, Tensor):
            other = _as_operand(other)
        return write_in_place(name, self, compute, self, other)  # type: ignore[arg-type]

    method.__name__ = name
    return method


#: Functions that have an in-place form, ``add_``, which returns the tensor.
IN_PLACE: dict[Any, str] = {
    unary: "abs cos exp expm1 log log1p neg reciprocal relu rsqrt sigmoid sin sqrt square tanh",
    rounding: "ceil floor round sign",
    binary: "add div divide floor_divide fmod mul multiply pow remainder sub subtract true_divide",
    comparison: """bitwise_and bitwise_not bitwise_or bitwise_xor eq ge gt le logical_and
        logical_not logical_or logical_xor lt ne""",
    along: "index_add index_copy index_fill scatter scatter_add",
    rearrange: "tril triu",
    selection: "clamp clamp_max clamp_min clip cumsum masked_fill",
}


def _bind_in_place() -> None:
    for module, names in IN_PLACE.items():
        for name in names.split():
            setattr(Tensor, f"{name}_", _in_place(f"{name}_", getattr(module, name)))


def _fill_(self: Tensor, value: Any) -> Tensor:
    """Set every element to ``value``; returns the tensor."""
    if isinstance(value, Tensor):
        if value._data.ndim:
            raise ShapeError("fill_", f"value must be a number or 0-d, got shape {value.shape}.")
        if value.requires_grad:
            return write_in_place("fill_", self, conversion.CopyFrom, self, value)
        return write_in_place("fill_", self, conversion.Fill, self, value=value._data)
    if not is_number(value):
        raise TypeMismatchError("fill_", f"value must be a number, got {type(value).__name__}.")
    number = fitting("fill_", float_or_int(value), self.dtype)
    return write_in_place("fill_", self, conversion.Fill, self, value=number)


def _zero_(self: Tensor) -> Tensor:
    """Set every element to 0; returns the tensor."""
    return write_in_place("zero_", self, conversion.Fill, self, value=0)


def _copy_(self: Tensor, source: Any) -> Tensor:
    """Write ``source``, broadcast and converted, into the tensor; returns it."""
    if not isinstance(source, Tensor):
        source = conversion.as_tensor(source, dtype=self.dtype)
    return write_in_place("copy_", self, conversion.CopyFrom, self, source)


def _where(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    """The tensor where ``condition`` is True, else ``other``; see :func:`nano.where`."""
    return selection.where(condition, self, other)


def _split(self: Tensor, split_size: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """The tensor cut along ``dim``; see :func:`nano.split`."""
    return joining.split(self, split_size, dim)


def float_or_int(value: Any) -> Any:
    """A Python number from a number or a tensor of one element."""
    return value.item() if hasattr(value, "item") else value


def _backward(
    self: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add the gradient of this tensor to the ``.grad`` of the leaves it was computed from.

    See :func:`nano.autograd.backward`.

    >>> w = nano.tensor([1.0, 2.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> w.grad
    tensor([2., 4.])
    """
    if gradient is not None:
        check_tensor("backward", gradient, "gradient")
    engine.backward(self, gradient, retain_graph, create_graph, inputs)


_bind_methods()
_bind_operators()
_bind_in_place()
Tensor.where = _where  # type: ignore[attr-defined]
Tensor.split = _split  # type: ignore[attr-defined]
Tensor.__getitem__ = indexing.getitem  # type: ignore[attr-defined]
Tensor.__setitem__ = indexing.setitem  # type: ignore[attr-defined]
Tensor.T = property(movement.reversed_dims)  # type: ignore[attr-defined]
Tensor.mT = property(movement.mT)  # type: ignore[attr-defined]
Tensor.fill_ = _fill_  # type: ignore[attr-defined]
Tensor.zero_ = _zero_  # type: ignore[attr-defined]
Tensor.copy_ = _copy_  # type: ignore[attr-defined]
Tensor.bernoulli_ = choosing.bernoulli_  # type: ignore[attr-defined]
Tensor.backward = _backward  # type: ignore[attr-defined]
