"""3x3 convolutions by Winograd's algorithm, with 36 multiplications where there were 144.

An output of 4x4 pixels needs an input of 6x6. Both are brought to a basis in which the
convolution is a product element by element, so that for all channels it becomes 36 matrix
products (tiles, channels) x (channels, channels), one for each point of the basis:

    y = A^T [(G w G^T) * (B^T x B)] A

A thread takes some tiles at a time, and keeps what is between the steps in its cache. What
follows the convolution (a scale, a bias, a residual, a ReLU) is done as the result is written.
Where a result is not finite, the sum is done again as it is written: on the way here, an infinity
in one pixel would become NaN in its neighbours.

The basis and its sources are in ``winograd_basis``, the way there and back in
``winograd_tiles``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import threads
from ..memory import aligned, as_pixels, channels_last, empty
from ..onednn import convolution, epilogue
from . import batch_norm
from .addresses import start_of
from .jit import inline, kernel, prange
from .made import Made
from .sgemm import NORMAL, sgemm
from .tiles import GROUP, LANES, lines, products
from .vectors import store, zeros
from .winograd_basis import SQUARE
from .winograd_tiles import (
    basis_to_results,
    images_to_basis,
    pixels_of,
    scratch_for_images,
    scratch_for_weight,
    weight_to_basis,
    work,
)

__all__ = ["conv2d", "conv2d_epilogue", "conv2d_moments", "conv_transpose2d"]

_f = np.float32


@kernel
def _weight_to_basis(w, input_step, output_step, turned, u):
    """u (36, inputs, outputs) = G w G^T from the flat weight, ``turned`` round or not."""
    for i in prange(u.shape[1]):
        scratch = scratch_for_weight()
        weight_to_basis(w, np.int64(i), input_step, output_step, turned, scratch, u)


@inline
def _join_moments(sums, squares, centre, counts, mean, var):
    """Mean and variance of each channel, from sums about a centre of each part (parts, o).

    Source: T. F. Chan, G. H. Golub and R. J. LeVeque, "Updating formulae and a pairwise
    algorithm for computing sample variances", COMPSTAT 1982.
    """
    for o in range(mean.size):
        count, middle, spread = 0.0, 0.0, 0.0
        for part in range(counts.size):
            n = counts[part]
            if n > 0:
                distance = sums[part, o] / n
                m, before = centre[part, o] + distance, count
                count += n
                away = m - middle
                middle += away * n / count
                spread += squares[part, o] - n * distance * distance
                spread += away * away * before * n / count
        mean[o] = _f(middle)
        var[o] = _f(max(spread / count, 0.0))


@kernel
def _convolve(multiply, x, u, scale, bias, residual, relu, grid, most, slabs, y, odd, mean, var):
    """y (n, h, w, o) from x (n, h, w, c) and u (36, c, o).

    A piece of work is a share of the strips and one of ``slabs`` parts of the outputs, ``most``
    strips at a time; ``odd`` has a number for each: not 0 if a result there is not finite.
    ``mean`` and ``var`` (o) are those of w * x scale + bias; nothing if they are empty.
    """
    n, _, _, channels = x.shape
    outputs = y.shape[3]
    strips = n * grid.down * grid.pieces
    parts = odd.size // slabs
    one = np.int64(1)
    # By part and channel: the sums are of a block in float32, and of all in float64.
    sums, squares = np.zeros((parts, mean.size)), np.zeros((parts, mean.size))
    centre = np.zeros((parts, mean.size), np.float32)
    for unit in prange(odd.size):
        part, slab = divmod(np.int64(unit), slabs)
        stop = (part + 1) * strips // parts
        first = slab * (outputs // LANES) // slabs * LANES
        end = outputs if slab + 1 == slabs else (slab + 1) * (outputs // LANES) // slabs * LANES
        some = end - first
        room = (most * grid.wide + GROUP - 1) // GROUP * GROUP
        scratch = scratch_for_images(grid)
        v = lines(SQUARE, room * channels + LANES)
        # Products in the registers read a group of rows before they write it.
        there = multiply == 0 and some == channels <= 2 * LANES
        m = v if there else lines(SQUARE, room * some + LANES)
        odd[unit] = _f(0)
        moments = lines(3 if mean.size else 0, some)
        for start in range(part * strips // parts, stop, most):
            count = min(most, stop - start)
            tiles = images_to_basis(x, grid, start, count, scratch, v)
            rows = (tiles + GROUP - 1) // GROUP * GROUP
            for i in range(SQUARE):
                a, c = start_of(v) + 4 * i * v.shape[1], start_of(m) + 4 * i * m.shape[1]
                b = start_of(u) + 4 * (i * channels * outputs + first)
                if multiply != 0:
                    sgemm(
                        *(multiply, NORMAL, NORMAL, tiles, some, channels, _f(1)),
                        *(a, channels, b, outputs, _f(0), c, some),
                    )
                else:
                    for k in range(tiles * channels, rows * channels, LANES):
                        store(zeros(), a + 4 * k)
                    products(rows, some, channels, a, channels, one, b, outputs, False, c, some)
            moments[:2] = 0
            odd[unit] += basis_to_results(
                *(m, first, some, grid, start, count, scale, bias, residual, relu, scratch, y),
                *(moments, start == part * strips // parts),
            )
            if mean.size:
                for o in range(some):
                    sums[part, first + o] += moments[0, o]
                    squares[part, first + o] += moments[1, o]
                    centre[part, first + o] = moments[2, o]
    if mean.size:
        counts = np.zeros(parts)
        for part in range(parts):
            for number in range(part * strips // parts, (part + 1) * strips // parts):
                counts[part] += pixels_of(grid, number, y.shape[1], y.shape[2])
        _join_moments(sums, squares, centre, counts, mean, var)


_made = Made()


def _transformed(weight: NDArray, turned: bool, token: Any) -> NDArray:
    """The weight in the basis of the algorithm, (36, inputs, outputs); see ``Made`` for token."""
    o, c = weight.shape[:2]
    inputs, outputs = (o, c) if turned else (c, o)
    steps = (9 * c, 9) if turned else (9, 9 * c)

    def fill(u: NDArray) -> None:
        flat = np.ascontiguousarray(weight).reshape(-1)
        _weight_to_basis.over(u.size)(flat, *steps, turned, u)

    def room() -> NDArray:
        memory = aligned(4 * SQUARE * inputs * outputs)
        return memory.view(np.float32).reshape(SQUARE, inputs, outputs)

    return _made.of(weight, turned, token, room, fill)


def _run(
    x: NDArray,
    weight: NDArray,
    turned: bool,
    bias: NDArray | None,
    top: int,
    left: int,
    size: Any,
    token: Any,
    scale: NDArray | None = None,
    residual: NDArray | None = None,
    relu: bool = False,
    mean: NDArray | None = None,
    var: NDArray | None = None,
) -> NDArray | None:
    """The convolution, ``turned`` from the weight's outputs to its inputs; None if not finite.

    Mean and variance, before a residual is added, are written to where they are wanted.
    """
    o, c = weight.shape[:2]
    inputs, outputs = (o, c) if turned else (c, o)
    u = _transformed(weight, turned, token)
    y = channels_last((x.shape[0], outputs, *size), np.float32)
    images = y.transpose(0, 2, 3, 1)
    multiply, most, grid = work(inputs, outputs, images, top, left)
    strips, team = len(images) * grid.down * grid.pieces, threads.this_thread()
    most = max(1, min(most, -(-strips // team)))
    parts = min(team, -(-strips // most))
    slabs = min(-(-team // parts), outputs // LANES)
    odd = np.empty(parts * slabs, np.float32)
    b = np.zeros(outputs, np.float32) if bias is None else np.ascontiguousarray(bias)
    s = np.ones(outputs, np.float32) if scale is None else np.ascontiguousarray(scale)
    added = np.empty((1, 1, 1, 0), np.float32) if residual is None else as_pixels(residual)
    nothing = np.empty(0, np.float32)
    _convolve(
        *(multiply, as_pixels(x), u, s, b, added, relu, grid, most, slabs, images, odd),
        *(nothing if mean is None else mean, nothing if var is None else var),
    )
    return None if odd.any() else y


def _convolved(
    x: NDArray, weight: NDArray, bias: NDArray | None, padding: Any, token: Any, **others: Any
) -> NDArray | None:
    """The convolution of padded images, with the ``others`` of :func:`_run`."""
    (top, bottom), (left, right) = padding
    size = (x.shape[2] + top + bottom - 2, x.shape[3] + left + right - 2)
    return _run(x, weight, False, bias, top, left, size, token, **others)


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
    y = _convolved(x, weight, bias, padding, token)
    if y is None:
        y = convolution.conv2d(x, weight, bias, stride, padding, dilation, groups, token)
    return y


def conv2d_moments(
    x: NDArray,
    weight: NDArray,
    bias: NDArray | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    token: Any = None,
) -> tuple[NDArray, NDArray, NDArray]:
    """See the reference kernel."""
    mean, var = empty((len(weight),), np.float32), empty((len(weight),), np.float32)
    y = _convolved(x, weight, bias, padding, token, mean=mean, var=var)
    if y is None:
        y = convolution.conv2d(x, weight, bias, stride, padding, dilation, groups, token)
        mean, var = batch_norm.moments(y)
    return y, mean, var


def conv2d_epilogue(
    x: NDArray,
    weight: NDArray,
    bias: NDArray | None,
    scale: NDArray | None,
    residual: NDArray | None,
    activation: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    token: Any = None,
) -> NDArray:
    """See the reference kernel."""
    more = {"scale": scale, "residual": residual, "relu": activation is not None}
    y = _convolved(x, weight, bias, padding, token, **more)
    if y is None:
        y = epilogue.conv2d_epilogue(
            *(x, weight, bias, scale, residual, activation),
            *(stride, padding, dilation, groups, token),
        )
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
    y = _run(x, weight, True, bias, 2 - top, 2 - left, output_size, token)
    if y is None:
        y = convolution.conv_transpose2d(
            x, weight, bias, output_size, stride, padding, dilation, groups, token
        )
    return y
