"""Pooling: each window of the image becomes one number, its maximum or its mean.

As in convolution.py, the definitions stand first as loops, the kernels after
them. A maximum remembers where in its window it was found, so that its
derivative, and the derivative of that, need not search again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..registry import register
from .windows import Pair, taps

Padding = tuple[int, int]


def max_pool2d_loops(
    x: NDArray,
    kernel_size: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    output_size: Pair,
) -> tuple[NDArray, NDArray]:
    """The largest element under each window, and its place in it: row * width + column.

    Of equal elements the first counts, of NaNs the last. Places outside the image do
    not count; where nothing is larger than -inf, the first place inside does.
    """
    n, c, height, width = x.shape
    y = np.empty((n, c, *output_size), x.dtype)
    offsets = np.empty(y.shape, _offset_dtype(kernel_size))
    for at in np.ndindex(*y.shape):
        best, place = _lowest(x.dtype), None
        for i, j in np.ndindex(*kernel_size):
            h = at[2] * stride[0] - padding[0] + i * dilation[0]
            w = at[3] * stride[1] - padding[1] + j * dilation[1]
            if 0 <= h < height and 0 <= w < width:
                value = x[*at[:2], h, w]
                if place is None or value > best or value != value:
                    best, place = value, i * kernel_size[1] + j
        y[at], offsets[at] = best, place or 0
    return y, offsets


def avg_pool2d_loops(
    x: NDArray,
    kernel_size: Pair,
    stride: Pair,
    padding: Padding,
    output_size: Pair,
    count_include_pad: bool,
    divisor: int | None,
) -> NDArray:
    """The sum of the elements under each window, divided by how many they are.

    With ``count_include_pad`` places in the padding count too (but not those beyond it);
    ``divisor``, if given, takes the place of the count.
    """
    n, c, height, width = x.shape
    y = np.empty((n, c, *output_size), x.dtype)
    for at in np.ndindex(*y.shape):
        total, inside, padded = x.dtype.type(0), 0, 0
        for i, j in np.ndindex(*kernel_size):
            h = at[2] * stride[0] - padding[0] + i
            w = at[3] * stride[1] - padding[1] + j
            padded += h < height + padding[0] and w < width + padding[1]
            if 0 <= h < height and 0 <= w < width:
                total += x[*at[:2], h, w]
                inside += 1
        y[at] = total / (divisor or (padded if count_include_pad else inside))
    return y


# The maximum ----------------------------------------------------------------------------


def max_pool2d(
    x: NDArray,
    kernel_size: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    output_size: Pair,
) -> tuple[NDArray, NDArray]:
    """:func:`max_pool2d_loops`, a tap at a time.

    Args:
        x: (n, c, h, w), any dtype but bool.
        kernel_size, stride, dilation, output_size: (rows, columns).
        padding: (above and below, left and right).

    Returns:
        y (n, c, oh, ow), and the place of each maximum in its window, uint8 or (for windows
        of more than 256 elements) int32. Both channels-last in memory.
    """
    image = _channels_last(x)
    n, h, w, c = image.shape
    y = np.full((n, *output_size, c), _lowest(x.dtype), x.dtype)
    # The first tap inside the image: what counts where nothing is larger than -inf.
    first_row = _first_inside(output_size[0], stride[0], padding[0], dilation[0])
    first_column = _first_inside(output_size[1], stride[1], padding[1], dilation[1])
    offsets = np.empty(y.shape, _offset_dtype(kernel_size))
    offsets[...] = (first_row[:, None] * kernel_size[1] + first_column)[:, :, None]
    for i, j, outputs, inputs in taps((h, w), output_size, kernel_size, stride, padding, dilation):
        value, best = image[:, *inputs], y[:, *outputs]
        better = value > best
        if x.dtype.kind in "fV":
            better |= np.isnan(value)
        np.copyto(best, value, where=better)
        np.copyto(offsets[:, *outputs], i * kernel_size[1] + j, where=better, casting="unsafe")
    return y.transpose(0, 3, 1, 2), offsets.transpose(0, 3, 1, 2)


def max_pool2d_backward(
    grad_output: NDArray,
    offsets: NDArray,
    input_size: Pair,
    kernel_size: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
) -> NDArray:
    """Each gradient added at the place where its maximum was found; (n, c, h, w)."""
    g, places = _widened(_channels_last(grad_output)), _channels_last(offsets)
    n, *size, c = g.shape
    dx = np.zeros((n, *input_size, c), g.dtype)
    for i, j, outputs, inputs in taps(input_size, size, kernel_size, stride, padding, dilation):
        found = places[:, *outputs] == i * kernel_size[1] + j
        target = dx[:, *inputs]
        np.add(target, g[:, *outputs], out=target, where=found)
    return dx.astype(grad_output.dtype, copy=False).transpose(0, 3, 1, 2)


def max_pool2d_gather(
    x: NDArray,
    offsets: NDArray,
    kernel_size: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
) -> NDArray:
    """The elements of x where the maxima were found: the transpose of the backward kernel."""
    image, places = _channels_last(x), _channels_last(offsets)
    n, *size, c = places.shape
    y = np.zeros((n, *size, c), x.dtype)
    for i, j, outputs, inputs in taps(
        image.shape[1:3], size, kernel_size, stride, padding, dilation
    ):
        found = places[:, *outputs] == i * kernel_size[1] + j
        np.copyto(y[:, *outputs], image[:, *inputs], where=found)
    return y.transpose(0, 3, 1, 2)


def _offset_dtype(kernel_size: Pair) -> Any:
    return np.uint8 if kernel_size[0] * kernel_size[1] <= 256 else np.int32


def _lowest(dtype: Any) -> Any:
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


def _first_inside(outputs: int, stride: int, padding: int, dilation: int) -> NDArray:
    """For each output, the first tap that is not in the padding before the image."""
    outside = np.maximum(padding - np.arange(outputs) * stride, 0)
    return -(-outside // dilation)


# The mean -------------------------------------------------------------------------------


def avg_pool2d(
    x: NDArray,
    kernel_size: Pair,
    stride: Pair,
    padding: Padding,
    output_size: Pair,
    count_include_pad: bool,
    divisor: int | None,
) -> NDArray:
    """:func:`avg_pool2d_loops`, a tap at a time; (n, c, oh, ow), channels-last in memory.

    Integers are divided as in C: towards 0.
    """
    image = _widened(_channels_last(x))
    n, h, w, c = image.shape
    total = np.zeros((n, *output_size, c), image.dtype)
    for _, _, outputs, inputs in taps((h, w), output_size, kernel_size, stride, padding, (1, 1)):
        total[:, *outputs] += image[:, *inputs]
    counts = _counts((h, w), kernel_size, stride, padding, output_size, count_include_pad, divisor)
    if x.dtype.kind in "iu":
        total = np.sign(total) * (np.abs(total) // np.abs(counts)) * np.sign(counts)
    else:
        total /= counts.astype(total.dtype)
    return total.astype(x.dtype, copy=False).transpose(0, 3, 1, 2)


def avg_pool2d_backward(
    grad_output: NDArray,
    input_size: Pair,
    kernel_size: Pair,
    stride: Pair,
    padding: Padding,
    count_include_pad: bool,
    divisor: int | None,
) -> NDArray:
    """Each gradient, divided by its window's count, added to all elements of the window."""
    g = _widened(_channels_last(grad_output))
    n, *size, c = g.shape
    counts = _counts(input_size, kernel_size, stride, padding, size, count_include_pad, divisor)
    share = g / counts.astype(g.dtype)
    dx = np.zeros((n, *input_size, c), g.dtype)
    for _, _, outputs, inputs in taps(input_size, size, kernel_size, stride, padding, (1, 1)):
        dx[:, *inputs] += share[:, *outputs]
    return dx.astype(grad_output.dtype, copy=False).transpose(0, 3, 1, 2)


def _counts(
    input_size: Pair,
    kernel_size: Pair,
    stride: Pair,
    padding: Padding,
    output_size: Any,
    count_include_pad: bool,
    divisor: int | None,
) -> NDArray:
    """By what each window's sum is divided, as (oh, ow, 1)."""
    if divisor is not None:
        return np.full((1, 1, 1), divisor)
    lengths = []
    for axis in (0, 1):
        margin = padding[axis] if count_include_pad else 0
        start = np.arange(output_size[axis]) * stride[axis] - padding[axis]
        stop = np.minimum(start + kernel_size[axis], input_size[axis] + margin)
        lengths.append(stop - np.maximum(start, -margin))
    return (lengths[0][:, None] * lengths[1])[:, :, None]


def adaptive_windows(size: int, outputs: int) -> list[tuple[int, int]]:
    """[start, stop) of ``outputs`` windows that cover ``size`` elements about evenly.

    Window i goes from floor(i size / outputs) to ceil((i + 1) size / outputs).

    >>> adaptive_windows(5, 3)
    [(0, 2), (1, 4), (3, 5)]
    """
    return [(i * size // outputs, -(-(i + 1) * size // outputs)) for i in range(outputs)]


def adaptive_avg_pool2d(x: NDArray, output_size: Pair) -> NDArray:
    """The means of ``output_size`` windows that cover the image; channels-last in memory."""
    total = _widened(_channels_last(x))
    for axis, outputs in zip((1, 2), output_size, strict=True):
        windows = adaptive_windows(total.shape[axis], outputs)
        shape = list(total.shape)
        shape[axis] = outputs
        means = np.empty(shape, total.dtype)
        for i, (start, stop) in enumerate(windows):
            part = total[:, start:stop] if axis == 1 else total[:, :, start:stop]
            np.mean(part, axis=axis, out=means[:, i] if axis == 1 else means[:, :, i])
        total = means
    return total.astype(x.dtype, copy=False).transpose(0, 3, 1, 2)


def adaptive_avg_pool2d_backward(grad_output: NDArray, input_size: Pair) -> NDArray:
    """Each gradient, divided by its window's count, added to all elements of the window."""
    dx = _widened(_channels_last(grad_output))
    for axis, size in zip((1, 2), input_size, strict=True):
        windows = adaptive_windows(size, dx.shape[axis])
        shape = list(dx.shape)
        shape[axis] = size
        spread = np.zeros(shape, dx.dtype)
        for i, (start, stop) in enumerate(windows):
            if axis == 1:
                spread[:, start:stop] += dx[:, i : i + 1] / (stop - start)
            else:
                spread[:, :, start:stop] += dx[:, :, i : i + 1] / (stop - start)
        dx = spread
    return dx.astype(grad_output.dtype, copy=False).transpose(0, 3, 1, 2)


def _channels_last(x: NDArray) -> NDArray:
    return x.transpose(0, 2, 3, 1)


def _widened(x: NDArray) -> NDArray:
    """float32 for 16-bit floats, whose sums would lose digits."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype.kind in "fV" else x


for _kernel in (
    max_pool2d,
    max_pool2d_backward,
    max_pool2d_gather,
    avg_pool2d,
    avg_pool2d_backward,
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
):
    register(_kernel.__name__, _kernel)
