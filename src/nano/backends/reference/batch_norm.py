"""Batch normalisation, with what may follow it at once: adding a residual, and a ReLU.

A channel is axis 1; the statistics go over all other axes. Inputs may lie in memory in
any order (images mostly lie channels-last), and results lie as the input does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..registry import register


def batch_norm_loops(
    x: NDArray,
    weight: NDArray,
    bias: NDArray,
    eps: float,
    residual: NDArray,
) -> NDArray:
    """relu((x - mean) / sqrt(var + eps) weight + bias + residual), of x (n, c, h, w): the
    definition, a channel and a pixel at a time."""
    y = np.empty_like(x)
    n, channels, height, width = x.shape
    pixels = [(i, r, s) for i in range(n) for r in range(height) for s in range(width)]
    for c in range(channels):
        mean = sum(x[i, c, r, s] for i, r, s in pixels) / len(pixels)
        var = sum((x[i, c, r, s] - mean) ** 2 for i, r, s in pixels) / len(pixels)
        for i, r, s in pixels:
            z = (x[i, c, r, s] - mean) / (var + eps) ** 0.5
            y[i, c, r, s] = max(z * weight[c] + bias[c] + residual[i, c, r, s], 0)
    return y


def _widened(x: NDArray) -> NDArray:
    """float32 for 16-bit floats, whose sums would lose digits."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 else x


def _axes(x: NDArray) -> tuple[int, ...]:
    """All axes but that of the channels."""
    return (0, *range(2, x.ndim))


def _along_channels(x: NDArray, channels: NDArray) -> NDArray:
    """One number a channel, in a shape that broadcasts with ``x``, in the dtype to compute in."""
    return _widened(channels).reshape(-1, *([1] * (x.ndim - 2)))


def _channel_sum(x: NDArray) -> NDArray:
    """The sum of each channel; added up in float64, for there may be a million terms."""
    total = np.add.reduce(x, axis=_axes(x), dtype=np.float64)
    return total.astype(x.dtype, copy=False)


def _centred(x: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """x - mean, mean and variance of each channel."""
    wide = _widened(x)
    count = wide.dtype.type(max(x.size // max(x.shape[1], 1), 1))
    mean = _channel_sum(wide) / count
    y = np.subtract(wide, _along_channels(x, mean), out=np.empty_like(wide))
    return y, mean, _channel_sum(np.square(y)) / count


def moments(x: NDArray) -> tuple[NDArray, NDArray]:
    """Mean and variance of each channel, the latter as the mean of the squared distances."""
    return _centred(x)[1:]


def _finish(
    y: NDArray,
    dtype: np.dtype,
    bias: NDArray | None,
    residual: NDArray | None,
    activation: str | None,
) -> NDArray:
    """act(y + bias + residual), written into y and then cast."""
    if bias is not None:
        y += _along_channels(y, bias)
    if residual is not None:
        y += _widened(residual)
    if activation == "relu":
        np.maximum(y, y.dtype.type(0), out=y)
    return y.astype(dtype, copy=False)


def batch_norm(
    x: NDArray,
    weight: NDArray | None,
    bias: NDArray | None,
    eps: float,
    residual: NDArray | None,
    activation: str | None,
) -> tuple[NDArray, NDArray, NDArray]:
    """act((x - mean) / sqrt(var + eps) weight + bias + residual); mean and variance of x.

    The variance is the mean of the squared distances. ``activation`` is None or "relu".
    """
    y, mean, var = _centred(x)
    scale = 1 / np.sqrt(var + y.dtype.type(eps))
    if weight is not None:
        scale = scale * _widened(weight)
    y *= _along_channels(x, scale)
    return _finish(y, x.dtype, bias, residual, activation), mean, var


def batch_norm_inference(
    x: NDArray,
    weight: NDArray | None,
    bias: NDArray | None,
    mean: NDArray,
    var: NDArray,
    eps: float,
    residual: NDArray | None,
    activation: str | None,
) -> NDArray:
    """act((x - mean) / sqrt(var + eps) weight + bias + residual); mean and variance are given."""
    wide = _widened(x)
    y = np.subtract(wide, _along_channels(x, mean), out=np.empty_like(wide))
    scale = 1 / np.sqrt(_widened(var) + wide.dtype.type(eps))
    if weight is not None:
        scale = scale * _widened(weight)
    y *= _along_channels(x, scale)
    return _finish(y, x.dtype, bias, residual, activation)


def batch_norm_backward(
    grad_output: NDArray,
    x: NDArray,
    y: NDArray | None,
    weight: NDArray | None,
    bias: NDArray | None,
    mean: NDArray,
    var: NDArray,
    eps: float,
    activation: str | None,
    training: bool,
    residual: bool,
    more: NDArray | None = None,
) -> tuple[NDArray, NDArray, NDArray, NDArray | None]:
    """The gradients of x, weight, bias and, after an activation, of a residual (else None).

    With m the gradient that passes the activation (where y > 0), s = 1 / sqrt(var + eps),
    z = (x - mean) s and n elements a channel: dbias = sum m, dweight = sum m z, and
    dx = weight s (m - dbias / n - z dweight / n), or weight s m where mean and variance are
    constants (``training`` is False). dweight and dbias have the statistics' precision. The
    residual's gradient is m. Without a ``residual``, y may be computed again from x instead
    of being read, for which there is ``bias``. The gradient that comes is ``grad_output``, or
    its sum with ``more``.
    """
    masked = grad_output if more is None else grad_output + more
    if activation == "relu" and y is not None:
        # Written as a product, which NumPy does ten times faster than a choice.
        masked = np.multiply(masked, np.greater(y, 0))
    g, wide = _widened(masked), _widened(x)
    scale = 1 / np.sqrt(_widened(var) + wide.dtype.type(eps))
    z = np.subtract(wide, _along_channels(x, mean), out=np.empty_like(wide))
    z *= _along_channels(x, scale)
    dbias = _channel_sum(g)
    dweight = _channel_sum(g * z)
    if training:
        count = wide.dtype.type(max(x.size // max(x.shape[1], 1), 1))
        z *= _along_channels(x, dweight / -count)
        z -= _along_channels(x, dbias / count)
        dx = np.add(z, g, out=z)
    else:
        dx = z
        np.copyto(dx, g)
    dx *= _along_channels(x, scale if weight is None else scale * _widened(weight))
    passed = masked if residual and activation else None
    return dx.astype(x.dtype, copy=False), dweight, dbias, passed


def moving_average(average: NDArray, new: NDArray, momentum: float, factor: float) -> NDArray:
    """(1 - momentum) average + momentum factor new, in the dtype of ``average``."""
    wide = _widened(average)
    y = wide * wide.dtype.type(1 - momentum) + new * wide.dtype.type(momentum * factor)
    return y.astype(average.dtype, copy=False)


for _kernel in (batch_norm, batch_norm_inference, batch_norm_backward, moving_average):
    register(_kernel.__name__, _kernel)
