"""Views: the same elements under another shape or order, without a copy where possible.

A view shares memory, version and history with the tensor that it shows: writing
into one changes the other (autograd/views.py). Views of a part of the elements
are in parts.py; what copies elements to other places (pad, flip, roll ...) is in
rearrange.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided as _stride

from .. import dtypes
from ..autograd.derivatives import sum_to_shape
from ..autograd.function import Function
from ..dtypes import to_numpy_dtype
from ..errors import ShapeError
from ..layouts import channels_last, lies_in
from ..tensor import Tensor
from .operands import as_dims, as_one, as_shape, check_tensor, normal_dim

__all__ = [
    "adjoint",
    "broadcast_to",
    "expand",
    "expand_as",
    "flatten",
    "moveaxis",
    "movedim",
    "permute",
    "reshape",
    "reshape_as",
    "squeeze",
    "swapaxes",
    "swapdims",
    "t",
    "transpose",
    "unflatten",
    "unsqueeze",
    "view",
    "view_as",
]

# Order of the dimensions -----------------------------------------------------------------


class Transpose(Function):
    """Two dimensions swapped; the derivative swaps them back."""

    is_view = True

    @staticmethod
    def forward(ctx, x, *, dim0, dim1):
        ctx.dims = dim0, dim1
        return x.swapaxes(dim0, dim1)

    @staticmethod
    def backward(ctx, grad_output):
        dim0, dim1 = ctx.dims
        return Transpose.apply(grad_output, dim0=dim0, dim1=dim1)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """``input`` with two dimensions swapped; a view.

    Raises:
        IndexError: if there is no such dimension.

    >>> nano.transpose(nano.tensor([[1, 2, 3], [4, 5, 6]]), 0, 1)
    tensor([[1, 4],
            [2, 5],
            [3, 6]])
    """
    ndim = check_tensor("transpose", input)._data.ndim
    dim0, dim1 = normal_dim("transpose", dim0, ndim), normal_dim("transpose", dim1, ndim)
    if not ndim:
        return Reshape.apply(input, shape=())
    return Transpose.apply(input, dim0=dim0, dim1=dim1)


swapaxes = swapdims = transpose


class Permute(Function):
    """The dimensions in another order; the derivative puts them back."""

    is_view = True

    @staticmethod
    def forward(ctx, x, *, dims):
        ctx.dims = dims
        return x.transpose(dims)

    @staticmethod
    def backward(ctx, grad_output):
        inverse = [0] * len(ctx.dims)
        for place, dim in enumerate(ctx.dims):
            inverse[dim] = place
        return Permute.apply(grad_output, dims=tuple(inverse))


def permute(input: Tensor, *order: Any, dims: Any = None) -> Tensor:
    """``input`` with its dimensions in the order ``dims``; a view.

    Args:
        input: any tensor.
        order, dims: every dimension once, as integers, as one tuple or by name.

    Raises:
        RuntimeError: if a dimension is missing or named twice.
        IndexError: if there is no such dimension.

    >>> nano.permute(nano.zeros(2, 3, 5), (2, 0, -2)).shape
    (5, 2, 3)
    """
    if dims is not None:
        order = as_one("permute", "dims", order, dims)
    order = as_shape("permute", order)
    ndim = check_tensor("permute", input)._data.ndim
    if len(order) != ndim:
        raise ShapeError(
            "permute", f"dims {order} name {len(order)} dimensions, but the tensor has {ndim}."
        )
    return Permute.apply(input, dims=as_dims("permute", order, ndim))


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """``input`` with the dimensions ``source`` moved to the places ``destination``; a view.

    Raises:
        IndexError: if there is no such dimension.
        RuntimeError: if one is named twice, or the two differ in length.

    >>> nano.movedim(nano.zeros(2, 3, 5), 0, -1).shape
    (3, 5, 2)
    """
    ndim = check_tensor("movedim", input)._data.ndim
    source = as_dims("movedim", source, ndim)
    destination = as_dims("movedim", destination, ndim)
    if len(source) != len(destination):
        raise ShapeError(
            "movedim", f"source {source} and destination {destination} differ in length."
        )
    rest = [d for d in range(ndim) if d not in source]
    order = [-1] * ndim
    for place, dim in zip(destination, source, strict=True):
        order[place] = dim
    return Permute.apply(input, dims=tuple([d if d >= 0 else rest.pop(0) for d in order]))


moveaxis = movedim


def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; a vector or a 0-d tensor as it is.

    Raises:
        RuntimeError: for more than two dimensions.

    >>> nano.t(nano.tensor([[1, 2], [3, 4]]))
    tensor([[1, 3],
            [2, 4]])
    """
    ndim = check_tensor("t", input)._data.ndim
    if ndim > 2:
        raise ShapeError(
            "t",
            f"expected at most 2 dimensions, got {ndim}.",
            facts=f"input {input.shape}",
            hint="Use transpose(dim0, dim1) or mT.",
        )
    return Permute.apply(input, dims=tuple(range(ndim))[::-1])


def reversed_dims(input: Tensor) -> Tensor:
    """All dimensions in reverse order: what ``Tensor.T`` gives."""
    return Permute.apply(input, dims=tuple(range(input._data.ndim))[::-1])


def mT(input: Tensor) -> Tensor:  # noqa: N802  (PyTorch's name)
    """The last two dimensions swapped: the transpose of each matrix in a batch.

    Raises:
        RuntimeError: for less than two dimensions.
    """
    ndim = check_tensor("mT", input)._data.ndim
    if ndim < 2:
        raise ShapeError("mT", f"expected 2 or more dimensions, got {ndim}.")
    return Transpose.apply(input, dim0=ndim - 2, dim1=ndim - 1)


adjoint = mT

# Shape -----------------------------------------------------------------------------------


class Reshape(Function):
    """The elements, in row-major order, under another shape; a view where strides allow it."""

    is_view = True

    @staticmethod
    def forward(ctx, x, *, shape):
        ctx.shape = x.shape
        return x.reshape(shape)

    @staticmethod
    def backward(ctx, grad_output):
        return Reshape.apply(grad_output, shape=ctx.shape)


class Squeeze(Reshape):
    """Dimensions of size 1 left out."""


class Unsqueeze(Reshape):
    """A dimension of size 1 put in."""


class ViewAs(Reshape):
    """Another shape without a copy, but of channels-last memory; see :func:`view`."""

    @staticmethod
    def forward(ctx, x, *, shape):
        y = x.reshape(shape)
        if y.size and not np.may_share_memory(x, y) and not lies_in(x, channels_last):
            raise ShapeError(
                "view",
                f"shape {y.shape} would need a copy: the elements are not in row-major order.",
                facts=f"input {x.shape} · stride {tuple(s // x.itemsize for s in x.strides)}",
                hint="Use reshape(...), which copies if it must.",
            )
        ctx.shape = x.shape
        return y

    @staticmethod
    def backward(ctx, grad_output):
        return Reshape.apply(grad_output, shape=ctx.shape)


def reshape(input: Tensor, *sizes: Any, shape: Any = None) -> Tensor:
    """The elements in row-major order under another shape; a view if possible, else a copy.

    Args:
        input: any tensor.
        sizes, shape: as integers, as one tuple or by name. One size may be -1: it
            follows from the others.

    Raises:
        TypeError: if there is no shape.
        RuntimeError: if the number of elements does not fit.

    >>> nano.reshape(nano.tensor([1, 2, 3, 4]), (2, -1))
    tensor([[1, 2],
            [3, 4]])
    """
    if shape is not None or not sizes:
        sizes = as_one("reshape", "shape", sizes, shape)
    return _reshape("reshape", Reshape, input, as_shape("reshape", sizes))


def _reshape(owner: str, function: type[Reshape], input: Tensor, shape: tuple[int, ...]) -> Tensor:
    check_tensor(owner, input)
    if shape and min(shape) < -1:
        raise ShapeError(owner, f"shape {shape} has a negative size.")
    try:
        return function.apply(input, shape=shape)
    except ValueError:
        unknown = shape.count(-1)
        raise ShapeError(
            owner,
            "only one size may be -1."
            if unknown > 1
            else f"{input.numel()} elements do not fit into shape {shape}.",
            facts=f"input {input.shape} · shape {shape}",
        ) from None


class ViewDtype(Function):
    """The same bytes read as another dtype; no derivative is taken."""

    differentiable = False
    is_view = True

    @staticmethod
    def forward(ctx, x, *, dtype):
        return x.view(dtype)


def view(input: Tensor, *shape: Any, size: Any = None, dtype: Any = None) -> Tensor:
    """The elements under another shape, without a copy.

    There is one exception. Convolutions and their like leave channels-last memory here, also
    where PyTorch would not, so that ``x.view(x.size(0), -1)`` would fail after them. Of a
    4-d tensor in ``nano.channels_last`` memory, a shape that no view can have is therefore
    given as a copy, through which gradients flow: writing into it does not change ``input``.

    Args:
        input: any tensor.
        shape, size: as integers, as one tuple or by name; one size may be -1. Or a dtype:
            the same bytes are then read as that dtype.
        dtype: such a dtype, by name.

    Raises:
        RuntimeError: if the number of elements does not fit, or a copy would be needed
            of memory that is not channels-last.

    >>> t = nano.zeros(2, 2); t.view(4)[0] = 1.0; t
    tensor([[1., 0.],
            [0., 0.]])
    """
    if size is not None or dtype is not None or not shape:
        shape = as_one("view", "size", shape, dtype if size is None else size)
    if len(shape) == 1 and isinstance(shape[0], (dtypes.dtype, np.dtype)):
        try:
            return ViewDtype.apply(input, dtype=to_numpy_dtype(shape[0]))
        except ValueError as error:
            raise ShapeError("view", str(error), facts=f"input {input.shape}") from None
    return _reshape("view", ViewAs, input, as_shape("view", shape))


def view_as(input: Tensor, other: Tensor) -> Tensor:
    """``input.view(other.shape)``."""
    return view(input, other.shape)


def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """``input.reshape(other.shape)``."""
    return reshape(input, other.shape)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The dimensions from ``start_dim`` to ``end_dim`` (included) as one.

    Raises:
        RuntimeError: if ``start_dim`` comes after ``end_dim``.
        IndexError: if there is no such dimension.

    >>> nano.flatten(nano.zeros(2, 3, 5), 1).shape
    (2, 15)
    """
    shape = check_tensor("flatten", input)._data.shape
    start = normal_dim("flatten", start_dim, len(shape))
    end = normal_dim("flatten", end_dim, len(shape))
    if start > end:
        raise ShapeError("flatten", f"start_dim {start_dim} comes after end_dim {end_dim}.")
    if start == end and shape:
        return input
    flat = (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])
    return Reshape.apply(input, shape=flat)


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """One dimension as several, of the given ``sizes``; one of them may be -1.

    Raises:
        RuntimeError: if the sizes do not multiply to that of the dimension.

    >>> nano.unflatten(nano.zeros(2, 12), 1, (3, -1)).shape
    (2, 3, 4)
    """
    shape = check_tensor("unflatten", input)._data.shape
    d = normal_dim("unflatten", dim, len(shape))
    sizes = as_shape("unflatten", (sizes,))
    if not sizes:
        raise ShapeError("unflatten", "sizes must not be empty.")
    known = math.prod([n for n in sizes if n != -1])
    if -1 in sizes:
        rest = shape[d] // known if known else 0
        sizes = tuple([rest if n == -1 else n for n in sizes])
    if math.prod(sizes) != shape[d] or min(sizes) < 0:
        raise ShapeError(
            "unflatten", f"sizes {sizes} do not multiply to {shape[d]}, the size of dim {dim}."
        )
    return Reshape.apply(input, shape=(*shape[:d], *sizes, *shape[d + 1 :]))


def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """``input`` without its dimensions of size 1, or those of them in ``dim``; a view.

    Args:
        input: any tensor.
        dim: an integer or several; those whose size is not 1 stay.

    >>> nano.squeeze(nano.zeros(1, 2, 1)).shape, nano.squeeze(nano.zeros(1, 2, 1), 0).shape
    ((2,), (2, 1))
    """
    shape = check_tensor("squeeze", input)._data.shape
    dims = as_dims("squeeze", dim, len(shape))
    kept = [n for d, n in enumerate(shape) if n != 1 or (dims is not None and d not in dims)]
    return Squeeze.apply(input, shape=tuple(kept))


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """``input`` with a dimension of size 1 put in at ``dim``; a view.

    >>> nano.unsqueeze(nano.tensor([1, 2]), 1)
    tensor([[1],
            [2]])
    """
    shape = check_tensor("unsqueeze", input)._data.shape
    d = normal_dim("unsqueeze", dim, len(shape) + 1)
    return Unsqueeze.apply(input, shape=(*shape[:d], 1, *shape[d:]))


# Repetition without a copy ---------------------------------------------------------------


class Expand(Function):
    """Dimensions of size 1 shown many times; the derivative adds the copies up."""

    is_view = True

    @staticmethod
    def forward(ctx, x, *, shape):
        ctx.shape = x.shape
        extra = len(shape) - x.ndim
        steps = [0 if n == 1 else s for n, s in zip(x.shape, x.strides, strict=True)]
        strides = (*([0] * extra), *steps)
        if x.flags.c_contiguous and x.size and x.flags.writeable:
            return np.ndarray(shape, x.dtype, x, 0, strides)
        return _stride(x, shape, strides)

    @staticmethod
    def backward(ctx, grad_output):
        return sum_to_shape(grad_output, ctx.shape)


def expand(input: Tensor, *sizes: Any, size: Any = None) -> Tensor:
    """``input`` with dimensions of size 1 repeated to ``sizes``; a view, nothing is copied.

    Args:
        input: any tensor.
        sizes, size: as integers, as one tuple or by name. -1 keeps a size; new dimensions
            come in front.

    Raises:
        RuntimeError: if a size is neither 1 nor the one wanted.

    >>> nano.tensor([[1], [2]]).expand(2, 3)
    tensor([[1, 1, 1],
            [2, 2, 2]])
    """
    if size is not None or not sizes:
        sizes = as_one("expand", "size", sizes, size)
    return _expand("expand", input, as_shape("expand", sizes))


def _expand(owner: str, input: Tensor, sizes: tuple[int, ...]) -> Tensor:
    have = check_tensor(owner, input)._data.shape
    extra = len(sizes) - len(have)
    wanted = sizes
    if -1 in sizes:
        wanted = tuple(
            [have[d - extra] if n == -1 and d >= extra else n for d, n in enumerate(sizes)]
        )
    fits = extra >= 0 and all(n >= 0 for n in wanted)
    if not fits or any(n not in (m, 1) for n, m in zip(have, wanted[extra:], strict=True)):
        raise ShapeError(
            owner,
            f"a tensor of shape {have} cannot be expanded to {sizes}.",
            hint="Sizes must be equal, or 1 in the tensor, counted from the last dimension; "
            "-1 is only for dimensions that exist.",
        )
    return Expand.apply(input, shape=wanted)


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """``input.expand(other.shape)``."""
    return _expand("expand_as", input, other.shape)


def broadcast_to(input: Tensor, *shape: Any, size: Any = None) -> Tensor:
    """``input`` broadcast to ``shape``; the same as :func:`expand`."""
    sizes = as_one("broadcast_to", "size", shape, size)
    return _expand("broadcast_to", input, as_shape("broadcast_to", sizes))
