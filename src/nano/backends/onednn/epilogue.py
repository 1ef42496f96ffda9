"""Convolutions and matrix products with what follows them, done before the result is written.

act(y scale + bias + residual): on a CPU each step that is done afterwards reads and writes all
of the result once more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import memory as results
from ..registry import register
from . import matmul as products
from .convolution import MISSES, Geometry, built_for, forward_geometry
from .memory import FLOAT32, Descriptor, plain
from .movement import Target, bring, packed
from .post_ops import PostOps
from .primitives import BIAS, DST, SRC, WEIGHTS, Primitive
from .suits import answer, built, suits

__all__ = ["conv2d_epilogue", "matmul_epilogue"]


def _steps(
    channels: tuple[int, ...],
    scaled: bool,
    residual: Descriptor | None,
    activation: Any,
    rounded: bool,
) -> PostOps:
    """The post-ops; the arguments that they read are scale and bias, if scaled, and residual.

    A bias without a scale is the primitive's own.
    """
    steps = PostOps(rounded)
    if scaled:
        each = plain(channels, FLOAT32)
        steps.multiply(each)
        steps.add(each)
    if residual is not None:
        steps.add(residual)
    if activation is not None:
        steps.activate(activation)
    return steps.close()


def _numbers(x: NDArray) -> NDArray:
    """A scale or a bias as the post-ops read it."""
    return np.ascontiguousarray(x, FLOAT32)


def _suits(*arrays: Any, scale: Any, bias: Any, residual: Any) -> bool | str:
    alike = [*arrays, *([] if bias is None or scale is not None else [bias])]
    return suits(*alike, *([] if residual is None else [residual]))


# Convolution ----------------------------------------------------------------------------


class Convolution:
    """act(conv2d(x, w) scale + bias + residual) for fixed sizes."""

    def __init__(
        self, g: Geometry, bias: bool, scaled: bool, residual: bool, activation: Any
    ) -> None:
        order = g.orders()[2] if residual else None
        channels = (1, g.result[1], 1, 1)
        steps = _steps(channels, scaled, order, activation, g.rounded)
        plan = g.plan(bias and not scaled, attributes=steps.handle)
        self.src, self.weights, self.dst = plan.wants(SRC), plan.wants(WEIGHTS), plan.wants(DST)
        arguments = {SRC: self.src, WEIGHTS: self.weights, DST: self.dst}
        if bias and not scaled:
            arguments[BIAS] = plain(g.result[1:2], g.dtype)
        arguments |= steps.memory
        self.residual: Any = None
        if residual:
            last = list(steps.memory)[-1]
            self.residual = arguments[last] = plan.wants(last)
        self.primitive = Primitive(plan, arguments)
        self.geometry = g

    def __call__(
        self, x: NDArray, weight: NDArray, bias: Any, scale: Any, residual: Any, token: Any
    ) -> NDArray:
        g = self.geometry
        y = results.channels_last(g.result, g.dtype)
        target = Target(y, self.dst)
        # What is held here must live until the primitive has run.
        if scale is not None:
            channels = [_numbers(scale), _numbers(bias)]
        else:
            channels = [] if bias is None else [np.ascontiguousarray(bias)]
        addresses = [
            bring(x, self.src, "source"),
            packed(weight.reshape(g.grouped_weight()), self.weights, token),
            target.address,
            *[c.ctypes.data for c in channels],
        ]
        if residual is not None:
            addresses.append(bring(residual, self.residual, "residual"))
        self.primitive(*addresses)
        target.finish()
        return y


def _convolution(
    x: Any, weight: Any, bias: Any, scale: Any, residual: Any, activation: Any, *geometry: Any
) -> Any:
    given = (bias is not None, scale is not None, residual is not None, activation)

    def build(rounded: bool) -> Any:
        g = forward_geometry(x, weight, rounded, *geometry)
        return MISSES if g.misses_the_image() else Convolution(g, *given)

    key = (x.shape, weight.shape, given, geometry, x.dtype)
    return built_for(Convolution, key, build, slow=False)


def conv2d_epilogue(
    x: NDArray,
    weight: NDArray,
    bias: NDArray | None,
    scale: NDArray | None,
    residual: NDArray | None,
    activation: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    token: Any = None,
) -> NDArray:
    """See the reference kernel."""
    run = _convolution(
        x, weight, bias, scale, residual, activation, stride, padding, dilation, groups
    )
    return run(x, weight, bias, scale, residual, token)


def accepts_conv2d_epilogue(
    x: Any,
    weight: Any,
    bias: Any,
    scale: Any,
    residual: Any,
    activation: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    token: Any = None,
) -> bool | str:
    reason = _suits(x, weight, scale=scale, bias=bias, residual=residual)
    if reason is True:
        found = _convolution(
            x, weight, bias, scale, residual, activation, stride, padding, dilation, groups
        )
        return answer(found)
    return reason


# Matrix product -------------------------------------------------------------------------


def _rows(x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """The factors, as one product of matrices if the second is one."""
    if y.ndim == 2 and x.ndim != 2:
        x = x.reshape(-1, x.shape[-1])
    return products.batched(x, y)


def _product(x: Any, y: Any, bias: Any, scale: Any, residual: Any, activation: Any) -> Any:
    shape = (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1])
    given = (bias is not None, scale is not None, residual is not None, activation)
    rounded = products.is_rounded(x)

    def build() -> products.Product:
        channels = (*[1] * (len(shape) - 1), shape[-1])
        order = None if residual is None else plain(shape, x.dtype)
        steps = _steps(channels, scale is not None, order, activation, rounded)
        own = None if bias is None or scale is not None else bias.reshape(channels)
        return products.Product(x, y, own, rounded, steps)

    key = ("epilogue", x.shape, x.strides, y.shape, y.strides, x.dtype, given, rounded)
    return built(key, build)


def matmul_epilogue(
    x: NDArray,
    y: NDArray,
    bias: NDArray | None,
    scale: NDArray | None,
    residual: NDArray | None,
    activation: Any,
) -> NDArray:
    """See the reference kernel."""
    shape = (*x.shape[:-1], y.shape[-1])
    x, y = _rows(x, y)
    channels = []
    own = None if bias is None or scale is not None else np.ascontiguousarray(bias)
    if scale is not None:
        channels = [_numbers(scale), _numbers(bias)]  # type: ignore[arg-type]
    more = [c.ctypes.data for c in channels]
    run = _product(x, y, own, scale, residual, activation)
    if residual is not None:
        more.append(bring(residual.reshape(run.shape), plain(run.shape, run.dtype), "residual"))
    out = run(x, y, own, *more)
    return out if y.ndim != 2 else out.reshape(shape)


def accepts_matmul_epilogue(
    x: Any, y: Any, bias: Any, scale: Any, residual: Any, activation: Any
) -> bool | str:
    reason = products.enough(x, y)
    if reason is True:
        reason = _suits(x, y, scale=scale, bias=bias, residual=residual)
    if reason is not True:
        return reason
    return answer(_product(*_rows(x, y), bias, scale, residual, activation))


register("conv2d_epilogue", conv2d_epilogue, backend="onednn", accepts=accepts_conv2d_epilogue,
         behind="fused")  # fmt: skip
register("matmul_epilogue", matmul_epilogue, backend="onednn", accepts=accepts_matmul_epilogue)
