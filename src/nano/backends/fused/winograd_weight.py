"""The gradient of a 3x3 weight by Winograd's algorithm, with 36 multiplications for 144.

    dw = G^T [sum over the tiles: (A dy A^T) * (B^T x B)] G

For all channels that is one matrix product for each of the 36 points: (outputs, tiles) x
(tiles, channels). A thread takes its share of the tiles or of the outputs, some tiles at a
time. Where a result is not finite, the sum is done again as it is written.

The basis and its sources are in ``winograd_basis``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import threads
from ..memory import as_pixels, empty
from ..onednn import convolution
from .addresses import start_of
from .jit import kernel, prange
from .sgemm import NORMAL, TRANSPOSED, sgemm
from .tiles import LANES, lines, products
from .winograd_basis import SQUARE
from .winograd_tiles import (
    basis_to_weight,
    images_to_basis,
    results_to_basis,
    scratch_for_images,
    scratch_for_weight,
    work,
)

__all__ = ["conv2d_weight"]

_f = np.float32
#: Tiles worth a part of their own, at least.
_TILES = 64
#: Bytes of all threads' sums; where they would take more, the threads share the outputs.
_SUMS = 8 << 20


@kernel
def _multiply(multiply, x, grad, grid, most, parts, slabs, grad_weight, odd):
    """grad_weight (o, c, 9) from x (n, h, w, c) and grad (n, h, w, o), ``most`` strips at a time.

    Of the sum, each of ``parts`` takes a share of the strips; the outputs are cut into
    ``slabs``. ``odd`` has a number for each output: not 0 if a result there is not finite.
    """
    n, _, _, channels = x.shape
    outputs = grad.shape[3]
    strips = n * grid.down * grid.pieces
    one = np.int64(1)
    memory = lines(parts * SQUARE, outputs * channels)
    sums = memory.reshape((parts, SQUARE, outputs, channels))
    for unit in prange(parts * slabs):
        part, slab = divmod(np.int64(unit), slabs)
        stop = (part + 1) * strips // parts
        first = slab * (outputs // LANES) // slabs * LANES
        end = outputs if slab + 1 == slabs else (slab + 1) * (outputs // LANES) // slabs * LANES
        some = end - first
        scratch = scratch_for_images(grid)
        v = lines(SQUARE, most * grid.wide * channels + LANES)
        m = lines(SQUARE, most * grid.wide * some + LANES)
        begin = part * strips // parts
        for start in range(begin, stop, most):
            count = min(most, stop - start)
            tiles = images_to_basis(x, grid, start, count, scratch, v)
            results_to_basis(grad, first, some, grid, start, count, scratch, m)
            add = start > begin
            for i in range(SQUARE):
                a, b = start_of(m) + 4 * i * m.shape[1], start_of(v) + 4 * i * v.shape[1]
                c = start_of(sums) + 4 * ((part * SQUARE + i) * outputs + first) * channels
                if multiply != 0:
                    beta = _f(1) if add else _f(0)
                    sgemm(
                        *(multiply, TRANSPOSED, NORMAL, some, channels, tiles, _f(1)),
                        *(a, some, b, channels, beta, c, channels),
                    )
                else:
                    products(some, channels, tiles, a, one, some, b, channels, add, c, channels)
    for o in prange(outputs):
        own = scratch_for_weight()
        odd[o] = basis_to_weight(sums, np.int64(o), own, grad_weight)


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
    n, o = grad_output.shape[:2]
    c = x.shape[1]
    (top, _), (left, _) = padding
    pixels = as_pixels(x)
    gradients = as_pixels(grad_output)
    multiply, most, grid = work(c, o, gradients, top, left)
    strips, team = n * grid.down * grid.pieces, threads.this_thread()
    enough = min(strips, strips * grid.wide // _TILES)
    parts = max(1, min(team, enough, _SUMS // (4 * SQUARE * o * c)))
    slabs = min(-(-team // parts), o // LANES)
    grad_weight, odd = empty((o, c, 9), np.float32), np.empty(o, np.float32)
    _multiply(multiply, pixels, gradients, grid, most, parts, slabs, grad_weight, odd)
    if odd.any():
        return convolution.conv2d_weight(
            grad_output, x, kernel_size, stride, padding, dilation, groups
        )
    return grad_weight.reshape(o, c, 3, 3)
