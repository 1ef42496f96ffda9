"""Largest, smallest and middle values over dimensions, and where they are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..autograd.function import Function
from ..backends import kernels
from ..errors import DimensionError, DtypeError, ShapeError, TypeMismatchError
from ..tensor import Tensor, wrap
from .along import AddAlongDim
from .binary import maximum, minimum
from .operands import check_tensor, normal_dim, read_alias
from .reduction import Reduction, Sum, arguments

__all__ = ["amax", "amin", "argmax", "argmin", "max", "median", "min"]


class ValuesAndIndices(NamedTuple):
    """What a reduction over one dimension found, and where in that dimension."""

    values: Tensor
    indices: Tensor


class Extreme(Reduction):
    """One of the values of x; its gradient is shared equally by all that are equal to it."""

    #: Whether a NaN in the result came from the NaNs in x, which then share the gradient.
    shared_by_nan = False

    @staticmethod
    def backward(ctx, grad_output):
        x, y = ctx.saved_tensors
        x, y = x.detach(), ctx.spread(y.detach())
        winners = x == y
        if ctx.shared_by_nan:
            winners = winners | (x.isnan() & y.isnan())
        share = winners.to(grad_output.dtype)
        share = share / Sum.apply(share, dim=ctx.dim, keepdim=True)
        return ctx.spread(grad_output) * share


class AMax(Extreme):
    """The largest value; d/dx = 1/k for each of the k that are equal to it, else 0."""

    @staticmethod
    def forward(ctx, x, *, dim=None, keepdim=False, shared_by_nan=False):
        ctx.dim, ctx.keepdim, ctx.shared_by_nan = dim, keepdim, shared_by_nan
        y = np.asarray(kernels.amax(x, dim, keepdim))
        ctx.save_for_backward(x, y)
        return y


class AMin(Extreme):
    """The smallest value; d/dx = 1/k for each of the k that are equal to it, else 0."""

    @staticmethod
    def forward(ctx, x, *, dim=None, keepdim=False, shared_by_nan=False):
        ctx.dim, ctx.keepdim, ctx.shared_by_nan = dim, keepdim, shared_by_nan
        y = np.asarray(kernels.amin(x, dim, keepdim))
        ctx.save_for_backward(x, y)
        return y


def _refuse_empty(
    owner: str, input: Tensor, dims: tuple[int, ...] | None, whole: type[Exception] = ShapeError
) -> None:
    """An error if there is nothing to choose from."""
    shape = input._data.shape
    if dims is None:
        if not input._data.size:
            raise whole(owner, f"a tensor of shape {shape} has no elements to choose from.")
        return
    for d in dims:
        if not shape[d]:
            raise DimensionError(owner, f"dim {d} of shape {shape} has no elements to choose from.")


def amax(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Tensor:
    """The largest value, over ``dim``; NaN if there is one.

    Equal largest values share the gradient equally.

    Args:
        input: any shape and dtype.
        dim: a dimension or several; all of them if None. Also called ``axis``.
        keepdim: keep the reduced dimensions, with size 1. Also called ``keepdims``.

    Raises:
        IndexError: if there is no such dimension, or nothing in it.
        RuntimeError: if there are no elements at all.

    >>> nano.amax(nano.tensor([[1.0, 4.0], [3.0, 2.0]]), dim=1)
    tensor([4., 3.])
    """
    dims, keep = arguments("amax", input, dim, keepdim, axis, keepdims)
    _refuse_empty("amax", input, dims)
    return AMax.apply(input, dim=dims, keepdim=keep)


def amin(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Tensor:
    """The smallest value, over ``dim``; NaN if there is one. See :func:`amax`.

    >>> nano.amin(nano.tensor([[1.0, 4.0], [3.0, 2.0]]), dim=1)
    tensor([1., 2.])
    """
    dims, keep = arguments("amin", input, dim, keepdim, axis, keepdims)
    _refuse_empty("amin", input, dims)
    return AMin.apply(input, dim=dims, keepdim=keep)


# One dimension: values and indices --------------------------------------------------------


class Chosen(Function):
    """One value of x along ``dim``, and its index; the gradient goes to that index."""

    @staticmethod
    def choose(x, dim):
        """The index of the value to choose, with ``dim`` kept."""
        raise NotImplementedError

    @classmethod
    def forward(cls, ctx, x, *, dim, keepdim):
        ctx.dim, ctx.keepdim = dim, keepdim
        index = cls.choose(x, dim)
        values = kernels.take_along_axis(x, index, dim)
        # The caller gets indices of its own: changing them must not change the gradient.
        ctx.index = index
        index = index.copy()
        if not keepdim:
            index, values = index.squeeze(dim), values.squeeze(dim)
        ctx.mark_non_differentiable(index)
        ctx.set_materialize_grads(False)
        return values, index

    @staticmethod
    def backward(ctx, grad_values, grad_indices):
        if grad_values is None:
            return None
        if not ctx.keepdim:
            grad_values = grad_values.unsqueeze(ctx.dim)
        shape = ctx._edges[0][2]
        return AddAlongDim.apply(grad_values, wrap(ctx.index), dim=ctx.dim, shape=shape)


class Max(Chosen):
    """The largest value along ``dim`` and its index, the first of equals."""

    @staticmethod
    def choose(x, dim):
        return kernels.argmax(x, dim, True)


class Min(Chosen):
    """The smallest value along ``dim`` and its index, the first of equals."""

    @staticmethod
    def choose(x, dim):
        return kernels.argmin(x, dim, True)


class Median(Chosen):
    """The middle value along ``dim``, the lower of two, and its index."""

    @staticmethod
    def choose(x, dim):
        return kernels.argmedian(x, dim)


def _along(
    function: type[Chosen], owner: str, input: Tensor, dim: Any, keepdim: Any, keepdims: Any
) -> ValuesAndIndices:
    keep = read_alias(owner, "keepdim", keepdim, "keepdims", keepdims, False)
    if not isinstance(keep, (bool, np.bool_)):
        raise TypeMismatchError(owner, f"keepdim must be a bool, got {type(keep).__name__}.")
    dim = normal_dim(owner, dim, input._data.ndim)
    if not input._data.ndim:
        # The only element is both: the reduction of a tensor of one dimension.
        input, keep = input.reshape(1), False
    _refuse_empty(owner, input, (dim,))
    return ValuesAndIndices(*function.apply(input, dim=dim, keepdim=bool(keep)))


def max(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    other: Tensor | None = None,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Any:
    """The largest value.

    * ``max(input)``: of all elements. Equal ones share the gradient equally.
    * ``max(input, dim)``: over one dimension, as (values, indices). The gradient goes to
      the element at the index, which is the first of equal ones.
    * ``max(input, other)``: of two tensors, element by element: :func:`nano.maximum`.

    NaN counts as the largest.

    Args:
        input: any shape and dtype.
        dim: the dimension (also called ``axis``), or the other tensor.
        keepdim: keep the reduced dimension, with size 1. Also called ``keepdims``.

    Raises:
        IndexError: if there is no such dimension, or nothing in it.
        RuntimeError: if there are no elements at all.

    >>> values, indices = nano.max(nano.tensor([[1.0, 4.0], [3.0, 2.0]]), dim=1)
    >>> values, indices
    (tensor([4., 3.]), tensor([1, 0]))
    """
    dim = read_alias("max", "dim", dim, "axis", axis, None)
    if other is not None or isinstance(dim, Tensor):
        return maximum(input, dim if other is None else other)
    check_tensor("max", input)
    if dim is not None:
        return _along(Max, "max", input, dim, keepdim, keepdims)
    _refuse_empty("max", input, None)
    return AMax.apply(input, shared_by_nan=True)


def min(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    other: Tensor | None = None,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Any:
    """The smallest value; in the three forms of :func:`max`. NaN counts as the smallest.

    >>> nano.min(nano.tensor([[1.0, 4.0], [3.0, 2.0]]))
    tensor(1.)
    """
    dim = read_alias("min", "dim", dim, "axis", axis, None)
    if other is not None or isinstance(dim, Tensor):
        return minimum(input, dim if other is None else other)
    check_tensor("min", input)
    if dim is not None:
        return _along(Min, "min", input, dim, keepdim, keepdims)
    _refuse_empty("min", input, None)
    return AMin.apply(input, shared_by_nan=True)


class MedianOfAll(Extreme):
    """The middle value of all; d/dx = 1/k for each of the k that are equal to it, else 0."""

    shared_by_nan = True

    @staticmethod
    def forward(ctx, x):
        flat = x.reshape(-1)
        y = np.asarray(flat[kernels.argmedian(flat, 0)[0]])
        ctx.save_for_backward(x, y)
        return y


def median(
    input: Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    axis: int | None = None,
    keepdims: bool | None = None,
) -> Any:
    """The middle value in order of size; of an even number of values, the lower middle one.

    ``median(input)`` gives that of all elements, ``median(input, dim)`` values and
    indices over one dimension. If there is a NaN, it is the median.

    Args:
        input: any shape; not bool.
        dim: the dimension. Also called ``axis``.
        keepdim: keep the reduced dimension, with size 1. Also called ``keepdims``.

    Raises:
        IndexError: if there is no such dimension, or nothing in it.
        RuntimeError: for booleans.

    >>> nano.median(nano.tensor([4.0, 1.0, 3.0, 2.0]))
    tensor(2.)
    """
    dim = read_alias("median", "dim", dim, "axis", axis, None)
    if check_tensor("median", input)._data.dtype.kind == "b":
        raise DtypeError("median", "booleans are not supported.")
    if dim is not None:
        return _along(Median, "median", input, dim, keepdim, keepdims)
    if not input._data.size:
        return _median_of_nothing(input)
    return MedianOfAll.apply(input)


def _median_of_nothing(input: Tensor) -> Tensor:
    if input._data.dtype.kind not in "fV":
        raise ShapeError("median", f"an integer tensor of shape {input.shape} has no median.")
    return Sum.apply(input) * float("nan")


# Where ------------------------------------------------------------------------------------


class ArgMax(Function):
    """The index of the largest value, the first of equals."""

    differentiable = False

    @staticmethod
    def forward(ctx, x, *, dim, keepdim):
        return kernels.argmax(x, dim, keepdim)


class ArgMin(Function):
    """The index of the smallest value, the first of equals."""

    differentiable = False

    @staticmethod
    def forward(ctx, x, *, dim, keepdim):
        return kernels.argmin(x, dim, keepdim)


def _where(
    function: type[Function],
    owner: str,
    input: Tensor,
    dim: Any,
    keepdim: Any,
    axis: Any,
    keepdims: Any,
) -> Tensor:
    dim = read_alias(owner, "dim", dim, "axis", axis, None)
    keep = bool(read_alias(owner, "keepdim", keepdim, "keepdims", keepdims, False))
    ndim = check_tensor(owner, input)._data.ndim
    if input._data.dtype.kind == "b":
        raise DtypeError(owner, "booleans are not supported.", hint="Convert them with .int().")
    if dim is not None:
        dim = normal_dim(owner, dim, ndim)
    _refuse_empty(owner, input, None if dim is None or not ndim else (dim,), DimensionError)
    return function.apply(input, dim=dim if ndim else None, keepdim=keep)


def argmax(
    input: Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    axis: int | None = None,
    keepdims: bool | None = None,
) -> Tensor:
    """The index of the largest value, the first of equals; NaN counts as the largest.

    Args:
        input: any shape; not bool.
        dim: the dimension (also called ``axis``); if None, the index counts through the
            flattened tensor.
        keepdim: keep the reduced dimension, with size 1. Also called ``keepdims``.

    Returns:
        int64 Tensor.

    Raises:
        IndexError: if there is no such dimension, or nothing in it.

    >>> t = nano.tensor([[1.0, 4.0], [3.0, 2.0]])
    >>> t.argmax(), t.argmax(dim=1)
    (tensor(1), tensor([1, 0]))
    """
    return _where(ArgMax, "argmax", input, dim, keepdim, axis, keepdims)


def argmin(
    input: Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    axis: int | None = None,
    keepdims: bool | None = None,
) -> Tensor:
    """The index of the smallest value, the first of equals; see :func:`argmax`.

    >>> nano.argmin(nano.tensor([3.0, 1.0, 2.0]))
    tensor(1)
    """
    return _where(ArgMin, "argmin", input, dim, keepdim, axis, keepdims)
