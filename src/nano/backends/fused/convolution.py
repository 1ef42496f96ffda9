"""Convolutions: by Winograd's algorithm, directly where there are few channels, or in tiles."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from . import direct, winograd, winograd_weight
from .suits import BFLOAT16
from .suits_convolution import directly, few_channels, few_outputs

__all__ = ["conv2d", "conv2d_weight", "conv_transpose2d"]


def conv2d(
    x: NDArray,
    weight: NDArray,
    bias: NDArray | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    token: Any = None,
) -> NDArray:
    """See the reference kernel."""
    if x.dtype is BFLOAT16:
        from . import amx_images  # compiled to instructions that few processors have

        return amx_images.conv2d(x, weight, bias, stride, padding, dilation, groups, token)
    few = directly(x, weight, padding, stride, dilation, groups) is True
    run = direct.conv2d if few else winograd.conv2d
    return run(x, weight, bias, stride, padding, dilation, groups, token)


def conv_transpose2d(
    x: NDArray,
    weight: NDArray,
    bias: NDArray | None,
    output_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    token: Any = None,
) -> NDArray:
    """See the reference kernel."""
    if x.dtype is BFLOAT16:
        from . import amx_images

        return amx_images.conv_transpose2d(
            x, weight, bias, output_size, stride, padding, dilation, groups, token
        )
    few = few_channels(x, weight, stride, dilation, groups) is True
    run = direct.conv_transpose2d if few else winograd.conv_transpose2d
    return run(x, weight, bias, output_size, stride, padding, dilation, groups, token)


def conv2d_weight(
    grad_output: NDArray,
    x: NDArray,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    dtype: Any = None,
) -> NDArray:
    """See the reference kernel."""
    if x.dtype is BFLOAT16:
        from . import amx_weight

        return amx_weight.conv2d_weight(
            grad_output, x, kernel_size, stride, padding, dilation, groups, dtype
        )
    shape = (grad_output.shape[1], x.shape[1], *kernel_size)
    few = few_outputs(x, grad_output, shape, padding, stride, dilation, groups) is True
    run = direct.conv2d_weight if few else winograd_weight.conv2d_weight
    return run(grad_output, x, kernel_size, stride, padding, dilation, groups)
