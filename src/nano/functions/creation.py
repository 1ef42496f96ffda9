"""Tensors out of nothing: constants and ranges. Random ones are in drawing.py."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..devices import device as device_class
from ..dtypes import dtype as dtype_class
from ..dtypes import get_default_dtype, int64, to_dtype
from ..errors import ShapeError, TypeMismatchError
from ..layouts import checked_format, contiguous_format, empty_beside, empty_in, preserve_format
from ..layouts import memory_format as memory_format_class
from ..tensor import Tensor, wrap
from .conversion import tensor
from .operands import as_one, as_shape, check_tensor, fitting, is_number

__all__ = [
    "arange",
    "empty",
    "empty_like",
    "eye",
    "full",
    "full_like",
    "linspace",
    "ones",
    "ones_like",
    "zeros",
    "zeros_like",
]


def checked_shape(owner: str, size: Any) -> tuple[int, ...]:
    """A shape given as integers or as one sequence.

    Raises:
        TypeError: if a size is no integer.
        RuntimeError: if a size is negative.
    """
    shape = as_shape(owner, size)
    for n in shape:
        if n < 0:
            raise ShapeError(owner, f"sizes cannot be negative, got {shape}.")
    return shape


def checked_dtype(dtype: Any, device: Any) -> dtype_class:
    """The dtype asked for, or the default one; refuses devices other than the CPU."""
    if device is not None:
        device_class(device)
    return get_default_dtype() if dtype is None else to_dtype(dtype)


def finish(array: NDArray, requires_grad: bool) -> Tensor:
    """A tensor around a fresh array."""
    t = wrap(array)
    if requires_grad:
        t.requires_grad = True
    return t


def zeros(
    *sizes: Any,
    size: Any = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of zeros.

    Args:
        sizes, size: the shape, as integers, as one sequence or by name.
        dtype: the default dtype if None.
        device: only ``"cpu"``.
        requires_grad: record operations on it.

    Raises:
        TypeError: if there is no size, or one is no integer.
        RuntimeError: if a size is negative.

    >>> nano.zeros(2, 3)
    tensor([[0., 0., 0.],
            [0., 0., 0.]])
    """
    shape = checked_shape("zeros", as_one("zeros", "size", sizes, size))
    d = checked_dtype(dtype, device)
    return finish(np.zeros(shape, d.numpy), requires_grad)


def ones(
    *sizes: Any,
    size: Any = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of ones; arguments as for :func:`zeros`.

    >>> nano.ones(2, dtype=nano.int64)
    tensor([1, 1])
    """
    shape = checked_shape("ones", as_one("ones", "size", sizes, size))
    d = checked_dtype(dtype, device)
    return finish(np.ones(shape, d.numpy), requires_grad)


def empty(
    *sizes: Any,
    size: Any = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: memory_format_class | None = contiguous_format,
) -> Tensor:
    """A tensor whose elements are whatever the memory held.

    Args: as for :func:`zeros`; ``memory_format`` is the order of the elements in memory.

    >>> nano.empty(2, 3).shape
    (2, 3)
    """
    shape = checked_shape("empty", as_one("empty", "size", sizes, size))
    d = checked_dtype(dtype, device)
    order = checked_format("empty", memory_format, contiguous_format)
    return finish(empty_in("empty", order, shape, d.numpy), requires_grad)


def full(
    size: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor with ``fill_value`` everywhere.

    Args:
        size: the shape, a sequence of integers.
        fill_value: a number or a tensor of one element; decides the dtype if none is given.
        dtype: by default bool for a boolean, int64 for an integer, else the default dtype.

    >>> nano.full((2, 2), 7)
    tensor([[7, 7],
            [7, 7]])
    """
    value = _number("full", "fill_value", fill_value)
    if dtype is None and not isinstance(value, float):
        dtype = type(value)
    d = checked_dtype(dtype, device)
    array = np.empty(checked_shape("full", (size,)), d.numpy)
    return finish(_filled("full", array, value, d), requires_grad)


def _filled(owner: str, array: NDArray, value: Any, d: dtype_class) -> NDArray:
    fitting(owner, value, d)
    array[...] = np.asarray(value).astype(d.numpy)
    return array


def _number(owner: str, name: str, value: Any) -> Any:
    """A Python number from a number or a tensor of one element."""
    if isinstance(value, Tensor):
        return value.item()
    if isinstance(value, (bool, int, float)):
        return value
    if is_number(value):
        return value.item()
    raise TypeMismatchError(owner, f"{name} must be a number, got {type(value).__name__}.")


def eye(
    n: int,
    m: int | None = None,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The n x m matrix (n x n by default) with ones on the diagonal.

    >>> nano.eye(2, 3)
    tensor([[1., 0., 0.],
            [0., 1., 0.]])
    """
    d = checked_dtype(dtype, device)
    n, m = checked_shape("eye", (n, n if m is None else m))
    return finish(np.eye(n, m, dtype=d.numpy), requires_grad)


def arange(
    start: Any = 0,
    end: Any = None,
    step: Any = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``start, start + step, ...`` up to, but without, ``end``.

    Args:
        start: the first value; ``arange(n)`` counts from 0 to n - 1.
        end: where to stop.
        step: may be negative or a fraction.
        dtype: int64 if all of them are integers, else the default dtype.

    Returns:
        1-d tensor of ceil((end - start) / step) elements.

    Raises:
        RuntimeError: if ``step`` is 0 or leads away from ``end``.

    >>> nano.arange(3), nano.arange(1, 2, 0.5)
    (tensor([0, 1, 2]), tensor([1.0000, 1.5000]))
    """
    if end is None:
        start, end = 0, start
    start, end, step = (
        _number("arange", name, x) for name, x in (("start", start), ("end", end), ("step", step))
    )
    if dtype is None and not any(isinstance(x, float) for x in (start, end, step)):
        dtype = int64
    d = checked_dtype(dtype, device)
    if d is int64:
        start, end, step = int(start), int(end), int(step)
    if step == 0:
        raise ShapeError("arange", "step must not be 0.")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise ShapeError("arange", f"the range {start} to {end} is not finite.")
    if (end - start) * step < 0:
        raise ShapeError("arange", f"a step of {step} does not lead from {start} to {end}.")
    count = -((start - end) // step) if d is int64 else math.ceil((end - start) / step)
    if d.numpy.kind in "iu":
        start, step = int(start), int(step)
    # float64 holds start + i * step to more digits than any narrower dtype can show.
    wide = np.int64 if d.numpy.kind in "iu" else np.float64
    values = np.arange(count, dtype=wide) * step + start
    return finish(values.astype(d.numpy, copy=False), requires_grad)


def linspace(
    start: Any,
    end: Any,
    steps: int,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``steps`` values at equal distances, from ``start`` to ``end``, both included.

    >>> nano.linspace(0, 1, 5)
    tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000])
    """
    start, end = _number("linspace", "start", start), _number("linspace", "end", end)
    d = checked_dtype(dtype, device)
    try:
        (steps,) = checked_shape("linspace", (operator.index(steps),))
    except TypeError:
        raise TypeMismatchError(
            "linspace", f"steps must be an integer, got {type(steps).__name__}."
        ) from None
    if d.numpy.kind in "iu":
        start, end = int(start), int(end)
    # Both halves are counted from their own end, so that both ends are exact.
    step = (end - start) / (steps - 1) if steps > 1 else 0.0
    i = np.arange(steps)
    values = np.where(i < steps // 2, start + step * i, end - step * (steps - 1 - i))
    if steps == 1:
        values = np.array([start])
    return finish(values.astype(d.numpy), requires_grad)


# Like another tensor --------------------------------------------------------------------


def like(owner: str, input: Any, dtype: Any, device: Any) -> tuple[tuple[int, ...], dtype_class]:
    """The shape of ``input``, and the dtype asked for or else its own."""
    check_tensor(owner, input)
    return input._data.shape, checked_dtype(input.dtype if dtype is None else dtype, device)


def array_like(
    owner: str, input: Tensor, d: dtype_class, memory_format: memory_format_class | None
) -> NDArray:
    """A fresh array for a tensor like ``input``, not filled.

    Raises:
        TypeError: if ``memory_format`` is none.
        RuntimeError: if the format needs another number of dimensions.
    """
    order = checked_format(owner, memory_format, preserve_format)
    return empty_beside(owner, order, input._data, d.numpy)


def zeros_like(
    input: Tensor,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: memory_format_class | None = preserve_format,
) -> Tensor:
    """Zeros in the shape and, unless given, the dtype and the memory format of ``input``.

    >>> nano.zeros_like(nano.tensor([1, 2]))
    tensor([0, 0])
    """
    _, d = like("zeros_like", input, dtype, device)
    if memory_format is preserve_format:
        # The system's fresh pages are zeros already: nothing needs to be written.
        return finish(np.zeros_like(input._data, d.numpy), requires_grad)
    array = array_like("zeros_like", input, d, memory_format)
    array[...] = 0
    return finish(array, requires_grad)


def ones_like(
    input: Tensor,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: memory_format_class | None = preserve_format,
) -> Tensor:
    """Ones in the shape and, unless given, the dtype and the memory format of ``input``.

    >>> nano.ones_like(nano.tensor([1.5, 2.0]))
    tensor([1., 1.])
    """
    _, d = like("ones_like", input, dtype, device)
    array = array_like("ones_like", input, d, memory_format)
    array[...] = 1
    return finish(array, requires_grad)


def empty_like(
    input: Tensor,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: memory_format_class | None = preserve_format,
) -> Tensor:
    """:func:`empty` in the shape and, unless given, the dtype and memory format of ``input``."""
    _, d = like("empty_like", input, dtype, device)
    return finish(array_like("empty_like", input, d, memory_format), requires_grad)


def full_like(
    input: Tensor,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: memory_format_class | None = preserve_format,
) -> Tensor:
    """``fill_value`` everywhere, in the shape, dtype and memory format of ``input`` unless given.

    >>> nano.full_like(nano.tensor([1.5, 2.0]), 3)
    tensor([3., 3.])
    """
    _, d = like("full_like", input, dtype, device)
    value = _number("full_like", "fill_value", fill_value)
    array = array_like("full_like", input, d, memory_format)
    return finish(_filled("full_like", array, value, d), requires_grad)


def _new_zeros(self: Tensor, *size: Any, dtype: Any = None, **options: Any) -> Tensor:
    """:func:`nano.zeros` of the given shape, in this tensor's dtype unless given."""
    return zeros(*size, dtype=dtype or self.dtype, **options)


def _new_ones(self: Tensor, *size: Any, dtype: Any = None, **options: Any) -> Tensor:
    """:func:`nano.ones` of the given shape, in this tensor's dtype unless given."""
    return ones(*size, dtype=dtype or self.dtype, **options)


def _new_empty(self: Tensor, *size: Any, dtype: Any = None, **options: Any) -> Tensor:
    """:func:`nano.empty` of the given shape, in this tensor's dtype unless given."""
    return empty(*size, dtype=dtype or self.dtype, **options)


def _new_full(
    self: Tensor, size: Any, fill_value: Any, *, dtype: Any = None, **options: Any
) -> Tensor:
    """:func:`nano.full` of the given shape, in this tensor's dtype unless given."""
    return full(size, fill_value, dtype=dtype or self.dtype, **options)


def _new_tensor(self: Tensor, data: Any, *, dtype: Any = None, **options: Any) -> Tensor:
    """:func:`nano.tensor` of ``data``, in this tensor's dtype unless given."""
    return tensor(data, dtype=dtype or self.dtype, **options)


#: Methods that make another tensor of this one's dtype.
NEW_METHODS = {
    "new_zeros": _new_zeros,
    "new_ones": _new_ones,
    "new_empty": _new_empty,
    "new_full": _new_full,
    "new_tensor": _new_tensor,
}
