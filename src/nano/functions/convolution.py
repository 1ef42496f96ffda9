"""Convolution, its transpose, and the gradient of its weight: one sum, read in three ways.

The value of the sum over all (n, o, r, s, c, i, j) of g[n, o, r, s] w[o, c, i, j] x[n, c, h, w],
with h = r stride - padding + i dilation and w likewise, is linear in each of g, w and x.
Its derivative for one of them is a map of the other two; each map's derivatives are the
other maps, so three Functions are closed under derivation.
"""

from __future__ import annotations

import weakref
from typing import Any

from numpy.typing import NDArray

from ..autograd.function import Function
from ..autograd.grad_mode import mode
from ..backends import kernels
from ..errors import ArgumentError, DtypeError, ShapeError, TypeMismatchError
from ..storage import content_token
from ..tensor import Tensor
from .autocast import lowered
from .autocast import state as autocast_state
from .operands import check_tensor
from .reduction import Sum
from .windows import as_images, as_sizes, check_all, like_input

__all__ = ["conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"]

_NO_PADDING = ((0, 0), (0, 0))


def _token(weight: Tensor) -> Any:
    """What says that the content of ``weight`` has not changed, and of which array it says so."""
    token = content_token(weight)
    return None if token is None else (weakref.ref(weight._data), token)


def still_true(token: Any, weight: NDArray) -> Any:
    """The token for kernels; None if it is of another array, or of what was there before.

    So it is where the operator is run again, as a compiled program does.
    """
    if token is None:
        return None
    array, (storage, content) = token
    if array() is not weight or (storage.version, storage.exposed) != content:
        return None
    return storage, content


class Conv2d(Function):
    """y = w * x + b; dx = the transpose with w of g, dw = g and x convolved, db = the sum of g.

    Source: Y. LeCun et al., "Backpropagation applied to handwritten zip code recognition",
    Neural Computation 1, 1989.
    """

    momentary = {"token": (1, _token)}  # noqa: RUF012

    @staticmethod
    def forward(ctx, x, weight, bias, *, stride, padding, dilation, groups, token=None):
        need_x, need_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if need_weight else None, weight if need_x else None)
        ctx.sizes = x.shape[2:], weight.shape[2:]
        ctx.geometry = stride, padding, dilation, groups
        token = still_true(token, weight)
        return kernels.conv2d(x, weight, bias, stride, padding, dilation, groups, token)

    @staticmethod
    def backward(ctx, grad_output):
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        input_size, kernel_size = ctx.sizes
        grad_x = grad_weight = grad_bias = None
        if need_weight:
            grad_weight = _weight_map(grad_output, x, kernel_size, ctx.geometry)
        if need_bias:
            grad_bias = Sum.apply(grad_output, dim=(0, 2, 3))
        if need_x:
            grad_x = _transposed_map(grad_output, weight, input_size, ctx.geometry)
        return grad_x, grad_weight, grad_bias


class ConvTranspose2d(Function):
    """The transpose of :class:`Conv2d`, as a map of its own: y of ``output_size`` from x.

    dx = w * g, dw = x and g convolved, db = the sum of g.

    Source: M. D. Zeiler, D. Krishnan, G. W. Taylor and R. Fergus, "Deconvolutional
    networks", CVPR 2010.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, *, output_size, stride, padding, dilation, groups):
        need_x, need_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if need_weight else None, weight if need_x else None)
        ctx.sizes = x.shape[2:], weight.shape[2:]
        ctx.geometry = stride, padding, dilation, groups
        return kernels.conv_transpose2d(
            x, weight, bias, output_size, stride, padding, dilation, groups
        )

    @staticmethod
    def backward(ctx, grad_output):
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        input_size, kernel_size = ctx.sizes
        grad_x = grad_weight = grad_bias = None
        if need_bias:
            grad_bias = Sum.apply(grad_output, dim=(0, 2, 3))
        # What lies beyond the last window shows only the bias.
        g = _within_reach(grad_output, input_size, kernel_size, ctx.geometry)
        if need_x:
            grad_x = _plain_map(g, weight, ctx.geometry)
        if need_weight:
            grad_weight = _weight_map(x, g, kernel_size, ctx.geometry)
        return grad_x, grad_weight, grad_bias


class Conv2dWeight(Function):
    """dw from g and x. With v its gradient: d/dg = v * x, d/dx = the transpose with v of g."""

    @staticmethod
    def forward(ctx, grad_output, x, *, kernel_size, stride, padding, dilation, groups):
        need_g, need_x = ctx.needs_input_grad
        ctx.save_for_backward(grad_output if need_x else None, x if need_g else None)
        ctx.input_size = x.shape[2:]
        ctx.geometry = stride, padding, dilation, groups
        return kernels.conv2d_weight(grad_output, x, kernel_size, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx, v):
        g, x = ctx.saved_tensors
        need_g, need_x = ctx.needs_input_grad
        grad_g = grad_x = None
        if need_g:
            grad_g = _plain_map(x, v, ctx.geometry)
        if need_x:
            grad_x = _transposed_map(g, v, ctx.input_size, ctx.geometry)
        return grad_g, grad_x


# The three maps, applied in each other's derivatives; geometry is (stride, padding, dilation,
# groups).


def _plain_map(x: Tensor, weight: Tensor, geometry: Any) -> Tensor:
    stride, padding, dilation, groups = geometry
    return Conv2d.apply(
        x, weight, None, stride=stride, padding=padding, dilation=dilation, groups=groups
    )


def _transposed_map(x: Tensor, weight: Tensor, output_size: Any, geometry: Any) -> Tensor:
    stride, padding, dilation, groups = geometry
    return ConvTranspose2d.apply(
        x,
        weight,
        None,
        output_size=output_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def _weight_map(grad_output: Tensor, x: Tensor, kernel_size: Any, geometry: Any) -> Tensor:
    stride, padding, dilation, groups = geometry
    return Conv2dWeight.apply(
        grad_output,
        x,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def _within_reach(g: Tensor, windows: Any, kernel_size: Any, geometry: Any) -> Tensor:
    """``g`` without the last rows and columns that no window touches.

    There are such if ``output_padding`` is not smaller than the stride.
    """
    stride, padding, dilation, _ = geometry
    for axis in (0, 1):
        step, (low, high) = stride[axis], padding[axis]
        span = dilation[axis] * (kernel_size[axis] - 1) + 1
        size = g._data.shape[2 + axis]
        fit = (size + low + high - span) // step + 1
        if fit > windows[axis]:
            g = g.narrow(2 + axis, 0, size - (fit - windows[axis]) * step)
    return g


# The public functions -------------------------------------------------------------------


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Slide small windows of weights over images, and add up the products.

    y[n, o, r, s] = bias[o] + the sum over c, i, j of weight[o, c, i, j] times
    input[n, c, r stride - padding + i dilation, s stride - padding + j dilation].

    Source: Y. LeCun et al., "Gradient-based learning applied to document recognition",
    Proceedings of the IEEE 86, 1998. It is a correlation: the window is not turned round.

    Args:
        input: images (n, c, h, w), or one image (c, h, w).
        weight: (o, c / groups, kh, kw), of the same dtype.
        bias: (o,) or None.
        stride: from one place of the window to the next; one integer or (rows, columns).
        padding: how many zeros around each image, or ``"valid"`` (none) or ``"same"`` (as
            many as keep the image's size; an odd one more at the bottom and right).
        dilation: from one element of the window to the next.
        groups: cut the channels into so many groups that do not see each other.

    Returns:
        Tensor (n, o, oh, ow) with oh = floor((h + 2 padding - dilation (kh - 1) - 1) / stride)
        + 1. 16-bit floats are summed in float32.

    Raises:
        RuntimeError: if shapes or dtypes do not fit together.
        TypeError: for strides and the like that are no integers.

    >>> image = nano.arange(9.0).reshape(1, 1, 3, 3)
    >>> nano.conv2d(image, nano.ones(1, 1, 2, 2))
    tensor([[[[ 8., 12.],
              [20., 24.]]]])
    """
    return _convolve("conv2d", input, weight, bias, stride, padding, dilation, groups, 2)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """:func:`conv2d` of signals: input (n, c, length) or (c, length), weight (o, c / groups, k).

    >>> nano.conv1d(nano.tensor([[1.0, 2.0, 4.0, 7.0]]), nano.tensor([[[-1.0, 1.0]]]))
    tensor([[1., 2., 3.]])
    """
    return _convolve("conv1d", input, weight, bias, stride, padding, dilation, groups, 1)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The transpose of :func:`conv2d`: each element puts a window of weights, times itself.

    It leads back from the shape of conv2d's output to that of its input, and is the
    gradient of conv2d's input.

    Source: V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep
    learning", arXiv 1603.07285, 2016.

    Args:
        input: (n, c, h, w) or (c, h, w).
        weight: (c, o / groups, kh, kw), of the same dtype.
        bias: (o,) or None.
        stride, padding, dilation, groups: those of the convolution that is transposed.
        output_padding: how much larger the result is, at the bottom and right, than the
            smallest image which that convolution makes into the size of ``input``.

    Returns:
        Tensor (n, o, oh, ow) with oh = (h - 1) stride - 2 padding + dilation (kh - 1) + 1
        + output_padding.

    Raises:
        RuntimeError: if shapes or dtypes do not fit together.
        TypeError: for strides and the like that are no integers.

    >>> nano.conv_transpose2d(nano.tensor([[[1.0, 2.0]]]), nano.ones(1, 1, 1, 2), stride=2)
    tensor([[[1., 1., 2., 2.]]])
    """
    return _transpose(
        "conv_transpose2d",
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        2,
    )


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """:func:`conv_transpose2d` of signals: (n, c, length) or (c, length).

    The weight is (c, o / groups, k).

    >>> nano.conv_transpose1d(nano.tensor([[1.0, 2.0]]), nano.tensor([[[1.0, -1.0]]]))
    tensor([[ 1.,  1., -2.]])
    """
    return _transpose(
        "conv_transpose1d",
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        1,
    )


# What they share: checks, and signals as images of one row --------------------------------


def _convolve(
    owner: str,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    dims: int,
) -> Tensor:
    if autocast_state.dtype is not None:
        input, weight, bias = lowered(input, weight, bias)
    images = as_images(owner, input, dims)
    _check_operands(owner, input, weight, bias, groups, dims)
    x, w = input._data.shape, weight._data.shape
    spatial, channels = x[-dims:], x[-dims - 1]
    stride, dilation = _steps(owner, stride, dilation, dims)
    padding = _padding(owner, padding, stride, dilation, w[2:])
    facts = f"input {x} · weight {w} · groups {groups}"
    if w[0] % groups or not w[0]:
        raise ShapeError(
            owner,
            f"weight's {w[0]} output channels cannot be cut into {groups} groups.",
            facts=facts,
        )
    if channels != w[1] * groups:
        raise ShapeError(
            owner,
            f"input has {channels} channels, but weight {w} expects {w[1] * groups}.",
            facts=facts,
            hint=f"Give the layer in_channels={channels}, or convert the input.",
        )
    _check_bias(owner, bias, weight, w[0])
    for n, k, (low, high), d in zip(spatial, w[2:], padding, dilation, strict=True):
        if n + low + high < d * (k - 1) + 1:
            raise ShapeError(
                owner,
                f"the window, {d * (k - 1) + 1} long, is longer than the padded input, "
                f"{n + low + high}.",
                facts=f"{facts} · padding {padding} · dilation {dilation}",
                hint="Use larger images, more padding or a smaller kernel.",
            )
        if not n and channels and len(images._data):
            raise ShapeError(owner, f"input {x} has no elements to slide over.")
    if dims == 1:
        weight = weight.unsqueeze(-2)
        stride, padding, dilation = (1, *stride), ((0, 0), *padding), (1, *dilation)
    # While the weight learns it changes with every step: what a kernel made of it is not kept.
    learns = mode.enabled and weight._requires_grad
    y = Conv2d.apply(
        images,
        weight,
        bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        token=None if learns else _token(weight),
    )
    return like_input(y, input, dims)


def _transpose(
    owner: str,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
    dims: int,
) -> Tensor:
    if autocast_state.dtype is not None:
        input, weight, bias = lowered(input, weight, bias)
    images = as_images(owner, input, dims)
    _check_operands(owner, input, weight, bias, groups, dims)
    x, w = input._data.shape, weight._data.shape
    spatial, channels = x[-dims:], x[-dims - 1]
    stride, dilation = _steps(owner, stride, dilation, dims)
    widths = as_sizes(owner, "padding", padding, dims)
    check_all(owner, "padding", widths, 0)
    extra = as_sizes(owner, "output_padding", output_padding, dims)
    check_all(owner, "output_padding", extra, 0)
    facts = f"input {x} · weight {w} · groups {groups}"
    if channels != w[0] or w[0] % groups or not w[0]:
        raise ShapeError(
            owner,
            f"input has {channels} channels, but weight {w} expects {w[0]} in {groups} groups.",
            facts=facts,
        )
    _check_bias(owner, bias, weight, w[1] * groups)
    if any(e >= s and e >= d for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise ShapeError(
            owner,
            "output_padding must be smaller than either stride or dilation, "
            f"got {extra}, {stride} and {dilation}.",
        )
    size = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + 1 + e
        for n, k, s, p, d, e in zip(spatial, w[2:], stride, widths, dilation, extra, strict=True)
    )
    if min(size) < 1 or not min(spatial):
        raise ShapeError(
            owner,
            f"the result would be {size}: nothing is left.",
            facts=f"{facts} · padding {padding}",
        )
    both = tuple([(p, p) for p in widths])
    if dims == 1:
        weight = weight.unsqueeze(-2)
        stride, both, dilation, size = (1, *stride), ((0, 0), *both), (1, *dilation), (1, *size)
    y = ConvTranspose2d.apply(
        images,
        weight,
        bias,
        output_size=size,
        stride=stride,
        padding=both,
        dilation=dilation,
        groups=groups,
    )
    return like_input(y, input, dims)


def _check_operands(
    owner: str, input: Tensor, weight: Any, bias: Any, groups: Any, dims: int
) -> None:
    """Types, dtypes and dimensions; ``dims`` is 1 for signals and 2 for images."""
    x, w = input._data, check_tensor(owner, weight, "weight")._data
    if x.dtype is not w.dtype and x.dtype != w.dtype:
        raise DtypeError(
            owner,
            f"input is {input.dtype}, but weight is {weight.dtype}.",
            hint=f"Convert the input with .to({weight.dtype}).",
        )
    if x.dtype.kind == "b":
        raise DtypeError(owner, "booleans are not supported.", hint="Convert them with .float().")
    if w.ndim != dims + 2:
        names = "o, c / groups, kh, kw" if dims == 2 else "o, c / groups, k"
        raise ShapeError(owner, f"weight must be {dims + 2}-d, ({names}), got shape {w.shape}.")
    if not min(w.shape[2:]):
        raise ShapeError(owner, f"the kernel has no elements: weight {w.shape}.")
    if type(groups) is not int:
        raise TypeMismatchError(owner, f"groups must be an integer, got {groups!r}.")
    if groups < 1:
        raise ArgumentError(owner, f"groups must be positive, got {groups}.")
    if bias is not None:
        b = check_tensor(owner, bias, "bias")._data
        if b.dtype is not x.dtype and b.dtype != x.dtype:
            raise DtypeError(owner, f"input is {input.dtype}, but bias is {bias.dtype}.")


def _check_bias(owner: str, bias: Any, weight: Tensor, channels: int) -> None:
    if bias is not None and bias._data.shape != (channels,):
        raise ShapeError(
            owner,
            f"bias must have shape ({channels},) for weight {weight.shape}, got {bias.shape}.",
        )


def _steps(owner: str, stride: Any, dilation: Any, dims: int) -> tuple[Any, Any]:
    stride = as_sizes(owner, "stride", stride, dims)
    check_all(owner, "stride", stride, 1)
    dilation = as_sizes(owner, "dilation", dilation, dims)
    check_all(owner, "dilation", dilation, 1)
    return stride, dilation


def _padding(owner: str, padding: Any, stride: Any, dilation: Any, kernel_size: Any) -> Any:
    """(before, after) for each dimension; ``"same"`` puts an odd one after."""
    if isinstance(padding, str):
        if padding == "valid":
            return _NO_PADDING[: len(kernel_size)]
        if padding != "same":
            raise ArgumentError(owner, f"padding {padding!r} is neither 'same' nor 'valid'.")
        if max(stride) > 1:
            raise ArgumentError(
                owner, f"padding='same' is not supported for strided convolutions, got {stride}."
            )
        totals = [d * (k - 1) for k, d in zip(kernel_size, dilation, strict=True)]
        return tuple([(n // 2, n - n // 2) for n in totals])
    widths = as_sizes(owner, "padding", padding, len(kernel_size))
    check_all(owner, "padding", widths, 0)
    return tuple([(p, p) for p in widths])
