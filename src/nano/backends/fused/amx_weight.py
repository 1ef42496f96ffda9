"""The gradient of a convolution's weight in bfloat16, in the processor's tile registers.

    dw[o, c, r, s] = the sum over the pixels p of dy[p, o] x[p + (r, s), c]

is for each tap (r, s) a product of matrices (outputs, pixels) x (pixels, channels). What is
multiplied is brought to tiles first: dy once, x for each column s, with zeros where a window
leaves the image; rows r share them, and so do columns that are a pair of pixels apart. A tile
has 32 pixels of a row, or of the same row of some images where rows are short. Sums are taken in
float32; for a bfloat16 result they are rounded once.

A thread takes its share of the rows or of the outputs, so many rows at a time as its cache holds.

Source: E. Georganas et al., "Anatomy of high-performance deep learning convolutions on SIMD
architectures", SC 2018, arXiv:1808.05567, section II.J: the gradients transposed first.
"""

from __future__ import annotations

from math import gcd
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import threads
from ..memory import as_pixels, empty
from .amx import BLOCK, TILE, begin, clear, configuration, end, interleave, multiply
from .amx import read as read_sums
from .amx import write as write_sums
from .jit import inline, kernel, prange
from .math import narrow_result
from .rows import as_bits
from .tiles import lines, transpose

__all__ = ["conv2d_weight"]

#: Rows and columns of a tile of sums, and of 2x2 of them; numbers of these.
_SIDE, _PAIR, _SUMS = 16, 32, 1024
#: Tiles of pixels that are multiplied in one go: with them, both factors stay in the first cache.
_DEEP = 8
#: Bytes of a thread's tiles, and of its sums: some of the second cache.
_TILES, _OWN = 1 << 20, 1 << 20


class Way(NamedTuple):
    """How one gradient is computed.

    Attributes:
        height, width: the taps.
        down, across: the strides.
        far_down, far_across: the dilations.
        top, left: rows and columns of zeros before an image.
        images: how many images' rows share tiles.
        tiles: of a row of so many images.
        period: column s + ``period`` has the tiles of column s,
        jump: but so many pairs of pixels later.
        rows: of the gradient that a strip has, at most.
        strips: from the top to the bottom.
        most: strips whose tiles are made at a time.
        deep: rows of them that are multiplied in one go.
    """

    height: int
    width: int
    down: int
    across: int
    far_down: int
    far_across: int
    top: int
    left: int
    images: int
    tiles: int
    period: int
    jump: int
    rows: int
    strips: int
    most: int
    deep: int


class Tiles(NamedTuple):
    """Where a thread's tiles lie: the addresses of the first, and bytes from one to the next.

    Those of x are at [column s, 16 channels, strip, row, tile], of the gradient at [16 outputs,
    strip, row, tile].
    """

    x: int
    x_column: int
    x_block: int
    x_strip: int
    x_row: int
    grad: int
    grad_block: int
    grad_strip: int
    grad_row: int


@inline
def _span(way):
    """Rows of an image that a strip's windows reach over."""
    return (way.rows - 1) * way.down + (way.height - 1) * way.far_down + 1


@inline
def _start(way, strip):
    """A strip's first image, and its first row of the gradient."""
    return strip // way.strips * way.images, strip % way.strips * way.rows


@inline
def _is_seen(way, row):
    """Whether some tap meets a row of those that a strip's windows reach over."""
    for r in range(way.height):
        if row >= r * way.far_down and (row - r * way.far_down) % way.down == 0:
            return True
    return False


@inline
def _columns(way):
    """Columns that do not share tiles, and pairs of pixels from the first sharing one to the last.

    Pixels beyond those of the gradient are then in tiles, too.
    """
    return min(way.width, way.period), (way.width - 1) // way.period * way.jump


@inline
def _row_to_tiles(images, image, y, low, high, way, more, step, first, pixels, zero, to, block):
    """Row y of some images as tiles of pairs: the pixels ``first`` + p ``step``.

    Args:
        images: (n, h, w, c); of these, ``way.images`` from ``image`` on.
        low, high: the first channel, and the one behind the last.
        more: pairs behind those of ``way.tiles``.
        pixels: how many p there are; beyond, and outside of the images, all is 0.
        zero: the address of zeros for all channels.
        to: where the tiles of the first 16 channels go; the next ones are ``block`` bytes on.
    """
    n, h, width, channels = images.shape
    start = images.ctypes.data + 2 * low
    for p in range(way.tiles * _SIDE // way.images + more):
        for i in range(way.images):
            a = b = zero
            row, column = (image + i) * h + y, first + 2 * p * step
            if image + i < n:
                if 0 <= column < width and 2 * p < pixels:
                    a = start + 2 * channels * (row * width + column)
                column += step
                if 0 <= column < width and 2 * p + 1 < pixels:
                    b = start + 2 * channels * (row * width + column)
            pair = p * way.images + i
            place = to + pair * (TILE // _SIDE)
            for _ in range(low, high, _PAIR):
                interleave(a, b, place, place + block)
                a, b, place = a + 2 * _PAIR, b + 2 * _PAIR, place + 2 * block


@inline
def _strip_to_tiles(x, grad, low, high, way, strip, number, zero, tiles):
    """A strip's tiles, as the thread's ``number``; of the outputs from ``low`` to ``high``."""
    image, y = _start(way, strip)
    _, h, _, c = x.shape
    pixels = grad.shape[2]
    columns, more = _columns(way)
    for row in range(_span(way)):
        there = y * way.down - way.top + row
        if 0 <= there < h and _is_seen(way, row):
            to = tiles.x + number * tiles.x_strip + row * tiles.x_row
            for s in range(columns):
                _row_to_tiles(
                    *(x, image, there, 0, c, way, more),
                    *(way.across, s * way.far_across - way.left, pixels + 2 * more),
                    *(zero, to + s * tiles.x_column, tiles.x_block),
                )
    for row in range(min(way.rows, grad.shape[1] - y)):
        to = tiles.grad + number * tiles.grad_strip + row * tiles.grad_row
        _row_to_tiles(
            *(grad, image, y + row, low, high, way, 0, 1, 0, pixels, zero, to, tiles.grad_block)
        )
        for block in range((high - low) // _SIDE):
            for t in range(way.tiles):
                at = to + block * tiles.grad_block + t * TILE
                transpose(at, _SIDE, at, _SIDE)


@inline
def _add_products(way, strip, count, above, h, high, a, b, tiles, add, sums):
    """The products of 2x2 tiles for all taps, of some rows of ``count`` strips.

    Args:
        above: rows of each strip that are left out; the next ``way.deep`` are taken.
        h, high: rows of an image and of the gradient.
        a, b: the addresses of the first strip's tiles of the gradient and of x.
        add: whether to add them to what is there.
        sums: where they go, (taps, 2, 2, 16, 16).
    """
    for s in range(way.width):
        later = s // way.period * way.jump * way.images * (TILE // _SIDE)
        column = b + s % way.period * tiles.x_column + later
        for r in range(way.height):
            place = sums + (r * way.width + s) * BLOCK
            if add:
                read_sums(place)
            else:
                clear()
            ahead = r * way.far_down
            first_inside = -((ahead - way.top) // way.down)
            last_inside = (h - 1 - ahead + way.top) // way.down
            for i in range(count):
                y = _start(way, strip + i)[1]
                low = max(y + above, first_inside)
                stop = min(y + min(above + way.deep, way.rows), high, last_inside + 1)
                grad_row, x_row = low - y, (low - y) * way.down + ahead
                for t in range(way.tiles):
                    multiply(
                        stop - low,
                        a + i * tiles.grad_strip + grad_row * tiles.grad_row + t * TILE,
                        tiles.grad_block,
                        tiles.grad_row,
                        column + i * tiles.x_strip + x_row * tiles.x_row + t * TILE,
                        tiles.x_block,
                        tiles.x_row * way.down,
                    )
            write_sums(place)


@inline
def _finish(sums, parts, size, taps, place, o, c, scratch, halves, whole):
    """32 outputs and channels from the sums at ``place``, and as many of each other part."""
    for part in range(1, parts):
        for i in range(place, place + taps * _SUMS):
            sums[i] += sums[part * size + i]
    here, there = sums.ctypes.data, scratch.ctypes.data
    for row in range(_PAIR):
        for half in range(2):
            at = place + (row // _SIDE * 2 + half) * _SIDE * _SIDE + row % _SIDE * _SIDE
            # Each row of a transpose is 16 long: what is too much is overwritten by the next.
            for t in range((taps - 1) // _SIDE * _SIDE, -1, -_SIDE):
                to = half * _SIDE * taps + t
                transpose(here + 4 * (at + t * _SUMS), _SUMS, there + 4 * to, taps)
        if whole.size:
            exact = whole[o + row, c * taps : (c + _PAIR) * taps]
            for i in range(exact.size):
                exact[i] = scratch[i]
        else:
            to = halves[o + row, c * taps : (c + _PAIR) * taps]
            for i in range(to.size):
                to[i] = narrow_result(scratch[i], to[i])


@kernel
def _multiply(x, grad, way, parts, slabs, settings, halves, whole):
    """The gradient (o, c taps) from x (n, h, w, c) and grad (n, h', w', o).

    Of the sum, each of ``parts`` takes a share of the strips; the outputs are cut into
    ``slabs``. It goes to ``whole`` in float32, or to ``halves`` in bfloat16 if that is empty: a
    kernel for each would take seconds more to compile.
    """
    n, h, _, c = x.shape
    _, high, _, o = grad.shape
    taps = way.height * way.width
    strips = (n + way.images - 1) // way.images * way.strips
    size = o * c * taps
    # Transposing reads 16 taps at a time, though there may be fewer.
    sums = lines(1, parts * size + _SIDE * _SUMS)[0]
    nothing = np.zeros(max(o, c), np.uint16)
    columns, more = _columns(way)
    grad_row = way.tiles * TILE
    x_row = grad_row + more * way.images * (TILE // _SIDE)
    x_strip, grad_strip = _span(way) * x_row, way.rows * grad_row
    x_block, grad_block = way.most * x_strip, way.most * grad_strip
    x_column = c // _SIDE * x_block
    for unit in prange(parts * slabs):
        part, slab = divmod(np.int64(unit), slabs)
        start, stop = part * strips // parts, (part + 1) * strips // parts
        low, top = slab * (o // _PAIR) // slabs * _PAIR, (slab + 1) * (o // _PAIR) // slabs * _PAIR
        memory = lines(1, (columns * x_column + (top - low) // _SIDE * grad_block) // 4)
        own = np.empty(_PAIR * taps + _SIDE, np.float32)
        begin(settings.ctypes.data)
        for first in range(start, stop, way.most):
            count = min(way.most, stop - first)
            # Asked for here: after the last question, the array is given back.
            x_at = memory.ctypes.data
            grad_at = x_at + columns * x_column
            tiles = Tiles(
                *(x_at, x_column, x_block, x_strip, x_row),
                *(grad_at, grad_block, grad_strip, grad_row),
            )
            for i in range(count):
                _strip_to_tiles(x, grad, low, top, way, first + i, i, nothing.ctypes.data, tiles)
            for above in range(0, way.rows, way.deep):
                add = first > start or above > 0
                final = parts == 1 and first + count == stop and above + way.deep >= way.rows
                for k in range(0, c, _PAIR):
                    for j in range(low, top, _PAIR):
                        place = part * size + (j * c + k * _PAIR) * taps
                        _add_products(
                            *(way, first, count, above, h, high),
                            tiles.grad + (j - low) // _SIDE * grad_block,
                            tiles.x + k // _SIDE * x_block,
                            *(tiles, add, sums.ctypes.data + 4 * place),
                        )
                        if final:
                            _finish(sums, 1, size, taps, place, j, k, own, halves, whole)
        end()
    if parts > 1:
        for pair in prange(o // _PAIR):
            j = np.int64(pair) * _PAIR
            own = np.empty(_PAIR * taps + _SIDE, np.float32)
            for k in range(0, c, _PAIR):
                place = (j * c + k * _PAIR) * taps
                _finish(sums, parts, size, taps, place, j, k, own, halves, whole)


def _work(
    x: NDArray, grad: NDArray, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> tuple[Way, int, int]:
    """How to go about it, in how many parts and slabs."""
    n, c = x.shape[0], x.shape[3]
    _, high, wide, o = grad.shape
    height, width = kernel_size
    pairs = -(-wide // 2)
    images = _SIDE // gcd(pairs, _SIDE)
    tiles = pairs * images // _SIDE
    (down, across), (far_down, far_across) = stride, dilation
    # A row's last pair is half empty if the row is odd, for each column at another pixel.
    period = width if wide % 2 else 2 * across // gcd(2 * across, far_across)
    jump = period * far_across // (2 * across)
    more = (width - 1) // period * jump * images
    # Bytes of a row's tiles: of x for each column that does not share them, and of the gradient.
    wide_row = TILE * tiles * (c // _SIDE * min(width, period) * down + o // _SIDE)
    wide_row += TILE // _SIDE * more * (c // _SIDE * min(width, period) * down)
    rows = min(high, max(_TILES // wide_row, 1))
    deep = max(_DEEP // tiles, 1)
    most = max(_DEEP // (tiles * rows), 1) if rows == high else 1
    strips = -(-high // rows)
    (top, _), (left, _) = padding
    way = Way(
        *(height, width, down, across, far_down, far_across, top, left, images, tiles),
        *(period, jump, rows, strips, most, deep),
    )
    team = threads.this_thread()
    slabs = max(1, min(team, o // _PAIR, 4 * o * c * height * width // _OWN))
    parts = max(1, min(team // slabs, -(-n // images) * strips))
    return way, parts, slabs


def conv2d_weight(
    grad_output: NDArray,
    x: NDArray,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    dtype: Any = None,
) -> NDArray:
    """See the reference kernel."""
    o, c = grad_output.shape[1], x.shape[1]
    pixels = as_pixels(as_bits(x))
    gradients = as_pixels(as_bits(grad_output))
    way, parts, slabs = _work(pixels, gradients, kernel_size, stride, padding, dilation)
    grad_weight = empty((o, c, *kernel_size), x.dtype if dtype is None else dtype)
    rows = as_bits(grad_weight).reshape(o, -1)
    halves, whole = np.empty((0, 0), np.uint16), np.empty((0, 0), np.float32)
    if rows.dtype == np.float32:
        whole = rows
    else:
        halves = rows
    _multiply(pixels, gradients, way, parts, slabs, configuration(), halves, whole)
    return grad_weight
