"""The gradient of a 3x3 weight by Winograd's algorithm, with 36 multiplications for 144.

    dw = G^T [sum over the tiles: (A dy A^T) * (B^T x B)] G

For many channels that is one matrix product for each of the 36 points: (outputs, tiles) x
(tiles, channels). A thread takes its share of the tiles or of the outputs, some tiles at a
time. Where a result is not finite, the sum is done again as it is written.

The basis and its sources are in ``winograd_basis``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import threads
from ..memory import empty
from ..onednn import convolution
from .jit import inline, kernel, prange
from .sgemm import NORMAL, TRANSPOSED, address, sgemm
from .winograd_basis import (
    POINTS,
    SLAB,
    SQUARE,
    STEP,
    from_result,
    images_to_basis,
    tiles_in,
    to_weight,
)

__all__ = ["conv2d_weight"]

_f = np.float32
#: Tiles of a block: what is between the steps stays in the second cache for 64 channels.
_TILES = 64
#: Bytes of all threads' sums; where they would take more, the threads share the outputs.
_SUMS = 8 << 20


@inline
def _results_to_basis(y, outputs, some, down, across, start, count, m):
    """``count`` tiles of y (n, h, w, o) as A y A^T, of ``some`` channels from ``outputs`` on."""
    _, height, width, _ = y.shape
    s = np.empty((SQUARE, SLAB), np.float32)
    for t in range(count):
        image, place = divmod(start + t, down * across)
        y0, x0 = place // across * STEP, place % across * STEP
        for c in range(0, some, SLAB):
            first = min(c, some - SLAB)
            for i in range(STEP):
                for j in range(STEP):
                    if y0 + i < height and x0 + j < width:
                        row = y[image, y0 + i, x0 + j, outputs + first : outputs + first + SLAB]
                        for k in range(SLAB):
                            s[POINTS * i + j, k] = row[k]
                    else:
                        for k in range(SLAB):
                            s[POINTS * i + j, k] = _f(0)
            for j in range(STEP):
                from_result(s, j, POINTS)
            for i in range(POINTS):
                from_result(s, POINTS * i, 1)
            for i in range(SQUARE):
                row = m[i, t * some + first : t * some + first + SLAB]
                for k in range(SLAB):
                    row[k] = s[i, k]


@kernel
def _multiply(multiply, x, grad, top, left, down, across, slabs, sums):
    """sums (parts, o, 36, c): the products at the 36 points, summed over a part of the tiles.

    The outputs are cut into ``slabs``.
    """
    channels, outputs = x.shape[3], grad.shape[3]
    parts = sums.shape[0]
    tiles = x.shape[0] * down * across
    for unit in prange(parts * slabs):
        part, slab = divmod(np.int64(unit), slabs)
        first, end = slab * outputs // slabs, (slab + 1) * outputs // slabs
        some = end - first
        v = np.empty((SQUARE, _TILES * channels + SLAB), np.float32)
        m = np.empty((SQUARE, _TILES * some + SLAB), np.float32)
        beta = _f(0)
        stop = (part + 1) * tiles // parts
        for start in range(part * tiles // parts, stop, _TILES):
            count = min(_TILES, stop - start)
            images_to_basis(x, top, left, down, across, start, count, v)
            _results_to_basis(grad, first, some, down, across, start, count, m)
            for i in range(SQUARE):
                sgemm(
                    *(multiply, TRANSPOSED, NORMAL),
                    *(some, channels, count, _f(1)),
                    *(m[i].ctypes.data, some, v[i].ctypes.data, channels),
                    *(beta, sums[part, first, i].ctypes.data, SQUARE * channels),
                )
            beta = _f(1)


@kernel
def _collect(sums, grad_weight, odd):
    """grad_weight (o, c, 9) = G^T sums G; ``odd`` has a number for each output: not 0 if a
    result there is not finite."""
    outputs, channels, _ = grad_weight.shape
    for o in prange(outputs):
        s = np.empty((SQUARE, SLAB), np.float32)
        not_finite = _f(0)
        for c in range(0, channels, SLAB):
            first = min(c, channels - SLAB)
            for i in range(SQUARE):
                row = sums[0, o, i, first : first + SLAB]
                for k in range(SLAB):
                    s[i, k] = row[k]
                for part in range(1, sums.shape[0]):
                    row = sums[part, o, i, first : first + SLAB]
                    for k in range(SLAB):
                        s[i, k] += row[k]
            for j in range(POINTS):
                to_weight(s, j, POINTS)
            for i in range(3):
                to_weight(s, POINTS * i, 1)
            for i in range(3):
                for j in range(3):
                    for k in range(SLAB):
                        value = s[POINTS * i + j, k]
                        grad_weight[o, first + k, 3 * i + j] = value
                        not_finite += value * _f(0)
        odd[o] = not_finite


def conv2d_weight(
    grad_output: NDArray,
    x: NDArray,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> NDArray:
    """See the reference kernel."""
    n, o, *size = grad_output.shape
    c = x.shape[1]
    (top, _), (left, _) = padding
    down, across = tiles_in(*size)
    team = threads.this_thread()
    parts = max(1, min(team, n * down * across // _TILES, _SUMS // (4 * SQUARE * o * c)))
    slabs = max(1, min(-(-team // parts), o // SLAB))
    sums = empty((parts, o, SQUARE, c), np.float32)
    pixels = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    gradients = np.ascontiguousarray(grad_output.transpose(0, 2, 3, 1))
    _multiply(address(), pixels, gradients, top, left, down, across, slabs, sums)
    grad_weight, odd = empty((o, c, 9), np.float32), np.empty(o, np.float32)
    _collect(sums, grad_weight, odd)
    if odd.any():
        return convolution.conv2d_weight(
            grad_output, x, kernel_size, stride, padding, dilation, groups
        )
    return grad_weight.reshape(o, c, 3, 3)
