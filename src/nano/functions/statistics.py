"""Variance and standard deviation, the logarithm of a sum of exponentials, norms."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.function import Function
from ..backends import kernels
from ..dtypes import to_dtype
from ..errors import DtypeError, ShapeError, TypeMismatchError
from ..tensor import Tensor
from .extremes import AMax, AMin
from .operands import floating
from .reduction import Mean, Reduction, Sum, arguments, mean

__all__ = ["logsumexp", "norm", "std", "std_mean", "var", "var_mean"]


class Var(Reduction):
    """v = the sum of (x - mean)^2, divided by n - correction; d/dx = 2 (x - mean) / (n - c)."""

    @staticmethod
    def forward(ctx, x, *, dim=None, keepdim=False, correction=1.0):
        ctx.dim, ctx.keepdim = dim, keepdim
        ctx.save_for_backward(x)
        ctx.divisor = _degrees_of_freedom(x.shape, dim, correction)
        return kernels.var(x, dim, keepdim, max(ctx.divisor, 0.0))

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return _var_backward(ctx, grad_output, x)


def _degrees_of_freedom(shape: Any, dim: tuple[int, ...] | None, correction: float) -> float:
    """How many elements each result is of, less the correction."""
    count = 1
    for d in range(len(shape)) if dim is None else dim:
        count *= shape[d]
    return float(count) - correction


def _var_backward(ctx: Any, grad: Tensor, x: Tensor) -> Tensor:
    scale = 2.0 / ctx.divisor if ctx.divisor else float("inf")
    return ctx.spread(grad * scale) * (x - Mean.apply(x, dim=ctx.dim, keepdim=True))


class Std(Reduction):
    """s = sqrt(v) with v the variance; d/dv = 1 / (2 s), and 0 where s is 0."""

    @staticmethod
    def forward(ctx, x, *, dim=None, keepdim=False, correction=1.0):
        ctx.dim, ctx.keepdim = dim, keepdim
        ctx.divisor = _degrees_of_freedom(x.shape, dim, correction)
        y = np.asarray(kernels.sqrt(kernels.var(x, dim, keepdim, max(ctx.divisor, 0.0))))
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        x, y = ctx.saved_tensors
        grad_var = (grad_output / (y * 2.0)).masked_fill(y == 0, 0.0)
        return _var_backward(ctx, grad_var, x)


def _spread_of(
    function: type[Function],
    owner: str,
    input: Tensor,
    dim: Any,
    unbiased: bool | None,
    correction: Any,
    keepdim: Any,
    axis: Any,
    keepdims: Any,
) -> Tensor:
    """The common part of ``var`` and ``std``."""
    if isinstance(dim, bool):  # PyTorch's older form: var(input, unbiased)
        dim, unbiased = None, dim
    dims, keep = arguments(owner, input, dim, keepdim, axis, keepdims)
    if input._data.dtype.kind not in "fV":
        raise DtypeError(
            owner, f"input must be floating point, got {input.dtype}.", hint="Use t.float()."
        )
    if unbiased is not None:
        if correction is not None:
            raise TypeMismatchError(
                owner, "unbiased and correction say the same: give one of them."
            )
        correction = 1 if unbiased else 0
    correction = 1.0 if correction is None else float(correction)
    return function.apply(input, dim=dims, keepdim=keep, correction=correction)


def var(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Tensor:
    """The variance: the sum of squared distances from the mean, divided by n - correction.

    Args:
        input: floating point, any shape.
        dim: a dimension or several; all of them if None. Also called ``axis``.
        unbiased: True for correction 1, False for correction 0.
        keepdim: keep the reduced dimensions, with size 1. Also called ``keepdims``.
        correction: 1 if not given (Bessel's correction).

    Returns:
        Tensor without the reduced dimensions; NaN or inf where n <= correction.

    Raises:
        RuntimeError: for integers and booleans.
        IndexError: if there is no such dimension.

    >>> nano.var(nano.tensor([1.0, 2.0, 3.0])), nano.var(nano.tensor([1.0, 3.0]), correction=0)
    (tensor(1.), tensor(1.))
    """
    return _spread_of(Var, "var", input, dim, unbiased, correction, keepdim, axis, keepdims)


def std(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Tensor:
    """The standard deviation: the square root of :func:`var`. Its derivative at 0 is taken as 0.

    >>> nano.std(nano.tensor([1.0, 3.0, 5.0]))
    tensor(2.)
    """
    return _spread_of(Std, "std", input, dim, unbiased, correction, keepdim, axis, keepdims)


def var_mean(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """:func:`var` and :func:`mean`; options as for :func:`var`.

    >>> nano.var_mean(nano.tensor([1.0, 2.0, 3.0]))
    (tensor(1.), tensor(2.))
    """
    return _with_mean(var, input, dim, unbiased, keepdim, options)


def std_mean(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """:func:`std` and :func:`mean`; options as for :func:`var`.

    >>> nano.std_mean(nano.tensor([1.0, 3.0, 5.0]))
    (tensor(2.), tensor(3.))
    """
    return _with_mean(std, input, dim, unbiased, keepdim, options)


def _with_mean(
    function: Any, input: Tensor, dim: Any, unbiased: Any, keepdim: bool, options: dict[str, Any]
) -> Any:
    spread = function(input, dim, unbiased, keepdim, **options)
    shared = {k: v for k, v in options.items() if k in ("axis", "keepdims")}
    return spread, mean(input, None if isinstance(dim, bool) else dim, keepdim, **shared)


# Logarithms and norms -------------------------------------------------------------------


class LogSumExp(Reduction):
    """y = log(sum of exp(x)); d/dx = exp(x - y), the softmax."""

    @staticmethod
    def forward(ctx, x, *, dim=None, keepdim=False):
        ctx.dim, ctx.keepdim = dim, keepdim
        y = np.asarray(kernels.logsumexp(x, dim, keepdim))
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        x, y = ctx.saved_tensors
        return ctx.spread(grad_output) * (x - ctx.spread(y)).exp()


def logsumexp(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Tensor:
    """log(sum of exp(input)) over ``dim``, computed without overflow.

    Args:
        input: any shape; integers become floating point.
        dim: a dimension or several; all of them if None (PyTorch asks for one). Also ``axis``.
        keepdim: keep the reduced dimensions, with size 1. Also called ``keepdims``.

    >>> nano.logsumexp(nano.tensor([1000.0, 1000.0]), dim=0)
    tensor(1000.6932)
    """
    dims, keep = arguments("logsumexp", input, dim, keepdim, axis, keepdims)
    return LogSumExp.apply(floating("logsumexp", input), dim=dims, keepdim=keep)


class Norm(Reduction):
    """y = (sum of |x|^p)^(1/p); d/dx = sign(x) (|x| / y)^(p - 1), and 0 where y is 0."""

    @staticmethod
    def forward(ctx, x, *, p, dim=None, keepdim=False):
        ctx.p, ctx.dim, ctx.keepdim = p, dim, keepdim
        y = np.asarray(kernels.norm(x, p, dim, keepdim))
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        x, y = ctx.saved_tensors
        p = ctx.p
        scale = (grad_output * y ** (1.0 - p)).masked_fill(y == 0, 0.0)
        if p == 2:
            return x * ctx.spread(scale)
        if p == 1:
            return x.sign() * ctx.spread(grad_output)
        slope = x.sign() * x.abs() ** (p - 1.0)
        if p < 1:
            slope = slope.masked_fill(x == 0, 0.0)
        return slope * ctx.spread(scale)


def norm(
    input: Tensor,
    p: Any = "fro",
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    axis: Any = None,
    keepdims: bool | None = None,
) -> Tensor:
    """The p-norm (sum of |input|^p)^(1/p) of all elements, or over ``dim``.

    Args:
        input: floating point, any shape.
        p: a number; 2 or "fro" for the Euclidean norm, inf (-inf) for the largest (smallest)
            absolute value, 0 for the number of nonzero elements.
        dim: a dimension or several; all of them if None. Also called ``axis``.
        keepdim: keep the reduced dimensions, with size 1. Also called ``keepdims``.
        dtype: convert to it first.

    Raises:
        RuntimeError: for integers, or the infinite norm of nothing.

    >>> nano.norm(nano.tensor([3.0, 4.0])), nano.norm(nano.tensor([3.0, -4.0]), p=float("inf"))
    (tensor(5.), tensor(4.))
    """
    dims, keep = arguments("norm", input, dim, keepdim, axis, keepdims)
    if dtype is not None:
        input = input.to(to_dtype(dtype))
    if input._data.dtype.kind not in "fV":
        raise DtypeError("norm", f"input must be floating point, got {input.dtype}.")
    if isinstance(p, str):
        if p != "fro":
            raise ShapeError("norm", f'p must be a number or "fro", got {p!r}.')
        p = 2.0
    p = float(p)
    if p == 0:
        return Sum.apply((input != 0).to(input.dtype), dim=dims, keepdim=keep)
    if abs(p) == float("inf"):
        return _largest_or_smallest(input, p, dims, keep)
    return Norm.apply(input, p=p, dim=dims, keepdim=keep)


def _largest_or_smallest(input: Tensor, p: float, dims: Any, keep: bool) -> Tensor:
    shape = input._data.shape
    if 0 in (shape if dims is None else [shape[d] for d in dims]):
        raise ShapeError("norm", f"the norm for p = {p} of shape {shape} is of no elements.")
    absolute = input.abs()
    return (AMax if p > 0 else AMin).apply(absolute, dim=dims, keepdim=keep)
