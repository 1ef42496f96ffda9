"""Choosing among elements: where, clamp, sort, topk, unique; running sums."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..autograd.derivatives import Broadcasting
from ..autograd.function import Function
from ..backends import kernels
from ..dtypes import int64, to_dtype
from ..errors import DtypeError, ShapeError, TypeMismatchError
from ..hook import hooks, reading
from ..tensor import Tensor, wrap
from .along import AddAlongDim
from .comparison import ne
from .indexing import nonzero
from .operands import (
    as_tensor_like,
    check_tensor,
    fitting,
    is_number,
    normal_dim,
    result_type,
)
from .rearrange import Flip

__all__ = [
    "argsort",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "cumsum",
    "masked_fill",
    "msort",
    "sort",
    "topk",
    "unique",
    "where",
]


class Where(Broadcasting, Function):
    """x where the condition holds, else y; the derivative goes to the one that was taken."""

    formula = "where(condition, x, y)"

    @staticmethod
    def forward(ctx, condition, x, y):
        ctx.save_for_backward(condition)
        return kernels.where(condition, x, y)

    @staticmethod
    def backward(ctx, grad_output):
        (condition,) = ctx.saved_tensors
        _, need_x, need_y = ctx.needs_input_grad
        grad_x = _kept(condition, grad_output, False) if need_x else None
        grad_y = _kept(condition, grad_output, True) if need_y else None
        return (
            None,
            ctx.undo_broadcast(grad_x, 1) if need_x else None,
            ctx.undo_broadcast(grad_y, 2) if need_y else None,
        )


def _kept(condition: Tensor, grad: Tensor, inverted: bool) -> Tensor:
    """``grad`` where the condition holds (or does not), else 0; not NaN, as a product may be."""
    zero = wrap(np.zeros((), grad._data.dtype))
    return Where.apply(condition, zero, grad) if inverted else Where.apply(condition, grad, zero)


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """``input`` where ``condition`` is True, else ``other``; with broadcasting.

    Args:
        condition: boolean.
        input, other: Tensors or numbers. Without them, the positions where ``condition``
            is not zero are returned: ``nonzero(condition, as_tuple=True)``.

    Returns:
        Tensor of the broadcast shape and the promoted dtype.

    Raises:
        RuntimeError: if the condition is not boolean, or the shapes do not fit.

    >>> nano.where(nano.tensor([True, False]), 1.0, nano.tensor([5.0, 6.0]))
    tensor([1., 6.])
    """
    check_tensor("where", condition, "condition")
    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    for x in (input, other):
        if not isinstance(x, Tensor) and not is_number(x):
            raise TypeMismatchError(
                "where", f"operands must be Tensors or numbers, got {type(x).__name__}."
            )
    condition = _as_mask("where", condition, "condition")
    common = result_type(input, other)
    x, y = as_tensor_like(input, common), as_tensor_like(other, common)
    try:
        return Where.apply(condition, x, y)
    except ValueError:
        raise ShapeError(
            "where",
            f"shapes {condition.shape}, {x.shape} and {y.shape} cannot be broadcast together.",
        ) from None


def _as_mask(owner: str, mask: Tensor, name: str) -> Tensor:
    if mask._data.dtype.kind == "b":
        return mask
    if owner == "where" and mask._data.dtype == np.uint8:  # PyTorch reads bytes as a mask
        return ne(mask, 0)
    raise DtypeError(owner, f"{name} must be boolean, got {mask.dtype}.", hint="Use t.bool().")


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """``input`` with ``value`` where ``mask`` is True.

    Args:
        input: any tensor.
        mask: boolean, broadcastable with ``input``.
        value: a number, or a 0-d tensor (to which gradients flow).

    Raises:
        RuntimeError: if the mask is not boolean, the value not 0-d, or the shapes do not fit.

    >>> nano.masked_fill(nano.tensor([1, 2, 3]), nano.tensor([True, False, True]), 0)
    tensor([0, 2, 0])
    """
    check_tensor("masked_fill", input)
    mask = _as_mask("masked_fill", check_tensor("masked_fill", mask, "mask"), "mask")
    if isinstance(value, Tensor) and value._data.ndim:
        raise ShapeError(
            "masked_fill", f"value must be a number or 0-d, got a tensor of shape {value.shape}."
        )
    if isinstance(value, Tensor):
        if input._data.dtype.kind in "iu" and value._data.dtype.kind in "fV":
            value = WholeNumber.apply(value, dtype=input.dtype)
    else:
        if not is_number(value):
            raise TypeMismatchError(
                "masked_fill", f"value must be a number, got {type(value).__name__}."
            )
        fitting("masked_fill", value, input.dtype)
    try:
        return Where.apply(mask, as_tensor_like(value, input.dtype), input)
    except ValueError:
        raise ShapeError(
            "masked_fill", f"input {input.shape} and mask {mask.shape} cannot be broadcast."
        ) from None


class WholeNumber(Function):
    """x in an integer dtype; infinities and NaN are refused."""

    differentiable = False
    refuses = True

    @staticmethod
    def forward(ctx, x, *, dtype):
        if not np.isfinite(x):
            raise DtypeError("masked_fill", f"{x} cannot be converted to {dtype}.")
        return kernels.cast(x, dtype.numpy)


# Bounds ----------------------------------------------------------------------------------


class Clip(Broadcasting, Function):
    """min(max(x, low), high); d/dx = 1 where low <= x <= high, else the bound has it."""

    formula = "minimum(maximum(x, low), high)"

    @staticmethod
    def forward(ctx, x, low, high):
        ctx.save_for_backward(x, low, high)
        return kernels.clip(x, low, high)

    @staticmethod
    def backward(ctx, grad_output):
        x, low, high = ctx.saved_tensors
        need_x, need_low, need_high = ctx.needs_input_grad
        taken: list[Any] = [None, None, None]
        if need_x:
            taken[0] = Inside.apply(x, low, high)
        if need_low:
            below = x < low
            taken[1] = below if high is None else below & (low < high)
        if need_high:
            above = x > high
            taken[2] = above if low is None else above | (high < low)
        return tuple(
            [
                None if mask is None else ctx.undo_broadcast(_kept(mask, grad_output, False), i)
                for i, mask in enumerate(taken)
            ]
        )


class Inside(Function):
    """Whether low <= x <= high; a bound that is None is none."""

    differentiable = False

    @staticmethod
    def forward(ctx, x, low, high):
        if low is None:
            return kernels.less_equal(x, high)
        inside = kernels.greater_equal(x, low)
        return inside if high is None else kernels.bitwise_and(inside, kernels.less_equal(x, high))


def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """min(max(input, min), max), element by element; NaN stays NaN.

    The gradient is 1 where ``min <= input <= max``, bounds included; elsewhere it goes to
    the bound, if that is a tensor. Where ``min > max`` the result is ``max``.

    Args:
        input: any tensor.
        min, max: numbers or tensors, or None for no bound.

    Raises:
        RuntimeError: if there is no bound at all, or the shapes do not fit.

    >>> nano.clamp(nano.tensor([-2.0, 0.5, 2.0]), -1, 1)
    tensor([-1.0000,  0.5000,  1.0000])
    """
    check_tensor("clamp", input)
    bounds = [b for b in (min, max) if b is not None]
    if not bounds:
        raise ShapeError("clamp", "at least one of min and max must be given.")
    for b in bounds:
        if not isinstance(b, Tensor) and not is_number(b):
            raise TypeMismatchError("clamp", f"bounds must be numbers, got {type(b).__name__}.")
    common = result_type(input, *bounds)
    x = as_tensor_like(input, common)
    low, high = [b if b is None else as_tensor_like(b, common) for b in (min, max)]
    try:
        return Clip.apply(x, low, high)
    except ValueError:
        shapes = [input.shape, *[b.shape for b in bounds if isinstance(b, Tensor)]]
        raise ShapeError("clamp", f"shapes {shapes} cannot be broadcast together.") from None


clip = clamp


def clamp_min(input: Tensor, min: Any) -> Tensor:
    """max(input, min), element by element.

    >>> nano.clamp_min(nano.tensor([-1.0, 2.0]), 0)
    tensor([0., 2.])
    """
    return clamp(input, min=min)


def clamp_max(input: Tensor, max: Any) -> Tensor:
    """min(input, max), element by element.

    >>> nano.clamp_max(nano.tensor([-1.0, 2.0]), 0)
    tensor([-1.,  0.])
    """
    return clamp(input, max=max)


# Order -----------------------------------------------------------------------------------


class SortResult(NamedTuple):
    """What :func:`sort` and :func:`topk` return."""

    values: Tensor
    indices: Tensor


class Sort(Function):
    """x in order along ``dim``, or its k best; the derivative goes back to where they were."""

    @staticmethod
    def forward(ctx, x, *, dim, descending, k):
        ctx.dim, ctx.shape = dim, x.shape
        if k is None:
            indices = kernels.argsort(x, dim, descending)
        else:
            indices = kernels.topk(x, k, dim, descending)
        ctx.save_for_backward(indices)
        return kernels.take_along_axis(x, indices, dim), indices

    @staticmethod
    def backward(ctx, grad_values, grad_indices):
        (indices,) = ctx.saved_tensors
        return AddAlongDim.apply(grad_values, indices, dim=ctx.dim, shape=ctx.shape)


def _sorted(owner: str, input: Tensor, dim: int, descending: bool, k: int | None) -> SortResult:
    d = normal_dim(owner, dim, check_tensor(owner, input)._data.ndim)
    if input._data.ndim:
        return SortResult(*Sort.apply(input, dim=d, descending=descending, k=k))
    wide = input.reshape(1)
    values, indices = Sort.apply(wide, dim=0, descending=descending, k=None)
    return SortResult(values.reshape(()), indices.reshape(()))


def sort(
    input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = True
) -> SortResult:
    """``input`` in order along ``dim``; equal elements keep their order.

    Args:
        input: any tensor; NaN counts as the largest value.
        dim: the dimension that is sorted.
        descending: from the largest to the smallest.
        stable: taken for PyTorch's sake; the order is stable in any case.

    Returns:
        ``(values, indices)``, the sorted elements and where they were.

    >>> nano.sort(nano.tensor([3.0, 1.0, 2.0])).indices
    tensor([1, 2, 0])
    """
    return _sorted("sort", input, dim, bool(descending), None)


def argsort(
    input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = True
) -> Tensor:
    """The positions that sort ``input`` along ``dim``: ``sort(...).indices``.

    >>> nano.argsort(nano.tensor([3.0, 1.0, 2.0]))
    tensor([1, 2, 0])
    """
    return _sorted("argsort", input, dim, bool(descending), None).indices


def msort(input: Tensor) -> Tensor:
    """``input`` sorted along its first dimension."""
    return _sorted("msort", input, 0, False, None).values


def topk(
    input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> SortResult:
    """The ``k`` largest (or smallest) elements along ``dim``, best first.

    Args:
        input: any tensor; NaN counts as the largest value.
        k: how many.
        dim: along which dimension.
        largest: False for the smallest.
        sorted: taken for PyTorch's sake; the elements are in order in any case.

    Raises:
        RuntimeError: if ``k`` is negative or larger than the dimension.

    >>> nano.topk(nano.tensor([3.0, 1.0, 2.0]), 2).values
    tensor([3., 2.])
    """
    d = normal_dim("topk", dim, check_tensor("topk", input)._data.ndim)
    n = input._data.shape[d] if input._data.ndim else 1
    if not 0 <= k <= n:
        raise ShapeError("topk", f"k must lie between 0 and {n}, the size of dim {dim}; got {k}.")
    return _sorted("topk", input, dim, bool(largest), int(k))


def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The different values of ``input``, in order; no derivative.

    Args:
        input: any tensor; every NaN is different from every other.
        sorted: taken for PyTorch's sake; the values are in order in any case.
        return_inverse: also for each element the position of its value.
        return_counts: also how often each value occurs.
        dim: compare whole slices along this dimension instead of elements.

    >>> nano.unique(nano.tensor([3, 1, 3]), return_counts=True)
    (tensor([1, 3]), tensor([1, 2]))
    """
    x = check_tensor("unique", input)._data
    if hooks:
        reading("unique", input)
    axis = None if dim is None else normal_dim("unique", dim, x.ndim)
    key = x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype.kind in "fV" else x
    values, inverse, counts = np.unique(
        key, return_inverse=True, return_counts=True, axis=axis, equal_nan=False
    )
    shape = x.shape if axis is None else (x.shape[axis],)
    results = [wrap(values.astype(x.dtype, copy=False))]
    if return_inverse:
        results.append(wrap(inverse.reshape(shape)))
    if return_counts:
        results.append(wrap(counts))
    return results[0] if len(results) == 1 else tuple(results)


# Running sums ----------------------------------------------------------------------------


class Cumsum(Function):
    """y_i = x_0 + ... + x_i; dx_i = g_i + ... + g_n: the running sum from the other end."""

    @staticmethod
    def forward(ctx, x, *, dim):
        ctx.dim = dim
        return kernels.cumsum(x, dim)

    @staticmethod
    def backward(ctx, grad_output):
        dims = (ctx.dim,)
        return Flip.apply(Cumsum.apply(Flip.apply(grad_output, dims=dims), dim=ctx.dim), dims=dims)


def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """The running sum along ``dim``; integers and booleans become int64.

    Raises:
        IndexError: if there is no such dimension.

    >>> nano.cumsum(nano.tensor([1, 2, 3]), 0)
    tensor([1, 3, 6])
    """
    d = normal_dim("cumsum", dim, check_tensor("cumsum", input)._data.ndim)
    if dtype is not None:
        input = as_tensor_like(input, to_dtype(dtype))
    elif input._data.dtype.kind in "iub":
        input = as_tensor_like(input, int64)
    if not input._data.ndim:
        return input.clone()
    return Cumsum.apply(input, dim=d)
