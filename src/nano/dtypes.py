"""The dtypes of tensors, and PyTorch's rules for mixing them.

A :class:`dtype` names the element type of a tensor; NumPy's dtype of the same
elements is its ``numpy`` attribute. NumPy has no bfloat16, so that one comes
from the package ml_dtypes.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from .errors import DtypeError, TypeMismatchError

__all__ = [
    "bfloat16",
    "bool_",
    "can_cast",
    "dtype",
    "float16",
    "float32",
    "float64",
    "from_numpy_dtype",
    "get_default_dtype",
    "int8",
    "int16",
    "int32",
    "int64",
    "promote_types",
    "set_default_dtype",
    "to_dtype",
    "to_numpy_dtype",
    "uint8",
]

_BOOLEAN, _INTEGER, _FLOATING = 0, 1, 2


class dtype:  # noqa: N801  (PyTorch's name)
    """The element type of a tensor.

    Attributes:
        name: its name, such as ``"float32"``.
        numpy: NumPy's dtype of the same elements.
        itemsize: bytes per element.
        is_floating_point: whether it can carry gradients.
        is_signed: whether it has negative numbers.

    >>> float32, float32.itemsize, float32.is_floating_point
    (nano.float32, 4, True)
    """

    __slots__ = ("_category", "is_floating_point", "is_signed", "itemsize", "name", "numpy")

    def __init__(self, name: str, numpy_dtype: Any, category: int) -> None:
        self.name = name
        self.numpy = np.dtype(numpy_dtype)
        self.itemsize = self.numpy.itemsize
        self.is_floating_point = category == _FLOATING
        self.is_signed = category == _FLOATING or (category == _INTEGER and name != "uint8")
        self._category = category

    def __repr__(self) -> str:
        return f"nano.{self.name}"

    def __reduce__(self) -> Any:
        return to_dtype, (self.name,)


float64 = dtype("float64", np.float64, _FLOATING)
float32 = dtype("float32", np.float32, _FLOATING)
float16 = dtype("float16", np.float16, _FLOATING)
bfloat16 = dtype("bfloat16", ml_dtypes.bfloat16, _FLOATING)
int64 = dtype("int64", np.int64, _INTEGER)
int32 = dtype("int32", np.int32, _INTEGER)
int16 = dtype("int16", np.int16, _INTEGER)
int8 = dtype("int8", np.int8, _INTEGER)
uint8 = dtype("uint8", np.uint8, _INTEGER)
bool_ = dtype("bool", np.bool_, _BOOLEAN)

_ALL = (float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8, bool_)
_BY_NAME = {d.name: d for d in _ALL} | {"float": float32, "double": float64, "half": float16}
_BY_NAME |= {"long": int64, "int": int32, "short": int16}
_BY_NUMPY = {d.numpy: d for d in _ALL}
_BY_PYTHON = {bool: bool_, int: int64, float: float64}

_default = float32


def get_default_dtype() -> dtype:
    """The dtype that new floating-point tensors get; float32 unless changed.

    >>> get_default_dtype()
    nano.float32
    """
    return _default


def set_default_dtype(d: Any) -> None:
    """Set the dtype that new floating-point tensors get.

    Args:
        d: a floating-point dtype.

    Raises:
        TypeError: if ``d`` is not floating point.
    """
    global _default
    d = to_dtype(d)
    if not d.is_floating_point:
        raise TypeMismatchError(
            "set_default_dtype", f"only floating-point dtypes can be the default, got {d}."
        )
    _default = d


def from_numpy_dtype(numpy_dtype: np.dtype) -> dtype:
    """nano's dtype for NumPy's.

    Raises:
        TypeError: if nano has no such dtype (complex numbers, strings, objects ...).
    """
    try:
        return _BY_NUMPY[numpy_dtype]
    except KeyError:
        names = ", ".join(d.name for d in _ALL)
        raise TypeMismatchError(
            "dtype", f"nano has no dtype for NumPy's {numpy_dtype}.", hint=f"It has {names}."
        ) from None


def to_dtype(d: Any) -> dtype:
    """A dtype from a dtype, a NumPy dtype, a name, or Python's bool, int, float."""
    if isinstance(d, dtype):
        return d
    if isinstance(d, str) and d in _BY_NAME:
        return _BY_NAME[d]
    try:
        if d in _BY_PYTHON:
            return _BY_PYTHON[d]
        if d is not None:
            return from_numpy_dtype(np.dtype(d))
    except TypeError as error:
        if isinstance(error, TypeMismatchError):
            raise
    raise TypeMismatchError("dtype", f"expected a dtype such as nano.float32, got {d!r}.")


def to_numpy_dtype(d: Any) -> np.dtype:
    """NumPy's dtype of anything that :func:`to_dtype` takes."""
    return to_dtype(d).numpy


# Rows and columns in the order of this tuple; PyTorch's table for the dtypes that nano has.
_ORDER = (uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64, bool_)


def _promote(a: dtype, b: dtype) -> dtype:
    if a is b:
        return a
    if a._category != b._category:
        return a if a._category > b._category else b
    if a._category == _FLOATING:
        # Neither 16-bit format holds the other.
        return float32 if {a, b} == {float16, bfloat16} else max(a, b, key=lambda d: d.itemsize)
    if {a, b} == {uint8, int8}:
        return int16
    return max(a, b, key=lambda d: d.itemsize)


_TABLE = {(a, b): _promote(a, b) for a in _ALL for b in _ALL}


def promote_types(type1: Any, type2: Any) -> dtype:
    """The smallest dtype that holds both, by PyTorch's rules.

    >>> promote_types(int32, float16), promote_types(uint8, int8)
    (nano.float16, nano.int16)
    """
    return _TABLE[to_dtype(type1), to_dtype(type2)]


def can_cast(from_: Any, to: Any) -> bool:
    """Whether an in-place operator may write ``from_`` into ``to``: never down a category.

    >>> can_cast(float64, float16), can_cast(float16, int64)
    (True, False)
    """
    return to_dtype(from_)._category <= to_dtype(to)._category


def _combine(higher: dtype | None, lower: dtype | None) -> dtype | None:
    """One step of the category rule: ``lower`` counts only if its category is higher."""
    if higher is None or lower is None:
        return higher or lower
    return higher if higher._category >= lower._category else _TABLE[higher, lower]


def combine_dtypes(operands: list[tuple[dtype, int]], scalars: list[bool | int | float]) -> dtype:
    """The dtype of an operator's result.

    Tensors with dimensions decide; a 0-d tensor, and after it a Python number,
    only raises the category (bool, integer, floating point), never the width.

    Args:
        operands: dtype and number of dimensions of each tensor.
        scalars: the Python numbers.
    """
    wide: dtype | None = None
    zero_dim: dtype | None = None
    for d, ndim in operands:
        if ndim:
            wide = d if wide is None else _TABLE[wide, d]
        else:
            zero_dim = d if zero_dim is None else _TABLE[zero_dim, d]
    number: dtype | None = None
    for s in scalars:
        d = _default if isinstance(s, float) else to_dtype(type(s))
        number = d if number is None else _TABLE[number, d]
    result = _combine(wide, _combine(zero_dim, number))
    if result is None:
        raise DtypeError("result_type", "expected at least one tensor or number.")
    return result
