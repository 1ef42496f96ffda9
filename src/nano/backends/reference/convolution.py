"""Convolution: the sum of the products of a small window of weights and the image under it.

One sum over (image, output channel, place, input channel, tap) defines three
maps, each the transpose of the others: the output, the input's gradient and the
weight's gradient. First they stand here as that sum, in loops: the specification.
Then as one matrix product each (*im2col*): these are the kernels.

Source: K. Chellapilla, S. Puri and P. Simard, "High performance convolutional
neural networks for document processing", IWFHR 2006.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..registry import register
from .windows import Padding, Pair, output_size, taps

#: Bytes of columns that are made at a time: about what the caches hold.
_CHUNK = 8 << 20


def conv2d_loops(
    x: NDArray,
    weight: NDArray,
    bias: NDArray | None,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> NDArray:
    """y[n, o, r, s] = bias[o] + the sum over c, i, j of weight[o, c, i, j] x[n, c, h, w].

    Here h = r stride - padding + i dilation, and w likewise. Outside the image x is 0.
    """
    size = output_size(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    y = np.zeros((len(x), len(weight), *size), x.dtype)
    if bias is not None:
        y += bias[:, None, None]
    for at_y, at_x, at_weight in _terms(x, weight, y, stride, padding, dilation, groups):
        y[at_y] += weight[at_weight] * x[at_x]
    return y


def conv_transpose2d_loops(
    x: NDArray,
    weight: NDArray,
    bias: NDArray | None,
    output_size: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> NDArray:
    """The same sum, read from the output to the input: the transpose of the map x -> y."""
    y = np.zeros((len(x), groups * weight.shape[1], *output_size), x.dtype)
    if bias is not None:
        y += bias[:, None, None]
    for at_x, at_y, at_weight in _terms(y, weight, x, stride, padding, dilation, groups):
        y[at_y] += weight[at_weight] * x[at_x]
    return y


def conv2d_weight_loops(
    grad_output: NDArray,
    x: NDArray,
    kernel_size: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> NDArray:
    """The same sum, collected at the weights: the transpose of the map weight -> y."""
    shape = (grad_output.shape[1], x.shape[1] // groups, *kernel_size)
    dweight = np.zeros(shape, x.dtype)
    for at_y, at_x, at_weight in _terms(x, dweight, grad_output, stride, padding, dilation, groups):
        dweight[at_weight] += grad_output[at_y] * x[at_x]
    return dweight


def _terms(
    x: NDArray,
    weight: NDArray,
    y: NDArray,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> Iterator[tuple[Any, Any, Any]]:
    """The places in y, x and weight of each product that the sum has."""
    _, _, height, width = x.shape
    _, per_group, kh, kw = weight.shape
    for n, o, r, s in np.ndindex(*y.shape):
        group = o // (len(weight) // groups)
        for c, i, j in np.ndindex(per_group, kh, kw):
            h = r * stride[0] - padding[0][0] + i * dilation[0]
            w = s * stride[1] - padding[1][0] + j * dilation[1]
            if 0 <= h < height and 0 <= w < width:
                yield (n, o, r, s), (n, group * per_group + c, h, w), (o, c, i, j)


# The kernels ----------------------------------------------------------------------------
#
# Channels are the last axis of every array in here, as they are in memory, and are cut into
# groups: an image array has the axes (group, image, row, column, channel of the group), and
# columns have (group, image, row, column, tap row, tap column, channel of the group).


def conv2d(
    x: NDArray,
    weight: NDArray,
    bias: NDArray | None,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    token: Hashable = None,
) -> NDArray:
    """:func:`conv2d_loops` as one matrix product: columns of windows times weights.

    Args:
        x: (n, c, h, w).
        weight: (o, c / groups, kh, kw).
        bias: (o,) or None.
        stride, dilation: (rows, columns).
        padding: ((top, bottom), (left, right)).
        groups: input channels of one group feed only output channels of the same group.
        token: says that the weight's content has not changed; not used here.

    Returns:
        (n, o, oh, ow), channels-last in memory. 16-bit floats are summed in float32.
    """
    n, o, kernel_size = len(x), len(weight), weight.shape[2:]
    size = output_size(x.shape[2:], kernel_size, stride, padding, dilation)
    out = np.empty((n, *size, o), x.dtype)
    images, matrix = _images(x, groups), _matrix(weight, groups)
    for some, columns in _columns(images, size, kernel_size, stride, padding, dilation):
        product = np.matmul(_rows(columns), matrix.swapaxes(1, 2))
        _put(out[some], product, bias, groups)
    return out.transpose(0, 3, 1, 2)


def conv_transpose2d(
    x: NDArray,
    weight: NDArray,
    bias: NDArray | None,
    output_size: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    token: Hashable = None,
) -> NDArray:
    """:func:`conv_transpose2d_loops`: outputs times weights are columns, added where they lie.

    Args:
        x: (n, o, oh, ow).
        weight: (o, c / groups, kh, kw).
        bias: (c,) or None.
        output_size: (h, w) of the result: several have the same oh and ow.

    Returns:
        (n, c, h, w), channels-last in memory. 16-bit floats are summed in float32.
    """
    n, _, *size = x.shape
    channels, kh, kw = weight.shape[1:]
    out = np.empty((n, *output_size, groups * channels), x.dtype)
    images, matrix = _images(x, groups), _matrix(weight, groups)
    for some in _chunks(n, groups * channels * kh * kw * size[0] * size[1] * matrix.itemsize):
        part = images[:, some]
        columns = np.matmul(part.reshape(groups, -1, part.shape[-1]), matrix)
        columns = columns.reshape(*part.shape[:4], kh, kw, channels)
        total = np.zeros((*part.shape[:2], *output_size, channels), columns.dtype)
        for i, j, outputs, inputs in _taps(output_size, size, (kh, kw), stride, padding, dilation):
            total[:, :, *inputs] += columns[:, :, *outputs, i, j]
        _put(out[some], total, bias, groups)
    return out.transpose(0, 3, 1, 2)


def conv2d_weight(
    grad_output: NDArray,
    x: NDArray,
    kernel_size: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    dtype: Any = None,
) -> NDArray:
    """:func:`conv2d_weight_loops` as one matrix product: gradients times columns of windows.

    Args:
        grad_output: (n, o, oh, ow).
        x: (n, c, h, w).
        kernel_size: (kh, kw).
        dtype: of the result; by default that of x.

    Returns:
        (o, c / groups, kh, kw), contiguous. 16-bit floats are summed in float32.
    """
    gradients, images = _images(grad_output, groups), _images(x, groups)
    per_group, channels = gradients.shape[-1], images.shape[-1]
    kh, kw = kernel_size
    total = np.zeros((groups, per_group, kh * kw * channels), images.dtype)
    size = grad_output.shape[2:]
    for some, columns in _columns(images, size, kernel_size, stride, padding, dilation):
        rows = gradients[:, some].reshape(groups, -1, per_group)
        total += np.matmul(rows.swapaxes(1, 2), _rows(columns))
    dweight = total.reshape(groups * per_group, kh, kw, channels).transpose(0, 3, 1, 2)
    return dweight.astype(x.dtype if dtype is None else dtype, order="C")


def _images(x: NDArray, groups: int) -> NDArray:
    """(n, c, h, w) seen as (group, n, h, w, channel of the group); 16-bit floats widened."""
    n, c, h, w = x.shape
    if x.dtype.itemsize == 2 and x.dtype.kind in "fV":
        x = x.astype(np.float32)
    # Cutting an axis in two never needs a copy.
    return x.reshape(n, groups, c // groups, h, w).transpose(1, 0, 3, 4, 2)


def _matrix(weight: NDArray, groups: int) -> NDArray:
    """The weights as (group, output channel, tap row * tap column * channel)."""
    o, c, kh, kw = weight.shape
    if weight.dtype.itemsize == 2 and weight.dtype.kind in "fV":
        weight = weight.astype(np.float32)
    return weight.transpose(0, 2, 3, 1).reshape(groups, o // groups, kh * kw * c)


def _columns(
    images: NDArray,
    size: Pair,
    kernel_size: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
) -> Iterator[tuple[slice, NDArray]]:
    """im2col, some images at a time: each window's elements in a row, 0 outside the image."""
    groups, n, h, w, channels = images.shape
    per_image = (*size, *kernel_size, channels)
    buffer = None
    for some in _chunks(n, groups * int(np.prod(per_image)) * images.itemsize):
        part = images[:, some]
        if buffer is None or buffer.shape[1] != part.shape[1]:
            # The zeros of the padding lie at the same places in every chunk.
            buffer = np.zeros((groups, part.shape[1], *per_image), images.dtype)
        for i, j, outputs, inputs in _taps((h, w), size, kernel_size, stride, padding, dilation):
            buffer[:, :, *outputs, i, j] = part[:, :, *inputs]
        yield some, buffer


def _taps(
    input_size: Pair, size: Any, kernel_size: Any, stride: Pair, padding: Padding, dilation: Pair
) -> Any:
    start = (padding[0][0], padding[1][0])
    return taps(input_size, size, kernel_size, stride, start, dilation)


def _rows(columns: NDArray) -> NDArray:
    """Columns as one matrix a group: (group, window, element of the window)."""
    groups, n, oh, ow, *window = columns.shape
    return columns.reshape(groups, n * oh * ow, int(np.prod(window)))


def _chunks(n: int, bytes_per_image: int) -> Iterator[slice]:
    """Slices of the batch whose columns fit into the caches."""
    step = max(1, _CHUNK // max(1, bytes_per_image))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _put(out: NDArray, values: NDArray, bias: NDArray | None, groups: int) -> None:
    """Write (group, ..., channel of the group) plus bias into ``out``, (n, h, w, channel)."""
    n, h, w, channels = out.shape
    values = values.reshape(groups, n, h, w, channels // groups).transpose(1, 2, 3, 0, 4)
    if bias is not None:
        values = values + bias.astype(values.dtype).reshape(groups, channels // groups)
    out.reshape(values.shape)[...] = values


for _kernel in (conv2d, conv_transpose2d, conv2d_weight):
    register(_kernel.__name__, _kernel)
