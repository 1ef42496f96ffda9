"""Pooling layers: smaller signals and images, by maxima or means. They have no weights."""

from __future__ import annotations

from typing import Any

from ..functions.adaptive_pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
)
from ..functions.pooling import avg_pool1d, avg_pool2d, max_pool1d, max_pool2d
from ..functions.windows import as_sizes
from ..tensor import Tensor
from .module import Module

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "MaxPool1d",
    "MaxPool2d",
]


class _MaxPool(Module):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool2d(_MaxPool):
    """The largest element under each place of a window; see :func:`nano.max_pool2d`.

    Args:
        kernel_size: of the window; one integer or (rows, columns).
        stride: from one place of the window to the next; ``kernel_size`` if left out.
        padding: how many rows and columns of -inf around each image.
        dilation: from one element of the window to the next.
        return_indices: also give where the maxima are.
        ceil_mode: let the last windows hang over the edge.

    >>> nano.nn.MaxPool2d(2)(nano.ones(1, 3, 28, 28)).shape
    (1, 3, 14, 14)
    """

    def forward(self, input: Tensor) -> Any:
        """Maxima of (n, c, h, w), or (c, h, w)."""
        return max_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )


class MaxPool1d(_MaxPool):
    """:class:`MaxPool2d` for signals (n, c, length) or (c, length).

    >>> nano.nn.MaxPool1d(2)(nano.ones(1, 3, 28)).shape
    (1, 3, 14)
    """

    def forward(self, input: Tensor) -> Any:
        """Maxima of (n, c, length), or (c, length)."""
        return max_pool1d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )


class AvgPool2d(Module):
    """The mean under each place of a window; see :func:`nano.nn.functional.avg_pool2d`.

    Args:
        kernel_size: of the window; one integer or (rows, columns).
        stride: from one place of the window to the next; ``kernel_size`` if left out.
        padding: how many zeros around each image.
        ceil_mode: let the last windows hang over the edge.
        count_include_pad: whether the zeros of the padding count.
        divisor_override: divide the sum by this, not by the number of elements.

    >>> nano.nn.AvgPool2d(2)(nano.ones(1, 3, 28, 28)).shape
    (1, 3, 14, 14)
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        """Means of (n, c, h, w), or (c, h, w)."""
        return avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(Module):
    """:class:`AvgPool2d` for signals (n, c, length) or (c, length).

    >>> nano.nn.AvgPool1d(2)(nano.ones(1, 3, 28)).shape
    (1, 3, 14)
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = as_sizes("AvgPool1d", "kernel_size", kernel_size, 1)
        self.stride = as_sizes("AvgPool1d", "stride", kernel_size if stride is None else stride, 1)
        self.padding = as_sizes("AvgPool1d", "padding", padding, 1)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        """Means of (n, c, length), or (c, length)."""
        return avg_pool1d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AdaptiveAvgPool(Module):
    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Means of windows that cover the image; see :func:`nano.nn.functional.adaptive_avg_pool2d`.

    Args:
        output_size: one integer or (rows, columns); None leaves a size as it is.

    >>> nano.nn.AdaptiveAvgPool2d((1, None))(nano.ones(1, 3, 7, 8)).shape
    (1, 3, 1, 8)
    """

    def forward(self, input: Tensor) -> Tensor:
        """Means of (n, c, h, w), or (c, h, w)."""
        return adaptive_avg_pool2d(input, self.output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """:class:`AdaptiveAvgPool2d` for signals (n, c, length) or (c, length).

    >>> nano.nn.AdaptiveAvgPool1d(3)(nano.ones(1, 3, 7)).shape
    (1, 3, 3)
    """

    def forward(self, input: Tensor) -> Tensor:
        """Means of (n, c, length), or (c, length)."""
        return adaptive_avg_pool1d(input, self.output_size)


class _AdaptiveMaxPool(Module):
    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size = output_size
        self.return_indices = return_indices

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Maxima of windows that cover the image; see :func:`nano.nn.functional.adaptive_max_pool2d`.

    Args:
        output_size: one integer or (rows, columns); None leaves a size as it is.
        return_indices: also give where the maxima are.

    >>> nano.nn.AdaptiveMaxPool2d(2)(nano.ones(1, 3, 7, 8)).shape
    (1, 3, 2, 2)
    """

    def forward(self, input: Tensor) -> Any:
        """Maxima of (n, c, h, w), or (c, h, w)."""
        return adaptive_max_pool2d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """:class:`AdaptiveMaxPool2d` for signals (n, c, length) or (c, length).

    >>> nano.nn.AdaptiveMaxPool1d(3)(nano.ones(1, 3, 7)).shape
    (1, 3, 3)
    """

    def forward(self, input: Tensor) -> Any:
        """Maxima of (n, c, length), or (c, length)."""
        return adaptive_max_pool1d(input, self.output_size, self.return_indices)
