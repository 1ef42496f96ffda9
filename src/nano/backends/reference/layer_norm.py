"""Layer normalisation: each sample by the statistics of its own last ``axes`` axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..registry import register


def layer_norm_loops(x: NDArray, weight: NDArray, bias: NDArray, eps: float) -> NDArray:
    """(x - mean) / sqrt(var + eps) weight + bias of each row of x (n, d): the definition."""
    y = np.empty_like(x)
    n, d = x.shape
    for i in range(n):
        mean = sum(x[i, j] for j in range(d)) / d
        var = sum((x[i, j] - mean) ** 2 for j in range(d)) / d
        for j in range(d):
            y[i, j] = (x[i, j] - mean) / (var + eps) ** 0.5 * weight[j] + bias[j]
    return y


def _widened(x: NDArray) -> NDArray:
    """float32 for 16-bit floats, whose sums would lose digits."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 else x


def _last(x: NDArray, axes: int) -> tuple[tuple[int, ...], int]:
    """The last ``axes`` axes, and how many elements they have (at least 1)."""
    dims = tuple(range(x.ndim - axes, x.ndim))
    count = 1
    for d in dims:
        count *= x.shape[d]
    return dims, max(count, 1)


def _spread(statistic: NDArray, axes: int) -> NDArray:
    """A number a sample, in a shape that broadcasts with the samples."""
    return statistic.reshape(statistic.shape + (1,) * axes)


def layer_norm(
    x: NDArray, weight: NDArray | None, bias: NDArray | None, axes: int, eps: float
) -> tuple[NDArray, NDArray, NDArray]:
    """(x - mean) / sqrt(var + eps) weight + bias; also mean and 1 / sqrt(var + eps)."""
    wide = _widened(x)
    dims, count = _last(x, axes)
    size = wide.dtype.type(count)
    mean = np.asarray(np.add.reduce(wide, axis=dims) / size)
    y = np.subtract(wide, _spread(mean, axes))
    var = np.add.reduce(np.square(y), axis=dims) / size
    rstd = np.asarray(1 / np.sqrt(var + wide.dtype.type(eps)))
    y *= _spread(rstd, axes)
    if weight is not None:
        y *= _widened(weight)
    if bias is not None:
        y += _widened(bias)
    return y.astype(x.dtype, copy=False), mean, rstd


def layer_norm_backward(
    grad_output: NDArray,
    x: NDArray,
    weight: NDArray | None,
    mean: NDArray,
    rstd: NDArray,
    axes: int,
) -> tuple[NDArray, NDArray | None, NDArray | None]:
    """The gradients of x, weight and bias; the last two are None where ``weight`` is.

    With z = (x - mean) rstd and h = g weight: dx = rstd (h - mean(h) - z mean(h z)),
    dweight = sum g z and dbias = sum g over all samples, in the statistics' precision.
    """
    g, wide = _widened(grad_output), _widened(x)
    dims, count = _last(x, axes)
    size = wide.dtype.type(count)
    z = np.subtract(wide, _spread(mean, axes))
    z *= _spread(rstd, axes)
    dweight = dbias = None
    h = g
    if weight is not None:
        samples = tuple(range(x.ndim - axes))
        dweight = np.add.reduce(g * z, axis=samples)
        dbias = np.add.reduce(g, axis=samples)
        h = g * _widened(weight)
    along = np.add.reduce(h * z, axis=dims, keepdims=True) / size
    z *= -along
    z -= np.add.reduce(h, axis=dims, keepdims=True) / size
    z += h
    z *= _spread(rstd, axes)
    return z.astype(x.dtype, copy=False), dweight, dbias


for _kernel in (layer_norm, layer_norm_backward):
    register(_kernel.__name__, _kernel)
