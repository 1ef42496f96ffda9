"""Direct convolutions of few channels, with the sums of a block of pixels in registers.

oneDNN keeps a pixel's outputs in vectors of 16, or 8; where they are fewer, most of what it
multiplies is nothing. Here the vectors are filled otherwise:

- ``conv2d``: with the outputs of some neighbouring pixels, for which a window is wider, and the
  weights of what a pixel does not see are 0;
- ``conv2d_weight``: the same, the other way round;
- ``conv_transpose2d``: with a row of the window, that is with all its channels; rows of
  neighbouring pixels overlap, and are added up.

Each element is the direct sum, hence infinities go where they belong: where a weight of 0 may
meet one, the sum is done again pixel by pixel.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import threads
from ..memory import as_pixels, channels_last
from .direct_tile import LANES, SUMS, tile
from .jit import Kernel, inline, prange

__all__ = ["conv2d", "conv2d_weight", "conv_transpose2d"]

_f = np.float32
#: Products for which other threads are woken.
_PARALLEL = 1 << 21


# What a block of sums is ------------------------------------------------------------------


def _vectors(columns: int) -> tuple[int, int]:
    """Vectors of a row of so many elements: all, and in a block."""
    needed = -(-columns // LANES)
    return needed, next(v for v in (2, 3, 1) if needed % v == 0)


def _block(high: int, low: int, vectors: int) -> tuple[int, int]:
    """How many rows and columns of (high, low) a block takes that is ``vectors`` deep.

    Its sums fit into the registers. An instruction multiplies a vector by an element of memory;
    a processor does two at a time, and the next but three can have their results.
    """
    best, least = (1, 1), float("inf")
    for i in range(1, min(high, SUMS // vectors) + 1):
        for j in range(1, min(low, SUMS // (vectors * i)) + 1):
            blocks = -(-high // i) * -(-low // j)
            taken = blocks * (max(i * j * vectors, i * j + vectors, 8) + 2)
            if taken < least:
                best, least = (i, j), taken
    return best


def _neighbours(outputs: int, kernel: int, width: int) -> int:
    """How many neighbouring pixels share a vector, so that most products are of use."""

    def use(n: int) -> float:
        return kernel / (kernel + n - 1) * n * outputs / (LANES * -(-n * outputs // LANES))

    possible = [n for n in range(1, LANES + 1) if width % n == 0 and n * outputs <= 2 * LANES]
    return max(possible or [1], key=use)


def _rows(x: NDArray) -> NDArray:
    """Images as (n, h, w c), one element after the other."""
    n, c, h, w = x.shape
    return as_pixels(x).reshape(n, h, w * c)


def _parts(images: int) -> int:
    return min(images, threads.this_thread())


def _places(high: int, row: int, low: int, step: int) -> NDArray:
    """Where the sums of a block (high, low) lie, whose rows begin at ``row`` and ``step``."""
    return np.add.outer(np.arange(high) * row, np.arange(low) * step).reshape(-1)


def _runs(low: int, pixels: int, channels: int, kernel: int, width: int) -> NDArray:
    """Where the windows of pixels begin (blocks, low), in ``kernel`` rows in turn."""
    starts = np.minimum(np.arange(0, pixels, low), pixels - low)
    pixel = np.add.outer(starts, np.arange(low))
    return pixel % kernel * width + pixel * channels


@inline
def _frame(image, top, left, framed):
    """Write an image (h, w c) into the middle of a larger one.

    Returns:
        Not 0 if it is not finite.
    """
    rows, row = image.shape
    not_finite = _f(0)
    for i in range(rows):
        source, to = image[i], framed[top + i, left : left + row]
        for k in range(row):
            to[k] = source[k]
            not_finite += source[k] * _f(0)
    return not_finite


# The convolution --------------------------------------------------------------------------


@cache
def _convolution(high: int, low: int, vectors: int, step: int) -> Kernel:
    def loop(x, framed, size, top, left, w, first, columns, places, y, odd):
        """y (n, h, groups columns) from x (n, h, w c) and w (kh, kw c, columns).

        A group of outputs sees ``step`` elements more than the one before. If ``framed``, x is
        put into an image of ``size`` first; ``odd`` has a number for each part of the images:
        not 0 if x is not finite.
        """
        images, rows, row = y.shape
        kh, depth, wide = w.shape
        groups, parts = row // columns, odd.size
        for part in prange(parts):
            frame = np.zeros(size, np.float32)
            not_finite = _f(0)
            for image in range(part * images // parts, (part + 1) * images // parts):
                at = x[image].ctypes.data
                if framed:
                    not_finite += _frame(x[image], top, left, frame)
                    at = frame.ctypes.data
                for i in range(0, rows, high):
                    r = min(i, rows - high)  # the last block may overlap the one before
                    for j in range(0, groups, low):
                        q = min(j, groups - low)
                        to = y[image, r].ctypes.data + 4 * q * columns
                        for lane in range(0, wide, LANES * vectors):
                            tile(high, low, vectors, step, (kh, depth),
                                 at + 4 * (r * size[1] + q * step), (size[1], size[1], 1),
                                 w.ctypes.data + 4 * lane, (depth * wide, wide),
                                 columns - lane, first.ctypes.data + 4 * lane, False,
                                 to + 4 * lane, places.ctypes.data)  # fmt: skip
            odd[part] = not_finite

    return Kernel(loop)


@lru_cache
def _plan(o: int, c: int, kw: int, h: int, w: int, shared: bool) -> Any:
    """What the sizes decide: the loop, the pixels that share vectors, a row's vectors, places."""
    many = _neighbours(o, kw, w) if shared else 1
    needed, vectors = _vectors(many * o)
    high, low = _block(h, w // many, vectors)
    places = _places(high, w * o, low, many * o)
    return _convolution(high, low, vectors, many * c), many, needed, places


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
    y, finite = _convolve(x, weight, bias, padding, True)
    return y if finite else _convolve(x, weight, bias, padding, False)[0]


def _convolve(
    x: NDArray, weight: NDArray, bias: NDArray | None, padding: Any, shared: bool
) -> tuple[NDArray, bool]:
    """The convolution; False if pixels share vectors, with an x that is not finite."""
    (n, c, height, width), (o, _, kh, kw) = x.shape, weight.shape
    (top, bottom), (left, right) = padding
    size = (height + top + bottom, (width + left + right) * c)
    h, w = size[0] - kh + 1, width + left + right - kw + 1
    loop, many, needed, places = _plan(o, c, kw, h, w, shared)
    packed = np.zeros((kh, kw + many - 1, c, LANES * needed), np.float32)
    first = np.zeros(LANES * needed, np.float32)
    for k in range(many):
        packed[:, k : k + kw, :, k * o : k * o + o] = weight.transpose(2, 3, 1, 0)
        if bias is not None:
            first[k * o : k * o + o] = bias
    y = channels_last((n, o, h, w), np.float32)
    odd = np.zeros(_parts(n), np.float32)
    framed = many > 1 or size != (height, width * c)
    loop = loop if y.size * kh * kw * c >= _PARALLEL else loop.serial
    loop(
        *(_rows(x), framed, size, top, left * c, packed.reshape(kh, -1, LANES * needed)),
        *(first, many * o, places, y.transpose(0, 2, 3, 1).reshape(n, h, w * o), odd),
    )
    return y, many == 1 or not odd.any()


# Its transpose ----------------------------------------------------------------------------


@cache
def _transposed(low: int, vectors: int, channels: int, kernel: int) -> Kernel:
    def loop(x, w, columns, top, left, first, places, width, bias, y):
        """y (n, h, w c) from x (n, h, w channels) and w (kh, channels, columns).

        Windows of neighbours overlap: a window's row is put into one of ``kernel`` rows, and
        they are added up. ``places`` (blocks, low) are those, which are ``width`` long.
        """
        images, rows, row = y.shape
        height, pixels = x.shape[1], x.shape[2] // channels
        kh, _, wide = w.shape
        parts = first.shape[0]
        for part in prange(parts):
            runs = np.zeros((kernel, width), np.float32)
            for image in range(part * images // parts, (part + 1) * images // parts):
                for r in range(rows):
                    start = max(0, r + top - height + 1)
                    count = max(0, min(kh, r + top + 1) - start)
                    at = x[image].ctypes.data + 4 * (r + top - start) * x.shape[2]
                    for block in range(places.shape[0]):
                        q = min(block * low, pixels - low)
                        for lane in range(0, wide, LANES * vectors):
                            tile(1, low, vectors, channels, (count, channels),
                                 at + 4 * q * channels, (0, -x.shape[2], 1),
                                 w[start].ctypes.data + 4 * lane, (channels * wide, wide),
                                 columns - lane, first[part].ctypes.data, False,
                                 runs.ctypes.data + 4 * lane,
                                 places[block].ctypes.data)  # fmt: skip
                    inside, to = runs[:, left : left + row], y[image, r]
                    for k in range(row):
                        total = bias[k]
                        for run in range(kernel):
                            total += inside[run, k]
                        to[k] = total

    return Kernel(loop)


@lru_cache
def _transposed_plan(o: int, c: int, kw: int, w: int, row: int) -> Any:
    """What the sizes decide: the loop, a row's vectors, those of a block, and its places."""
    needed, vectors = _vectors(kw * c)
    _, low = _block(1, w, vectors)
    return _transposed(low, vectors, o, kw), needed, vectors, _runs(low, w, c, kw, row)


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
    (n, o, _, w), (_, c, kh, kw) = x.shape, weight.shape
    height, width = output_size
    (top, _), (left, _) = padding
    row = max(w + kw - 1, left + width) * c
    loop, needed, vectors, places = _transposed_plan(o, c, kw, w, row)
    packed = np.zeros((kh, o, LANES * needed), np.float32)
    packed[:, :, : kw * c] = weight.transpose(2, 0, 3, 1).reshape(kh, o, kw * c)
    y = channels_last((n, c, height, width), np.float32)
    start = np.zeros(width * c, np.float32)
    if bias is not None:
        start.reshape(width, c)[:] = bias
    loop = loop if x.size * kh * kw * c >= _PARALLEL else loop.serial
    loop(
        *(_rows(x), packed, kw * c, top, left * c),
        *(np.zeros((_parts(n), LANES * vectors), np.float32), places, row),
        *(start, y.transpose(0, 2, 3, 1).reshape(n, height, width * c)),
    )
    return y


# The gradient of the weight ---------------------------------------------------------------


@cache
def _weight_gradient(high: int, low: int, vectors: int) -> Kernel:
    def loop(x, framed, size, top, left, grad, step, columns, starts, places, first, sums):
        """sums (parts, blocks, lanes, high low vectors): each part's, over its images.

        They are of x (n, h, w c) times grad (n, h, groups columns); a group of gradients sees
        ``step`` elements more than the one before. Block b has the elements of the windows
        from ``starts[b]`` on.
        """
        images, rows, row = grad.shape
        parts = sums.shape[0]
        for part in prange(parts):
            frame = np.zeros(size, np.float32)
            begin = part * images // parts
            for image in range(begin, (part + 1) * images // parts):
                at = x[image].ctypes.data
                if framed:
                    _frame(x[image], top, left, frame)
                    at = frame.ctypes.data
                for block in range(sums.shape[1]):
                    for lanes in range(sums.shape[2]):
                        lane = LANES * vectors * lanes
                        tile(high, low, vectors, 1, (rows, row // columns),
                             at + 4 * starts[block], (size[1], size[1], step),
                             grad[image].ctypes.data + 4 * lane, (row, columns),
                             columns - lane, first.ctypes.data, image > begin,
                             sums[part, block, lanes].ctypes.data, places.ctypes.data)  # fmt: skip

    return Kernel(loop)


def _elements(
    high: int, low: int, vectors: int, many: int, shape: tuple[int, int, int, int]
) -> tuple[list[tuple[int, int]], NDArray]:
    """The blocks' first elements (row, column) of the windows; and where the sums of a weight are.

    The latter are (many, o, c, kh, kw) for a weight of ``shape``: sums of each of ``many``
    neighbouring pixels.
    """
    o, c, kh, kw = shape
    depth, needed = (kw + many - 1) * c, _vectors(many * o)[0]
    starts = [
        (min(i, kh - high), min(j, depth - low))
        for i in range(0, kh, high)
        for j in range(0, depth, low)
    ]
    slabs = needed // vectors
    sums = np.arange(len(starts) * slabs * high * low * vectors * LANES)
    sums = sums.reshape(len(starts), slabs, high, low, vectors * LANES)
    places = np.empty((kh, depth, slabs, vectors * LANES), np.int64)
    for block, (i, j) in enumerate(starts):
        places[i : i + high, j : j + low] = sums[block].transpose(1, 2, 0, 3)
    places = places.reshape(kh, kw + many - 1, c, needed * LANES)
    of_pixels = [places[:, k : k + kw, :, k * o : k * o + o] for k in range(many)]
    return starts, np.stack(of_pixels).transpose(0, 4, 3, 1, 2)


@lru_cache
def _weight_plan(o: int, c: int, kh: int, kw: int, w: int, row: int) -> Any:
    """What the sizes decide: the loop, how it is called, and what becomes of its sums."""
    many = _neighbours(o, kw, w)
    needed, vectors = _vectors(many * o)
    high, low = _block(kh, (kw + many - 1) * c, vectors)
    starts, elements = _elements(high, low, vectors, many, (o, c, kh, kw))
    begins = np.array([i * row + j for i, j in starts], np.int64)
    wide = vectors * LANES
    places, first = _places(1, 0, high * low, wide), np.zeros(wide, np.float32)
    shape = (len(starts), needed // vectors, high * low * wide)
    return _weight_gradient(high, low, vectors), many, begins, places, first, shape, elements


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
    (n, o, _, w), (_, c, height, width) = grad_output.shape, x.shape
    kh, kw = kernel_size
    (top, bottom), (left, right) = padding
    size = (height + top + bottom, (width + left + right) * c)
    loop, many, begins, places, first, shape, elements = _weight_plan(o, c, kh, kw, w, size[1])
    sums = np.zeros((_parts(n), *shape), np.float32)
    loop = loop if grad_output.size * kh * kw * c >= _PARALLEL else loop.serial
    loop(
        *(_rows(x), size != (height, width * c), size, top, left * c, _rows(grad_output)),
        *(many * c, many * o, begins, places, first, sums),
    )
    total = sums[0].reshape(-1)
    for part in sums[1:]:
        total += part.reshape(-1)
    grad_weight = total.take(elements[0])
    for of_pixel in elements[1:]:
        grad_weight += total.take(of_pixel)
    return grad_weight
