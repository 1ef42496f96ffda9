"""Arrays put into larger ones, on all threads: images that get a border or more channels, and
gradients of parts of an array.

Both are one loop: the result is filled, and the array, or what is seen of it, is written at
places with even distances. The axes are gone through in the order in which the result lies.
"""

from __future__ import annotations

from math import prod
from operator import mul
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..memory import empty_as, order_of
from .addresses import start_of
from .jit import kernel, prange
from .math import wide
from .rows import as_bits
from .suits_dense import MOST_AXES, slices
from .vectors import LANES, load_some, spread, store_some

__all__ = ["pad_constant", "put_slice"]


@kernel
def _place(x, counts, apart, y, size, first, step, value, width):
    """Pieces of ``size`` elements of y become ``value``, but for the elements of x.

    Element (i, j, k, m) of x, of which there are ``counts``, lies i apart[0] + j apart[1] +
    k apart[2] + m elements behind the address x, and comes to first + i step[0] + ... + m behind
    y. Elements are ``width`` bytes wide.
    """
    element = value[0]
    filling = spread(wide(element))
    for piece in prange(y.size // size):
        start = start_of(y) + width * size * piece
        for e in range(0, size, LANES):
            store_some(filling, start + width * e, size - e, element)
        i, between = divmod(size * piece - first[0], step[0])
        if between != 0 or i < 0 or i >= counts[0]:
            continue
        for j in range(counts[1]):
            for k in range(counts[2]):
                p = x + width * (i * apart[0] + j * apart[1] + k * apart[2])
                q = start + width * (first[1] + j * step[1] + k * step[2])
                for m in range(0, counts[3], LANES):
                    left = counts[3] - m
                    some = load_some(p + width * m, left, element)
                    store_some(some, q + width * m, left, element)


def _placed(x: NDArray, like: NDArray, shape: Any, first: Any, step: Any, value: Any) -> NDArray:
    """A new array of ``shape``, in the order of ``like``, with x in it.

    Along the axis that is the innermost in memory, ``step`` is 1.
    """
    y = empty_as(like, shape)
    order = order_of(like)
    x = x.transpose(order)
    if x.shape[-1] > 1 and x.strides[-1] != x.itemsize:
        x = np.ascontiguousarray(x)
    sizes = [shape[axis] for axis in order]
    # Threads share out the first axis, unless one piece of it is less than a vector.
    lead, missing = int(prod(sizes[1:]) >= LANES), MOST_AXES - x.ndim

    def four(numbers: Any, between: int) -> tuple[int, ...]:
        return (*numbers[:lead], *[between] * missing, *numbers[lead:])

    pieces = [prod(four(sizes, 1)[i + 1 :]) for i in range(MOST_AXES)]
    starts = four([first[axis] for axis in order], 0)
    steps = four([step[axis] for axis in order], 1)
    _place.over(y.size)(
        x.ctypes.data,
        four(x.shape, 1),
        four([n // x.itemsize for n in x.strides], 0),
        as_bits(y).transpose(order).reshape(-1),
        pieces[0],
        (starts[0] * pieces[0], sum(map(mul, starts[1:], pieces[1:]))),
        tuple(map(mul, steps, pieces)),
        as_bits(np.array([value], y.dtype)),
        y.itemsize,
    )
    return y


def pad_constant(x: NDArray, widths: tuple[tuple[int, int], ...], value: float) -> NDArray:
    """See the reference kernel."""
    shape = tuple([n + low + high for n, (low, high) in zip(x.shape, widths, strict=True)])
    seen = tuple(
        slice(max(-low, 0), n - max(-high, 0))
        for n, (low, high) in zip(x.shape, widths, strict=True)
    )
    first = [max(low, 0) for low, _ in widths]
    return _placed(x[seen], x, shape, first, [1] * x.ndim, value)


def put_slice(shape: tuple[int, ...], key: Any, values: NDArray) -> NDArray:
    """See the reference kernel."""
    parts = slices(key, len(shape))
    assert parts is not None, "an index that suits has let pass"
    ranges = [part.indices(n) for part, n in zip(parts, shape, strict=True)]
    first, _, step = zip(*ranges, strict=True)
    return _placed(values, values, shape, first, step, 0)
