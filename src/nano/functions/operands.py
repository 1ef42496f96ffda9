"""What operators do with their arguments before they compute: promote, convert, check.

The common case, two tensors of one dtype or a floating-point tensor and a
Python number, must cost next to nothing: it is looked for first.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..autograd.function import Function
from ..dtypes import combine_dtypes, dtype, get_default_dtype
from ..errors import DimensionError, DtypeError, NumberRangeError, ShapeError, TypeMismatchError
from ..tensor import Tensor, wrap

__all__ = [
    "apply_binary",
    "as_dims",
    "as_shape",
    "as_tensor_like",
    "check_tensor",
    "floating",
    "normal_dim",
    "result_type",
]

_NUMBERS = (bool, int, float)

#: Numbers that NumPy fits to an array's own floating-point dtype. It knows how for its own
#: formats only: a bfloat16 array and a number would become float32.
_PLAIN = frozenset((int, float))


def is_number(x: Any) -> bool:
    """Whether ``x`` is a Python or NumPy number (not a tensor, not an array)."""
    return isinstance(x, (bool, int, float, np.number, np.bool_))


def check_tensor(owner: str, x: Any, name: str = "input") -> Tensor:
    """``x``, if it is a Tensor.

    Raises:
        TypeError: if it is not.
    """
    if not isinstance(x, Tensor):
        raise TypeMismatchError(
            owner,
            f"{name} must be a Tensor, got {type(x).__name__}.",
            hint="Make one with nano.tensor(...).",
        )
    return x


def result_type(*operands: Any) -> dtype:
    """The dtype of the result of an operator on tensors and Python numbers.

    >>> result_type(nano.ones(2, dtype=nano.int32), 1.5)
    nano.float32
    """
    tensors = [(x.dtype, x._data.ndim) for x in operands if isinstance(x, Tensor)]
    numbers = [_python(x) for x in operands if not isinstance(x, Tensor)]
    return combine_dtypes(tensors, numbers)


def _python(x: Any) -> Any:
    # NumPy's float64 is a float too, but stands for a number, not for a dtype.
    return x.item() if isinstance(x, np.generic) else x


def apply_binary(
    function: type[Function], name: str, a: Any, b: Any, *, divides: bool = False
) -> Any:
    """Run an element-wise Function of two operands, with PyTorch's promotion.

    Args:
        function: the operator.
        name: as the user knows it, for messages.
        a, b: Tensors or Python numbers.
        divides: whether integers become floating point.
    """
    try:
        if isinstance(a, Tensor):
            da = a._data.dtype
            if isinstance(b, Tensor):
                if da is b._data.dtype and (not divides or da.kind in "fV"):
                    return function.apply(a, b)
            elif da.kind == "f" and type(b) in _PLAIN:
                return function.apply(a, float(b))
        elif type(a) in _PLAIN and isinstance(b, Tensor) and b._data.dtype.kind == "f":
            return function.apply(float(a), b)
        return _apply_promoted(function, name, a, b, divides)
    except ValueError as error:
        if "broadcast" not in str(error):
            raise
        raise ShapeError(
            name,
            f"shapes {a.shape} and {b.shape} cannot be broadcast together.",
            hint="Sizes must be equal, or one of them 1, counted from the last dimension.",
        ) from None


def _apply_promoted(function: type[Function], name: str, a: Any, b: Any, divides: bool) -> Any:
    for x in (a, b):
        if not isinstance(x, Tensor) and not is_number(x):
            raise TypeMismatchError(
                name,
                f"operands must be Tensors or numbers, got {type(x).__name__}.",
                hint="Make a Tensor of it with nano.tensor(...).",
            )
    common = result_type(a, b)
    if divides and not common.is_floating_point:
        common = get_default_dtype()
    return function.apply(as_tensor_like(a, common), as_tensor_like(b, common))


def as_tensor_like(x: Any, d: dtype) -> Tensor:
    """``x``, a Tensor or a number, as a Tensor of dtype ``d``."""
    if isinstance(x, Tensor):
        return x if x._data.dtype == d.numpy else x.to(d)
    x = _python(x)
    if isinstance(x, int) and d.numpy.kind in "iu":
        # Integers of 64 bits wrap around, as they do in the operators themselves.
        if not -(2**63) <= x < 2**64:
            raise NumberRangeError("operand", f"the integer {x} does not fit into 64 bits.")
        return wrap(np.asarray(x & 0xFFFFFFFFFFFFFFFF, np.uint64).astype(d.numpy))
    return wrap(np.asarray(x, np.float64 if isinstance(x, int) else None).astype(d.numpy))


def floating(name: str, x: Any) -> Tensor:
    """``x`` as floating point: integers and booleans become the default dtype."""
    check_tensor(name, x)
    if x._data.dtype.kind in "fV":
        return x
    return x.to(get_default_dtype())


def require_floating(name: str, x: Any, argument: str = "input") -> Tensor:
    """``x``, if it is a floating-point Tensor.

    Raises:
        TypeError: if it is no Tensor.
        RuntimeError: if it is not floating point.
    """
    check_tensor(name, x, argument)
    if x._data.dtype.kind not in "fV":
        raise DtypeError(
            name,
            f"{argument} must be floating point, got {x.dtype}.",
            hint="Convert it with t.float().",
        )
    return x


def normal_dim(owner: str, dim: Any, ndim: int) -> int:
    """``dim`` counted from the front.

    Raises:
        IndexError: if there is no such dimension.
        TypeError: if it is no integer.
    """
    try:
        if dim is True or dim is False:
            raise TypeError
        d = operator.index(dim)
    except TypeError:
        raise TypeMismatchError(
            owner, f"dim must be an integer, got {type(dim).__name__}."
        ) from None
    span = max(ndim, 1)
    if not -span <= d < span:
        raise DimensionError(
            owner,
            f"dim {d} is out of range: a {ndim}-d tensor has dims {-span} to {span - 1}.",
        )
    return d % span


def as_dims(owner: str, dim: Any, ndim: int) -> tuple[int, ...] | None:
    """``dim`` (None, an integer or several) as dims counted from the front; None means all.

    Raises:
        IndexError: if there is no such dimension.
        RuntimeError: if one is given twice.
    """
    if dim is None:
        return None
    if not isinstance(dim, Iterable) or getattr(dim, "ndim", 1) == 0:
        return (normal_dim(owner, dim, ndim),)
    dims = tuple(normal_dim(owner, d, ndim) for d in dim)
    if len(set(dims)) != len(dims):
        raise ShapeError(owner, f"dim {tuple(dim)} names a dimension twice.")
    return dims


def as_shape(owner: str, size: Sequence[Any]) -> tuple[int, ...]:
    """A shape given as integers or as one sequence: ``zeros(2, 3)`` or ``zeros((2, 3))``."""
    if (
        len(size) == 1
        and not isinstance(size[0], (int, np.integer))
        and hasattr(size[0], "__iter__")
    ):
        size = tuple(size[0])
    try:
        return tuple([operator.index(n) for n in size])
    except TypeError:
        raise TypeMismatchError(owner, f"sizes must be integers, got {tuple(size)!r}.") from None


def as_one(owner: str, name: str, given: tuple[Any, ...], named: Any) -> tuple[Any, ...]:
    """What :func:`as_shape` takes, from integers ``given`` one by one or all of them by name.

    Raises:
        TypeError: if both are there, or neither.
    """
    if named is None and not given:
        raise TypeMismatchError(owner, f"the argument {name} is missing.")
    if named is not None and given:
        raise TypeMismatchError(owner, f"{name} is given twice: {given} and {named!r}.")
    return given if named is None else (named,)


def fitting(owner: str, value: Any, d: dtype) -> Any:
    """The number ``value``, if an integer dtype ``d`` can hold it.

    Raises:
        RuntimeError: if it is out of range, infinite or NaN. As in PyTorch, a negative
            number may wrap around in an unsigned dtype.
    """
    if d.numpy.kind in "iu":
        limits = np.iinfo(d.numpy)
        lowest = limits.min or -limits.max
        if not lowest <= value <= limits.max:
            raise NumberRangeError(
                owner,
                f"{value} cannot be converted to {d} without overflow.",
                hint=f"{d} holds {limits.min} to {limits.max}.",
            )
    return value


def read_alias(owner: str, name: str, value: Any, alias: str, other: Any, default: Any) -> Any:
    """The value of an argument that has two names (``dim`` and ``axis``)."""
    if other is None:
        return value
    if value is not default and value != default:
        raise TypeMismatchError(
            owner, f"{name} and {alias} are the same argument: give one of them."
        )
    return other
