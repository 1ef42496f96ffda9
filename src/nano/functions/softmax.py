"""Softmax and its logarithm: scores made into probabilities along one dimension."""

from __future__ import annotations

from typing import Any

from ..autograd.function import Function
from ..backends import kernels
from ..dtypes import to_dtype
from ..errors import DtypeError
from ..tensor import Tensor
from .operands import check_tensor, normal_dim
from .reduction import Sum

__all__ = ["log_softmax", "softmax", "softmin"]


class Softmax(Function):
    """y_i = exp(x_i) / sum_j exp(x_j) along ``dim``; the gradient is y (g - sum(g y))."""

    @staticmethod
    def forward(ctx, x, *, dim):
        y = kernels.softmax(x, dim)
        ctx.dim = dim
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        (y,) = ctx.saved_tensors
        return SoftmaxBackward.apply(grad_output, y, dim=ctx.dim)


class SoftmaxBackward(Function):
    """r = y (g - s), s = sum(g y). With v the gradient of r: d/dg = y (v - sum(v y)),
    d/dy = v (g - s) - g sum(v y)."""

    @staticmethod
    def forward(ctx, grad_output, y, *, dim):
        ctx.dim = dim
        ctx.save_for_backward(grad_output, y)
        return kernels.softmax_backward(grad_output, y, dim)

    @staticmethod
    def backward(ctx, v):
        g, y = ctx.saved_tensors
        need_g, need_y = ctx.needs_input_grad
        grad_g = grad_y = None
        if need_g:
            grad_g = SoftmaxBackward.apply(v, y, dim=ctx.dim)
        if need_y:
            dims = (ctx.dim,)
            s = Sum.apply(g * y, dim=dims, keepdim=True)
            grad_y = v * (g - s) - g * Sum.apply(v * y, dim=dims, keepdim=True)
        return grad_g, grad_y


class LogSoftmax(Function):
    """y_i = x_i - log sum_j exp(x_j) along ``dim``; the gradient is g - exp(y) sum(g)."""

    @staticmethod
    def forward(ctx, x, *, dim):
        y = kernels.log_softmax(x, dim)
        ctx.dim = dim
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        (y,) = ctx.saved_tensors
        return LogSoftmaxBackward.apply(grad_output, y, dim=ctx.dim)


class LogSoftmaxBackward(Function):
    """r = g - exp(y) sum(g). With v the gradient of r: d/dg = v - sum(v exp(y)),
    d/dy = -v exp(y) sum(g)."""

    @staticmethod
    def forward(ctx, grad_output, y, *, dim):
        ctx.dim = dim
        ctx.save_for_backward(grad_output, y)
        return kernels.log_softmax_backward(grad_output, y, dim)

    @staticmethod
    def backward(ctx, v):
        g, y = ctx.saved_tensors
        need_g, need_y = ctx.needs_input_grad
        dims = (ctx.dim,)
        vp = v * y.exp()
        grad_g = v - Sum.apply(vp, dim=dims, keepdim=True) if need_g else None
        grad_y = -vp * Sum.apply(g, dim=dims, keepdim=True) if need_y else None
        return grad_g, grad_y


def _apply(function: type[Function], owner: str, input: Tensor, dim: Any, dtype: Any) -> Tensor:
    x = check_tensor(owner, input)
    if dtype is not None:
        x = x.to(to_dtype(dtype))
    if x._data.dtype.kind not in "fV":
        raise DtypeError(
            owner,
            f"input must be floating point, got {x.dtype}.",
            hint="Convert it with t.float(), or give dtype=nano.float32.",
        )
    d = normal_dim(owner, dim, x._data.ndim)
    if not x._data.ndim:
        return function.apply(x.reshape(1), dim=0).reshape(())
    return function.apply(x, dim=d)


def softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """exp(input) / sum(exp(input)) along ``dim``: positive numbers that sum to 1.

    Source: J. S. Bridle, "Probabilistic interpretation of feedforward classification
    network outputs", Neurocomputing 1990.

    Args:
        input: floating point, any shape.
        dim: along which the results sum to 1.
        dtype: convert to it first.

    Returns:
        Tensor of the same shape. Computed without overflow; 16-bit floats in float32.

    Raises:
        IndexError: if there is no such dimension.
        RuntimeError: for integers and booleans, unless ``dtype`` is given.

    >>> nano.softmax(nano.tensor([1.0, 2.0, 3.0]), dim=0)
    tensor([0.0900, 0.2447, 0.6652])
    """
    return _apply(Softmax, "softmax", input, dim, dtype)


def log_softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """input - log(sum(exp(input))) along ``dim``: the logarithm of :func:`softmax`.

    Exact also where the softmax itself is too small for a float.

    >>> nano.log_softmax(nano.tensor([1.0, 2.0, 3.0]), dim=0)
    tensor([-2.4076, -1.4076, -0.4076])
    """
    return _apply(LogSoftmax, "log_softmax", input, dim, dtype)


def softmin(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """:func:`softmax` of -input: the smallest gets the largest share.

    >>> softmin(nano.tensor([1.0, 2.0]), dim=0)
    tensor([0.7311, 0.2689])
    """
    return _apply(Softmax, "softmin", -check_tensor("softmin", input), dim, dtype)
