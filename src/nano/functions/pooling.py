"""Pooling with a window of fixed size: the maximum or the mean of what lies under it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.function import Function
from ..backends import kernels
from ..errors import ArgumentError, DtypeError, ShapeError
from ..tensor import Tensor
from .windows import as_images, as_sizes, check_all, like_input

__all__ = ["avg_pool1d", "avg_pool2d", "max_pool1d", "max_pool2d"]


class MaxPool2d(Function):
    """The largest element under each window, and its place in the window.

    dx = g, put where the maximum was found: :class:`MaxPool2dBackward`.
    """

    @staticmethod
    def forward(ctx, x, *, kernel_size, stride, padding, dilation, output_size):
        y, offsets = kernels.max_pool2d(x, kernel_size, stride, padding, dilation, output_size)
        ctx.mark_non_differentiable(offsets)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(offsets)
        ctx.input_size = x.shape[2:]
        ctx.geometry = kernel_size, stride, padding, dilation
        return y, offsets

    @staticmethod
    def backward(ctx, grad_output, _):
        (offsets,) = ctx.saved_tensors
        return _put_back(grad_output, offsets, ctx.input_size, ctx.geometry)


class MaxPool2dBackward(Function):
    """Zeros with each g added where its maximum was; d/dg reads these places again."""

    @staticmethod
    def forward(ctx, grad_output, offsets, *, input_size, kernel_size, stride, padding, dilation):
        ctx.save_for_backward(offsets)
        ctx.geometry = kernel_size, stride, padding, dilation
        return kernels.max_pool2d_backward(
            grad_output, offsets, input_size, kernel_size, stride, padding, dilation
        )

    @staticmethod
    def backward(ctx, v):
        (offsets,) = ctx.saved_tensors
        kernel_size, stride, padding, dilation = ctx.geometry
        return MaxPool2dGather.apply(
            v, offsets, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation
        ), None


class MaxPool2dGather(Function):
    """The elements of x where the maxima (of another tensor) were; dx puts g there."""

    @staticmethod
    def forward(ctx, x, offsets, *, kernel_size, stride, padding, dilation):
        ctx.save_for_backward(offsets)
        ctx.input_size = x.shape[2:]
        ctx.geometry = kernel_size, stride, padding, dilation
        return kernels.max_pool2d_gather(x, offsets, kernel_size, stride, padding, dilation)

    @staticmethod
    def backward(ctx, grad_output):
        (offsets,) = ctx.saved_tensors
        return _put_back(grad_output, offsets, ctx.input_size, ctx.geometry), None


def _put_back(grad_output: Tensor, offsets: Tensor, input_size: Any, geometry: Any) -> Tensor:
    kernel_size, stride, padding, dilation = geometry
    return MaxPool2dBackward.apply(
        grad_output,
        offsets,
        input_size=input_size,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
    )


class AvgPool2d(Function):
    """The sum under each window, divided by its count; dx spreads g / count over the window."""

    @staticmethod
    def forward(ctx, x, *, kernel_size, stride, padding, output_size, count_include_pad, divisor):
        ctx.input_size = x.shape[2:]
        ctx.geometry = kernel_size, stride, padding, count_include_pad, divisor
        return kernels.avg_pool2d(
            x, kernel_size, stride, padding, output_size, count_include_pad, divisor
        )

    @staticmethod
    def backward(ctx, grad_output):
        kernel_size, stride, padding, count_include_pad, divisor = ctx.geometry
        return AvgPool2dBackward.apply(
            grad_output,
            input_size=ctx.input_size,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            count_include_pad=count_include_pad,
            divisor=divisor,
        )


class AvgPool2dBackward(Function):
    """The transpose of :class:`AvgPool2d`, which is its derivative."""

    @staticmethod
    def forward(
        ctx, grad_output, *, input_size, kernel_size, stride, padding, count_include_pad, divisor
    ):
        ctx.output_size = grad_output.shape[2:]
        ctx.geometry = kernel_size, stride, padding, count_include_pad, divisor
        return kernels.avg_pool2d_backward(
            grad_output, input_size, kernel_size, stride, padding, count_include_pad, divisor
        )

    @staticmethod
    def backward(ctx, v):
        kernel_size, stride, padding, count_include_pad, divisor = ctx.geometry
        return AvgPool2d.apply(
            v,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            output_size=ctx.output_size,
            count_include_pad=count_include_pad,
            divisor=divisor,
        )


# The public functions -------------------------------------------------------------------


def max_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element under each place of a window that slides over images.

    y[n, c, r, s] = the maximum over i, j of input[n, c, r stride - padding + i dilation,
    s stride - padding + j dilation]. Of equal elements the first gets the gradient; NaN
    counts as the largest.

    Source: M. Riesenhuber and T. Poggio, "Hierarchical models of object recognition in
    cortex", Nature Neuroscience 2, 1999.

    Args:
        input: images (n, c, h, w), or one image (c, h, w); any dtype but bool.
        kernel_size: of the window; one integer or (rows, columns).
        stride: from one place of the window to the next; ``kernel_size`` if left out.
        padding: how many rows and columns of -inf around each image, at most half of
            ``kernel_size``.
        dilation: from one element of the window to the next.
        ceil_mode: let the last windows hang over the edge.
        return_indices: also give where the maxima are: h * width + w, int64.

    Returns:
        Tensor (n, c, oh, ow) with oh = floor((h + 2 padding - dilation (kh - 1) - 1) / stride)
        + 1, or ceil in place of floor; or the pair of it and the indices.

    Raises:
        RuntimeError: if sizes make no sense or nothing would be left.
        TypeError: for sizes that are no integers.

    >>> x = nano.tensor([[[1.0, 2.0, 0.0, 1.0], [3.0, 0.0, 1.0, 5.0]]])
    >>> nano.max_pool2d(x, 2)
    tensor([[[3., 5.]]])
    """
    return _max_pool(
        "max_pool2d", input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, 2
    )


def max_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """:func:`max_pool2d` of signals (n, c, length) or (c, length).

    >>> nano.max_pool1d(nano.tensor([[1.0, 2.0, 4.0, 3.0]]), 2)
    tensor([[2., 4.]])
    """
    return _max_pool(
        "max_pool1d", input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, 1
    )


def avg_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of the elements under each place of a window that slides over images.

    Args:
        input: images (n, c, h, w), or one image (c, h, w); floating point or int64.
        kernel_size: of the window; one integer or (rows, columns).
        stride: from one place of the window to the next; ``kernel_size`` if left out.
        padding: how many zeros around each image, at most half of ``kernel_size``.
        ceil_mode: let the last windows hang over the edge; what is there does not count.
        count_include_pad: whether the zeros of the padding count.
        divisor_override: divide the sum by this, not by the number of elements.

    Returns:
        Tensor (n, c, oh, ow), sizes as in :func:`max_pool2d`. 16-bit floats are summed in
        float32.

    Raises:
        RuntimeError: if sizes make no sense or nothing would be left.
        TypeError: for sizes that are no integers.

    >>> nano.nn.functional.avg_pool2d(nano.tensor([[[1.0, 2.0], [3.0, 6.0]]]), 2)
    tensor([[[3.]]])
    """
    return _avg_pool(
        "avg_pool2d",
        input,
        kernel_size,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
        divisor_override,
        2,
    )


def avg_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """:func:`avg_pool2d <nano.nn.functional.avg_pool2d>` of signals (n, c, length) or (c, length).

    >>> nano.avg_pool1d(nano.tensor([[1.0, 3.0, 4.0, 6.0]]), 2)
    tensor([[2., 5.]])
    """
    return _avg_pool(
        "avg_pool1d", input, kernel_size, stride, padding, ceil_mode, count_include_pad, None, 1
    )


# What they share ------------------------------------------------------------------------


def _max_pool(
    owner: str,
    input: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
    dims: int,
) -> Any:
    images = as_images(owner, input, dims)
    if images._data.dtype.kind == "b":
        raise DtypeError(owner, "booleans are not supported.", hint="Convert them with .byte().")
    size, sizes = _geometry(owner, images, kernel_size, stride, padding, dilation, ceil_mode, dims)
    kernel_size, stride, padding, dilation = sizes
    y, offsets = MaxPool2d.apply(
        images,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        output_size=size,
    )
    y = like_input(y, input, dims)
    if not return_indices:
        return y
    indices = Positions.apply(
        offsets,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        width=images._data.shape[3],
    )
    return y, like_input(indices, input, dims)


class Positions(Function):
    """Where in the image (row * width + column, int64) places in windows are.

    ``rows`` and ``columns``, if given, say which ones of the image those are that the
    windows slide over.
    """

    differentiable = False

    @staticmethod
    def forward(
        ctx, offsets, *, kernel_size, stride, padding, dilation, width, rows=None, columns=None
    ):
        places = np.ascontiguousarray(offsets, np.int64)
        _, _, oh, ow = places.shape
        i, j = np.divmod(places, kernel_size[1])
        at_row = (np.arange(oh) * stride[0] - padding[0])[:, None] + i * dilation[0]
        at_column = np.arange(ow) * stride[1] - padding[1] + j * dilation[1]
        if rows is not None:
            at_row, at_column = rows[at_row], columns[at_column]
        return at_row * width + at_column


def _avg_pool(
    owner: str,
    input: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
    dims: int,
) -> Tensor:
    images = as_images(owner, input, dims)
    if images._data.dtype.kind not in "fV" and images._data.dtype != np.int64:
        raise DtypeError(
            owner,
            f"input must be floating point or int64, got {input.dtype}.",
            hint="Convert it with t.float().",
        )
    if divisor == 0:
        raise ArgumentError(owner, "divisor_override must not be zero.")
    size, sizes = _geometry(owner, images, kernel_size, stride, padding, 1, ceil_mode, dims)
    kernel_size, stride, padding, _ = sizes
    y = AvgPool2d.apply(
        images,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        output_size=size,
        count_include_pad=bool(count_include_pad),
        divisor=divisor,
    )
    return like_input(y, input, dims)


def _geometry(
    owner: str,
    images: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    dims: int,
) -> tuple[Any, Any]:
    """The output's size; and (kernel_size, stride, padding, dilation), two of each, checked."""
    window = as_sizes(owner, "kernel_size", kernel_size, dims)
    steps = as_sizes(owner, "stride", window if _missing(stride) else stride, dims)
    margins = as_sizes(owner, "padding", padding, dims)
    spacing = as_sizes(owner, "dilation", dilation, dims)
    check_all(owner, "kernel_size", window, 1)
    check_all(owner, "stride", steps, 1)
    check_all(owner, "padding", margins, 0)
    check_all(owner, "dilation", spacing, 1)
    if any(p > k // 2 for p, k in zip(margins, window, strict=True)):
        raise ShapeError(
            owner, f"padding must be at most half of kernel_size, got {margins} and {window}."
        )
    if dims == 1:
        window, steps, margins, spacing = (1, *window), (1, *steps), (0, *margins), (1, *spacing)
    shape = images._data.shape
    if not min(shape[1:]):
        raise ShapeError(owner, f"only the batch may be empty, got images {shape}.")
    size = tuple(
        _outputs(*one, ceil_mode)
        for one in zip(shape[2:], window, steps, margins, spacing, strict=True)
    )
    if min(size) < 1:
        raise ShapeError(
            owner,
            f"images of {shape[2:]} would become {size}: nothing is left.",
            facts=f"kernel_size {window} · stride {steps} · padding {margins} · dilation {spacing}",
        )
    return size, (window, steps, margins, spacing)


def _missing(stride: Any) -> bool:
    """An empty stride means none, as in PyTorch."""
    return stride is None or (isinstance(stride, (tuple, list)) and not stride)


def _outputs(n: int, k: int, s: int, p: int, d: int, ceil_mode: bool) -> int:
    """How many windows there are along one dimension."""
    span = n + 2 * p - d * (k - 1) - 1
    if not ceil_mode:
        return span // s + 1
    count = -(-span // s) + 1
    # The last window must begin inside the image or the padding before it.
    return count - 1 if (count - 1) * s >= n + p else count
