"""Convolutions of small images in bfloat16, in the processor's tile registers, and transposes.

For each pixel of the result and each tap that meets the image there is a matrix product
(images, inputs) x (inputs, outputs). The images of a batch are the rows of the tiles: no window
is cut, and what would meet the padding is left out, which on 4x4 pixels is a third. Sums are taken
in float32, and rounded once.

A thread takes a share of the outputs, whose weights stay in its cache.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from .. import threads
from ..memory import aligned, as_pixels, channels_last
from ..reference.windows import output_size
from .addresses import pointer, prefetch
from .amx import BLOCK, TILE, begin, clear, collect, configuration, end, interleave, multiply, write
from .jit import inline, kernel, prange
from .made import Made
from .math import narrow_result
from .rows import as_bits, numbers
from .tiles import lines, transpose
from .vectors import load, store, zeros

__all__ = ["conv2d", "conv_transpose2d"]

#: Rows of a tile; images, inputs and outputs of a block of 2x2 tiles; bytes of its tiles of a
#: factor.
_SIDE, _PAIR, _TILES = 16, 32, 2 * TILE
_ROW = TILE // _SIDE


# What is multiplied where ----------------------------------------------------------------


@lru_cache(maxsize=256)
def _terms(
    size: Any, source: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, turned: bool
) -> tuple[NDArray, NDArray]:
    """Of the pixels of a result: the sources' pixels and the taps that are multiplied.

    Returns:
        Where each pixel's terms begin, and the terms, (count, 2).
    """
    starts, terms = [0], []
    for y, x in np.ndindex(*size):
        for tap, steps in enumerate(np.ndindex(*kernel_size)):
            place = []
            for at, n, k, s, (before, _), d in zip(
                (y, x), source, steps, stride, padding, dilation, strict=True
            ):
                # The image's pixel is s times the result's, before the padding and on by taps.
                there = at + before - k * d if turned else at * s - before + k * d
                if turned:
                    there = there // s if there % s == 0 else -1
                if 0 <= there < n:
                    place.append(there)
            if len(place) == 2:
                terms.append((place[0] * source[1] + place[1], tap))
        starts.append(len(terms))
    return np.array(starts), np.array(terms, np.int64).reshape(-1, 2)


# Tiles -----------------------------------------------------------------------------------


@kernel
def _weight_to_tiles(weight, taps, turned, w):
    """w [32 outputs, tap, 32 inputs, 2 tiles] from weight (o, c taps), ``turned`` if c is put out.

    Tiles are in pairs of inputs.
    """
    o, c = weight.shape[0], weight.shape[1] // taps
    start = w.ctypes.data
    for block in prange(o // _PAIR):
        i = np.int64(block)
        scratch = lines(taps, _TILES // 4)
        for k in range(c // _PAIR):
            for row in range(_PAIR):
                first = weight.ctypes.data + 2 * taps * ((i * _PAIR + row) * c + k * _PAIR)
                to = scratch.ctypes.data + row * _ROW
                # The next inputs of all these outputs: what is read is far apart.
                for line in range(0, 2 * _PAIR * taps, _ROW):
                    prefetch(first + 2 * _PAIR * taps + line)
                for tap in range(taps):
                    collect(first + 2 * tap, taps, to + tap * _TILES)
            for tap in range(taps):
                rows = scratch.ctypes.data + tap * _TILES
                if turned:
                    to = start + ((k * taps + tap) * (o // _PAIR) + i) * _TILES
                    for pair in range(_SIDE):
                        first = rows + 2 * pair * _ROW
                        low = to + pair * _ROW
                        interleave(first, first + _ROW, low, low + TILE)
                else:
                    to = start + ((i * taps + tap) * (c // _PAIR) + k) * _TILES
                    for half in range(2):
                        transpose(rows + half * TILE, _SIDE, to + half * TILE, _SIDE)


@inline
def _pixel_to_tiles(x, first, pixel, to):
    """A pixel of 32 images as tiles [32 channels, 2 tiles]; 0 for those that are missing."""
    n, pixels, channels = x.shape
    for i in range(_PAIR):
        place = to + i // _SIDE * TILE + i % _SIDE * _ROW
        at = x.ctypes.data + ((first + i) * pixels + pixel) * channels * 2
        for _ in range(channels // _PAIR):
            store(load(at) if first + i < n else zeros(), place)
            at, place = at + _ROW, place + _TILES


@inline
def _sums_to_pixel(sums, bias, y, first, pixel, output):
    """Write 2x2 tiles of sums, with the bias, as a pixel of 32 images."""
    n, pixels, outputs = y.shape
    for i in range(min(_PAIR, n - first)):
        at = y.ctypes.data + (((first + i) * pixels + pixel) * outputs + output) * 2
        to = carray(pointer(at), (_PAIR,), np.uint16)
        for half in range(2):
            row = (i // _SIDE * 2 + half) * _SIDE * _SIDE + i % _SIDE * _SIDE
            for j in range(_SIDE):
                k = half * _SIDE + j
                to[k] = narrow_result(sums[row + j] + bias[output + k], to[k])


@kernel
def _convolve(x, w, taps, starts, terms, bias, parts, settings, y):
    """y (n, pixels, outputs) from x (n, pixels, inputs) and the weight's tiles.

    The pixels are cut into ``parts`` where there are more threads than outputs.
    """
    n, sources, inputs = x.shape
    _, pixels, outputs = y.shape
    groups, blocks = (n + _PAIR - 1) // _PAIR, inputs // _PAIR
    memory = lines(groups * sources, blocks * _TILES // 4)
    for unit in prange(groups * sources):
        number = np.int64(unit)
        group, pixel = divmod(number, sources)
        to = memory.ctypes.data + number * blocks * _TILES
        _pixel_to_tiles(x, group * _PAIR, pixel, to)
    for unit in prange(outputs // _PAIR * parts):
        output, part = divmod(np.int64(unit), parts)
        own = lines(1, BLOCK // 4)[0]
        x_at, w_at = memory.ctypes.data, w.ctypes.data
        begin(settings.ctypes.data)
        for pixel in range(part * pixels // parts, (part + 1) * pixels // parts):
            for group in range(groups):
                clear()
                for i in range(starts[pixel], starts[pixel + 1]):
                    source, tap = terms[i, 0], terms[i, 1]
                    multiply(
                        blocks,
                        x_at + (group * sources + source) * blocks * _TILES,
                        *(TILE, _TILES),
                        w_at + (output * taps + tap) * blocks * _TILES,
                        *(TILE, _TILES),
                    )
                write(own.ctypes.data)
                _sums_to_pixel(own, bias, y, group * _PAIR, pixel, output * _PAIR)
        end()


# The kernels ------------------------------------------------------------------------------


_made = Made()


def _tiles(weight: NDArray, turned: bool, token: Any) -> NDArray:
    """The weight in tiles; see ``Made`` for token."""
    o, _, height, width = weight.shape

    def fill(w: NDArray) -> None:
        rows = as_bits(np.ascontiguousarray(weight)).reshape(o, -1)
        _weight_to_tiles.over(weight.size)(rows, height * width, turned, w)

    return _made.of(weight, turned, token, lambda: aligned(weight.nbytes), fill)


def _run(
    x: NDArray, weight: NDArray, turned: bool, bias: NDArray | None, size: Any, how: Any, token: Any
) -> NDArray:
    """The convolution, or its transpose; ``how`` is the stride, the padding and the dilation."""
    n, inputs = x.shape[:2]
    outputs, kernel_size = weight.shape[1 if turned else 0], weight.shape[2:]
    y = channels_last((n, outputs, *size), x.dtype)
    starts, terms = _terms(tuple(size), x.shape[2:], kernel_size, *how, turned)
    pixels = as_pixels(as_bits(x)).reshape(n, -1, inputs)
    results = as_bits(y).transpose(0, 2, 3, 1).reshape(n, -1, outputs)
    parts = -(-threads.this_thread() // (outputs // _PAIR))
    _convolve(
        *(pixels, _tiles(weight, turned, token), kernel_size[0] * kernel_size[1], starts, terms),
        *(numbers(bias, outputs, 0), parts, configuration(), results),
    )
    return y


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
    size = output_size(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return _run(x, weight, False, bias, size, (stride, padding, dilation), token)


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
    return _run(x, weight, True, bias, output_size, (stride, padding, dilation), token)
