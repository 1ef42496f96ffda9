"""Views of a part of the elements: slices, diagonals, any stride.

:class:`Slice` is the base of indexing (indexing.py) and of splitting (joining.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..autograd.function import Function
from ..autograd.views import AddFlat, flat_index
from ..backends import kernels
from ..errors import DimensionError, IndexingError, ShapeError
from ..tensor import Tensor
from .movement import reshape
from .operands import as_shape, check_tensor, normal_dim

__all__ = ["as_strided", "diagonal", "narrow", "select", "shrink"]


class Slice(Function):
    """x[key] for integers, slices, None and ``...``: a view. The derivative fills in zeros."""

    is_view = True

    @staticmethod
    def forward(ctx, x, *, key):
        ctx.key, ctx.shape = key, x.shape
        return x[key]

    @staticmethod
    def backward(ctx, grad_output):
        return PutSlice.apply(grad_output, key=ctx.key, shape=ctx.shape)


class PutSlice(Function):
    """Zeros of ``shape`` with g at ``key``; linear in g."""

    @staticmethod
    def forward(ctx, grad_output, *, key, shape):
        ctx.key = key
        return kernels.put_slice(shape, key, grad_output)

    @staticmethod
    def backward(ctx, grad_output):
        return Slice.apply(grad_output, key=ctx.key)


def narrow(input: Tensor, dim: int, start: Any, length: int) -> Tensor:
    """The part of ``input`` from ``start``, ``length`` long, along ``dim``; a view.

    Raises:
        IndexError: if ``start`` lies outside.
        RuntimeError: if the part does not fit.

    >>> nano.narrow(nano.tensor([1, 2, 3, 4]), 0, 1, 2)
    tensor([2, 3])
    """
    shape = check_tensor("narrow", input)._data.shape
    if not shape:
        raise ShapeError("narrow", "a 0-d tensor has no parts.")
    d = normal_dim("narrow", dim, len(shape))
    start, n = int(start), shape[d]
    if not -n <= start <= n:
        raise IndexingError("narrow", f"start {start} is out of range for a dimension of size {n}.")
    start += n if start < 0 else 0
    if length < 0 or start + length > n:
        raise ShapeError(
            "narrow",
            f"start {start} and length {length} exceed the size {n} of dim {dim}.",
            facts=f"input {shape}",
        )
    return Slice.apply(input, key=(*([slice(None)] * d), slice(start, start + length)))


def select(input: Tensor, dim: int, index: Any) -> Tensor:
    """The slice of ``input`` at ``index`` along ``dim``, without that dimension; a view.

    Raises:
        IndexError: if the index lies outside.

    >>> nano.select(nano.tensor([[1, 2], [3, 4]]), 1, 0)
    tensor([1, 3])
    """
    shape = check_tensor("select", input)._data.shape
    if not shape:
        raise IndexingError("select", "a 0-d tensor has no dimension to select from.")
    d = normal_dim("select", dim, len(shape))
    index, n = int(index), shape[d]
    if not -n <= index < n:
        raise IndexingError(
            "select", f"index {index} is out of range for dimension {d} of shape {shape}."
        )
    return Slice.apply(input, key=(*([slice(None)] * d), index, ...))


def shrink(input: Tensor, bounds: Sequence[tuple[int, int] | None]) -> Tensor:
    """``input`` cut to ``start <= i < stop`` in each dimension; a view. nano's own.

    It takes off what :func:`nano.pad` puts on.

    Args:
        input: any tensor.
        bounds: for each dimension ``(start, stop)``, or None to leave it whole.

    Raises:
        RuntimeError: if there are not as many bounds as dimensions.
        IndexError: if bounds lie outside ``0 <= start <= stop <= size``.

    >>> nano.shrink(nano.tensor([[1, 2, 3], [4, 5, 6]]), ((0, 2), (1, 3)))
    tensor([[2, 3],
            [5, 6]])
    """
    shape = check_tensor("shrink", input)._data.shape
    if len(bounds) != len(shape):
        raise ShapeError(
            "shrink",
            f"{len(bounds)} bounds given for {len(shape)} dimensions.",
            facts=f"input {shape} · bounds {tuple(bounds)}",
        )
    key = []
    for d, (bound, n) in enumerate(zip(bounds, shape, strict=True)):
        start, stop = (0, n) if bound is None else as_shape("shrink", bound)
        if not 0 <= start <= stop <= n:
            raise IndexingError(
                "shrink", f"bounds ({start}, {stop}) lie outside dimension {d} of shape {shape}."
            )
        key.append(slice(start, stop))
    return Slice.apply(input, key=(*key, ...))


class Diagonal(Function):
    """The elements x[i, i + offset]; the derivative puts them back among zeros."""

    is_view = True

    @staticmethod
    def forward(ctx, x, *, offset, dim1, dim2):
        ctx.place, ctx.shape = (offset, dim1, dim2), x.shape
        y = x.diagonal(offset, dim1, dim2)
        if x.flags.writeable:  # NumPy's diagonal is read-only
            y.flags.writeable = True
        return y

    @staticmethod
    def backward(ctx, grad_output):
        offset, dim1, dim2 = ctx.place
        return PutDiagonal.apply(grad_output, shape=ctx.shape, offset=offset, dim1=dim1, dim2=dim2)


class PutDiagonal(Function):
    """Zeros of ``shape`` with g on a diagonal; linear in g."""

    @staticmethod
    def forward(ctx, grad_output, *, shape, offset, dim1, dim2):
        ctx.place = offset, dim1, dim2
        return kernels.put_diagonal(shape, grad_output, offset, dim1, dim2)

    @staticmethod
    def backward(ctx, grad_output):
        offset, dim1, dim2 = ctx.place
        return Diagonal.apply(grad_output, offset=offset, dim1=dim1, dim2=dim2)


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal over two dimensions, as the last dimension of the result; a view.

    Args:
        input: two or more dimensions.
        offset: above (positive) or below (negative) the main diagonal.
        dim1, dim2: the dimensions of the matrices.

    Raises:
        IndexError: if there is no such dimension.
        RuntimeError: if ``dim1`` and ``dim2`` are the same.

    >>> nano.diagonal(nano.tensor([[1, 2], [3, 4]]))
    tensor([1, 4])
    """
    ndim = check_tensor("diagonal", input)._data.ndim
    if ndim < 2:
        raise DimensionError("diagonal", f"expected 2 or more dimensions, got {ndim}.")
    d1, d2 = normal_dim("diagonal", dim1, ndim), normal_dim("diagonal", dim2, ndim)
    if d1 == d2:
        raise ShapeError("diagonal", f"dim1 and dim2 are the same dimension, {d1}.")
    return Diagonal.apply(input, offset=int(offset), dim1=d1, dim2=d2)


# Memory ----------------------------------------------------------------------------------


class AsStrided(Function):
    """y[i, j, ...] = memory[offset + i stride_0 + j stride_1 + ...]; the derivative adds up."""

    is_view = True

    @staticmethod
    def forward(ctx, x, *, size, stride, offset):
        steps = tuple([s * x.itemsize for s in stride])
        _check_reach(x, size, steps, offset)
        y = _at_address(x, size, steps, x.__array_interface__["data"][0] + offset)
        if ctx.needs_input_grad[0]:
            ctx.shape = x.shape
            # What lies in the memory but not in x is counted behind the last element.
            index = flat_index(y, x, fill=x.size)
            ctx.index = index
        return y

    @staticmethod
    def backward(ctx, grad_output):
        size = math.prod(ctx.shape)
        flat = AddFlat.apply(grad_output, index=ctx.index, shape=(size + 1,))
        return reshape(narrow(flat, 0, 0, size), ctx.shape)


def _check_reach(x: NDArray, shape: Any, strides: Any, offset: int) -> None:
    """
    Raises:
        RuntimeError: if a view that starts ``offset`` bytes behind ``x`` leaves its memory.
    """
    owner = x
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    low, high = np.lib.array_utils.byte_bounds(owner)
    first = x.__array_interface__["data"][0] + offset
    last = first + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + x.itemsize
    if math.prod(shape) and not low <= first <= last <= high:
        raise ShapeError(
            "as_strided",
            "the result would reach beyond the memory of the input.",
            facts=f"size {shape} · bytes {first - low} to {last - low} of {high - low}",
        )


class _Memory:
    """An address that NumPy can make an array of; keeps the array that owns it alive."""

    def __init__(self, owner: NDArray, interface: dict[str, Any]) -> None:
        self.owner = owner
        self.__array_interface__ = interface


def _at_address(x: NDArray, shape: Any, strides: Any, start: int) -> NDArray:
    interface = dict(x.__array_interface__)
    interface |= {"shape": shape, "strides": strides}
    interface["data"] = (start, not x.flags.writeable)
    y = np.asarray(_Memory(x, interface))
    return y if y.dtype == x.dtype else y.view(x.dtype)


def as_strided(
    input: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    """A view of the memory that ``input`` lies in, with any size and stride.

    Args:
        input: any tensor.
        size: the shape of the result.
        stride: for each dimension, the step in memory, in elements.
        storage_offset: where the first element lies, counted from the start of the memory
            (that of the tensor of which ``input`` is a view); by default where ``input``
            starts.

    Raises:
        RuntimeError: if the result would reach beyond the memory, or a stride is negative.

    The gradient adds up where elements are shown more than once. What ``input`` itself does
    not show gets none, as in PyTorch.

    >>> nano.as_strided(nano.tensor([1, 2, 3, 4]), (3, 2), (1, 1))
    tensor([[1, 2],
            [2, 3],
            [3, 4]])
    """
    x = check_tensor("as_strided", input)._data
    size, stride = as_shape("as_strided", (size,)), as_shape("as_strided", (stride,))
    if len(size) != len(stride):
        raise ShapeError("as_strided", f"size {size} and stride {stride} differ in length.")
    if min((*size, *stride, 0)) < 0 or (storage_offset or 0) < 0:
        raise ShapeError(
            "as_strided",
            "sizes, strides and storage_offset must not be negative.",
            facts=f"size {size} · stride {stride} · storage_offset {storage_offset}",
        )
    memory = x if input._view is None else input._view.base._data
    low, high = np.lib.array_utils.byte_bounds(memory)
    start = x.__array_interface__["data"][0]
    if storage_offset is not None:
        start = low + storage_offset * x.itemsize
    reach = sum((n - 1) * s for n, s in zip(size, stride, strict=True)) + 1
    if math.prod(size) and start + reach * x.itemsize > high:
        raise ShapeError(
            "as_strided",
            f"the last element would lie beyond the memory of {(high - low) // x.itemsize} "
            "elements.",
            facts=f"size {size} · stride {stride} · storage_offset {(start - low) // x.itemsize}",
        )
    if memory.size * memory.itemsize != high - low:
        raise ShapeError("as_strided", "the memory of the tensor has gaps: clone() it first.")
    # Counted from x, for another run has other addresses.
    offset = start - x.__array_interface__["data"][0]
    return AsStrided.apply(input, size=size, stride=stride, offset=offset)
