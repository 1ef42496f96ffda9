"""Sums, means and products over dimensions; all, any.

Largest and smallest values are in extremes.py, variances and norms in statistics.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.function import Function
from ..autograd.restated import gradients_of
from ..backends import kernels
from ..dtypes import int64, to_dtype, uint8
from ..errors import DtypeError
from ..tensor import Tensor, wrap
from .autocast import raised
from .autocast import state as autocast_state
from .operands import as_dims, check_tensor, normal_dim, read_alias

__all__ = [
    "all",
    "any",
    "count_nonzero",
    "mean",
    "prod",
    "sum",
]

_SMALL = 4096


class Reduction(Function):
    """Many elements become one, over ``dim``: a tuple of dimensions, or None for all."""

    #: Remembered by ``forward`` for :meth:`spread`.
    dim: tuple[int, ...] | None = None
    keepdim = False

    def spread(self, reduced: Tensor) -> Tensor:
        """A result (or its gradient) repeated in the shape of the input."""
        return Spread.apply(reduced, shape=self._edges[0][2], dim=self.dim, keepdim=self.keepdim)


class Spread(Reduction):
    """x repeated along the dimensions that a reduction took away; d/dx is their sum."""

    @staticmethod
    def forward(ctx, x, *, shape, dim, keepdim):
        ctx.dim, ctx.keepdim = dim, keepdim
        if x.ndim and not keepdim and dim is not None:
            x = x.reshape([1 if i in dim else n for i, n in enumerate(shape)])
        size = 1
        for n in shape:
            size *= n
        if size > _SMALL:
            return np.broadcast_to(x, shape)
        # NumPy takes longer to prepare a broadcast than to fill a small array.
        out = np.empty(shape, x.dtype)
        out[...] = x
        return out

    @staticmethod
    def backward(ctx, grad_output):
        return Sum.apply(grad_output, dim=ctx.dim, keepdim=ctx.keepdim)


class Sum(Reduction):
    """The sum of x; d/dx = 1."""

    @staticmethod
    def forward(ctx, x, *, dim=None, keepdim=False):
        ctx.dim, ctx.keepdim = dim, keepdim
        return kernels.sum(x, dim, keepdim)

    @staticmethod
    def backward(ctx, grad_output):
        return ctx.spread(grad_output)


def arguments(
    owner: str, input: Any, dim: Any, keepdim: Any, axis: Any, keepdims: Any
) -> tuple[tuple[int, ...] | None, bool]:
    """The dimensions to reduce (None for all) and whether they stay, of size 1.

    ``axis`` and ``keepdims`` are NumPy's names for ``dim`` and ``keepdim``.
    """
    dim = read_alias(owner, "dim", dim, "axis", axis, None)
    keepdim = bool(read_alias(owner, "keepdim", keepdim, "keepdims", keepdims, False))
    ndim = check_tensor(owner, input)._data.ndim
    dims = as_dims(owner, dim, ndim)
    # No dimensions means all of them; a 0-d tensor has only dim 0 in name.
    return (dims if dims and ndim else None), keepdim


def _summable(input: Tensor, dtype: Any) -> Tensor:
    """``input`` in the dtype to add or multiply in: integers and booleans in int64."""
    if dtype is not None:
        return input.to(to_dtype(dtype))
    return input if input._data.dtype.kind in "fV" else input.to(int64)


def sum(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Tensor:
    """The sum of all elements, or over ``dim``.

    Args:
        input: any shape and dtype.
        dim: a dimension or several; all of them if None. Also called ``axis``.
        keepdim: keep the reduced dimensions, with size 1. Also called ``keepdims``.
        dtype: convert to it first. Integers and booleans are summed in int64.

    Returns:
        Tensor without the reduced dimensions. 16-bit floats are summed in float32.

    Raises:
        IndexError: if there is no such dimension.

    >>> t = nano.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> t.sum(), t.sum(0), t.sum(axis=1, keepdims=True)
    (tensor(10.), tensor([4., 6.]), tensor([[3.],
            [7.]]))
    """
    if dim is None and axis is None and dtype is None and not keepdim and not keepdims:
        if check_tensor("sum", input)._data.dtype.kind in "fV":
            return Sum.apply(input)
        return Sum.apply(input.to(int64))
    dims, keep = arguments("sum", input, dim, keepdim, axis, keepdims)
    return Sum.apply(_summable(input, dtype), dim=dims, keepdim=keep)


class Mean(Reduction):
    """The sum of x divided by the number n of elements; d/dx = 1 / n."""

    @staticmethod
    def forward(ctx, x, *, dim=None, keepdim=False):
        ctx.dim, ctx.keepdim = dim, keepdim
        y = kernels.mean(x, dim, keepdim)
        ctx.count = x.size // y.size if y.size else 0
        return y

    @staticmethod
    def backward(ctx, grad_output):
        return ctx.spread(grad_output / float(ctx.count)) if ctx.count else ctx.spread(grad_output)


def mean(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Tensor:
    """The mean of all elements, or over ``dim``; arguments as for :func:`sum`.

    Raises:
        RuntimeError: for integers and booleans, unless ``dtype`` is floating point.
        IndexError: if there is no such dimension.

    >>> nano.mean(nano.tensor([[1.0, 2.0], [3.0, 4.0]]), dim=0)
    tensor([2., 3.])
    """
    plain = dim is None and axis is None and dtype is None and not keepdim and not keepdims
    if plain and check_tensor("mean", input)._data.dtype.kind in "fV":
        return Mean.apply(input)
    dims, keep = arguments("mean", input, dim, keepdim, axis, keepdims)
    if dtype is not None:
        input = input.to(to_dtype(dtype))
    if input._data.dtype.kind not in "fV":
        raise DtypeError(
            "mean",
            f"the mean is a fraction, so input or dtype must be floating point, got {input.dtype}.",
            hint="Use t.float().mean() or t.mean(dtype=nano.float32).",
        )
    return Mean.apply(input, dim=dims, keepdim=keep)


# Products -------------------------------------------------------------------------------


class Prod(Reduction):
    """The product of x along ``dim``; d/dx_i is the product of the others."""

    @staticmethod
    def forward(ctx, x, *, dim, keepdim=False):
        ctx.dim, ctx.keepdim = (dim,), keepdim
        ctx.save_for_backward(x)
        return kernels.prod(x, (dim,), keepdim)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return ctx.spread(grad_output) * ProdOfOthers.apply(x, dim=ctx.dim[0])


class ProdOfOthers(Function):
    """y_i = the product of all x_j along ``dim`` with j != i, also where an x_i is 0."""

    @staticmethod
    def forward(ctx, x, *, dim):
        ctx.dim = dim
        ctx.save_for_backward(x)
        if x.all():
            return kernels.divide(kernels.prod(x, (dim,), True), x)
        return kernels.prod_of_others(x, dim)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return ProdOfOthersBackward.apply(grad_output, x, dim=ctx.dim)


class ProdOfOthersBackward(Function):
    """y_k = the sum, over i != k, of g_i times the product of all x but x_i and x_k.

    Where no x is 0 it is p / x_k (s - g_k / x_k), with p their product and s the sum of
    g_i / x_i. Else the products are those of the others once more, in a matrix whose row i
    is x with x_i replaced by 1.
    """

    @staticmethod
    def forward(ctx, grad_output, x, *, dim):
        ctx.dim = dim
        ctx.save_for_backward(grad_output, x)
        if x.all():
            q = kernels.divide(grad_output, x)
            rest = kernels.subtract(kernels.sum(q, (dim,), True), q)
            return kernels.multiply(kernels.divide(kernels.prod(x, (dim,), True), x), rest)
        diagonal = np.eye(x.shape[dim], dtype=bool)
        rows = np.where(diagonal, x.dtype.type(1), x.swapaxes(dim, -1)[..., None, :])
        others = kernels.prod_of_others(rows, rows.ndim - 1)
        weighted = kernels.multiply(others, grad_output.swapaxes(dim, -1)[..., None])
        weighted = np.where(diagonal, x.dtype.type(0), weighted)
        return np.ascontiguousarray(kernels.sum(weighted, (-2,), False).swapaxes(dim, -1))

    @staticmethod
    def backward(ctx, v):
        dim = ctx.dim

        def formula(g, x):
            n = x._data.shape[dim]
            diagonal = wrap(np.eye(n, dtype=bool))
            rows = x.transpose(dim, -1).unsqueeze(-2).expand(*_moved(x, dim), n, n)
            rows = rows.masked_fill(diagonal, 1.0)
            others = ProdOfOthers.apply(rows, dim=rows._data.ndim - 1)
            weighted = others * g.transpose(dim, -1).unsqueeze(-1)
            return (weighted.masked_fill(diagonal, 0.0).sum(-2).transpose(dim, -1),)

        return tuple(gradients_of(formula, ctx.saved_tensors, [v], ctx.needs_input_grad))


def _moved(x: Tensor, dim: int) -> list[int]:
    """The sizes before the last, once ``dim`` has changed places with the last."""
    sizes = list(x._data.shape)
    sizes[dim], sizes[-1] = sizes[-1], sizes[dim]
    return sizes[:-1]


def prod(
    input: Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    axis: int | None = None,
    keepdims: bool | None = None,
) -> Tensor:
    """The product of all elements, or over one dimension.

    The gradient is right also where elements are 0.

    Args:
        input: any shape and dtype.
        dim: the dimension; all elements if None. Also called ``axis``.
        keepdim: keep the reduced dimension, with size 1. Also called ``keepdims``.
        dtype: convert to it first. Integers and booleans are multiplied in int64.

    Raises:
        IndexError: if there is no such dimension.

    >>> nano.prod(nano.tensor([[1.0, 2.0], [3.0, 4.0]]), dim=1)
    tensor([ 2., 12.])
    """
    dim = read_alias("prod", "dim", dim, "axis", axis, None)
    keep = bool(read_alias("prod", "keepdim", keepdim, "keepdims", keepdims, False))
    if autocast_state.dtype is not None:
        (input,) = raised(input)
    x = _summable(check_tensor("prod", input), dtype)
    ndim = x._data.ndim
    if dim is not None:
        dim = normal_dim("prod", dim, ndim)
    if dim is None or not ndim:
        product = Prod.apply(x.reshape(-1), dim=0)
        return product.reshape([1] * ndim) if keep and ndim else product
    return Prod.apply(x, dim=dim, keepdim=keep)


# Questions ------------------------------------------------------------------------------


class AllNonzero(Reduction):
    """Whether no element is 0."""

    differentiable = False

    @staticmethod
    def forward(ctx, x, *, dim=None, keepdim=False):
        return kernels.all(x, dim, keepdim)


class AnyNonzero(Reduction):
    """Whether some element is not 0."""

    differentiable = False

    @staticmethod
    def forward(ctx, x, *, dim=None, keepdim=False):
        return kernels.any(x, dim, keepdim)


def _question(
    function: type[Function],
    owner: str,
    input: Tensor,
    dim: Any,
    keepdim: Any,
    axis: Any,
    keepdims: Any,
) -> Tensor:
    dims, keep = arguments(owner, input, dim, keepdim, axis, keepdims)
    dim = dim if axis is None else axis
    if dims is None and dim is not None and not isinstance(dim, int) and input._data.ndim:
        answer = input != 0  # As in PyTorch, () means no dimension here, not all of them.
    else:
        answer = function.apply(input, dim=dims, keepdim=keep)
    # As in PyTorch, uint8, its boolean of old, answers in uint8.
    return answer.to(uint8) if input._data.dtype == uint8.numpy else answer


def all(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Tensor:
    """Whether all elements are nonzero (or True); True of nothing.

    Args:
        input: any shape and dtype.
        dim: a dimension or several; all of them if None. Also called ``axis``.
        keepdim: keep the reduced dimensions, with size 1. Also called ``keepdims``.

    Returns:
        bool Tensor; uint8 for a uint8 input.

    >>> nano.all(nano.tensor([[True, False], [True, True]]), dim=1)
    tensor([False,  True])
    """
    return _question(AllNonzero, "all", input, dim, keepdim, axis, keepdims)


def any(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Tensor:
    """Whether some element is nonzero (or True); False of nothing. See :func:`all`.

    >>> nano.any(nano.tensor([[True, False], [False, False]]), dim=1)
    tensor([ True, False])
    """
    return _question(AnyNonzero, "any", input, dim, keepdim, axis, keepdims)


def count_nonzero(input: Tensor, dim: Any = None, *, axis: Any = None) -> Tensor:
    """How many elements are not 0, of all or over ``dim``; int64.

    >>> nano.count_nonzero(nano.tensor([0.0, 2.0, 3.0]))
    tensor(2)
    """
    dims, _ = arguments("count_nonzero", input, dim, False, axis, None)
    return Sum.apply((input != 0).to(int64), dim=dims)
