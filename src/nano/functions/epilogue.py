"""Convolutions and matrix products together with what follows them.

No model calls these: compiled programs put them in the place of several operators (see
compiler/epilogues.py), whose derivatives they therefore do not need.
"""

from __future__ import annotations

import numpy as np

from ..autograd.function import Function
from ..backends import kernels
from .convolution import Conv2d, still_true

__all__ = ["Conv2dEpilogue", "Conv2dMoments", "Conv2dWeightSums", "Epilogue", "MatMulEpilogue"]


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


class Conv2dMoments(Function):
    """w * x + b, and the mean and variance of each of its channels.

    They are taken as the result is written; batch normalisation does not read it for them.
    """

    differentiable = False
    momentary = Conv2d.momentary

    @staticmethod
    def forward(ctx, x, weight, bias, *, stride, padding, dilation, groups, token=None):
        token = still_true(token, weight)
        return kernels.conv2d_moments(x, weight, bias, stride, padding, dilation, groups, token)


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


class Conv2dWeightSums(Function):
    """The gradient of a weight from bfloat16 images, in float32: its sums as they are taken."""

    differentiable = False

    @staticmethod
    def forward(ctx, grad_output, x, *, kernel_size, stride, padding, dilation, groups):
        return kernels.conv2d_weight(
            *(grad_output, x, kernel_size, stride, padding, dilation, groups),
            np.dtype(np.float32),
        )
