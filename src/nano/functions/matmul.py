"""Matrix products: ``@``, its named forms, and the linear layer. Einstein sums are in einsum.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.derivatives import Broadcasting
from ..autograd.function import Function
from ..backends import kernels
from ..errors import DtypeError, ShapeError
from ..tensor import Tensor
from .autocast import lowered
from .autocast import state as autocast_state
from .operands import check_tensor
from .reduction import Sum

__all__ = ["addmm", "bmm", "dot", "inner", "matmul", "mm", "mv", "outer"]


class MatMul(Broadcasting, Function):
    """A B for matrices, or batches of them; dA = G B^T, dB = A^T G.

    A is x, or x^T with ``transpose_x``; B likewise: so no transposed tensor has to be made.
    """

    @staticmethod
    def forward(ctx, x, y, *, transpose_x=False, transpose_y=False):
        need_x, need_y = ctx.needs_input_grad
        if need_x or need_y:
            ctx.save_for_backward(x if need_y else None, y if need_x else None)
            ctx.transposed = transpose_x, transpose_y
        return kernels.matmul(
            x.swapaxes(-1, -2) if transpose_x else x, y.swapaxes(-1, -2) if transpose_y else y
        )

    @staticmethod
    def backward(ctx, grad_output):
        x, y = ctx.saved_tensors
        tx, ty = ctx.transposed
        need_x, need_y = ctx.needs_input_grad
        grad_x = grad_y = None
        if need_x:
            if tx:  # x = A^T, so its gradient is (G B^T)^T = B G^T
                grad_x = MatMul.apply(y, grad_output, transpose_x=ty, transpose_y=True)
            else:
                grad_x = MatMul.apply(grad_output, y, transpose_y=not ty)
            grad_x = ctx.undo_broadcast(grad_x, 0)
        if need_y:
            if ty:  # y = B^T, so its gradient is (A^T G)^T = G^T A
                grad_y = MatMul.apply(grad_output, x, transpose_x=True, transpose_y=tx)
            else:
                grad_y = MatMul.apply(x, grad_output, transpose_x=not tx)
            grad_y = ctx.undo_broadcast(grad_y, 1)
        return grad_x, grad_y


class Dot(Function):
    """The sum of x_i y_i for two vectors; d/dx = y, d/dy = x."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return kernels.matmul(x, y)

    @staticmethod
    def backward(ctx, grad_output):
        x, y = ctx.saved_tensors
        need_x, need_y = ctx.needs_input_grad
        return grad_output * y if need_x else None, grad_output * x if need_y else None


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """Matrix product of the last two dimensions: Python's ``@``.

    A 1-d ``input`` counts as a row and a 1-d ``other`` as a column, and that dimension
    is missing in the result; dimensions before the last two are broadcast.

    Args:
        input: (..., n, k) or (k,).
        other: (..., k, m) or (k,), of the same dtype.

    Returns:
        Tensor (..., n, m). 16-bit floats are summed in float32.

    Raises:
        RuntimeError: if the shapes do not fit together, or the dtypes differ.

    >>> nano.matmul(nano.tensor([[1.0, 2.0], [3.0, 4.0]]), nano.tensor([1.0, 1.0]))
    tensor([3., 7.])
    """
    if autocast_state.dtype is not None:
        input, other = lowered(input, other)
    return _product(input, other)


def _product(input: Tensor, other: Tensor) -> Tensor:
    """:func:`matmul` in the operands' own dtype."""
    x, y = _operands("matmul", input, other)
    nx, ny = x.ndim, y.ndim
    if nx == 2 and ny == 2:
        if x.shape[1] != y.shape[0]:
            raise _misfit("matmul", input, other)
        return MatMul.apply(input, other)
    if not nx or not ny:
        raise ShapeError(
            "matmul",
            f"both operands must have at least one dimension, got {x.shape} and {y.shape}.",
            hint="Multiply by a number with *.",
        )
    _check_fit("matmul", input, other)
    if nx == 1 and ny == 1:
        return Dot.apply(input, other)
    if ny == 1:
        return _product(input, other.reshape(-1, 1)).squeeze(-1)
    if nx == 1:
        return _product(input.reshape(1, -1), other).squeeze(-2)
    if ny == 2:
        # One large product is faster than a batch of small ones by the same matrix.
        rows = input.reshape(-1, x.shape[-1]) if x.size else None
        if rows is not None:
            return MatMul.apply(rows, other).reshape(*x.shape[:-1], y.shape[1])
    return MatMul.apply(input, other)


def _operands(owner: str, input: Any, other: Any) -> Any:
    """The arrays of two tensors that can be multiplied."""
    x, y = check_tensor(owner, input)._data, check_tensor(owner, other, "other")._data
    if x.dtype is not y.dtype and x.dtype != y.dtype:
        raise DtypeError(
            owner,
            f"both operands must have the same dtype, got {input.dtype} and {other.dtype}.",
            hint="Convert one of them with .to(...).",
        )
    if x.dtype.kind == "b":
        raise DtypeError(owner, "booleans are not supported.", hint="Convert them with .float().")
    return x, y


def _check_fit(owner: str, input: Tensor, other: Tensor) -> None:
    x, y = input._data.shape, other._data.shape
    if x[-1] != y[max(len(y) - 2, 0)]:
        raise _misfit(owner, input, other)
    try:
        np.broadcast_shapes(x[:-2], y[:-2])
    except ValueError:
        raise ShapeError(
            owner, f"the batch dimensions of {x} and {y} cannot be broadcast together."
        ) from None


def _misfit(owner: str, input: Tensor, other: Tensor) -> ShapeError:
    x, y = input._data.shape, other._data.shape
    inner = y[max(len(y) - 2, 0)]
    return ShapeError(
        owner,
        f"shapes {x} and {y} cannot be multiplied: {x[-1]} columns against {inner} rows.",
        hint="The last size of the first must be the last but one of the second.",
    )


def _check_ndim(owner: str, x: Tensor, ndim: int, name: str) -> None:
    if x._data.ndim != ndim:
        raise ShapeError(owner, f"{name} must have {ndim} dims, got shape {x.shape}.")


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """Product of two matrices (n, k) and (k, m); see :func:`matmul`.

    >>> nano.mm(nano.tensor([[1, 2]]), nano.tensor([[3], [4]]))
    tensor([[11]])
    """
    if autocast_state.dtype is not None:
        input, mat2 = lowered(input, mat2)
    _operands("mm", input, mat2)
    _check_ndim("mm", input, 2, "input")
    _check_ndim("mm", mat2, 2, "mat2")
    _check_fit("mm", input, mat2)
    return MatMul.apply(input, mat2)


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """Products of b pairs of matrices, (b, n, k) and (b, k, m), without broadcasting.

    >>> nano.bmm(nano.ones(2, 1, 3), nano.ones(2, 3, 1)).flatten()
    tensor([3., 3.])
    """
    if autocast_state.dtype is not None:
        input, mat2 = lowered(input, mat2)
    _operands("bmm", input, mat2)
    _check_ndim("bmm", input, 3, "input")
    _check_ndim("bmm", mat2, 3, "mat2")
    if input._data.shape[0] != mat2._data.shape[0]:
        raise ShapeError("bmm", f"batches differ in size: {input.shape} and {mat2.shape}.")
    _check_fit("bmm", input, mat2)
    return MatMul.apply(input, mat2)


def mv(input: Tensor, vec: Tensor) -> Tensor:
    """Product of a matrix (n, k) and a vector (k,).

    >>> nano.mv(nano.tensor([[1, 2], [3, 4]]), nano.tensor([1, 1]))
    tensor([3, 7])
    """
    _operands("mv", input, vec)
    _check_ndim("mv", input, 2, "input")
    _check_ndim("mv", vec, 1, "vec")
    return _product(input, vec)


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The sum of the products of two vectors' elements.

    >>> nano.dot(nano.tensor([1, 2]), nano.tensor([3, 4]))
    tensor(11)
    """
    _operands("dot", input, tensor)
    _check_ndim("dot", input, 1, "input")
    _check_ndim("dot", tensor, 1, "tensor")
    if input._data.shape != tensor._data.shape:
        raise ShapeError("dot", f"lengths differ: {input.shape} and {tensor.shape}.")
    return Dot.apply(input, tensor)


def inner(input: Tensor, other: Tensor) -> Tensor:
    """Dot products along the last dimension: (..., k) and (..., k) give all pairs.

    >>> nano.inner(nano.tensor([[1, 2], [3, 4]]), nano.tensor([1, 1]))
    tensor([3, 7])
    """
    if autocast_state.dtype is not None:
        input, other = lowered(input, other)
    x, y = _operands("inner", input, other)
    if not x.ndim or not y.ndim:
        return input * other
    if x.shape[-1] != y.shape[-1]:
        raise ShapeError("inner", f"the last sizes of {x.shape} and {y.shape} differ.")
    k = x.shape[-1]
    rows = input.reshape(int(np.prod(x.shape[:-1])), k)
    columns = other.reshape(int(np.prod(y.shape[:-1])), k)
    product = MatMul.apply(rows, columns, transpose_y=True)
    return product.reshape((*x.shape[:-1], *y.shape[:-1]))


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """All products of an element of one vector with one of the other: (n,) and (m,) give (n, m).

    >>> nano.outer(nano.tensor([1, 2]), nano.tensor([3, 4]))
    tensor([[3, 4],
            [6, 8]])
    """
    _check_ndim("outer", check_tensor("outer", input), 1, "input")
    _check_ndim("outer", check_tensor("outer", vec2, "vec2"), 1, "vec2")
    return input.reshape(-1, 1) * vec2


def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * (mat1 @ mat2), all three of the same dtype.

    >>> nano.addmm(nano.ones(1, 1), nano.ones(1, 2), nano.ones(2, 1), alpha=2)
    tensor([[5.]])
    """
    if autocast_state.dtype is not None:
        input, mat1, mat2 = lowered(input, mat1, mat2)
    product = mm(mat1, mat2)
    _operands("addmm", input, product)
    if alpha != 1:
        product = product * alpha
    # As in BLAS, beta = 0 means that input is not looked at: its NaN does not spread.
    if beta == 0:
        return product
    return (input if beta == 1 else input * beta) + product


class Linear(Function):
    """y = x W^T + b; dx = G W, dW = G^T x, db = the sum of G over all rows."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        need_x, need_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if need_weight else None, weight if need_x else None)
        return kernels.linear(x, weight, bias)

    @staticmethod
    def backward(ctx, grad_output):
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        ndim = grad_output._data.ndim
        grad_x = grad_weight = grad_bias = None
        if need_x:
            grad_x = matmul(grad_output, weight)
        if need_weight:
            rows = grad_output
            if ndim != 2:
                rows = rows.reshape(-1, rows.shape[-1])
                x = x.reshape(-1, x.shape[-1])
            grad_weight = MatMul.apply(rows, x, transpose_x=True)
        if need_bias:
            dims = tuple(range(ndim - 1))
            grad_bias = Sum.apply(grad_output, dim=dims) if dims else grad_output
        return grad_x, grad_weight, grad_bias


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input weight^T + bias: the map of a fully connected layer.

    Args:
        input: (..., in_features).
        weight: (out_features, in_features).
        bias: (out_features,) or None.

    Returns:
        Tensor (..., out_features).

    Raises:
        RuntimeError: if shapes do not fit together, or dtypes differ.

    >>> linear(nano.tensor([[1.0, 2.0]]), nano.tensor([[3.0, 4.0]]), nano.tensor([0.5]))
    tensor([[11.5000]])
    """
    if autocast_state.dtype is not None:
        input, weight, bias = lowered(input, weight, bias)
    x, w = _operands("linear", input, weight)
    if w.ndim == 1:  # one output, whose dimension PyTorch leaves out
        product = matmul(input, weight)
        return product if bias is None else product + bias
    if w.ndim != 2 or not x.ndim or x.shape[-1] != w.shape[1]:
        raise ShapeError(
            "linear",
            f"input {x.shape} and weight {w.shape} do not fit: "
            "weight is (out_features, in_features), and input's last size is in_features.",
        )
    if bias is not None:
        b = check_tensor("linear", bias, "bias")._data
        if b.shape != (w.shape[0],):
            raise ShapeError(
                "linear",
                f"bias must have shape ({w.shape[0]},) for weight {w.shape}, got {b.shape}.",
            )
        if b.dtype != x.dtype:
            raise DtypeError("linear", f"bias is {bias.dtype}, but input is {input.dtype}.")
    return Linear.apply(input, weight, bias)
