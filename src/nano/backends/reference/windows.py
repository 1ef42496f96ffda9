"""Where the elements of a sliding window lie: the geometry that convolution and pooling share.

A *tap* is one place in the window. Seen from a tap, the outputs that have an
element there and these elements themselves are two regular grids, and NumPy
works on a grid at once: so a loop over the few taps is all the looping there is.
"""

from __future__ import annotations

from collections.abc import Iterator

Pair = tuple[int, int]
Padding = tuple[tuple[int, int], tuple[int, int]]


def reach(offset: int, stride: int, size: int, outputs: int) -> tuple[slice, slice]:
    """The outputs o with 0 <= o * stride + offset < size, and these inputs, as two slices."""
    first = max(0, -(offset // stride))
    last = max(first, min(outputs, (size - 1 - offset) // stride + 1))
    start = first * stride + offset
    if first == last:  # no output has an element here
        return slice(0, 0), slice(0, 0)
    return slice(first, last), slice(start, start + (last - first - 1) * stride + 1, stride)


def taps(
    input_size: Pair,
    output_size: Pair,
    kernel_size: Pair,
    stride: Pair,
    start: Pair,
    dilation: Pair,
) -> Iterator[tuple[int, int, tuple[slice, slice], tuple[slice, slice]]]:
    """For each tap (row, column): the outputs that it serves and the inputs that it shows them.

    Args:
        input_size, output_size, kernel_size, stride, dilation: (height, width).
        start: how far above and left of the image the first window starts: its padding.

    >>> for row, column, outputs, inputs in taps((3, 3), (3, 3), (1, 2), (1, 1), (0, 1), (1, 1)):
    ...     print(row, column, outputs[1], inputs[1])
    0 0 slice(1, 3, None) slice(0, 2, 1)
    0 1 slice(0, 3, None) slice(0, 3, 1)
    """
    (h, w), (oh, ow), (kh, kw) = input_size, output_size, kernel_size
    rows = [reach(i * dilation[0] - start[0], stride[0], h, oh) for i in range(kh)]
    columns = [reach(j * dilation[1] - start[1], stride[1], w, ow) for j in range(kw)]
    for i, (out_rows, in_rows) in enumerate(rows):
        for j, (out_columns, in_columns) in enumerate(columns):
            yield i, j, (out_rows, out_columns), (in_rows, in_columns)


def output_size(
    input_size: Pair, kernel_size: Pair, stride: Pair, padding: Padding, dilation: Pair
) -> Pair:
    """How many windows fit: floor((size + padding - dilation (k - 1) - 1) / stride) + 1.

    >>> output_size((5, 5), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))
    (3, 3)
    """
    oh, ow = (
        (n + low + high - d * (k - 1) - 1) // s + 1
        for n, k, s, (low, high), d in zip(
            input_size, kernel_size, stride, padding, dilation, strict=True
        )
    )
    return oh, ow
