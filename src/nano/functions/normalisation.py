"""Normalisation: layer, group, instance and root-mean-square; batch_norm.py has the batch's.

All subtract a mean and divide by a standard deviation; they differ in the elements over
which these are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..autograd.function import Function
from ..autograd.grad_mode import no_grad
from ..autograd.restated import gradients_of
from ..backends import kernels
from ..dtypes import from_numpy_dtype
from ..errors import ArgumentError, InputError, ShapeError, TypeMismatchError
from ..tensor import Tensor
from .batch_norm import batch_norm, check_parameters, widened
from .operands import check_tensor, require_floating
from .reduction import Sum

__all__ = ["group_norm", "instance_norm", "layer_norm", "rms_norm"]


class LayerNorm(Function):
    """y = (x - mean) / sqrt(var + eps) w + b, over the last ``axes`` dimensions.

    With z = (x - mean) / sqrt(var + eps) and h = g w:
    dx = (h - mean(h) - z mean(h z)) / sqrt(var + eps), dw = sum g z, db = sum g.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, *, axes, eps):
        y, mean, rstd = kernels.layer_norm(x, weight, bias, axes, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        ctx.axes, ctx.eps = axes, eps
        ctx.bias_dtype = None if bias is None else bias.dtype
        return y

    @staticmethod
    def backward(ctx, grad_output):
        x, weight, mean, rstd = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        dx = dweight = dbias = None
        if need_x or need_weight or (need_bias and weight is not None):
            grads = LayerNormBackward.apply(
                grad_output, x, weight, mean, rstd, axes=ctx.axes, eps=ctx.eps
            )
            dx, dweight, dbias = (grads, None, None) if weight is None else grads
        if need_bias and dbias is None:
            samples = tuple(range(grad_output.ndim - ctx.axes))
            dbias = Sum.apply(widened(grad_output), dim=samples) if samples else grad_output
            dbias = dbias.to(from_numpy_dtype(ctx.bias_dtype))
        return (
            dx if need_x else None,
            dweight if need_weight else None,
            dbias if need_bias else None,
        )


class LayerNormBackward(Function):
    """The gradients of x and, where there is a weight, of weight and bias; see LayerNorm."""

    @staticmethod
    def forward(ctx, grad_output, x, weight, mean, rstd, *, axes, eps):
        ctx.save_for_backward(grad_output, x, weight)
        ctx.axes, ctx.eps = axes, eps
        dx, dweight, dbias = kernels.layer_norm_backward(grad_output, x, weight, mean, rstd, axes)
        if weight is None:
            return dx
        dtype = weight.dtype
        return dx, dweight.astype(dtype, copy=False), dbias.astype(dtype, copy=False)

    @staticmethod
    def backward(ctx, *v):
        g, x, weight = ctx.saved_tensors
        dims = tuple(range(x.ndim - ctx.axes, x.ndim))
        samples = tuple(range(x.ndim - ctx.axes))

        def formula(g, x, weight):
            wide, wg = widened(x), widened(g)
            mean = wide.mean(dims, keepdim=True)
            rstd = (wide.var(dims, correction=0, keepdim=True) + ctx.eps).rsqrt()
            z = (wide - mean) * rstd
            h = wg if weight is None else wg * widened(weight)
            dx = (h - h.mean(dims, keepdim=True) - z * (h * z).mean(dims, keepdim=True)) * rstd
            dx = dx.to(x.dtype)
            if weight is None:
                return (dx,)
            dweight, dbias = wg * z, wg
            if samples:
                dweight, dbias = dweight.sum(samples), dbias.sum(samples)
            return dx, dweight.to(weight.dtype), dbias.to(weight.dtype)

        return (*gradients_of(formula, (g, x, weight), v, ctx.needs_input_grad[:3]), None, None)


def normal_shape(owner: str, normalized_shape: Any) -> tuple[int, ...]:
    """``normalized_shape``, a sequence of integers, as a tuple.

    Raises:
        TypeError: if it is none.
        RuntimeError: if it is empty.
    """
    if not isinstance(normalized_shape, Sequence) or isinstance(normalized_shape, str):
        raise TypeMismatchError(
            owner,
            f"normalized_shape must be a tuple of integers, got {type(normalized_shape).__name__}.",
        )
    if not normalized_shape:
        raise ShapeError(owner, "normalized_shape must have at least one dimension, got ().")
    return tuple(normalized_shape)


def _check_normalized(
    owner: str, input: Tensor, normalized_shape: Any, **parameters: Tensor | None
) -> tuple[int, ...]:
    require_floating(owner, input)
    shape = normal_shape(owner, normalized_shape)
    if input.shape[max(input.ndim - len(shape), 0) :] != shape:
        raise ShapeError(
            owner,
            f"normalized_shape {shape} is not the end of the input's shape {input.shape}.",
            hint="It must equal the input's last sizes.",
        )
    for name, p in parameters.items():
        if p is not None and check_tensor(owner, p, name).shape != shape:
            raise ShapeError(
                owner, f"{name} must have the shape {shape} of normalized_shape, got {p.shape}."
            )
    return shape


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(input - mean) / sqrt(var + eps) * weight + bias, over the last dimensions.

    Source: J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer normalization", 2016,
    arXiv:1607.06450.

    Args:
        input: (*, *normalized_shape), floating point.
        normalized_shape: the sizes of the dimensions that are normalised, the last ones.
        weight, bias: of shape ``normalized_shape``, or None; of input's dtype, or float32
            for a 16-bit input.
        eps: added to the variance.

    Returns:
        Tensor of input's shape and dtype. Statistics of 16-bit floats are float32.

    Raises:
        RuntimeError: if shapes do not fit together, or dtypes.

    >>> layer_norm(nano.tensor([[1.0, 2.0, 3.0]]), (3,))
    tensor([[-1.2247,  0.0000,  1.2247]])
    """
    shape = _check_normalized("layer_norm", input, normalized_shape, weight=weight, bias=bias)
    check_parameters("layer_norm", input, weight=weight, bias=bias)
    return LayerNorm.apply(input, weight, bias, axes=len(shape), eps=float(eps))


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """input / sqrt(mean(input^2) + eps) * weight, over the last dimensions.

    Source: B. Zhang and R. Sennrich, "Root mean square layer normalization",
    NeurIPS 2019, arXiv:1910.07467.

    Args:
        input: (*, *normalized_shape), floating point.
        normalized_shape: the sizes of the dimensions that are normalised, the last ones.
        weight: of shape ``normalized_shape``, or None.
        eps: added to the mean square; by default the input's machine epsilon
            (float32's for 16-bit floats, which are computed in float32).

    Raises:
        RuntimeError: if shapes do not fit together.

    >>> rms_norm(nano.tensor([3.0, 4.0]), (2,))
    tensor([0.8485, 1.1314])
    """
    shape = _check_normalized("rms_norm", input, normalized_shape, weight=weight)
    dims = tuple(range(-len(shape), 0))
    wide = widened(input)
    if eps is None:
        eps = float(np.finfo(wide._data.dtype).eps)
    y = wide * (wide.square().mean(dims, keepdim=True) + eps).rsqrt()
    if weight is not None:
        y = y * weight
    return y.to(input.dtype)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each group of channels of each sample by its own mean and variance.

    Source: Y. Wu and K. He, "Group normalization", ECCV 2018, arXiv:1803.08494.

    Args:
        input: (n, c, *), floating point.
        num_groups: how many groups the c channels make; it must divide c.
        weight, bias: (c,) or None; of input's dtype, or float32 for a 16-bit input.
        eps: added to the variance.

    Raises:
        RuntimeError: if shapes do not fit together, or dtypes.
        ValueError: if a group has a single value.

    >>> group_norm(nano.tensor([[1.0, 2.0, 3.0, 5.0]]), 2)
    tensor([[-1.0000,  1.0000, -1.0000,  1.0000]])
    """
    require_floating("group_norm", input)
    if input.ndim < 2:
        raise ShapeError(
            "group_norm", f"input must have at least 2 dimensions, got shape {input.shape}."
        )
    n, c, *rest = input.shape
    if num_groups < 1:
        raise InputError("group_norm", f"num_groups must be positive, got {num_groups}.")
    if c % num_groups:
        raise ShapeError(
            "group_norm",
            f"the number of channels must be divisible by num_groups={num_groups}, "
            f"got an input of shape {input.shape}.",
        )
    _check_channels("group_norm", c, weight=weight, bias=bias)
    check_parameters("group_norm", input, weight=weight, bias=bias)
    if n * c // num_groups * prod(rest) == 1:
        raise InputError(
            "group_norm",
            f"expected more than 1 value per channel when training, got input size {input.shape}.",
        )
    size = c // num_groups * prod(rest)
    wide = widened(input)
    y = LayerNorm.apply(
        wide.reshape(n, num_groups, size), None, None, axes=1, eps=float(eps)
    ).reshape(input.shape)
    along = (c, *([1] * len(rest)))
    if weight is not None:
        y = y * weight.reshape(along)
    if bias is not None:
        y = y + bias.reshape(along)
    return y.to(input.dtype)


def _check_channels(owner: str, channels: int, **parameters: Tensor | None) -> None:
    for name, p in parameters.items():
        if p is not None and check_tensor(owner, p, name).shape != (channels,):
            raise ShapeError(
                owner, f"{name} should contain {channels} elements, got shape {p.shape}."
            )


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel of each sample by its own mean and variance.

    It is :func:`batch_norm` of the (1, n c, *) tensor.

    Source: D. Ulyanov, A. Vedaldi and V. Lempitsky, "Instance normalization: the missing
    ingredient for fast stylization", 2016, arXiv:1607.08022.

    Args:
        input: (n, c, *), floating point.
        running_mean, running_var: (c,) or None; with ``use_input_stats`` the mean of the
            samples' statistics is averaged into them, else they are used.
        weight, bias: (c,) or None.
        use_input_stats: whether to take the statistics of the input.
        momentum: weight of the new statistics in the running ones.
        eps: added to the variance.

    Raises:
        ValueError: if a channel has a single value.
        RuntimeError: if shapes do not fit together, or dtypes.

    >>> instance_norm(nano.tensor([[[1.0, 2.0, 3.0]]]))
    tensor([[[-1.2247,  0.0000,  1.2247]]])
    """
    require_floating("instance_norm", input)
    if not use_input_stats and (running_mean is None or running_var is None):
        raise ArgumentError(
            "instance_norm",
            "running_mean and running_var must be given when use_input_stats is False.",
        )
    if use_input_stats and prod(input.shape[2:]) == 1:
        raise InputError(
            "instance_norm",
            f"expected more than 1 spatial element when training, got input size {input.shape}.",
        )
    n, c, *rest = input.shape
    parameters = {"running_mean": running_mean, "running_var": running_var}
    _check_channels("instance_norm", c, weight=weight, bias=bias, **parameters)
    check_parameters("instance_norm", input, weight=weight, bias=bias, **parameters)
    mean, var = (None if p is None else p.detach().repeat(n) for p in (running_mean, running_var))
    y = batch_norm(
        input.reshape(1, n * c, *rest),
        mean,
        var,
        None if weight is None else weight.repeat(n),
        None if bias is None else bias.repeat(n),
        use_input_stats,
        momentum,
        eps,
    )
    if use_input_stats and n:
        with no_grad():
            for running, new in ((running_mean, mean), (running_var, var)):
                if running is not None and new is not None:
                    running.copy_(new.reshape(n, c).mean(0))
    return y.reshape(input.shape)
