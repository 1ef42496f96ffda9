"""Making tensors from data, and changing their dtype: ``tensor``, ``to``, ``clone``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import dtypes
from ..autograd.derivatives import sum_to_shape
from ..autograd.function import Function
from ..backends import kernels
from ..devices import device
from ..dtypes import dtype, from_numpy_dtype, get_default_dtype, to_dtype
from ..errors import ArgumentError, DtypeError, InputError, ShapeError, TypeMismatchError
from ..hook import hooks, reading
from ..layouts import checked_format, contiguous_format, copy_in, lies_in, preserve_format
from ..layouts import memory_format as memory_format_class
from ..tensor import Tensor, wrap
from .operands import check_tensor, fitting

__all__ = [
    "as_tensor",
    "clone",
    "contiguous",
    "from_numpy",
    "is_floating_point",
    "is_tensor",
    "numel",
    "tensor",
    "to",
    "type_as",
]


def tensor(
    data: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor with a copy of ``data``.

    Args:
        data: a number, nested sequences of numbers, a NumPy array, or a Tensor.
        dtype: of the elements; by default that of an array or a tensor, else bool for
            booleans, int64 for integers, the default dtype for floats (float64 if one of them
            is NumPy's).
        device: only ``"cpu"``.
        requires_grad: record operations on it.

    Raises:
        ValueError: if nested sequences differ in length.
        TypeError: if an element is no number.
        RuntimeError: if ``requires_grad`` is set for a dtype that is not floating point.

    >>> nano.tensor([[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]])
    """
    if isinstance(data, Tensor):
        t = _copied(data, dtype, device)
    else:
        t = wrap(np.array(_as_array("tensor", data, dtype, device), order="C", copy=True))
    if requires_grad:
        t.requires_grad = True
    return t


def _copied(data: Tensor, dtype: Any, where: Any) -> Tensor:
    """A copy of a tensor in row-major order, without its history."""
    if where is not None:
        device(where)
    copy = Clone.apply(data.detach(), memory_format=contiguous_format)
    return copy if dtype is None else to(copy, dtype)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """``data`` as a tensor, sharing memory with a Tensor or an array of the right dtype.

    >>> a = np.zeros(2, np.float32)
    >>> nano.as_tensor(a)[0] = 5.0; a
    array([5., 0.], dtype=float32)
    """
    if isinstance(data, Tensor):
        return to(data, dtype) if dtype is not None else data
    return wrap(_as_array("as_tensor", data, dtype, device).view())


def from_numpy(array: NDArray) -> Tensor:
    """A tensor that shares the memory of a NumPy array.

    Raises:
        TypeError: if it is no array, or of a dtype that nano does not have.
        ValueError: if its elements do not lie a whole number of elements apart.
    """
    if not isinstance(array, np.ndarray):
        raise TypeMismatchError(
            "from_numpy",
            f"expected a NumPy array, got {type(array).__name__}.",
            hint="nano.tensor(...) takes lists and numbers.",
        )
    return wrap(_native("from_numpy", array).view())


def _native(owner: str, array: NDArray) -> NDArray:
    """The array with NumPy's own dtype object, which makes dtype comparisons an identity.

    Kernels count the way between elements in elements: columns of a structured array may lie
    otherwise.
    """
    d = from_numpy_dtype(array.dtype.newbyteorder("=")).numpy
    if any(step % d.itemsize for step in array.strides):
        raise InputError(
            owner,
            f"the array's strides {array.strides} are no multiples of the {d.itemsize} bytes "
            "of an element.",
            hint="Give a copy of it.",
        )
    if array.dtype is d:
        return array.view()
    return array.view(d) if array.dtype.isnative else array.astype(d)


def _as_array(owner: str, data: Any, d: Any, where: Any) -> NDArray:
    if where is not None:
        device(where)
    wanted = None if d is None else to_dtype(d)
    if isinstance(data, (np.ndarray, np.generic)):
        array = _native(owner, np.asarray(data))
    else:
        array = _from_python(owner, data)
        if wanted is not None and array.size and array.dtype.kind in "iuf":
            fitting(owner, array.min().item(), wanted)
            fitting(owner, array.max().item(), wanted)
        if wanted is None and array.dtype == np.float64 and not _holds_float64(data):
            wanted = get_default_dtype()
    if wanted is not None and array.dtype != wanted.numpy:
        array = _cast(array, wanted)
    return array


def _from_python(owner: str, data: Any) -> NDArray:
    """An array of nested sequences of numbers, arrays and one-element tensors."""
    if _first_is(data, Tensor):
        data = _without_tensors(data)
    try:
        array = np.asarray(data)
    except ValueError:
        raise InputError(
            owner,
            "nested sequences of one level must all have the same length.",
            facts=repr(data)[:80],
        ) from None
    if array.dtype == object or array.dtype == np.uint64 or array.dtype.kind not in "biufV":
        raise _no_numbers(owner, data)
    if array.size == 0 and not isinstance(data, np.ndarray):
        array = array.astype(np.float64)
    return _native(owner, array)


def _no_numbers(owner: str, data: Any) -> Exception:
    """The error for data of which no tensor can be made; PyTorch has several types of it."""
    facts = repr(data)[:60]
    first = data
    while isinstance(first, (list, tuple)) and first:
        first = first[0]
    if isinstance(first, int):
        if np.asarray(data).dtype.kind in "uO" and not _holds_more_than_integers(data):
            return InputError(owner, "an integer does not fit into int64.", facts=facts)
    elif isinstance(first, str) and first is not data:
        return InputError(owner, "elements must be numbers, got strings.", facts=facts)
    elif not isinstance(first, (str, bytes, float, complex)):
        return DtypeError(
            owner, f"elements must be numbers, got {type(first).__name__}.", facts=facts
        )
    return TypeMismatchError(
        owner, f"elements must be numbers, got {np.asarray(data).dtype}.", facts=facts
    )


def _holds_more_than_integers(data: Any) -> bool:
    """Whether some element of nested sequences is no integer."""
    if isinstance(data, (list, tuple)):
        return any(_holds_more_than_integers(x) for x in data)
    return not isinstance(data, (int, np.integer))


def _first_is(data: Any, kind: type) -> bool:
    """Whether the first element of nested sequences is a ``kind``; it stands for all."""
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return isinstance(data, kind)


def _holds_float64(data: Any) -> bool:
    """Whether nested sequences hold float64: an array or a NumPy number, not Python's floats."""
    if isinstance(data, (list, tuple)):
        # Long lists of numbers are what is usual: their types are found without a loop here.
        return not set(map(type, data)) <= _PYTHON and any(map(_holds_float64, data))
    return bool(getattr(data, "dtype", None) in (np.float64, dtypes.float64))


_PYTHON = {bool, int, float}


def _without_tensors(data: Any) -> Any:
    if isinstance(data, Tensor):
        if hooks:
            reading("tensor", data)
        return data._data
    return [_without_tensors(x) for x in data] if isinstance(data, (list, tuple)) else data


def _cast(array: NDArray, d: dtype) -> NDArray:
    """As in PyTorch: to an integer, the fraction is cut; out of range, any value may result."""
    return array.astype(d.numpy)


def numel(input: Tensor) -> int:
    """The number of elements.

    >>> nano.numel(nano.zeros(2, 3))
    6
    """
    return check_tensor("numel", input)._data.size


def is_floating_point(input: Tensor) -> bool:
    """Whether the dtype of ``input`` is a floating-point one."""
    return check_tensor("is_floating_point", input).is_floating_point()


def is_tensor(obj: Any) -> bool:
    """Whether ``obj`` is a Tensor."""
    return isinstance(obj, Tensor)


class To(Function):
    """x in another dtype; d/dx = 1, in the dtype of x."""

    formula = "to(x, dtype)"

    @staticmethod
    def forward(ctx, x, *, dtype):
        ctx.source = from_numpy_dtype(x.dtype)
        y = kernels.cast(x, dtype.numpy)
        if not dtype.is_floating_point:
            ctx.mark_non_differentiable(y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        return To.apply(grad_output, dtype=ctx.source)


class Clone(Function):
    """A copy of x; d/dx = 1."""

    formula = "x"

    @staticmethod
    def forward(ctx, x, *, memory_format=preserve_format):
        if memory_format is preserve_format:
            return x.copy(order="K")
        return copy_in("clone", memory_format, x)

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output


class Contiguous(Function):
    """A copy of x whose elements lie in another order in memory; d/dx = 1."""

    @staticmethod
    def forward(ctx, x, *, memory_format=contiguous_format):
        return copy_in("contiguous", memory_format, x)

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output


def to(
    input: Tensor,
    *args: Any,
    dtype: Any = None,
    device: Any = None,
    copy: bool = False,
    non_blocking: bool = False,
    memory_format: memory_format_class | None = preserve_format,
) -> Tensor:
    """``input`` in another dtype or memory format; itself if it has both already.

    Args:
        input: any tensor.
        args: a dtype, a device (only the CPU exists), or a tensor whose dtype is wanted.
        dtype: the dtype wanted.
        device: only ``"cpu"``.
        copy: make a copy in any case.
        memory_format: the order of the elements in memory wanted, such as
            ``nano.channels_last``; by default it stays.

    Raises:
        RuntimeError: if the format needs another number of dimensions.

    >>> nano.tensor([1.7, -1.7]).to(nano.int64)
    tensor([ 1, -1])
    >>> nano.zeros(2, 3, 4, 5).to(memory_format=nano.channels_last).stride()
    (60, 1, 15, 3)
    """
    for a in args:
        if isinstance(a, Tensor):
            dtype = a.dtype
        elif isinstance(a, (dtypes.dtype, type, np.dtype)):
            dtype = a
        elif isinstance(a, bool):
            copy = a
        elif isinstance(a, memory_format_class):
            raise TypeMismatchError(
                "to", f"{a} is not taken by position.", hint=f"Say memory_format={a}."
            )
        elif a is not None:
            device = a
    if device is not None:
        _check_device(device)
    wanted = input.dtype if dtype is None else to_dtype(dtype)
    if wanted.numpy != input._data.dtype:
        input = To.apply(input, dtype=wanted)
    elif copy:
        return clone(input, memory_format=memory_format)
    return _arranged("to", input, checked_format("to", memory_format, preserve_format))


def _arranged(owner: str, input: Tensor, memory_format: memory_format_class) -> Tensor:
    """``input`` itself if its elements lie in that order, else a copy in which they do."""
    if memory_format is preserve_format or lies_in(input._data, memory_format):
        return input
    return Contiguous.apply(input, memory_format=memory_format)


_check_device = device


def clone(input: Tensor, *, memory_format: memory_format_class | None = preserve_format) -> Tensor:
    """A copy, through which gradients flow.

    Args:
        input: any tensor.
        memory_format: the order of the copy's elements in memory; by default that of ``input``.

    >>> t = nano.ones(2); u = t.clone(); u[0] = 5.0; t
    tensor([1., 1.])
    """
    check_tensor("clone", input)
    if memory_format is preserve_format:
        return Clone.apply(input)
    order = checked_format("clone", memory_format, preserve_format)
    return Clone.apply(input, memory_format=order)


def contiguous(input: Tensor, *, memory_format: memory_format_class = contiguous_format) -> Tensor:
    """``input`` if its elements lie row by row without gaps, else such a copy.

    Args:
        input: any tensor.
        memory_format: another order than row by row, such as ``nano.channels_last``.

    Raises:
        RuntimeError: if the format needs another number of dimensions.

    >>> nano.zeros(2, 3, 4, 5).contiguous(memory_format=nano.channels_last).stride()
    (60, 1, 15, 3)
    """
    order = checked_format("contiguous", memory_format)
    if order is preserve_format and not input._data.flags.c_contiguous:
        raise ArgumentError("contiguous", "preserve memory format is unsupported: it keeps gaps.")
    return _arranged("contiguous", input, order)


def type_as(input: Tensor, other: Tensor) -> Tensor:
    """``input`` in the dtype of ``other``."""
    return to(input, other.dtype)


def cpu(input: Tensor, *, memory_format: memory_format_class | None = preserve_format) -> Tensor:
    """``input`` in main memory, where all of nano's tensors are.

    Args:
        input: any tensor.
        memory_format: the order of the elements in memory; by default as they lie.

    >>> nano.ones(2).cpu()
    tensor([1., 1.])
    """
    return to(input, "cpu", memory_format=memory_format)


def _converter(d: dtype) -> Any:
    def convert(
        input: Tensor, *, memory_format: memory_format_class | None = preserve_format
    ) -> Tensor:
        return to(input, d, memory_format=memory_format)

    convert.__doc__ = f"``input`` in {d}; itself if it is that already."
    return convert


#: The methods named after a dtype or device: ``t.float()``.
CONVERTERS = {
    "cpu": cpu,
    "float": _converter(dtypes.float32),
    "double": _converter(dtypes.float64),
    "half": _converter(dtypes.float16),
    "bfloat16": _converter(dtypes.bfloat16),
    "long": _converter(dtypes.int64),
    "int": _converter(dtypes.int32),
    "short": _converter(dtypes.int16),
    "byte": _converter(dtypes.uint8),
    "char": _converter(dtypes.int8),
    "bool": _converter(dtypes.bool_),
}


class Fill(Function):
    """Every element is ``value``; d/dx = 0."""

    @staticmethod
    def forward(ctx, x, *, value):
        if isinstance(value, np.ndarray):
            fitting("fill_", value.item(), from_numpy_dtype(x.dtype))
        return np.full_like(x, np.asarray(value).astype(x.dtype))

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output * 0.0


class CopyFrom(Function):
    """``source`` in the shape and dtype of x; d/dsource = 1, d/dx = 0."""

    @staticmethod
    def forward(ctx, x, source):
        ctx.dtype = from_numpy_dtype(source.dtype)
        try:
            return np.broadcast_to(source, x.shape).astype(x.dtype)
        except ValueError:
            raise ShapeError(
                "copy_", f"shape {source.shape} cannot be broadcast to {x.shape}."
            ) from None

    @staticmethod
    def backward(ctx, grad_output):
        edge = ctx._edges[1]
        if edge is None:
            return None, None
        return None, sum_to_shape(to(grad_output, ctx.dtype), edge[2])
