"""3x3 convolutions by Winograd's algorithm, with 36 multiplications where there were 144.

An output of 4x4 pixels needs an input of 6x6. Both are brought to a basis in which the
convolution is a product element by element, so that for many channels it becomes 36 matrix
products (tiles, channels) x (channels, channels), one for each point of the basis:

    y = A^T [(G w G^T) * (B^T x B)] A

A thread takes some tiles at a time, and keeps what is between the steps in its cache. What
follows the convolution (a scale, a bias, a residual, a ReLU) is done as the result is written.
Where a result is not finite, the sum is done again as it is written: on the way here, an infinity
in one pixel would become NaN in its neighbours.

The basis and its sources are in ``winograd_basis``.
"""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from .. import threads
from ..memory import channels_last, empty
from ..onednn import convolution, epilogue
from .jit import inline, kernel, prange
from .sgemm import NORMAL, address, sgemm
from .winograd_basis import (
    POINTS,
    SLAB,
    SQUARE,
    STEP,
    from_weight,
    images_to_basis,
    tiles_in,
    to_result,
)

__all__ = ["conv2d", "conv2d_epilogue", "conv_transpose2d"]

_f = np.float32
#: Tiles of a block, at least and at most: enough for the products to be quick, few enough to
#: stay near.
_FEWEST, _MOST = 64, 128


@kernel
def _weight_to_basis(w, input_step, output_step, turned, u):
    """u (inputs, 36, outputs) = G w G^T, ``turned`` by half a circle or not.

    The nine numbers for an input and an output begin at their steps in w.
    """
    inputs, _, outputs = u.shape
    for i in prange(inputs):
        s = np.empty((SQUARE, SLAB), np.float32)
        for o in range(0, outputs, SLAB):
            first = min(o, outputs - SLAB)  # the last slab may overlap the one before
            for k in range(SLAB):
                start = i * input_step + (first + k) * output_step
                for tap in range(9):
                    s[POINTS * (tap // 3) + tap % 3, k] = w[start + (8 - tap if turned else tap)]
            for j in range(3):
                from_weight(s, j, POINTS)
            for j in range(POINTS):
                from_weight(s, POINTS * j, 1)
            for j in range(SQUARE):
                row = u[i, j, first : first + SLAB]
                for k in range(SLAB):
                    row[k] = s[j, k]


@inline
def _basis_to_results(m, outputs, some, down, across, start, count, scale, bias, residual, relu, y):
    """``count`` tiles of y (n, h, w, o) = A^T m A scale + bias, ``some`` channels from ``outputs``
    on. A ``residual`` of the shape of y is added, one of another shape is none.

    Returns:
        Not 0 if a result is not finite.
    """
    _, height, width, _ = y.shape
    s = np.empty((SQUARE, SLAB), np.float32)
    adds = residual.size == y.size
    not_finite = _f(0)
    for t in range(count):
        image, place = divmod(start + t, down * across)
        y0, x0 = place // across * STEP, place % across * STEP
        for c in range(0, some, SLAB):
            first = min(c, some - SLAB)
            for i in range(SQUARE):
                row = m[i, t * some + first : t * some + first + SLAB]
                for k in range(SLAB):
                    s[i, k] = row[k]
            for j in range(POINTS):
                to_result(s, j, POINTS)
            for i in range(STEP):
                to_result(s, POINTS * i, 1)
            a = scale[outputs + first : outputs + first + SLAB]
            b = bias[outputs + first : outputs + first + SLAB]
            for i in range(min(STEP, height - y0)):
                for j in range(min(STEP, width - x0)):
                    at = POINTS * i + j
                    for k in range(SLAB):
                        s[at, k] = s[at, k] * a[k] + b[k]
                    if adds:
                        r = residual[image, y0 + i, x0 + j, outputs + first :]
                        for k in range(SLAB):
                            s[at, k] += r[k]
                    row = y[image, y0 + i, x0 + j, outputs + first : outputs + first + SLAB]
                    for k in range(SLAB):
                        value = s[at, k]
                        not_finite += value * _f(0)
                        row[k] = _f(0) if relu and value < _f(0) else value
    return not_finite


@kernel
def _convolve(
    multiply, x, u, scale, bias, residual, relu, top, left, down, across, most, slabs, y, odd
):
    """y (n, h, w, o) from x (n, h, w, c) and u (c, 36, o).

    A piece of work is ``most`` tiles and one of ``slabs`` parts of the outputs; ``odd`` has a
    number for each: not 0 if a result there is not finite.
    """
    channels, outputs = x.shape[3], y.shape[3]
    tiles = y.shape[0] * down * across
    for unit in prange(odd.size):
        block, slab = divmod(np.int64(unit), slabs)
        start = block * most
        count = min(most, tiles - start)
        first, end = slab * outputs // slabs, (slab + 1) * outputs // slabs
        some = end - first
        v = np.empty((SQUARE, most * channels + SLAB), np.float32)
        m = np.empty((SQUARE, most * some + SLAB), np.float32)
        images_to_basis(x, top, left, down, across, start, count, v)
        for i in range(SQUARE):
            sgemm(
                *(multiply, NORMAL, NORMAL),
                *(count, some, channels, _f(1)),
                *(v[i].ctypes.data, channels, u[0, i, first:].ctypes.data, SQUARE * outputs),
                *(_f(0), m[i].ctypes.data, some),
            )
        odd[unit] = _basis_to_results(
            m, first, some, down, across, start, count, scale, bias, residual, relu, y
        )


class _Kept(threading.local):
    """The transformed weights that this thread keeps, by the owner of their memory."""

    def __init__(self) -> None:
        self.weights: WeakKeyDictionary[Any, dict[Any, tuple[Any, NDArray]]] = WeakKeyDictionary()


_kept = _Kept()


def _transformed(weight: NDArray, turned: bool, token: Any) -> NDArray:
    """The weight in the basis of the algorithm, (inputs, 36, outputs).

    ``token`` is None, or the owner of the weight's memory and the version of its content: what
    was made is kept until the version moves or the owner goes.
    """
    o, c = weight.shape[:2]
    version, kept, place = None, {}, (weight.ctypes.data, weight.shape, weight.strides, turned)
    if token is not None:
        owner, version = token
        kept = _kept.weights.setdefault(owner, {})
        if place in kept and kept[place][0] == version:
            return kept[place][1]
    inputs, outputs = (o, c) if turned else (c, o)
    steps = (9 * c, 9) if turned else (9, 9 * c)
    u = kept[place][1] if place in kept else empty((inputs, SQUARE, outputs), np.float32)
    _weight_to_basis(np.ascontiguousarray(weight).reshape(-1), *steps, turned, u)
    kept[place] = version, u
    return u


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
) -> NDArray | None:
    """The convolution, ``turned`` from the weight's outputs to its inputs; None if not finite."""
    o, c = weight.shape[:2]
    outputs = c if turned else o
    u = _transformed(weight, turned, token)
    y = channels_last((x.shape[0], outputs, *size), np.float32)
    down, across = tiles_in(*size)
    tiles, team = x.shape[0] * down * across, threads.this_thread()
    rounds = -(-tiles // (_MOST * team))
    most = min(max(-(-tiles // (rounds * team)), _FEWEST), tiles)
    blocks = -(-tiles // most)
    slabs = min(-(-team // blocks), outputs // SLAB)
    odd = np.empty(blocks * slabs, np.float32)
    b = np.zeros(outputs, np.float32) if bias is None else np.ascontiguousarray(bias)
    s = np.ones(outputs, np.float32) if scale is None else np.ascontiguousarray(scale)
    added = np.empty((1, 1, 1, 0), np.float32) if residual is None else _pixels(residual)
    _convolve(
        *(address(), _pixels(x), u, s, b, added, relu, top, left, down, across, most, slabs),
        *(y.transpose(0, 2, 3, 1), odd),
    )
    return None if odd.any() else y


def _pixels(x: NDArray) -> NDArray:
    """(n, h, w, c), in that order in memory."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


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
    y = _run(x, weight, False, bias, top, left, size, token)
    if y is None:
        y = convolution.conv2d(x, weight, bias, stride, padding, dilation, groups, token)
    return y


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
    (top, bottom), (left, right) = padding
    size = (x.shape[2] + top + bottom - 2, x.shape[3] + left + right - 2)
    relu = activation is not None
    y = _run(x, weight, False, bias, top, left, size, token, scale, residual, relu)
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
