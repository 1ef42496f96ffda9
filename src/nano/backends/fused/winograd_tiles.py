"""Images, results and weights on their way to the basis of Winograd's algorithm, and back.

Images are cut into strips: tiles beside each other. What is in the basis is (36, tiles,
channels), one matrix for each point; its rows are the tiles of some strips, one after another.
All is done for a vector of channels at a time, in the registers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .addresses import start_of
from .jit import inline
from .math import exact
from .sgemm import address
from .tiles import lines
from .vectors import LANES, at_least, load, store, total, transposed, zeros
from .winograd_basis import (
    POINTS,
    SQUARE,
    STEP,
    from_image,
    from_result,
    from_weight,
    to_result,
    to_weight,
)

__all__ = [
    "basis_to_results",
    "basis_to_weight",
    "images_to_basis",
    "pixels_of",
    "results_to_basis",
    "scratch_for_images",
    "scratch_for_weight",
    "weight_to_basis",
    "work",
]

_f = np.float32
#: Bytes of a vector.
_VECTOR = 4 * LANES
_TAPS = 9
#: Channels up to which products in the registers are faster than a library's, and tiles of a
#: block then: what is between the steps takes half of the second cache at most.
_FEW, _BLOCK, _LARGEST_BLOCK = 64, 2048, 64
#: Tiles of a block for the library's products.
_LIBRARY_BLOCK = 128


class Grid(NamedTuple):
    """How images are cut.

    Attributes:
        top: rows of zeros above an image.
        left: columns of zeros before it.
        down: tiles from the top to the bottom.
        across: tiles from the left to the right.
        wide: tiles of a strip, at most.
        pieces: strips across.
    """

    top: int
    left: int
    down: int
    across: int
    wide: int
    pieces: int


def work(inputs: int, outputs: int, images: NDArray, top: int, left: int) -> tuple[int, int, Grid]:
    """How to go about results (n, h, w, o).

    Returns:
        The address of the library's product, or 0 for products in the registers; how many
        strips to take at a time; and the grid.
    """
    channels = max(inputs, outputs)
    here = channels <= _FEW and inputs % LANES == outputs % LANES == 0
    tiles = min(_BLOCK // channels, _LARGEST_BLOCK) if here else _LIBRARY_BLOCK
    down, across = -(-images.shape[1] // STEP), -(-images.shape[2] // STEP)
    wide = -(-across // -(-across // tiles))
    grid = Grid(top, left, down, across, wide, -(-across // wide))
    return 0 if here else address(), max(1, tiles // wide), grid


@inline
def _strip(grid, number):
    """Image, first row and column of the results, and tiles of a strip."""
    image, place = divmod(number, grid.down * grid.pieces)
    row, piece = divmod(place, grid.pieces)
    tiles = min(grid.wide, grid.across - piece * grid.wide)
    return image, row * STEP, piece * grid.wide * STEP, tiles


# Memory for what lies between two steps of a function below. Its caller makes and holds it: a
# compiled function gives an array back where it is used for the last time, and knows nothing
# of its address.


@inline
def scratch_for_images(grid):
    """For a strip's columns and a zero, or a tile."""
    return lines(POINTS + 1, LANES * (STEP * grid.wide + 2))


@inline
def scratch_for_weight():
    """For nine numbers, those multiplied along one dimension, and all 36."""
    return lines(_TAPS + 3 * POINTS + SQUARE, LANES)


# Vectors at addresses ---------------------------------------------------------------------


@exact
def _read_3(at, step):
    return load(at), load(at + step), load(at + 2 * step)


@exact
def _read_4(at, step):
    return load(at), load(at + step), load(at + 2 * step), load(at + 3 * step)


@exact
def _read_6(at, step):
    a, b, c = _read_3(at, step)
    d, e, f = _read_3(at + 3 * step, step)
    return a, b, c, d, e, f


@exact
def _write_3(x, at, step):
    a, b, c = x
    store(a, at)
    store(b, at + step)
    store(c, at + 2 * step)


@exact
def _write_4(x, at, step):
    a, b, c, d = x
    _write_3((a, b, c), at, step)
    store(d, at + 3 * step)


@exact
def _write_6(x, at, step):
    a, b, c, d, e, f = x
    _write_3((a, b, c), at, step)
    _write_3((d, e, f), at + 3 * step, step)


# Images -----------------------------------------------------------------------------------


@exact
def _row(x, image, y, x0, c, nothing):
    """Address and step in bytes of the pixels of a row; outside, that of a zero and 0."""
    _, height, width, channels = x.shape
    if 0 <= y < height:
        first = ((image * height + y) * width + x0) * channels + c
        return start_of(x) + 4 * first, 4 * channels
    return nothing, 0


@inline
def images_to_basis(x, grid, first, count, scratch, v):
    """``count`` strips of x (n, h, w, c) from ``first`` on, as B^T x B: v (36, tiles c).

    Columns are multiplied for the whole strip: neighbours share two of their six.

    Returns:
        How many tiles.
    """
    _, _, width, channels = x.shape
    line = _VECTOR * (STEP * grid.wide + 2)
    near, to, point = start_of(scratch), start_of(v), 4 * v.shape[1]
    none, nothing = zeros(), near + POINTS * line
    store(none, nothing)
    done = 0
    for number in range(first, first + count):
        image, y, x0, tiles = _strip(grid, number)
        y, x0 = y - grid.top, x0 - grid.left
        columns = STEP * tiles + 2
        # The columns in the image: none of a strip that sees padding alone.
        begin, end = min(max(0, -x0), columns), max(0, min(columns, width - x0))
        for start in range(0, channels, LANES):
            c = min(start, channels - LANES)  # the last vector may overlap the one before
            for k in range(begin):
                _write_6((none, none, none, none, none, none), near + _VECTOR * k, line)
            for k in range(end, columns):
                _write_6((none, none, none, none, none, none), near + _VECTOR * k, line)
            r0, s0 = _row(x, image, y, x0, c, nothing)
            r1, s1 = _row(x, image, y + 1, x0, c, nothing)
            r2, s2 = _row(x, image, y + 2, x0, c, nothing)
            r3, s3 = _row(x, image, y + 3, x0, c, nothing)
            r4, s4 = _row(x, image, y + 4, x0, c, nothing)
            r5, s5 = _row(x, image, y + 5, x0, c, nothing)
            for k in range(begin, end):
                a, b, c_ = load(r0 + k * s0), load(r1 + k * s1), load(r2 + k * s2)
                d, e, f = load(r3 + k * s3), load(r4 + k * s4), load(r5 + k * s5)
                _write_6(from_image(a, b, c_, d, e, f), near + _VECTOR * k, line)
            for t in range(tiles):
                at = near + _VECTOR * STEP * t
                there = to + 4 * ((done + t) * channels + c)
                for i in range(POINTS):
                    row = from_image(*_read_6(at + i * line, _VECTOR))
                    _write_6(row, there + POINTS * i * point, point)
        done += tiles
    return done


# Results ----------------------------------------------------------------------------------


@exact
def _column_to_result(m, point):
    return to_result(*_read_6(m, POINTS * point))


@exact
def _columns_to_result(m, point):
    a, b = _column_to_result(m, point), _column_to_result(m + point, point)
    m += 2 * point
    c, d = _column_to_result(m, point), _column_to_result(m + point, point)
    m += 2 * point
    return a, b, c, d, _column_to_result(m, point), _column_to_result(m + point, point)


@exact
def _row_of_result(row, scale, bias):
    a, b, c, d = to_result(*row)
    return a * scale + bias, b * scale + bias, c * scale + bias, d * scale + bias


@exact
def _write_result(row, adds, residual, lowest, at, right):
    """Returns the sum of what is written."""
    a, b, c, d = row
    if adds:
        e, f, g, h = _read_4(residual, right)
        a, b, c, d = a + e, b + f, c + g, d + h
    lower = at_least(a, lowest), at_least(b, lowest), at_least(c, lowest), at_least(d, lowest)
    _write_4(lower, at, right)
    return (a + b) + (c + d)


@exact
def _add_moments(row, centre, sums, squares):
    """The sums with those of a row's distances to the centre, and of their squares."""
    a, b, c, d = row
    a, b, c, d = a - centre, b - centre, c - centre, d - centre
    return sums + ((a + b) + (c + d)), squares + ((a * a + b * b) + (c * c + d * d))


@inline
def pixels_of(grid, number, height, width):
    """How many pixels a strip has, of a result of that size."""
    _, y0, left, tiles = _strip(grid, number)
    return min(STEP, height - y0) * min(tiles * STEP, width - left)


@inline
def basis_to_results(
    m, outputs, some, grid, first, count, scale, bias, residual, relu, scratch, y, moments, begins
):
    """Strips of y (n, h, w, o) = A^T m A scale + bias, ``some`` channels from ``outputs`` on.

    A ``residual`` of the shape of y is added, one of another shape is none. To ``moments``
    (3, some), if it is not empty, come sums of A^T m A scale + bias less a number, and squares of
    that. The number is in the third row; where all ``begins``, it is taken from the first tile.

    Returns:
        Not 0 if a result is not finite.
    """
    _, height, width, channels = y.shape
    near, at, point = start_of(scratch), start_of(m), 4 * m.shape[1]
    down, right = 4 * channels * width, 4 * channels
    adds, lowest = residual.size == y.size, _f(0) if relu else _f(-np.inf)
    watches, moment = moments.size > 0, 4 * moments.shape[1]
    everything, centre, sums, squares = zeros(), zeros(), zeros(), zeros()
    done = 0
    for number in range(first, first + count):
        image, y0, left, tiles = _strip(grid, number)
        for t in range(tiles):
            x0 = left + t * STEP
            rows, columns = min(STEP, height - y0), min(STEP, width - x0)
            pixel = ((image * height + y0) * width + x0) * channels + outputs
            for start in range(0, some, LANES):
                c = min(start, some - LANES)
                to, add = start_of(y) + 4 * (pixel + c), start_of(residual) + 4 * (pixel + c)
                half = transposed(_columns_to_result(at + 4 * ((done + t) * some + c), point))
                a = load(start_of(scale) + 4 * (outputs + c))
                b = load(start_of(bias) + 4 * (outputs + c))
                r0, r1 = _row_of_result(half[0], a, b), _row_of_result(half[1], a, b)
                r2, r3 = _row_of_result(half[2], a, b), _row_of_result(half[3], a, b)
                if watches:
                    if begins and number == first and t == 0:
                        middle = r0[0]
                        # At the border, where padding is seen, it may be far from the others.
                        if rows == STEP and columns == STEP:
                            middle = _f(0.25) * (r1[1] + r1[2] + (r2[1] + r2[2]))
                        store(middle, start_of(moments) + 2 * moment + 4 * c)
                    sums, squares = zeros(), zeros()  # of a tile, to keep their digits
                    centre = load(start_of(moments) + 2 * moment + 4 * c)
                if rows == STEP and columns == STEP:
                    if watches:
                        sums, squares = _add_moments(r0, centre, sums, squares)
                        sums, squares = _add_moments(r1, centre, sums, squares)
                        sums, squares = _add_moments(r2, centre, sums, squares)
                        sums, squares = _add_moments(r3, centre, sums, squares)
                    s0 = _write_result(r0, adds, add, lowest, to, right)
                    s1 = _write_result(r1, adds, add + down, lowest, to + down, right)
                    add, to = add + 2 * down, to + 2 * down
                    s2 = _write_result(r2, adds, add, lowest, to, right)
                    s3 = _write_result(r3, adds, add + down, lowest, to + down, right)
                    everything += (s0 + s1) + (s2 + s3)
                else:
                    _write_4(r0, near, _VECTOR)
                    _write_4(r1, near + STEP * _VECTOR, _VECTOR)
                    _write_4(r2, near + 2 * STEP * _VECTOR, _VECTOR)
                    _write_4(r3, near + 3 * STEP * _VECTOR, _VECTOR)
                    for i in range(rows):
                        for j in range(columns):
                            value = load(near + _VECTOR * (STEP * i + j))
                            if watches:
                                sums += value - centre
                                squares += (value - centre) * (value - centre)
                            if adds:
                                value += load(add + i * down + j * right)
                            everything += value
                            store(at_least(value, lowest), to + i * down + j * right)
                if watches:
                    there = start_of(moments) + 4 * c
                    store(load(there) + sums, there)
                    store(load(there + moment) + squares, there + moment)
        done += tiles
    return total(everything) * _f(0)


@exact
def _column_from_result(at, down):
    return from_result(*_read_4(at, down))


@exact
def _columns_from_result(at, down, right):
    a, b = _column_from_result(at, down), _column_from_result(at + right, down)
    at += 2 * right
    return a, b, _column_from_result(at, down), _column_from_result(at + right, down)


@exact
def _write_from_result(row, m, point):
    _write_6(from_result(*row), m, point)


@inline
def results_to_basis(y, outputs, some, grid, first, count, scratch, m):
    """Strips of y (n, h, w, o) as A y A^T, of ``some`` channels from ``outputs`` on."""
    _, height, width, channels = y.shape
    near, to, point = start_of(scratch), start_of(m), 4 * m.shape[1]
    done = 0
    for number in range(first, first + count):
        image, y0, left, tiles = _strip(grid, number)
        for t in range(tiles):
            x0 = left + t * STEP
            rows, columns = min(STEP, height - y0), min(STEP, width - x0)
            pixel = ((image * height + y0) * width + x0) * channels + outputs
            for start in range(0, some, LANES):
                c = min(start, some - LANES)
                at, down, right = start_of(y) + 4 * (pixel + c), 4 * channels * width, 4 * channels
                if rows < STEP or columns < STEP:
                    for i in range(STEP):
                        for j in range(STEP):
                            there = near + _VECTOR * (STEP * i + j)
                            if i < rows and j < columns:
                                store(load(at + i * down + j * right), there)
                            else:
                                store(zeros(), there)
                    at, down, right = near, STEP * _VECTOR, _VECTOR
                half = transposed(_columns_from_result(at, down, right))
                there, row = to + 4 * ((done + t) * some + c), POINTS * point
                _write_from_result(half[0], there, point)
                _write_from_result(half[1], there + row, point)
                _write_from_result(half[2], there + 2 * row, point)
                _write_from_result(half[3], there + 3 * row, point)
                _write_from_result(half[4], there + 4 * row, point)
                _write_from_result(half[5], there + 5 * row, point)
        done += tiles


# Weights ----------------------------------------------------------------------------------


@inline
def weight_to_basis(w, i, input_step, output_step, turned, scratch, u):
    """u (36, inputs, outputs) = G w G^T for the input ``i``, ``turned`` by half a circle or not.

    The nine numbers for an input and an output begin at their steps in w.
    """
    _, inputs, outputs = u.shape
    near = start_of(scratch)
    half, point = near + _TAPS * _VECTOR, 4 * inputs * outputs
    for start in range(0, outputs, LANES):
        o = min(start, outputs - LANES)
        for k in range(LANES):
            at = i * input_step + (o + k) * output_step
            for tap in range(_TAPS):
                scratch[tap, k] = w[at + (8 - tap if turned else tap)]
        for j in range(3):
            column = from_weight(*_read_3(near + _VECTOR * j, 3 * _VECTOR))
            _write_6(column, half + _VECTOR * j, 3 * _VECTOR)
        for j in range(POINTS):
            row = from_weight(*_read_3(half + 3 * _VECTOR * j, _VECTOR))
            _write_6(row, start_of(u) + 4 * (i * outputs + o) + POINTS * j * point, point)


@inline
def basis_to_weight(sums, o, scratch, grad_weight):
    """grad_weight (o, c, 9) = G^T sums G for an output, from sums (parts, 36, o, c).

    Returns:
        Not 0 if a result is not finite.
    """
    parts, _, outputs, channels = sums.shape
    near = start_of(scratch)
    half = near + _TAPS * _VECTOR
    first, point = half + 3 * POINTS * _VECTOR, 4 * outputs * channels
    everything = zeros()
    for start in range(0, channels, LANES):
        c = min(start, channels - LANES)
        at = start_of(sums) + 4 * (o * channels + c)
        for i in range(SQUARE):
            number = load(at + i * point)
            for part in range(1, parts):
                number += load(at + (part * SQUARE + i) * point)
            store(number, first + _VECTOR * i)
        for j in range(POINTS):
            column = to_weight(*_read_6(first + _VECTOR * j, POINTS * _VECTOR))
            _write_3(column, half + _VECTOR * j, POINTS * _VECTOR)
        for j in range(3):
            row = to_weight(*_read_6(half + POINTS * _VECTOR * j, _VECTOR))
            a, b, d = row
            everything += (a + b) + d
            _write_3(row, near + 3 * _VECTOR * j, _VECTOR)
        for k in range(LANES):
            for tap in range(_TAPS):
                grad_weight[o, c + k, tap] = scratch[tap, k]
    return total(everything) * _f(0)
