"""Convolution layers: windows of weights that are learnt, slid over signals and images."""

from __future__ import annotations

from math import prod, sqrt
from typing import Any

import numpy as np

from ..dtypes import get_default_dtype, to_dtype
from ..errors import InputError, ShapeError
from ..functions.convolution import conv1d, conv2d, conv_transpose1d, conv_transpose2d
from ..functions.rearrange import pad
from ..functions.windows import as_sizes
from ..tensor import Tensor, wrap
from . import init
from .module import Module
from .parameter import Parameter

__all__ = ["Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d"]

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Module):
    """What all convolution layers have in common: their arguments and their weights."""

    #: Of the window: 1 for signals, 2 for images.
    dims = 2
    transposed = False
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        output_padding: Any,
        groups: int,
        bias: bool,
        padding_mode: str,
        dtype: Any,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        if groups <= 0:
            raise InputError(owner, f"groups must be a positive integer, got {groups}.")
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise InputError(
                    owner, f"{name} must be divisible by groups, got {channels} and {groups}."
                )
            if channels < 0:
                raise ShapeError(owner, f"{name} cannot be negative, got {channels}.")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = as_sizes(owner, "kernel_size", kernel_size, self.dims)
        if min(self.kernel_size) < 0:
            raise ShapeError(owner, f"kernel_size cannot be negative, got {self.kernel_size}.")
        self.stride = as_sizes(owner, "stride", stride, self.dims)
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise InputError(owner, f"padding {padding!r} is neither 'same' nor 'valid'.")
            if padding == "same" and max(self.stride) > 1:
                raise InputError(
                    owner,
                    "padding='same' is not supported for strided convolutions, "
                    f"got stride {self.stride}.",
                )
            self.padding = padding
        else:
            self.padding = as_sizes(owner, "padding", padding, self.dims)
        self.dilation = as_sizes(owner, "dilation", dilation, self.dims)
        self.output_padding = as_sizes(owner, "output_padding", output_padding, self.dims)
        self.groups = groups
        if padding_mode not in _PADDING_MODES:
            raise InputError(
                owner, f"padding_mode must be one of {_PADDING_MODES}, got {padding_mode!r}."
            )
        self.padding_mode = padding_mode

        first, second = in_channels, out_channels
        if not self.transposed:
            first, second = second, first
        d = (get_default_dtype() if dtype is None else to_dtype(dtype)).numpy
        shape = (first, second // groups, *self.kernel_size)
        self.weight = Parameter(wrap(np.empty(shape, d)))
        self.register_parameter(
            "bias", Parameter(wrap(np.empty(out_channels, d))) if bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        if self.weight._data.size:
            init.kaiming_uniform_(self.weight, a=sqrt(5))
        fan_in = prod(self.weight.shape[1:])
        if self.bias is not None and fan_in:
            init.uniform_(self.bias, -1 / sqrt(fan_in), 1 / sqrt(fan_in))

    def _padded(self, input: Tensor) -> tuple[Tensor, Any]:
        """The input padded by the layer's mode, and what padding is left for the operator."""
        if self.padding_mode == "zeros":
            return input, self.padding
        widths: list[int] = []
        # pad() takes the last dimension first.
        for axis in reversed(range(self.dims)):
            if self.padding == "same":
                total = self.dilation[axis] * (self.kernel_size[axis] - 1)
                widths += [total // 2, total - total // 2]
            else:
                widths += [0 if self.padding == "valid" else self.padding[axis]] * 2
        return pad(input, widths, mode=self.padding_mode), 0

    def extra_repr(self) -> str:
        """The arguments, as PyTorch shows them: those that are not the default."""
        zeros, ones = (0,) * self.dims, (1,) * self.dims
        text = (
            f"{self.in_channels}, {self.out_channels}, "
            f"kernel_size={self.kernel_size}, stride={self.stride}"
        )
        for name, default in (
            ("padding", zeros),
            ("dilation", ones),
            ("output_padding", zeros),
            ("groups", 1),
        ):
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class _Plain(_Convolution):
    """A convolution as it is."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            0,
            groups,
            bias,
            padding_mode,
            dtype,
        )


class Conv2d(_Plain):
    """y = W * x + b: ``out_channels`` windows of weights slid over images.

    W and b are drawn uniformly from [-1/sqrt(k), 1/sqrt(k)) with k = in_channels / groups
    times the window's size: Kaiming's initialisation with a = sqrt(5), as in PyTorch.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: of the window; one integer or (rows, columns), like the next three.
        stride: from one place of the window to the next.
        padding: how much is put around each image; or ``"valid"`` (nothing) or ``"same"``
            (as much as keeps the image's size).
        dilation: from one element of the window to the next.
        groups: cut the channels into so many groups that do not see each other.
        bias: whether there is a b.
        padding_mode: what is put around: ``"zeros"``, or the image's own elements:
            ``"reflect"``, ``"replicate"`` or ``"circular"``, see :func:`nano.pad`.
        device: only ``"cpu"``.
        dtype: of W and b; the default dtype if left out.

    Shapes: input (n, in_channels, h, w) or without n; output (n, out_channels, oh, ow) as in
    :func:`nano.conv2d`; weight (out_channels, in_channels / groups, kh, kw), bias
    (out_channels,).

    Raises:
        ValueError: if ``groups`` does not divide the channels, or for an unknown padding.

    >>> nano.nn.Conv2d(3, 8, 5, stride=2, padding=2)(nano.ones(1, 3, 32, 32)).shape
    (1, 8, 16, 16)
    """

    def forward(self, input: Tensor) -> Tensor:
        """W * x + b."""
        input, padding = self._padded(input)
        return conv2d(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )


class Conv1d(_Plain):
    """:class:`Conv2d` for signals: input (n, in_channels, length) or without n.

    >>> nano.nn.Conv1d(3, 8, 5, padding="same")(nano.ones(1, 3, 32)).shape
    (1, 8, 32)
    """

    dims = 1

    def forward(self, input: Tensor) -> Tensor:
        """W * x + b."""
        input, padding = self._padded(input)
        return conv1d(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )


class _Transposed(_Convolution):
    """A convolution read backwards."""

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if padding_mode != "zeros":
            raise InputError(
                type(self).__name__, f"padding_mode can only be 'zeros', got {padding_mode!r}."
            )
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            output_padding,
            groups,
            bias,
            padding_mode,
            dtype,
        )

    def _extra_for(self, input: Tensor, output_size: Any) -> tuple[int, ...]:
        """The ``output_padding`` that leads to ``output_size``."""
        if output_size is None:
            return self.output_padding
        owner, dims = type(self).__name__, self.dims
        wanted = tuple(output_size)
        if len(wanted) == input.ndim:
            wanted = wanted[-dims:]
        if len(wanted) != dims:
            raise InputError(
                owner,
                f"output_size must have {dims} or {input.ndim} elements, got {output_size}.",
            )
        smallest = tuple(
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(
                input.shape[-dims:],
                self.stride,
                self.padding,
                self.dilation,
                self.kernel_size,
                strict=True,
            )
        )
        extra = tuple([a - b for a, b in zip(wanted, smallest, strict=True)])
        if any(not 0 <= e < s for e, s in zip(extra, self.stride, strict=True)):
            largest = tuple([a + s - 1 for a, s in zip(smallest, self.stride, strict=True)])
            raise InputError(
                owner,
                f"output_size {wanted} cannot be reached from {input.shape[-dims:]}: "
                f"it can be {smallest} to {largest}.",
            )
        return extra


class ConvTranspose2d(_Transposed):
    """The transpose of :class:`Conv2d`: from small images back to large ones.

    Arguments as there, and ``output_padding``: by how much the result is larger, at the
    bottom and right, than the smallest that fits. See :func:`nano.conv_transpose2d`.

    Shapes: input (n, in_channels, h, w) or without n; output (n, out_channels, oh, ow) with
    oh = (h - 1) stride - 2 padding + dilation (kh - 1) + 1 + output_padding; weight
    (in_channels, out_channels / groups, kh, kw), bias (out_channels,).

    >>> nano.nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1)(nano.ones(1, 8, 16, 16)).shape
    (1, 3, 32, 32)
    """

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        """The transposed convolution; ``output_size`` chooses among the sizes that fit."""
        return conv_transpose2d(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self._extra_for(input, output_size),
            self.groups,
            self.dilation,
        )


class ConvTranspose1d(_Transposed):
    """:class:`ConvTranspose2d` for signals: input (n, in_channels, length) or without n.

    >>> nano.nn.ConvTranspose1d(8, 3, 4, stride=2, padding=1)(nano.ones(1, 8, 16)).shape
    (1, 3, 32)
    """

    dims = 1

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        """The transposed convolution; ``output_size`` chooses among the sizes that fit."""
        return conv_transpose1d(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self._extra_for(input, output_size),
            self.groups,
            self.dilation,
        )
