"""Batch normalisation, with a residual and a ReLU that may be applied in the same pass.

On a CPU memory traffic decides: a normalisation, an addition and an activation done one
after the other go through memory three times, together once.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..autograd.function import Function
from ..autograd.restated import gradients_of
from ..autograd.views import check_writeable, overwrite
from ..backends import kernels
from ..dtypes import float32, from_numpy_dtype
from ..errors import (
    ArgumentError,
    DtypeError,
    GradientError,
    InputError,
    ShapeError,
    TypeMismatchError,
)
from ..tensor import Tensor
from .binary import add
from .operands import check_tensor, require_floating
from .unary import relu

__all__ = ["batch_norm"]

_FLOAT32 = np.dtype(np.float32)


class BatchNorm(Function):
    """y = act(z w + b + residual), z = (x - mean) / sqrt(var + eps), by the batch's statistics.

    mean and var go over all dimensions but the second, that of the channels; they are
    results too. With m the gradient that passes act, and n elements a channel: db = sum m,
    dw = sum m z, dx = w (m - db / n - z dw / n) / sqrt(var + eps), dresidual = m.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, residual, *, eps, activation):
        y, mean, var = kernels.batch_norm(x, weight, bias, eps, residual, activation)
        ctx.mark_non_differentiable(mean, var)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, bias, mean, var, y if activation else None)
        ctx.eps, ctx.activation, ctx.residual = eps, activation, residual is not None
        ctx.dtype = _parameter_dtype(x, weight, bias)
        return y, mean, var

    @staticmethod
    def backward(ctx, grad_output, *_):
        return _gradients(ctx, grad_output, training=True)


class BatchNormInference(Function):
    """As :class:`BatchNorm` by statistics that are given: dx = m w / sqrt(var + eps)."""

    @staticmethod
    def forward(ctx, x, weight, bias, residual, mean, var, *, eps, activation):
        y = kernels.batch_norm_inference(x, weight, bias, mean, var, eps, residual, activation)
        ctx.save_for_backward(x, weight, bias, mean, var, y if activation else None)
        ctx.eps, ctx.activation, ctx.residual = eps, activation, residual is not None
        ctx.dtype = _parameter_dtype(x, weight, bias)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        return (*_gradients(ctx, grad_output, training=False), None, None)


def _parameter_dtype(x: Any, weight: Any, bias: Any) -> Any:
    """The dtype in which the gradients of weight and bias are given."""
    if weight is not None:
        return weight.dtype
    return x.dtype if bias is None else bias.dtype


def _gradients(ctx: Any, grad_output: Tensor, training: bool) -> tuple[Tensor | None, ...]:
    """The gradients of x, weight, bias and residual."""
    x, weight, bias, mean, var, y = ctx.saved_tensors
    dx, dweight, dbias, *masked = BatchNormBackward.apply(
        grad_output,
        x,
        weight,
        None if y is None else y.detach(),
        None if bias is None else bias.detach(),
        mean,
        var,
        eps=ctx.eps,
        activation=ctx.activation,
        training=training,
        residual=ctx.residual,
        dtype=ctx.dtype,
    )
    grads = (dx, dweight, dbias, masked[0] if masked else grad_output)
    return tuple(
        [g if need else None for g, need in zip(grads, ctx.needs_input_grad, strict=False)]
    )


class BatchNormBackward(Function):
    """The gradients of x, weight, bias and, after an activation, of the residual.

    The formulas are those of :class:`BatchNorm`.
    """

    @staticmethod
    def forward(
        ctx,
        grad_output,
        x,
        weight,
        y,
        bias,
        mean,
        var,
        *,
        eps,
        activation,
        training,
        residual,
        dtype,
    ):
        ctx.save_for_backward(grad_output, x, weight, y, mean, var)
        ctx.eps, ctx.activation, ctx.training, ctx.dtype = eps, activation, training, dtype
        arrays = grad_output, x, y, weight, bias, mean, var
        return _derivatives(*arrays, eps, activation, training, residual, dtype=dtype)

    @staticmethod
    def backward(ctx, *v):
        g, x, weight, y, mean, var = ctx.saved_tensors
        dims = (0, *range(2, x.ndim))
        along = (-1, *([1] * (x.ndim - 2)))

        def formula(g, x, weight):
            wide = widened(x)
            if ctx.training:
                m = wide.mean(dims, keepdim=True)
                s = (wide.var(dims, correction=0, keepdim=True) + ctx.eps).rsqrt()
            else:
                m = widened(mean).reshape(along)
                s = (widened(var).reshape(along) + ctx.eps).rsqrt()
            z = (wide - m) * s
            masked = g if y is None else g * (y > 0)
            wg = widened(masked)
            dweight, dbias = (wg * z).sum(dims), wg.sum(dims)
            dx = wg
            if ctx.training:
                dx = wg - wg.mean(dims, keepdim=True) - z * (wg * z).mean(dims, keepdim=True)
            dx = dx * (s if weight is None else s * widened(weight).reshape(along))
            dtype = from_numpy_dtype(ctx.dtype)
            results = (dx.to(x.dtype), dweight.to(dtype), dbias.to(dtype))
            return results if len(v) == 3 else (*results, masked)

        grads = gradients_of(formula, (g, x, weight), v, ctx.needs_input_grad[:3])
        return (*grads, None, None, None, None)


class BatchNormBackwardOfSum(Function):
    """:class:`BatchNormBackward` of ``grad_output + more``, for an output that was read twice.

    Compiled programs put it in the place of both; its bits are those of both.
    """

    differentiable = False

    @staticmethod
    def forward(
        ctx,
        grad_output,
        x,
        weight,
        y,
        bias,
        mean,
        var,
        more,
        *,
        eps,
        activation,
        training,
        residual,
        dtype,
    ):
        arrays = grad_output, x, y, weight, bias, mean, var
        return _derivatives(*arrays, eps, activation, training, residual, more, dtype=dtype)


def _derivatives(*args: Any, dtype: Any) -> tuple[Any, ...]:
    """What the kernel gives, with the gradients of the parameters in their dtype."""
    dx, dweight, dbias, masked = kernels.batch_norm_backward(*args)
    results = dx, dweight.astype(dtype, copy=False), dbias.astype(dtype, copy=False)
    return results if masked is None else (*results, masked)


def widened(x: Tensor) -> Tensor:
    """16-bit floats as float32, in which statistics are taken."""
    return x.to(float32) if x._data.dtype.itemsize == 2 else x


def check_parameters(owner: str, input: Tensor, **parameters: Tensor | None) -> None:
    """Refuse a mixture of dtypes that PyTorch refuses.

    Raises:
        RuntimeError: unless all have the input's dtype, or all are float32 and the input
            is a 16-bit float.
    """
    x = input._data.dtype
    found: Any = None
    for name, p in parameters.items():
        if p is None:
            continue
        d = p._data.dtype
        allowed = d == x or (x.itemsize == 2 and d == _FLOAT32)
        if not allowed or (found is not None and d != found):
            raise DtypeError(
                owner,
                f"{name} is {p.dtype}, which does not go with an input of {input.dtype}"
                + (f" and others of {from_numpy_dtype(found)}." if allowed else "."),
                hint="All have the input's dtype, or all are float32 with a 16-bit input.",
            )
        found = d


def _check(
    input: Tensor, parameters: dict[str, Tensor | None], residual: Tensor | None, activation: Any
) -> None:
    """What :func:`batch_norm` needs of its tensors."""
    require_floating("batch_norm", input)
    shape, dtype = input._data.shape, input._data.dtype
    if len(shape) < 2:
        raise ShapeError(
            "batch_norm", f"input must have at least 2 dimensions (n, c, *), got shape {shape}."
        )
    channels, mixed = shape[1:2], False
    for name, p in parameters.items():
        if p is None:
            continue
        array = check_tensor("batch_norm", p, name)._data
        if array.shape != channels:
            raise ShapeError(
                "batch_norm",
                f"{name} should contain {shape[1]} elements, got shape {p.shape}.",
                facts=f"input {shape}, whose dimension 1 is that of the channels",
            )
        mixed = mixed or array.dtype is not dtype
    if mixed:
        check_parameters("batch_norm", input, **parameters)
    if residual is not None:
        check_tensor("batch_norm", residual, "residual")
        if residual._data.shape != shape:
            raise ShapeError(
                "batch_norm",
                f"residual must have the input's shape: expected {shape}, got {residual.shape}.",
            )
    if activation is not None and activation != "relu":
        raise InputError("batch_norm", f'activation must be None or "relu", got {activation!r}.')
    for name in ("running_mean", "running_var"):
        p = parameters[name]
        if p is not None and p.requires_grad:
            raise GradientError(
                "batch_norm",
                f"it is not differentiable with respect to {name}, which requires grad.",
                hint=f"Give {name}.detach().",
            )


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
    *,
    residual: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """(input - mean) / sqrt(var + eps) * weight + bias, by statistics of each channel.

    In training mean and variance (biased) are those of the batch, and ``running_mean`` and
    ``running_var`` become (1 - momentum) * running + momentum * new, with the unbiased
    variance. Otherwise the running ones are used.

    ``residual`` and ``activation`` are nano's own: act(norm(input) + residual) in one pass.

    Source: S. Ioffe and C. Szegedy, "Batch normalization: accelerating deep network training
    by reducing internal covariate shift", ICML 2015, arXiv:1502.03167.

    Args:
        input: (n, c, *), floating point.
        running_mean, running_var: (c,); may both be None in training.
        weight, bias: (c,) or None.
        training: whether to use, and learn from, the statistics of the batch.
        momentum: weight of the new statistics in the running ones; a number, or a 0-d tensor.
        eps: added to the variance.
        residual: None, or of the input's shape; added before the activation.
        activation: None or ``"relu"``.

    Returns:
        Tensor of the input's shape and dtype, or of the one to which ``+`` promotes it and
        the residual. The statistics of 16-bit floats are taken in float32, and the
        parameters of a 16-bit input may be float32.

    Raises:
        RuntimeError: if shapes do not fit together, or dtypes, or no statistics are given.
        ValueError: in training, if a channel has a single value, or eps is not positive.

    >>> batch_norm(nano.tensor([[1.0, 0.0], [3.0, 4.0]]), None, None, training=True)
    tensor([[-1.0000, -1.0000],
            [ 1.0000,  1.0000]])
    """
    running = {"running_mean": running_mean, "running_var": running_var}
    _check(input, {**running, "weight": weight, "bias": bias}, residual, activation)
    if residual is not None and residual._data.dtype != input._data.dtype:
        # Under autocast: 16 bits from a convolution, and float32 beside it. One pass has one dtype.
        y = batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
        y = add(y, residual)
        return relu(y) if activation else y
    if not training:
        for name, p in running.items():
            if p is None:
                raise ArgumentError("batch_norm", f"{name} must be given in evaluation mode.")
        return BatchNormInference.apply(
            *(input, weight, bias, residual, running_mean, running_var),
            eps=float(eps),
            activation=activation,
        )
    shape = input._data.shape
    count = shape[0] * prod(shape[2:])
    if count == 1:
        raise InputError(
            "batch_norm",
            f"expected more than 1 value per channel when training, got input size {shape}.",
            hint="Give a larger batch, or call eval() for evaluation.",
        )
    if (running_mean is None) != (running_var is None):
        raise InputError("batch_norm", "give both running_mean and running_var, or neither.")
    if eps <= 0:
        raise InputError("batch_norm", f"eps must be positive during training, got {eps}.")
    given = isinstance(momentum, Tensor) and not momentum._data.ndim
    if isinstance(momentum, bool) or not (given or isinstance(momentum, (int, float))):
        raise TypeMismatchError(
            "batch_norm", f"momentum must be a float, got {type(momentum).__name__}."
        )
    y, mean, var = BatchNorm.apply(
        input, weight, bias, residual, eps=float(eps), activation=activation
    )
    if running_mean is not None and input._data.size:
        _update(running_mean, mean, momentum, 1.0)
        _update(running_var, var, momentum, count / (count - 1))
    return y


class MovingAverage(Function):
    """(1 - momentum) running + momentum factor new."""

    differentiable = False

    @staticmethod
    def forward(ctx, running, new, momentum, *, factor):
        return kernels.moving_average(running, new, float(momentum), factor)


def _update(running: Tensor, new: Tensor, momentum: float | Tensor, factor: float) -> None:
    """Let ``running`` learn from ``new``, as a buffer does: without a history."""
    check_writeable("batch_norm", running._data)
    overwrite("batch_norm", running, MovingAverage.apply(running, new, momentum, factor=factor))
