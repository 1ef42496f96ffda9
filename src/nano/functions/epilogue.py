"""Convolutions and matrix products together with what follows them.

No model calls these: compiled programs put them in the place of several operators (see
compiler/epilogues.py), whose derivatives they therefore do not need.
"""

from __future__ import annotations

import numpy as np

from ..autograd.function import Function
from ..backends import kernels
from .convolution import Conv2d, still_true

_FLOAT32 = np.dtype(np.float32)

__all__ = ["BatchNormScale", "Conv2dEpilogue", "Epilogue", "MatMulEpilogue"]


class Epilogue(Function):
    """An operator that is several in one: rounded once where those were rounded in turn."""

    differentiable = False


class Conv2dEpilogue(Epilogue):
    """act((w * x) scale + b + residual)."""

    momentary = Conv2d.momentary

    @staticmethod
    def forward(
        ctx,
        x,
        weight,
        bias,
        scale,
        residual,
        *,
        activation,
        stride,
        padding,
        dilation,
        groups,
        token=None,
    ):
        token = still_true(token, weight)
        return kernels.conv2d_epilogue(
            *(x, weight, bias, scale, residual, activation),
            *(stride, padding, dilation, groups, token),
        )


class MatMulEpilogue(Epilogue):
    """act((A B) scale + b + residual); A is x, or x^T with ``transpose_x``, and B likewise."""

    @staticmethod
    def forward(
        ctx, x, y, bias, scale, residual, *, activation, transpose_x=False, transpose_y=False
    ):
        return kernels.matmul_epilogue(
            x.swapaxes(-1, -2) if transpose_x else x,
            y.swapaxes(-1, -2) if transpose_y else y,
            *(bias, scale, residual, activation),
        )


class BatchNormScale(Epilogue):
    """Batch normalisation of z + c by given statistics as z scale + shift: both, in float32 at
    least. scale = w / sqrt(var + eps), shift = b + (c - mean) scale.

    Source: B. Jacob et al., "Quantization and training of neural networks for efficient
    integer-arithmetic-only inference", CVPR 2018, arXiv:1712.05877, section 3.2.
    """

    @staticmethod
    def forward(ctx, before, weight, bias, mean, var, *, eps):
        if var.dtype.itemsize == 2:
            var, mean = var.astype(_FLOAT32), mean.astype(_FLOAT32)
        scale = np.add(var, eps)
        np.sqrt(scale, out=scale)
        np.divide(1 if weight is None else weight, scale, out=scale)
        shift = np.multiply(mean if before is None else mean - before, scale)
        np.subtract(0 if bias is None else bias, shift, out=shift)
        return scale, shift
