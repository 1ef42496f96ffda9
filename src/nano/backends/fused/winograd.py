"""3x3 convolutions by Winograd's algorithm, with 4 multiplications where there were 9.

An output of 2x2 pixels needs an input of 4x4. Both are brought to a basis in which the
convolution is a product element by element, so that for many channels it becomes 16 matrix
products (pixels, channels) x (channels, channels), one for each element of the basis:

    y = A^T [(G w G^T) * (B^T x B)] A

A thread takes some tiles of 2x2 pixels at a time, and keeps what is between the steps in its
cache. Where a result is not finite, the sum is done again as it is written: on the way here,
an infinity in one pixel would become NaN in its neighbours.

Source: A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016,
arXiv:1509.09308.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..memory import channels_last, empty
from ..onednn import convolution
from .jit import inline, kernel, prange
from .sgemm import NORMAL, TRANSPOSED, address, sgemm

__all__ = ["conv2d", "conv_transpose2d"]

_f = np.float32
#: Tiles of a block: enough for the products to be quick, few enough to stay in the cache.
_TILES = 128


@inline
def _weight_rows(a, b, c):
    """G times a column; G = [[1, 0, 0], [1, 1, 1] / 2, [1, -1, 1] / 2, [0, 0, 1]]."""
    even, odd = _f(0.5) * (a + c), _f(0.5) * b
    return a, even + odd, even - odd, c


@kernel
def _transform_weight(w, turned, u):
    """u (16, o, c) = G w G^T of w (o, c, 9), ``turned`` by half a circle or not."""
    outputs, channels, _ = w.shape
    first, step = (8, -1) if turned else (0, 1)
    for o in prange(outputs):
        for c in range(channels):
            g = w[o, c]
            p = _weight_rows(g[first], g[first + 3 * step], g[first + 6 * step])
            q = _weight_rows(g[first + step], g[first + 4 * step], g[first + 7 * step])
            r = _weight_rows(g[first + 2 * step], g[first + 5 * step], g[first + 8 * step])
            for i in range(4):
                u[4 * i, o, c], u[4 * i + 1, o, c], u[4 * i + 2, o, c], u[4 * i + 3, o, c] = (
                    _weight_rows(p[i], q[i], r[i])
                )


@inline
def _transform_input(s, first, step):
    """Four rows of s become B^T times them; B^T = [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0],
    [0, 1, 0, -1]]."""
    for k in range(s.shape[1]):
        a, b = s[first, k], s[first + step, k]
        c, d = s[first + 2 * step, k], s[first + 3 * step, k]
        s[first, k] = a - c
        s[first + step, k] = b + c
        s[first + 2 * step, k] = c - b
        s[first + 3 * step, k] = b - d


@inline
def _transform_output(s, first, step):
    """Four rows of s become two, A^T times them; A^T = [[1, 1, 1, 0], [0, 1, -1, -1]]."""
    for k in range(s.shape[1]):
        a, b = s[first, k], s[first + step, k]
        c, d = s[first + 2 * step, k], s[first + 3 * step, k]
        s[first, k] = a + b + c
        s[first + step, k] = b - c - d


@kernel
def _convolve(multiply, x, u, transposed, bias, top, left, y, odd):
    """y (n, h, w, o) from x (n, h, w, c) and u (16, c, o), or (16, o, c) if ``transposed``.

    ``odd`` has a number for each block: not 0 if a result there is not finite.
    """
    _, height, width, channels = x.shape
    n, rows, columns, outputs = y.shape
    down, across = (rows + 1) // 2, (columns + 1) // 2
    tiles = n * down * across
    order = TRANSPOSED if transposed else NORMAL
    for block in prange((tiles + _TILES - 1) // _TILES):
        start = block * _TILES
        count = min(_TILES, tiles - start)
        v = np.empty((16, _TILES, channels), np.float32)
        m = np.empty((16, _TILES, outputs), np.float32)
        s = np.empty((16, channels), np.float32)
        for t in range(count):
            image, place = divmod(start + t, down * across)
            y0 = place // across * 2 - top
            x0 = place % across * 2 - left
            for i in range(4):
                for j in range(4):
                    if 0 <= y0 + i < height and 0 <= x0 + j < width:
                        for k in range(channels):
                            s[4 * i + j, k] = x[image, y0 + i, x0 + j, k]
                    else:
                        for k in range(channels):
                            s[4 * i + j, k] = _f(0)
            for i in range(4):
                _transform_input(s, i, 4)
            for i in range(4):
                _transform_input(s, 4 * i, 1)
            for i in range(16):
                for k in range(channels):
                    v[i, t, k] = s[i, k]
        for i in range(16):
            sgemm(
                *(multiply, NORMAL, order),
                *(count, outputs, channels, _f(1)),
                *(v[i].ctypes.data, channels, u[i].ctypes.data, u.shape[2]),
                *(_f(0), m[i].ctypes.data, outputs),
            )
        s = np.empty((16, outputs), np.float32)
        not_finite = _f(0)
        for t in range(count):
            image, place = divmod(start + t, down * across)
            y0, x0 = place // across * 2, place % across * 2
            for i in range(16):
                for k in range(outputs):
                    s[i, k] = m[i, t, k]
            for i in range(4):
                _transform_output(s, i, 4)
            for i in range(2):
                _transform_output(s, 4 * i, 1)
            for i in range(min(2, rows - y0)):
                for j in range(min(2, columns - x0)):
                    for k in range(outputs):
                        value = s[4 * i + j, k] + bias[k]
                        y[image, y0 + i, x0 + j, k] = value
                        not_finite += value * _f(0)
        odd[block] = not_finite


def _run(
    x: NDArray,
    weight: NDArray,
    turned: bool,
    bias: NDArray | None,
    top: int,
    left: int,
    size: Any,
) -> NDArray | None:
    """The convolution, ``turned`` from the weight's outputs to its inputs; None if not finite."""
    o, c = weight.shape[:2]
    u = empty((16, o, c), np.float32)
    _transform_weight(np.ascontiguousarray(weight).reshape(o, c, 9), turned, u)
    n, outputs = x.shape[0], c if turned else o
    y = channels_last((n, outputs, *size), np.float32)
    tiles = n * -(-size[0] // 2) * -(-size[1] // 2)
    odd = np.empty(-(-tiles // _TILES), np.float32)
    b = np.zeros(outputs, np.float32) if bias is None else np.ascontiguousarray(bias)
    pixels = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    _convolve(address(), pixels, u, not turned, b, top, left, y.transpose(0, 2, 3, 1), odd)
    return None if odd.any() else y


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
    (top, bottom), (left, right) = padding
    size = (x.shape[2] + top + bottom - 2, x.shape[3] + left + right - 2)
    y = _run(x, weight, False, bias, top, left, size)
    if y is None:
        y = convolution.conv2d(x, weight, bias, stride, padding, dilation, groups, token)
    return y


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
    """See the reference kernel: the convolution with the weight turned round."""
    (top, _), (left, _) = padding
    y = _run(x, weight, True, bias, 2 - top, 2 - left, output_size)
    if y is None:
        y = convolution.conv_transpose2d(
            x, weight, bias, output_size, stride, padding, dilation, groups, token
        )
    return y
