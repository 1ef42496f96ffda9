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

Each function multiplies by one of these, along one dimension: numbers, or vectors of them.

Sources: A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016,
arXiv:1509.09308; S. A. Alam, A. Anderson, B. Barabasz and D. Gregg, "Winograd convolution for
deep neural networks: efficient point selection", ACM Transactions on Embedded Computing
Systems 21(6), 2022, doi:10.1145/3524069.
"""

from __future__ import annotations

import numpy as np

from .math import exact

__all__ = [
    "POINTS",
    "SQUARE",
    "STEP",
    "from_image",
    "from_result",
    "from_weight",
    "to_result",
    "to_weight",
]

_f = np.float32
#: Pixels of a tile's result, and of its image, in one dimension; those of an image.
STEP, POINTS, SQUARE = 4, 6, 36

_A, _B = _f(0.5**0.5), _f(2**0.5)
_HALF, _TWO, _FIVE_HALVES = _f(0.5), _f(2), _f(2.5)
_THIRD, _TWO_THIRDS, _SIXTH = _f(1 / 3), _f(2 / 3), _f(1 / 6)


@exact
def from_image(x0, x1, x2, x3, x4, x5):
    """B^T times six rows."""
    even, odd = x4 - _TWO * x2, _A * x3 - _B * x1
    even_b, odd_b = x4 - _HALF * x2, _B * x3 - _A * x1
    first, last = x0 - _FIVE_HALVES * x2 + x4, x1 - _FIVE_HALVES * x3 + x5
    return first, even + odd, even - odd, even_b + odd_b, even_b - odd_b, last


@exact
def to_result(m0, m1, m2, m3, m4, m5):
    """Six rows become four, A^T times them."""
    even, odd, even_b, odd_b = m1 + m2, _A * (m1 - m2), m3 + m4, _B * (m3 - m4)
    last = _HALF * odd + _TWO * odd_b + m5
    return m0 + even + even_b, odd + odd_b, _HALF * even + _TWO * even_b, last


@exact
def from_result(y0, y1, y2, y3):
    """Four rows become six, A times them."""
    even, odd = y0 + _HALF * y2, _A * (y1 + _HALF * y3)
    even_b, odd_b = y0 + _TWO * y2, _B * (y1 + _TWO * y3)
    return y0, even + odd, even - odd, even_b + odd_b, even_b - odd_b, y3


@exact
def from_weight(w0, w1, w2):
    """Three rows become six, G times them."""
    even, odd = -_TWO_THIRDS * w0 - _THIRD * w2, -_TWO_THIRDS * _A * w1
    even_b, odd_b = _SIXTH * w0 + _THIRD * w2, _SIXTH * _B * w1
    return w0, even + odd, even - odd, even_b + odd_b, even_b - odd_b, w2


@exact
def to_weight(m0, m1, m2, m3, m4, m5):
    """Six rows become three, G^T times them."""
    even, even_b = m1 + m2, m3 + m4
    odd = _SIXTH * _B * (m3 - m4) - _TWO_THIRDS * _A * (m1 - m2)
    return m0 - _TWO_THIRDS * even + _SIXTH * even_b, odd, _THIRD * (even_b - even) + m5
