"""Pooling: means of windows, and the gradients of means and maxima.

The maxima themselves are not taken here: oneDNN passes over NaN, and gives the lowest
finite number where all is -inf. In all of this Numba's loops are faster: oneDNN serves
where Numba is missing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import memory as results
from ..registry import register
from .library import library
from .memory import FLOAT32, channels_last, dims
from .movement import Target, bring
from .primitives import (
    DIFF_DST,
    DIFF_SRC,
    DST,
    FORWARD_TRAINING,
    SRC,
    WORKSPACE,
    Plan,
    Primitive,
)
from .suits import answer, built, suits

__all__ = ["avg_pool2d", "avg_pool2d_backward", "max_pool2d_backward"]

# dnnl_pooling_max, dnnl_pooling_avg_include_padding, dnnl_pooling_avg_exclude_padding
_MAX, _MEAN_WITH_PADDING, _MEAN = 0x1FF, 0x2FF, 0x3FF
_Pair = tuple[int, int]


class Geometry:
    """The sizes of one pooling, and its forward plan, of which the backward one is made."""

    def __init__(
        self,
        algorithm: int,
        image: tuple[int, ...],
        result: tuple[int, ...],
        kernel_size: _Pair,
        stride: _Pair,
        padding: _Pair,
        dilation: _Pair,
        dtype: np.dtype,
    ) -> None:
        self.algorithm, self.image, self.result, self.dtype = algorithm, image, result, dtype
        after = [
            # How far the last window reaches beyond the image.
            max((outputs - 1) * s + (k - 1) * d + 1 - size - before, 0)
            for outputs, s, k, d, size, before in zip(
                result[2:], stride, kernel_size, dilation, image[2:], padding, strict=True
            )
        ]
        self.arguments = (
            *(dims(stride), dims(kernel_size), dims([d - 1 for d in dilation])),
            *(dims(padding), dims(after)),
        )
        self.src, self.dst = channels_last(image, dtype), channels_last(result, dtype)
        self.plan = Plan(
            "dnnl_pooling_forward_primitive_desc_create",
            *(library().engine, FORWARD_TRAINING, algorithm),
            *(self.src.handle, self.dst.handle, *self.arguments, None),
        )


class Forward:
    """The result of pooling, without places."""

    def __init__(self, g: Geometry) -> None:
        self.geometry = g
        self.primitive = Primitive(g.plan, {SRC: g.src, DST: g.dst})

    def __call__(self, x: NDArray) -> NDArray:
        g = self.geometry
        y = results.channels_last(g.result, g.dtype)
        target = Target(y, g.dst)
        self.primitive(bring(x, g.src, "source"), target.address)
        target.finish()
        return y


class Backward:
    """The gradient of the image; for maxima, from their places in the windows."""

    def __init__(self, g: Geometry) -> None:
        plan = Plan(
            "dnnl_pooling_backward_primitive_desc_create",
            *(library().engine, g.algorithm, g.src.handle, g.dst.handle),
            *(*g.arguments, g.plan.handle, None),
        )
        arguments = {DIFF_DST: g.dst, DIFF_SRC: g.src}
        if g.algorithm == _MAX:
            arguments[WORKSPACE] = plan.wants(WORKSPACE)
        self.geometry, self.arguments = g, arguments
        self.primitive = Primitive(plan, arguments)

    def __call__(self, grad_output: NDArray, offsets: NDArray | None) -> NDArray:
        g = self.geometry
        dx = results.channels_last(g.image, g.dtype)
        target = Target(dx, g.src)
        addresses = [bring(grad_output, g.dst, "gradient"), target.address]
        if offsets is not None:
            addresses.append(bring(offsets, self.arguments[WORKSPACE], "places"))
        self.primitive(*addresses)
        target.finish()
        return dx


def _operation(kind: type, *geometry: Any) -> Any:
    """The pooling for such sizes, or the reason why oneDNN has none; either is kept."""

    return built((kind, *geometry), lambda: kind(Geometry(*geometry)))


def _mean(
    input_size: _Pair,
    kernel_size: _Pair,
    stride: _Pair,
    padding: _Pair,
    output_size: Any,
    count_include_pad: bool,
    divisor: int | None,
) -> int | str:
    """oneDNN's algorithm, or why it has none that divides by the same numbers."""
    if divisor is not None and divisor != kernel_size[0] * kernel_size[1]:
        return "oneDNN divides by the size of the window"
    if divisor is None and not count_include_pad:
        return _MEAN
    if divisor is None:
        for size, k, s, p, outputs in zip(
            input_size, kernel_size, stride, padding, output_size, strict=True
        ):
            if (outputs - 1) * s - p + k > size + p:
                return "oneDNN also counts places beyond the padding"
    return _MEAN_WITH_PADDING


# Candidates -----------------------------------------------------------------------------


def _forward(x: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any, *how) -> Any:
    algorithm = _mean(x.shape[2:], kernel_size, stride, padding, output_size, *how)
    if isinstance(algorithm, str):
        return algorithm
    result = (*x.shape[:2], *output_size)
    return _operation(
        *(Forward, algorithm, x.shape, result, kernel_size, stride, padding, (1, 1), x.dtype)
    )


def avg_pool2d(
    x: NDArray,
    kernel_size: _Pair,
    stride: _Pair,
    padding: _Pair,
    output_size: _Pair,
    count_include_pad: bool,
    divisor: int | None,
) -> NDArray:
    """See the reference kernel."""
    how = (count_include_pad, divisor)
    return _forward(x, kernel_size, stride, padding, output_size, *how)(x)


def accepts_avg_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    output_size: Any,
    count_include_pad: Any,
    divisor: Any,
) -> bool | str:
    reason = suits(x)
    if reason is not True:
        return reason
    how = (count_include_pad, divisor)
    operation = _forward(x, kernel_size, stride, padding, output_size, *how)
    return answer(operation)


def _mean_backward(
    g: Any, input_size: Any, kernel_size: Any, stride: Any, padding: Any, *how
) -> Any:
    algorithm = _mean(input_size, kernel_size, stride, padding, g.shape[2:], *how)
    if isinstance(algorithm, str):
        return algorithm
    image = (*g.shape[:2], *input_size)
    return _operation(
        *(Backward, algorithm, image, g.shape, kernel_size, stride, padding, (1, 1), g.dtype)
    )


def avg_pool2d_backward(
    grad_output: NDArray,
    input_size: _Pair,
    kernel_size: _Pair,
    stride: _Pair,
    padding: _Pair,
    count_include_pad: bool,
    divisor: int | None,
) -> NDArray:
    """See the reference kernel."""
    how = (count_include_pad, divisor)
    operation = _mean_backward(grad_output, input_size, kernel_size, stride, padding, *how)
    return operation(grad_output, None)


def accepts_avg_pool2d_backward(
    grad_output: Any,
    input_size: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    count_include_pad: Any,
    divisor: Any,
) -> bool | str:
    reason = suits(grad_output)
    if reason is not True:
        return reason
    how = (count_include_pad, divisor)
    operation = _mean_backward(grad_output, input_size, kernel_size, stride, padding, *how)
    return answer(operation)


def _max_backward(grad_output: Any, input_size: Any, *windows: Any) -> Any:
    shape = grad_output.shape
    image = (*shape[:2], *input_size)
    return _operation(Backward, _MAX, image, shape, *windows, grad_output.dtype)


def max_pool2d_backward(
    grad_output: NDArray,
    offsets: NDArray,
    input_size: _Pair,
    kernel_size: _Pair,
    stride: _Pair,
    padding: _Pair,
    dilation: _Pair,
) -> NDArray:
    """See the reference kernel."""
    windows = (kernel_size, stride, padding, dilation)
    return _max_backward(grad_output, input_size, *windows)(grad_output, offsets)


def accepts_max_pool2d_backward(
    grad_output: Any,
    offsets: Any,
    input_size: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
) -> bool | str:
    reason = suits(grad_output)
    if reason is not True:
        return reason
    if grad_output.dtype is not FLOAT32:
        return "oneDNN adds up in bfloat16 where windows overlap"
    operation = _max_backward(grad_output, input_size, kernel_size, stride, padding, dilation)
    return answer(operation)


for _run, _accepts in (
    (avg_pool2d, accepts_avg_pool2d),
    (avg_pool2d_backward, accepts_avg_pool2d_backward),
    (max_pool2d_backward, accepts_max_pool2d_backward),
):
    register(_run.__name__, _run, backend="onednn", accepts=_accepts, behind="fused")
