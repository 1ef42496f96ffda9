"""Normalisation, for where Numba is missing: its loops are faster.

What follows a batch normalisation (a residual, a ReLU) is done by NumPy. oneDNN's softmax
is not used: a NaN or an infinity in a row makes all of it NaN in PyTorch, but not there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..registry import register
from .library import library
from .memory import FLOAT32, Descriptor, channels_last, plain
from .movement import Target, bring
from .primitives import (
    BACKWARD,
    DIFF_DST,
    DIFF_SCALE,
    DIFF_SHIFT,
    DIFF_SRC,
    DST,
    FORWARD_INFERENCE,
    FORWARD_TRAINING,
    MEAN,
    SCALE,
    SHIFT,
    SRC,
    VARIANCE,
    Plan,
    Primitive,
)
from .suits import answer, built, suits

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "layer_norm",
    "layer_norm_backward",
]

# dnnl_normalization_flags_t
_GIVEN_STATISTICS, _WITH_SCALE, _WITH_SHIFT = 1, 2, 4
_SCALE_AND_SHIFT = _WITH_SCALE | _WITH_SHIFT
_FEW = 1 << 14
_TOO_FEW = f"fewer than {_FEW} elements, for which NumPy is as fast"


def _large(*arrays: NDArray) -> bool | str:
    return suits(*arrays) if arrays[0].size >= _FEW else _TOO_FEW


def _numbers(channels: NDArray | None, count: int, default: float) -> NDArray:
    """One float32 number a channel, side by side in memory."""
    if channels is None:
        return np.full(count, default, FLOAT32)
    return np.ascontiguousarray(channels, FLOAT32).reshape(-1)


def _addresses(*arrays: NDArray) -> list[int]:
    return [a.ctypes.data for a in arrays]


# Batch normalisation --------------------------------------------------------------------


def _image(x: NDArray) -> NDArray:
    """(n, c), (n, c, l) or (n, c, h, w) as (n, c, h, w)."""
    return x.reshape(x.shape + (1,) * (4 - x.ndim)) if x.ndim < 4 else x


def _batch_norm(x: NDArray, eps: float, training: bool) -> Any:
    shape = _image(x).shape

    def build() -> Primitive:
        images, channels = channels_last(shape, x.dtype), plain(shape[1:2], FLOAT32)
        flags = _SCALE_AND_SHIFT | (0 if training else _GIVEN_STATISTICS)
        kind = FORWARD_TRAINING if training else FORWARD_INFERENCE
        plan = Plan(
            "dnnl_batch_normalization_forward_primitive_desc_create",
            *(library().engine, kind, images.handle, images.handle, eps, flags, None),
        )
        arguments = dict.fromkeys((MEAN, VARIANCE, SCALE, SHIFT), channels)
        return Primitive(plan, {SRC: images, DST: images, **arguments})

    return built(("batch_norm", shape, x.dtype, eps, training), build)


def _normalised(
    x: NDArray,
    weight: NDArray | None,
    bias: NDArray | None,
    statistics: tuple[NDArray, NDArray],
    eps: float,
    residual: NDArray | None,
    activation: str | None,
    training: bool,
) -> NDArray:
    """The result; in training, mean and variance are written into ``statistics``."""
    count = x.shape[1]
    images = channels_last(_image(x).shape, x.dtype)
    y = np.empty_like(x)
    target = Target(_image(y), images)
    scale, shift = _numbers(weight, count, 1), _numbers(bias, count, 0)
    _batch_norm(x, eps, training)(
        bring(_image(x), images, "source"),
        target.address,
        *_addresses(*statistics, scale, shift),
    )
    target.finish()
    if residual is not None:
        y += residual
    if activation == "relu":
        np.maximum(y, y.dtype.type(0), out=y)
    return y


def _accepts_batch_norm(x: Any, eps: float, residual: Any, training: bool) -> bool | str:
    reason = _large(x) if residual is None else _large(x, residual)
    if reason is not True:
        return reason
    if x.ndim > 4:
        return "it is asked for at most four dimensions"
    if residual is not None and x.dtype is not FLOAT32:
        return "the sum would be rounded twice"
    return answer(_batch_norm(x, eps, training))


def batch_norm(
    x: NDArray,
    weight: NDArray | None,
    bias: NDArray | None,
    eps: float,
    residual: NDArray | None,
    activation: str | None,
) -> tuple[NDArray, NDArray, NDArray]:
    """See the reference kernel."""
    mean, var = np.empty(x.shape[1], FLOAT32), np.empty(x.shape[1], FLOAT32)
    y = _normalised(x, weight, bias, (mean, var), eps, residual, activation, True)
    return y, mean, var


def accepts_batch_norm(
    x: Any, weight: Any, bias: Any, eps: Any, residual: Any, activation: Any
) -> bool | str:
    return _accepts_batch_norm(x, eps, residual, True)


def batch_norm_inference(
    x: NDArray,
    weight: NDArray | None,
    bias: NDArray | None,
    mean: NDArray,
    var: NDArray,
    eps: float,
    residual: NDArray | None,
    activation: str | None,
) -> NDArray:
    """See the reference kernel."""
    statistics = _numbers(mean, x.shape[1], 0), _numbers(var, x.shape[1], 1)
    return _normalised(x, weight, bias, statistics, eps, residual, activation, False)


def accepts_batch_norm_inference(
    x: Any, weight: Any, bias: Any, mean: Any, var: Any, eps: Any, residual: Any, activation: Any
) -> bool | str:
    return _accepts_batch_norm(x, eps, residual, False)


def _batch_norm_backward(x: NDArray, eps: float, training: bool) -> Any:
    shape = _image(x).shape

    def build() -> Primitive:
        images, channels = channels_last(shape, x.dtype), plain(shape[1:2], FLOAT32)
        flags = _SCALE_AND_SHIFT | (0 if training else _GIVEN_STATISTICS)
        engine = library().engine
        hint = Plan(
            "dnnl_batch_normalization_forward_primitive_desc_create",
            *(engine, FORWARD_TRAINING, images.handle, images.handle, eps, flags, None),
        )
        plan = Plan(
            "dnnl_batch_normalization_backward_primitive_desc_create",
            *(engine, BACKWARD, *[images.handle] * 3, eps, flags, hint.handle, None),
        )
        of_channels = (MEAN, VARIANCE, SCALE, DIFF_SCALE, DIFF_SHIFT)
        arguments = dict.fromkeys((SRC, DIFF_DST, DIFF_SRC), images)
        return Primitive(plan, arguments | dict.fromkeys(of_channels, channels))

    return built(("batch_norm_backward", shape, x.dtype, eps, training), build)


def batch_norm_backward(
    grad_output: NDArray,
    x: NDArray,
    y: NDArray | None,
    weight: NDArray | None,
    bias: NDArray | None,
    mean: NDArray,
    var: NDArray,
    eps: float,
    activation: str | None,
    training: bool,
    residual: bool,
    more: NDArray | None = None,
) -> tuple[NDArray, NDArray, NDArray, NDArray | None]:
    """See the reference kernel."""
    masked = grad_output if more is None else grad_output + more
    if activation == "relu" and y is not None:
        masked = np.multiply(masked, np.greater(y, 0))
    count = x.shape[1]
    images = channels_last(_image(x).shape, x.dtype)
    dx = np.empty_like(x)
    target = Target(_image(dx), images)
    given = _numbers(mean, count, 0), _numbers(var, count, 1), _numbers(weight, count, 1)
    dweight, dbias = np.empty(count, FLOAT32), np.empty(count, FLOAT32)
    _batch_norm_backward(x, eps, training)(
        bring(_image(x), images, "source"),
        bring(_image(masked), images, "gradient"),
        target.address,
        *_addresses(*given, dweight, dbias),
    )
    target.finish()
    return dx, dweight, dbias, masked if residual and activation else None


def accepts_batch_norm_backward(
    grad_output: Any,
    x: Any,
    y: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    var: Any,
    eps: Any,
    activation: Any,
    training: Any,
    residual: Any,
    more: Any = None,
) -> bool | str:
    reason = _large(x, grad_output)
    if reason is not True:
        return reason
    if x.ndim > 4:
        return "it is asked for at most four dimensions"
    return answer(_batch_norm_backward(x, eps, training))


# Layer normalisation --------------------------------------------------------------------


def _rows(x: NDArray, axes: int) -> tuple[int, int]:
    """How many samples there are, and of how many elements each."""
    samples = x.shape[: x.ndim - axes]
    count = int(np.prod(samples, dtype=np.int64))
    return count, x.size // count


def _layer_norm(x: NDArray, axes: int, eps: float) -> Any:
    shape = _rows(x, axes)

    def build() -> Primitive:
        rows, statistics = plain(shape, x.dtype), plain(shape[:1], FLOAT32)
        plan = _layer_norm_plan(rows, statistics, eps)
        given = dict.fromkeys((SCALE, SHIFT), plain(shape[1:], FLOAT32))
        return Primitive(
            plan, {SRC: rows, DST: rows, MEAN: statistics, VARIANCE: statistics} | given
        )

    return built(("layer_norm", shape, x.dtype, eps), build)


def _layer_norm_plan(rows: Descriptor, statistics: Descriptor, eps: float) -> Plan:
    return Plan(
        "dnnl_layer_normalization_forward_primitive_desc_create",
        *(library().engine, FORWARD_TRAINING, rows.handle, rows.handle, statistics.handle),
        *(eps, _SCALE_AND_SHIFT, None),
    )


def layer_norm(
    x: NDArray, weight: NDArray | None, bias: NDArray | None, axes: int, eps: float
) -> tuple[NDArray, NDArray, NDArray]:
    """See the reference kernel."""
    _, size = _rows(x, axes)
    x = np.ascontiguousarray(x)
    y = np.empty(x.shape, x.dtype)
    mean, var = (np.empty(x.shape[: x.ndim - axes], FLOAT32) for _ in range(2))
    given = _numbers(weight, size, 1), _numbers(bias, size, 0)
    _layer_norm(x, axes, eps)(*_addresses(x, y, mean, var, *given))
    return y, mean, 1 / np.sqrt(var + FLOAT32.type(eps))


def accepts_layer_norm(x: Any, weight: Any, bias: Any, axes: Any, eps: Any) -> bool | str:
    reason = _large(x)
    return reason if reason is not True else answer(_layer_norm(x, axes, eps))


def _layer_norm_backward(x: NDArray, axes: int) -> Any:
    shape = _rows(x, axes)

    def build() -> Primitive:
        rows, statistics = plain(shape, x.dtype), plain(shape[:1], FLOAT32)
        hint = _layer_norm_plan(rows, statistics, 0.0)
        plan = Plan(
            "dnnl_layer_normalization_backward_primitive_desc_create",
            *(library().engine, BACKWARD, *[rows.handle] * 3, statistics.handle),
            *(0.0, _SCALE_AND_SHIFT, hint.handle, None),
        )
        arguments = dict.fromkeys((SRC, DIFF_DST, DIFF_SRC), rows)
        arguments |= dict.fromkeys((MEAN, VARIANCE), statistics)
        of_elements = dict.fromkeys(
            (SCALE, SHIFT, DIFF_SCALE, DIFF_SHIFT), plain(shape[1:], FLOAT32)
        )
        return Primitive(plan, arguments | of_elements)

    return built(("layer_norm_backward", shape, x.dtype), build)


def layer_norm_backward(
    grad_output: NDArray,
    x: NDArray,
    weight: NDArray | None,
    mean: NDArray,
    rstd: NDArray,
    axes: int,
) -> tuple[NDArray, NDArray | None, NDArray | None]:
    """See the reference kernel."""
    _, size = _rows(x, axes)
    g, x = np.ascontiguousarray(grad_output), np.ascontiguousarray(x)
    dx = np.empty(x.shape, x.dtype)
    shape = x.shape[x.ndim - axes :]
    dweight, dbias = np.empty(shape, FLOAT32), np.empty(shape, FLOAT32)
    mean = np.ascontiguousarray(mean)
    # With an epsilon of 0, the variance that has this reciprocal root.
    var = np.ascontiguousarray(1 / np.square(rstd))
    scale = _numbers(weight, size, 1)
    _layer_norm_backward(x, axes)(*_addresses(x, g, dx, mean, var, scale, scale, dweight, dbias))
    return (dx, None, None) if weight is None else (dx, dweight, dbias)


def accepts_layer_norm_backward(
    grad_output: Any, x: Any, weight: Any, mean: Any, rstd: Any, axes: Any
) -> bool | str:
    reason = _large(x, grad_output)
    return reason if reason is not True else answer(_layer_norm_backward(x, axes))


for _run, _accepts in (
    (batch_norm, accepts_batch_norm),
    (batch_norm_inference, accepts_batch_norm_inference),
    (batch_norm_backward, accepts_batch_norm_backward),
    (layer_norm, accepts_layer_norm),
    (layer_norm_backward, accepts_layer_norm_backward),
):
    register(_run.__name__, _run, backend="onednn", accepts=_accepts, behind="fused")
