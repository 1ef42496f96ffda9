"""Convolutions and matrix products with what follows them: act(y scale + bias + residual).

Here it is one kernel after the other, each chosen as always; other backends do all of it
before they write the result.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..registry import kernels, register
from .batch_norm import moments
from .windows import Padding, Pair

#: Activations by name, of the array and, where there is one, of the activation's number.
ACTIVATIONS: dict[str, Callable[..., NDArray]] = {
    "relu": lambda x: kernels.relu(x),
    "leaky_relu": lambda x, slope: kernels.leaky_relu(x, x, slope),
    "gelu": lambda x: kernels.gelu(x),
    "gelu_tanh": lambda x: kernels.gelu_tanh(x),
    "sigmoid": lambda x: kernels.sigmoid(x),
    "tanh": lambda x: kernels.tanh(x),
    "silu": lambda x: kernels.silu(x),
}


def conv2d_epilogue(
    x: NDArray,
    weight: NDArray,
    bias: NDArray | None,
    scale: NDArray | None,
    residual: NDArray | None,
    activation: tuple[Any, ...] | None,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    token: Hashable = None,
) -> NDArray:
    """act(conv2d(x, weight) scale + bias + residual).

    Args:
        x, weight, stride, padding, dilation, groups, token: see :func:`conv2d`.
        bias: (o,), or None if there is no scale either.
        scale: (o,) or None; then it and bias may be float32 beside an x of 16 bits.
        residual: of the result's shape and dtype, or None.
        activation: the name of one of ``ACTIVATIONS`` and its number, if it has one; or None.
    """
    own = bias if scale is None else None
    y = kernels.conv2d(x, weight, own, stride, padding, dilation, groups, token)
    return _finish(y, scale, bias, (-1, 1, 1), residual, activation)


def conv2d_moments(
    x: NDArray,
    weight: NDArray,
    bias: NDArray | None,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    token: Hashable = None,
) -> tuple[NDArray, NDArray, NDArray]:
    """conv2d(x, weight, bias), with mean and variance of each channel of the result."""
    y = kernels.conv2d(x, weight, bias, stride, padding, dilation, groups, token)
    return y, *moments(y)


def matmul_epilogue(
    x: NDArray,
    y: NDArray,
    bias: NDArray | None,
    scale: NDArray | None,
    residual: NDArray | None,
    activation: tuple[Any, ...] | None,
) -> NDArray:
    """act(x y scale + bias + residual), with x (..., n, k) and y (..., k, m).

    Args:
        bias, scale, residual, activation: see :func:`conv2d_epilogue`, of m channels.
    """
    if scale is None and y.ndim == 2:
        product = kernels.linear(x, y.T, bias)
    else:
        product = kernels.matmul(x, y)
        if scale is None and bias is not None:
            product = product + bias
    return _finish(product, scale, bias, (-1,), residual, activation)


def _finish(
    y: NDArray,
    scale: NDArray | None,
    bias: NDArray | None,
    along: tuple[int, ...],
    residual: NDArray | None,
    activation: tuple[Any, ...] | None,
) -> NDArray:
    """act(y scale + bias + residual), of a y that nobody else has; the bias is with the scale."""
    if scale is not None and bias is not None:
        scaled = y.astype(np.float32) if y.dtype.itemsize == 2 else y
        np.multiply(scaled, scale.reshape(along), out=scaled)
        np.add(scaled, bias.reshape(along), out=scaled)
        y = scaled.astype(y.dtype, copy=False)
    if residual is not None:
        y = kernels.add(y, residual)
    if activation is not None:
        name, *numbers = activation
        y = ACTIVATIONS[name](y, *numbers)
    return y


for _kernel in (conv2d_epilogue, conv2d_moments, matmul_epilogue):
    register(_kernel.__name__, _kernel)
