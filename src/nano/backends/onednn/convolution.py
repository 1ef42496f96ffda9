"""Convolutions: forward, its transpose (the gradient of the input), the gradient of the weight.

Images come and go channels-last; weights are brought to the order that oneDNN's
implementation likes best. Where images in oneDNN's own blocked order are faster, they
are brought to that order and back, invisibly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import memory as results
from .. import precision
from ..registry import register
from .library import library
from .matmul import matmul
from .memory import BFLOAT16, FLOAT32, any_order, channels_last, dims, plain, strided
from .movement import Target, bring, packed
from .primitives import (
    BIAS,
    DIFF_DST,
    DIFF_SRC,
    DIFF_WEIGHTS,
    DST,
    FORWARD_TRAINING,
    SRC,
    WEIGHTS,
    Plan,
    Primitive,
    reorder,
    rounding,
)
from .suits import answer, built, suits

_DIRECT = 1  # dnnl_convolution_direct
_Pair = tuple[int, int]
_Padding = tuple[_Pair, _Pair]


@dataclass(frozen=True)
class Geometry:
    """The sizes of one convolution: ``result`` = conv2d(``image``, ``weight``)."""

    image: tuple[int, ...]
    weight: tuple[int, ...]
    result: tuple[int, ...]
    dtype: np.dtype
    #: Whether float32 numbers may be rounded to bfloat16 before they are multiplied.
    rounded: bool
    stride: _Pair
    padding: _Padding
    dilation: _Pair
    groups: int

    def grouped_weight(self) -> tuple[int, ...]:
        """The weight's shape as oneDNN takes it, with groups as a dimension."""
        if self.groups == 1:
            return self.weight
        return (self.groups, self.weight[0] // self.groups, *self.weight[1:])

    def arguments(self) -> tuple[Any, ...]:
        """Strides, dilations and paddings as oneDNN takes them."""
        (top, bottom), (left, right) = self.padding
        return (
            dims(self.stride),
            dims([d - 1 for d in self.dilation]),
            dims((top, left)),
            dims((bottom, right)),
        )

    def attributes(self) -> Any:
        """The primitive's attributes."""
        return rounding() if self.rounded else None

    def prefers_blocks(self) -> bool:
        """Whether oneDNN's blocked order is faster for these sizes, reordering included.

        Measured with ``python -m benchmarks.convolution``: on small images of many
        channels, where a channels-last row is a whole page long.
        """
        return (
            self.groups == 1
            and self.weight[2] > 1
            and min(self.image[1], self.result[1]) >= 256
            and self.result[2] * self.result[3] <= 32
        )

    def has_idle_tap(self) -> bool:
        """Whether some element of the kernel meets nothing but padding."""
        return not all(all(taps) for taps in self._meetings())

    def misses_the_image(self) -> bool:
        """Whether every element of the kernel does: all of the sums are empty."""
        return not all(any(taps) for taps in self._meetings())

    def _meetings(self) -> list[list[bool]]:
        """Of the kernel's rows, and of its columns, whether each meets the image somewhere."""
        sizes = zip(
            *(self.image[2:], self.result[2:], self.weight[2:]),
            *(self.stride, self.padding, self.dilation),
            strict=True,
        )
        return [
            [any(0 <= r * s + i * d - before < n for r in range(m)) for i in range(k)]
            for n, m, k, s, (before, _), d in sizes
        ]

    def orders(self) -> tuple[Any, Any, Any]:
        """Descriptors to ask oneDNN with: of the image, the weight and the result."""
        order = any_order if self.prefers_blocks() else channels_last
        return (
            order(self.image, self.dtype),
            any_order(self.grouped_weight(), self.dtype),
            order(self.result, self.dtype),
        )

    def plan(self, bias: bool = False, hint: bool = False, attributes: Any = None) -> Plan:
        """The plan of the forward pass; as a hint for the backward pass in any order."""
        image, weight, result = self.orders()
        if hint:
            image, result = any_order(self.image, self.dtype), any_order(self.result, self.dtype)
        return Plan(
            "dnnl_convolution_forward_primitive_desc_create",
            *(library().engine, FORWARD_TRAINING, _DIRECT, image.handle, weight.handle),
            plain(self.result[1:2], self.dtype).handle if bias else None,
            *(result.handle, *self.arguments(), attributes or self.attributes()),
        )


class Forward:
    """y = conv2d(x, w) + b for fixed sizes."""

    def __init__(self, g: Geometry, bias: bool) -> None:
        plan = g.plan(bias)
        self.src, self.weights, self.dst = plan.wants(SRC), plan.wants(WEIGHTS), plan.wants(DST)
        arguments = {SRC: self.src, WEIGHTS: self.weights, DST: self.dst}
        if bias:
            arguments[BIAS] = plain(g.result[1:2], g.dtype)
        self.primitive = Primitive(plan, arguments)
        self.geometry = g

    def __call__(self, x: NDArray, weight: NDArray, bias: NDArray | None, token: Any) -> NDArray:
        g = self.geometry
        y = results.channels_last(g.result, g.dtype)
        target = Target(y, self.dst)
        addresses = [
            bring(x, self.src, "source"),
            packed(weight.reshape(g.grouped_weight()), self.weights, token),
            target.address,
        ]
        if bias is not None:
            bias = np.ascontiguousarray(bias)
            addresses.append(bias.ctypes.data)
        self.primitive(*addresses)
        target.finish()
        return y


class Transposed:
    """The gradient of the image: the transpose of the convolution."""

    def __init__(self, g: Geometry) -> None:
        image, weight, result = g.orders()
        if g.image[1] < 8:
            # Channels-last rows are then shorter than a vector; reordering costs less.
            image = any_order(g.image, g.dtype)
        hint = g.plan(hint=True)
        plan = Plan(
            "dnnl_convolution_backward_data_primitive_desc_create",
            *(library().engine, _DIRECT, image.handle, weight.handle, result.handle),
            *(*g.arguments(), hint.handle, g.attributes()),
        )
        self.diff_dst, self.weights = plan.wants(DIFF_DST), plan.wants(WEIGHTS)
        self.diff_src = plan.wants(DIFF_SRC)
        self.primitive = Primitive(
            plan, {DIFF_DST: self.diff_dst, WEIGHTS: self.weights, DIFF_SRC: self.diff_src}
        )
        self.geometry = g

    def __call__(self, x: NDArray, weight: NDArray, token: Any) -> NDArray:
        g = self.geometry
        y = results.channels_last(g.image, g.dtype)
        target = Target(y, self.diff_src)
        self.primitive(
            bring(x, self.diff_dst, "source"),
            packed(weight.reshape(g.grouped_weight()), self.weights, token),
            target.address,
        )
        target.finish()
        return y


class WeightGradient:
    """The gradient of the weight, of a dtype that need not be the images'."""

    def __init__(self, g: Geometry, dtype: np.dtype) -> None:
        image, _, result = g.orders()
        weight = any_order(g.grouped_weight(), dtype)
        hint = g.plan(hint=True)
        plan = Plan(
            "dnnl_convolution_backward_weights_primitive_desc_create",
            *(library().engine, _DIRECT, image.handle, weight.handle, None, result.handle),
            *(*g.arguments(), hint.handle, g.attributes()),
        )
        self.src, self.diff_dst = plan.wants(SRC), plan.wants(DIFF_DST)
        self.diff_weights = plan.wants(DIFF_WEIGHTS)
        self.primitive = Primitive(
            plan, {DIFF_DST: self.diff_dst, SRC: self.src, DIFF_WEIGHTS: self.diff_weights}
        )
        self.geometry, self.dtype = g, dtype

    def __call__(self, grad_output: NDArray, x: NDArray) -> NDArray:
        g = self.geometry
        grad_weight = results.empty(g.weight, self.dtype)
        target = Target(grad_weight.reshape(g.grouped_weight()), self.diff_weights)
        self.primitive(
            bring(grad_output, self.diff_dst, "gradient"),
            bring(x, self.src, "source"),
            target.address,
        )
        target.finish()
        return grad_weight


class WeightGradientByProduct:
    """The gradient of the weight as one product: the gradients' transpose times the windows.

    For many channels on tiny images, where the windows written out are small.
    """

    def __init__(self, g: Geometry) -> None:
        self.geometry = g
        _, c, kh, kw = g.weight
        self.ready = strided(g.weight, g.dtype, (kh * kw * c, 1, kw * c, c))

    def __call__(self, grad_output: NDArray, x: NDArray) -> NDArray:
        g = self.geometry
        o, c, kh, kw = g.weight
        pixels = np.pad(x.transpose(0, 2, 3, 1), ((0, 0), *g.padding, (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(pixels, (kh, kw), (1, 2))
        windows = windows[:, :: g.stride[0], :: g.stride[1]].transpose(0, 1, 2, 4, 5, 3)
        rows = np.ascontiguousarray(windows).reshape(-1, kh * kw * c)
        gradients = results.as_pixels(grad_output).reshape(-1, o)
        product = matmul(gradients.T, rows)  # (o, kh kw c): oneDNN turns it quicker than NumPy
        grad_weight = results.empty(g.weight, g.dtype)
        reorder(self.ready, plain(g.weight, g.dtype))(product.ctypes.data, grad_weight.ctypes.data)
        return grad_weight

    @staticmethod
    def is_faster(g: Geometry) -> bool:
        """Measured with ``python -m benchmarks.convolution``: 6 against 20 ms for 64 images of
        512 channels and 4x4 pixels in bfloat16, which oneDNN multiplies quicker than it reads."""
        return (
            g.dtype == BFLOAT16
            and g.groups == 1
            and g.dilation == (1, 1)
            and g.result[2] * g.result[3] <= 16
            and min(g.weight[:2]) >= 256
            and g.weight[2] * g.weight[3] > 1
        )


# Candidates -----------------------------------------------------------------------------

#: Building such a primitive ends the process: in bfloat16, oneDNN 3.2 looks into an empty list.
MISSES = "oneDNN fails where the kernel meets nothing but padding"


def built_for(
    kind: type, key: tuple[Any, ...], build: Callable[..., Any], slow: bool = True
) -> Any:
    """What ``build`` makes, or the reason why oneDNN cannot; either is kept.

    The key ends with the dtype.
    """
    rounded = key[-1] is FLOAT32 and precision.rounds_to_bfloat16()

    return built((kind, rounded, *key), lambda: build(rounded), slow)


def forward_geometry(x: Any, weight: Any, rounded: bool, *geometry: Any) -> Geometry:
    """The sizes of conv2d(x, weight)."""
    stride, padding, dilation, _ = geometry
    size = [
        (n + before + after - d * (k - 1) - 1) // s + 1
        for n, k, s, (before, after), d in zip(
            x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True
        )
    ]
    result = (x.shape[0], weight.shape[0], *size)
    return Geometry(x.shape, weight.shape, result, x.dtype, rounded, *geometry)


def _forward(x: Any, weight: Any, bias: Any, *geometry: Any) -> Any:
    def build(rounded: bool) -> Any:
        g = forward_geometry(x, weight, rounded, *geometry)
        return MISSES if g.misses_the_image() else Forward(g, bias is not None)

    return built_for(Forward, (x.shape, weight.shape, bias is None, geometry, x.dtype), build)


def _transposed(x: Any, weight: Any, output_size: Any, *geometry: Any) -> Any:
    def build(rounded: bool) -> Any:
        image = (x.shape[0], weight.shape[1] * geometry[3], *output_size)
        g = Geometry(image, weight.shape, x.shape, x.dtype, rounded, *geometry)
        return MISSES if g.misses_the_image() else Transposed(g)

    return built_for(Transposed, (x.shape, weight.shape, output_size, geometry, x.dtype), build)


def _weight_gradient(
    grad_output: Any, x: Any, kernel_size: Any, *geometry: Any, dtype: Any = None
) -> Any:
    dtype = x.dtype if dtype is None else np.dtype(dtype)

    def build(rounded: bool) -> Any:
        if dtype not in (x.dtype, FLOAT32):
            return f"oneDNN makes no {dtype} of {x.dtype}"
        weight = (grad_output.shape[1], x.shape[1] // geometry[3], *kernel_size)
        g = Geometry(x.shape, weight, grad_output.shape, x.dtype, rounded, *geometry)
        if g.has_idle_tap():
            return "oneDNN leaves the gradient of weights that meet only padding undefined"
        by_product = dtype == x.dtype and WeightGradientByProduct.is_faster(g)
        return WeightGradientByProduct(g) if by_product else WeightGradient(g, dtype)

    key = (x.shape, grad_output.shape, kernel_size, geometry, dtype, x.dtype)
    return built_for(WeightGradient, key, build)


def conv2d(
    x: NDArray,
    weight: NDArray,
    bias: NDArray | None,
    stride: _Pair,
    padding: _Padding,
    dilation: _Pair,
    groups: int,
    token: Any = None,
) -> NDArray:
    """See the reference kernel."""
    return _forward(x, weight, bias, stride, padding, dilation, groups)(x, weight, bias, token)


def accepts_conv2d(
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    token: Any = None,
) -> bool | str:
    reason = suits(x, weight) if bias is None else suits(x, weight, bias)
    if reason is True:
        operation = _forward(x, weight, bias, stride, padding, dilation, groups)
        return answer(operation)
    return reason


def conv_transpose2d(
    x: NDArray,
    weight: NDArray,
    bias: NDArray | None,
    output_size: _Pair,
    stride: _Pair,
    padding: _Padding,
    dilation: _Pair,
    groups: int,
    token: Any = None,
) -> NDArray:
    """See the reference kernel."""
    operation = _transposed(x, weight, output_size, stride, padding, dilation, groups)
    y = operation(x, weight, token)
    if bias is not None:
        np.add(y, bias.reshape(-1, 1, 1), out=y)
    return y


def accepts_conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any,
    output_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    token: Any = None,
) -> bool | str:
    reason = suits(x, weight)
    if reason is True:
        operation = _transposed(x, weight, output_size, stride, padding, dilation, groups)
        return answer(operation)
    return reason


def conv2d_weight(
    grad_output: NDArray,
    x: NDArray,
    kernel_size: _Pair,
    stride: _Pair,
    padding: _Padding,
    dilation: _Pair,
    groups: int,
    dtype: Any = None,
) -> NDArray:
    """See the reference kernel."""
    geometry = (stride, padding, dilation, groups)
    operation = _weight_gradient(grad_output, x, kernel_size, *geometry, dtype=dtype)
    return operation(grad_output, x)


def accepts_conv2d_weight(
    grad_output: Any,
    x: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    dtype: Any = None,
) -> bool | str:
    reason = suits(grad_output, x)
    if reason is True:
        geometry = (stride, padding, dilation, groups)
        return answer(_weight_gradient(grad_output, x, kernel_size, *geometry, dtype=dtype))
    return reason


# Where it pays: Winograd's algorithm, with fewer multiplications (fused/winograd.py), and vectors
# that few channels fill (fused/direct.py).
register("conv2d", conv2d, backend="onednn", accepts=accepts_conv2d, behind="fused")
register(
    "conv_transpose2d",
    conv_transpose2d,
    backend="onednn",
    accepts=accepts_conv_transpose2d,
    behind="fused",
)
register(
    "conv2d_weight",
    conv2d_weight,
    backend="onednn",
    accepts=accepts_conv2d_weight,
    behind="fused",
)
