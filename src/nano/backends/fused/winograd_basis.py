"""The basis of Winograd's algorithm for 3x3 kernels: six points, where a product is cheap.

A convolution is a product of polynomials, and a polynomial of degree 5 is known by its values
at six points, where the product is one multiplication each. So tiles of 4x4 results take 36
multiplications where the definition has 144. With x (6, 6), w (3, 3) and y (4, 4):

    y = A^T [(G w G^T) * (B^T x B)] A        dw = G^T [(A dy A^T) * (B^T x B)] G

The points are 0, infinity and those of a = sqrt(1/2), b = sqrt(2) with both signs. With the
usual 0, infinity, +-1, +-2 the matrices hold larger numbers; the error is up to 5 times as large.

    B^T = [1  0 -5/2  0  1  0]    A = [1  0   0   0 ]    G = [  1     0     0 ]
          [0 -b  -2   a  1  0]        [1  a  1/2 a/2]        [-2/3 -2a/3 -1/3 ]
          [0  b  -2  -a  1  0]        [1 -a  1/2 -a/2]       [-2/3  2a/3 -1/3 ]
          [0 -a -1/2  b  1  0]        [1  b   2   2b]        [ 1/6   b/6  1/3 ]
          [0  a -1/2 -b  1  0]        [1 -b   2  -2b]        [ 1/6  -b/6  1/3 ]
          [0  1   0 -5/2 0  1]        [0  0   0   1 ]        [  0     0     1 ]

Each function multiplies by one of these along one dimension, in place: the rows ``first``,
``first + step`` ... of ``s`` (36, SLAB), which the processor's first cache holds.

Sources: A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016,
arXiv:1509.09308; S. A. Alam, A. Anderson, B. Barabasz and D. Gregg, "Winograd convolution for
deep neural networks: efficient point selection", ACM Transactions on Embedded Computing
Systems 21(6), 2022, doi:10.1145/3524069.
"""

from __future__ import annotations

import numpy as np

from .jit import inline
from .math import exact

__all__ = [
    "POINTS",
    "SLAB",
    "SQUARE",
    "STEP",
    "from_image",
    "from_result",
    "from_weight",
    "images_to_basis",
    "tiles_in",
    "to_result",
    "to_weight",
]

_f = np.float32
#: Pixels of a tile's result, and of its image, in one dimension; those of an image.
STEP, POINTS, SQUARE = 4, 6, 36
#: Channels that are transformed at a time. A fixed number, and functions compiled into their
#: caller, let the compiler see that rows of ``s`` do not overlap: else no loop is a vector loop.
SLAB = 64

_A, _B = _f(0.5**0.5), _f(2**0.5)
_HALF, _TWO, _FIVE_HALVES = _f(0.5), _f(2), _f(2.5)
_THIRD, _TWO_THIRDS, _SIXTH = _f(1 / 3), _f(2 / 3), _f(1 / 6)


@exact
def from_image(s, first, step):
    """B^T times six rows."""
    for k in range(SLAB):
        x0, x1, x2 = s[first, k], s[first + step, k], s[first + 2 * step, k]
        x3, x4, x5 = s[first + 3 * step, k], s[first + 4 * step, k], s[first + 5 * step, k]
        even, odd = x4 - _TWO * x2, _A * x3 - _B * x1
        even_b, odd_b = x4 - _HALF * x2, _B * x3 - _A * x1
        s[first, k] = x0 - _FIVE_HALVES * x2 + x4
        s[first + step, k] = even + odd
        s[first + 2 * step, k] = even - odd
        s[first + 3 * step, k] = even_b + odd_b
        s[first + 4 * step, k] = even_b - odd_b
        s[first + 5 * step, k] = x1 - _FIVE_HALVES * x3 + x5


@exact
def to_result(s, first, step):
    """Six rows become four, A^T times them."""
    for k in range(SLAB):
        m0, m1, m2 = s[first, k], s[first + step, k], s[first + 2 * step, k]
        m3, m4, m5 = s[first + 3 * step, k], s[first + 4 * step, k], s[first + 5 * step, k]
        even, odd, even_b, odd_b = m1 + m2, _A * (m1 - m2), m3 + m4, _B * (m3 - m4)
        s[first, k] = m0 + even + even_b
        s[first + step, k] = odd + odd_b
        s[first + 2 * step, k] = _HALF * even + _TWO * even_b
        s[first + 3 * step, k] = _HALF * odd + _TWO * odd_b + m5


@exact
def from_result(s, first, step):
    """Four rows become six, A times them."""
    for k in range(SLAB):
        y0, y1 = s[first, k], s[first + step, k]
        y2, y3 = s[first + 2 * step, k], s[first + 3 * step, k]
        even, odd = y0 + _HALF * y2, _A * (y1 + _HALF * y3)
        even_b, odd_b = y0 + _TWO * y2, _B * (y1 + _TWO * y3)
        s[first + step, k] = even + odd
        s[first + 2 * step, k] = even - odd
        s[first + 3 * step, k] = even_b + odd_b
        s[first + 4 * step, k] = even_b - odd_b
        s[first + 5 * step, k] = y3


@exact
def from_weight(s, first, step):
    """Three rows become six, G times them."""
    for k in range(SLAB):
        w0, w1, w2 = s[first, k], s[first + step, k], s[first + 2 * step, k]
        even, odd = -_TWO_THIRDS * w0 - _THIRD * w2, -_TWO_THIRDS * _A * w1
        even_b, odd_b = _SIXTH * w0 + _THIRD * w2, _SIXTH * _B * w1
        s[first + step, k] = even + odd
        s[first + 2 * step, k] = even - odd
        s[first + 3 * step, k] = even_b + odd_b
        s[first + 4 * step, k] = even_b - odd_b
        s[first + 5 * step, k] = w2


@exact
def to_weight(s, first, step):
    """Six rows become three, G^T times them."""
    for k in range(SLAB):
        m0, m1, m2 = s[first, k], s[first + step, k], s[first + 2 * step, k]
        m3, m4, m5 = s[first + 3 * step, k], s[first + 4 * step, k], s[first + 5 * step, k]
        even, even_b = m1 + m2, m3 + m4
        s[first, k] = m0 - _TWO_THIRDS * even + _SIXTH * even_b
        s[first + step, k] = _SIXTH * _B * (m3 - m4) - _TWO_THIRDS * _A * (m1 - m2)
        s[first + 2 * step, k] = _THIRD * (even_b - even) + m5


@inline
def images_to_basis(x, top, left, down, across, start, count, v):
    """``count`` tiles of x (n, h, w, c) from ``start`` on, as B^T x B: v (36, tiles c + SLAB).

    Images are cut into ``down`` x ``across`` tiles. The rows of v are longer than needed: with
    a power of two between them, they would all want the same places of the cache.
    """
    _, height, width, channels = x.shape
    s = np.empty((SQUARE, SLAB), np.float32)
    for t in range(count):
        image, place = divmod(start + t, down * across)
        y0, x0 = place // across * STEP - top, place % across * STEP - left
        for c in range(0, channels, SLAB):
            first = min(c, channels - SLAB)  # the last slab may overlap the one before
            for i in range(POINTS):
                for j in range(POINTS):
                    if 0 <= y0 + i < height and 0 <= x0 + j < width:
                        row = x[image, y0 + i, x0 + j, first : first + SLAB]
                        for k in range(SLAB):
                            s[POINTS * i + j, k] = row[k]
                    else:
                        for k in range(SLAB):
                            s[POINTS * i + j, k] = _f(0)
            for j in range(POINTS):
                from_image(s, j, POINTS)
            for i in range(POINTS):
                from_image(s, POINTS * i, 1)
            for i in range(SQUARE):
                row = v[i, t * channels + first : t * channels + first + SLAB]
                for k in range(SLAB):
                    row[k] = s[i, k]


def tiles_in(rows: int, columns: int) -> tuple[int, int]:
    """How many tiles a result has, down and across."""
    return -(-rows // STEP), -(-columns // STEP)
