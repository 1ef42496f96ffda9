"""Pooling to a given output size: the windows are as large as they must be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..autograd.function import Function
from ..backends import kernels
from ..errors import ShapeError
from ..tensor import Tensor
from .operands import check_tensor, require_floating
from .pooling import MaxPool2d, Positions
from .rearrange import TakeAlong
from .windows import as_images, as_sizes, check_all, like_input

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
]


class AdaptiveAvgPool2d(Function):
    """The mean of each of ``output_size`` windows; dx spreads g / count over the window."""

    @staticmethod
    def forward(ctx, x, *, output_size):
        ctx.input_size = x.shape[2:]
        return kernels.adaptive_avg_pool2d(x, output_size)

    @staticmethod
    def backward(ctx, grad_output):
        return AdaptiveAvgPool2dBackward.apply(grad_output, input_size=ctx.input_size)


class AdaptiveAvgPool2dBackward(Function):
    """The transpose of :class:`AdaptiveAvgPool2d`, which is its derivative."""

    @staticmethod
    def forward(ctx, grad_output, *, input_size):
        ctx.output_size = grad_output.shape[2:]
        return kernels.adaptive_avg_pool2d_backward(grad_output, input_size)

    @staticmethod
    def backward(ctx, v):
        return AdaptiveAvgPool2d.apply(v, output_size=ctx.output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """The means of ``output_size`` windows that cover the image about evenly.

    Window i of m covers the rows floor(i h / m) to ceil((i + 1) h / m): all windows are
    about h / m large, and may share a row. With output size 1 it is the mean of the image.

    Source: M. Lin, Q. Chen and S. Yan, "Network in network", ICLR 2014 (global average
    pooling); K. He, X. Zhang, S. Ren and J. Sun, "Spatial pyramid pooling in deep
    convolutional networks for visual recognition", ECCV 2014.

    Args:
        input: images (n, c, h, w), or one image (c, h, w), floating point.
        output_size: one integer or (rows, columns); None leaves a size as it is.

    Returns:
        Tensor (n, c, *output_size).

    Raises:
        RuntimeError: for integers, empty images or negative sizes.

    >>> x = nano.arange(9.0).reshape(1, 3, 3)
    >>> nano.nn.functional.adaptive_avg_pool2d(x, 2)
    tensor([[[2., 3.],
             [5., 6.]]])
    """
    return _avg("adaptive_avg_pool2d", input, output_size, 2)


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """:func:`adaptive_avg_pool2d` of signals (n, c, length) or (c, length).

    >>> nano.adaptive_avg_pool1d(nano.tensor([[1.0, 2.0, 4.0]]), 2)
    tensor([[1.5000, 3.0000]])
    """
    return _avg("adaptive_avg_pool1d", input, output_size, 1)


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The maxima of ``output_size`` windows that cover the image, as in
    :func:`adaptive_avg_pool2d`.

    Rows and columns that windows share are repeated, and then the windows are those of
    :func:`max_pool2d`: so there is no derivative to write.

    Args:
        input: images (n, c, h, w), or one image (c, h, w), floating point.
        output_size: one integer or (rows, columns); None leaves a size as it is.
        return_indices: also give where the maxima are: h * width + w, int64.

    Returns:
        Tensor (n, c, *output_size), or the pair of it and the indices.

    Raises:
        RuntimeError: for integers, empty images or negative sizes.

    >>> nano.nn.functional.adaptive_max_pool2d(nano.arange(9.0).reshape(1, 3, 3), 2)
    tensor([[[4., 5.],
             [7., 8.]]])
    """
    return _max("adaptive_max_pool2d", input, output_size, return_indices, 2)


def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """:func:`adaptive_max_pool2d` of signals (n, c, length) or (c, length).

    >>> nano.nn.functional.adaptive_max_pool1d(nano.tensor([[1.0, 2.0, 4.0]]), 2)
    tensor([[2., 4.]])
    """
    return _max("adaptive_max_pool1d", input, output_size, return_indices, 1)


def _prepared(owner: str, input: Any, output_size: Any, dims: int) -> tuple[Tensor, Any]:
    """``input`` as images, and the output's (rows, columns)."""
    require_floating(owner, check_tensor(owner, input))
    images = as_images(owner, input, dims)
    shape = images._data.shape
    given = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * dims
    if len(given) != dims:
        raise ShapeError(owner, f"output_size must have {dims} elements, got {output_size}.")
    size = [n if m is None else m for n, m in zip(shape[-dims:], given, strict=True)]
    size = as_sizes(owner, "output_size", size, dims)
    check_all(owner, "output_size", size, 0)
    if not min(shape[2:]):
        raise ShapeError(owner, f"only the batch may be empty, got shape {input.shape}.")
    return images, (size if dims == 2 else (1, *size))


def _avg(owner: str, input: Any, output_size: Any, dims: int) -> Tensor:
    images, size = _prepared(owner, input, output_size, dims)
    return like_input(AdaptiveAvgPool2d.apply(images, output_size=size), input, dims)


def _max(owner: str, input: Any, output_size: Any, return_indices: bool, dims: int) -> Any:
    images, size = _prepared(owner, input, output_size, dims)
    height, width = images._data.shape[2:]
    rows, window_rows = _repeated(height, size[0])
    columns, window_columns = _repeated(width, size[1])
    spread = images
    for axis, index, n in ((2, rows, height), (3, columns, width)):
        if len(index) != n or (index != np.arange(n)).any():
            spread = TakeAlong.apply(spread, index=index, axis=axis)
    window = window_rows, window_columns
    y, offsets = MaxPool2d.apply(
        spread, kernel_size=window, stride=window, padding=(0, 0), dilation=(1, 1), output_size=size
    )
    y = like_input(y, input, dims)
    if not return_indices:
        return y
    indices = Positions.apply(
        offsets,
        kernel_size=window,
        stride=window,
        padding=(0, 0),
        dilation=(1, 1),
        width=width,
        rows=rows,
        columns=columns,
    )
    return y, like_input(indices, input, dims)


def _repeated(n: int, outputs: int) -> tuple[NDArray, int]:
    """The elements of all windows in a row, each window as long as the longest; and that length.

    A shorter window repeats its last element, which changes no maximum.
    """
    i = np.arange(outputs)
    start, stop = i * n // max(outputs, 1), -(-(i + 1) * n // max(outputs, 1))
    length = int((stop - start).max(initial=1))
    return np.minimum(start[:, None] + np.arange(length), stop[:, None] - 1).ravel(), length
