"""Whether the loops over dense arrays and lists of them take some arguments.

As in ``suits``: element-wise kernels, pooling, sums and optimizers. An array is
dense if its elements fill a piece of memory, in whatever order of the axes.
"""

from __future__ import annotations

import math
from typing import Any

from numpy import ndarray

from ..memory import order_of
from .suits import BFLOAT16, FLOAT32, MANY_STEPS, large

__all__ = ["MOST_AXES", "dense", "slices"]

_LAYOUT = "its elements do not lie without gaps, row by row or channels-last"
_OTHERS = "the operands differ in shape, dtype or memory order"
#: Elements. A sum or a product of float32 arrays is quick in NumPy, as long as they are in
#: the cache; of bfloat16 arrays never.
_LARGE_SUM, _LARGE_BFLOAT16 = 1 << 17, 1 << 11
_SMALL = "NumPy is as fast for so few elements of this dtype"
#: Of arrays that are put into others.
MOST_AXES = 4


def dense(x: Any) -> bool | str:
    """True, or why ``x`` is not read in the order of memory."""
    flags = x.flags
    if flags.forc or (x.ndim == 4 and x.transpose(0, 2, 3, 1).flags.c_contiguous):
        return True
    return _LAYOUT


def _alike(x: Any, y: Any) -> bool | str:
    """True, or why two operands cannot be gone through side by side."""
    if x.shape != y.shape or x.dtype is not y.dtype:
        return _OTHERS
    if x.strides == y.strides or (x.flags.c_contiguous and y.flags.c_contiguous):
        return dense(x)
    return _OTHERS


# One function a kernel, with its parameters -----------------------------------------------


def unary(x):
    answer = large(x)
    return dense(x) if answer is True else answer


def binary(x, y):
    if type(x) is not ndarray or x.size < _LARGE_BFLOAT16:
        return _SMALL
    if type(y) is not ndarray or x.shape != y.shape:
        return _OTHERS
    if x.dtype is BFLOAT16 or (x.dtype is FLOAT32 and x.size >= _LARGE_SUM):
        return _alike(x, y)
    return _SMALL


def backward(grad_output, x):
    answer = large(x)
    return _alike(grad_output, x) if answer is True else answer


def leaky_relu(value, x, negative_slope):
    return backward(value, x)


def cast(x, dtype):
    if x.size < _LARGE_BFLOAT16:
        return _SMALL
    if (x.dtype is FLOAT32 and dtype == BFLOAT16) or (x.dtype is BFLOAT16 and dtype == FLOAT32):
        return dense(x)
    return "only float32 and bfloat16 are converted into each other"


def dropout_mask(generator, shape, p, dtype):
    count = 1
    for n in shape:
        count *= n
    if count < 1 << 14:
        return _SMALL
    if p == 1:
        return "nothing is drawn"
    if dtype in (FLOAT32, BFLOAT16):
        return True
    return f"masks are made in float32 and bfloat16, not in {dtype}"


def sum(x, axis, keepdims):
    if axis is None or len(axis) != x.ndim - 1 or x.size < 1 << 14:
        return "the loops sum all but one axis of large arrays"
    if x.dtype is not FLOAT32 and x.dtype is not BFLOAT16:
        return f"the loops are for float32 and bfloat16, not for {x.dtype}"
    if axis == (0, 2, 3):
        width, inside = x.shape[1], x.transpose(0, 2, 3, 1).flags.c_contiguous
    else:
        width, inside = x.shape[-1], axis[-1] == x.ndim - 2 and x.flags.c_contiguous
    if not inside:
        return "the axis that stays is not the last one in memory"
    # NumPy sums wide rows as fast, as long as they are in the cache.
    if x.dtype is FLOAT32 and x.size < 1 << 17 and width > 32:
        return _SMALL
    return True


# Pooling ------------------------------------------------------------------------------------


def pad_constant(x, widths, value):
    size = 1
    for n, (low, high) in zip(x.shape, widths, strict=True):
        size *= n + low + high
    return _placed(x, size)


def put_slice(shape, key, values):
    answer = _placed(values, math.prod(shape))
    if answer is not True:
        return answer
    parts = slices(key, len(shape))
    if parts is None or any(part.step is not None and part.step < 1 for part in parts):
        return "the index is more than slices with steps forward"
    if values.ndim != len(shape):
        return "the values have another number of axes"
    if values.ndim and parts[order_of(values)[-1]].step not in (None, 1):
        return "what lies side by side in the values does not in the result"
    return True


def _placed(x: Any, size: int) -> bool | str:
    """Whether the loop puts ``x`` into an array of ``size`` elements."""
    if x.dtype is not FLOAT32 and x.dtype is not BFLOAT16:
        return f"the loops are for float32 and bfloat16, not for {x.dtype}"
    if size < _LARGE_SUM or not x.size:
        return _SMALL
    return True if x.ndim <= MOST_AXES else f"more than {MOST_AXES} axes"


def slices(key: Any, axes: int) -> tuple[slice, ...] | None:
    """A NumPy index as a slice for each of the axes; None if it is more than that.

    >>> slices((slice(2), ...), 3)
    (slice(None, 2, None), slice(None, None, None), slice(None, None, None))
    """
    parts = key if type(key) is tuple else (key,)
    if any(type(part) is not slice and part is not ... for part in parts):
        return None
    places = [i for i, part in enumerate(parts) if part is ...] or [len(parts)]
    before, after = parts[: places[0]], parts[places[0] + 1 :]
    return (*before, *[slice(None)] * (axes - len(before) - len(after)), *after)


def max_pool2d(x, kernel_size, stride, padding, dilation, output_size):
    return _windows(x, padding, dilation)


def max_pool2d_backward(grad_output, offsets, input_size, kernel_size, stride, padding, dilation):
    return _windows(grad_output, padding, dilation)


def max_pool2d_gather(x, offsets, kernel_size, stride, padding, dilation):
    return _windows(x, padding, dilation)


def _windows(x: Any, padding: Any, dilation: Any) -> bool | str:
    if dilation != (1, 1) and padding != (0, 0):
        return "with padding and dilation, a window may lie beside the image"
    return large(x)


def avg_pool2d(x, kernel_size, stride, padding, output_size, count_include_pad, divisor):
    return large(x)


def avg_pool2d_backward(
    grad_output, input_size, kernel_size, stride, padding, count_include_pad, divisor
):
    return _image(grad_output, input_size)


def adaptive_avg_pool2d(x, output_size):
    return large(x, MANY_STEPS)


def adaptive_avg_pool2d_backward(grad_output, input_size):
    return _image(grad_output, input_size)


def _image(grad_output: Any, size: Any) -> bool | str:
    n, c, _, _ = grad_output.shape
    if n * c * size[0] * size[1] < 1 << 14:
        return _SMALL
    dtype = grad_output.dtype
    if dtype is FLOAT32 or dtype is BFLOAT16:
        return True
    return f"the loops are for float32 and bfloat16, not for {dtype}"


# Optimizers: lists of arrays ----------------------------------------------------------------


def sgd_step(
    parameters,
    grads,
    momentum_buffers,
    lr,
    momentum,
    dampening,
    weight_decay,
    nesterov,
    maximize,
    first,
):
    return _group(parameters, grads, momentum_buffers)


def adam_step(
    parameters,
    grads,
    exp_avgs,
    exp_avg_sqs,
    max_exp_avg_sqs,
    steps,
    lr,
    beta1,
    beta2,
    eps,
    weight_decay,
    decoupled,
    maximize,
):
    return _group(parameters, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs)


def sgd_bound(parameters, grads, momentum_buffers):
    return _dense_lists(parameters, grads, momentum_buffers)


def adam_bound(parameters, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs):
    return _dense_lists(parameters, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs)


def rmsprop_step(
    parameters,
    grads,
    square_avgs,
    grad_avgs,
    momentum_buffers,
    lr,
    alpha,
    eps,
    weight_decay,
    momentum,
    maximize,
):
    return _group(parameters, grads, square_avgs, grad_avgs, momentum_buffers)


def adagrad_step(parameters, grads, sums, steps, lr, lr_decay, eps, weight_decay, maximize):
    return _group(parameters, grads, sums)


def _group(parameters: Any, grads: Any, *written: Any) -> bool | str:
    total = 0
    for w in parameters:
        total += w.size
    if total < 1 << 14:
        return _SMALL
    for g in grads:
        if g.dtype is not FLOAT32:
            return f"a gradient is {g.dtype}, not float32"
    return _dense_lists(parameters, *written)


def _dense_lists(*lists: Any) -> bool | str:
    for arrays in lists:
        if arrays is not None:
            for a in arrays:
                if a.dtype is not FLOAT32 or not a.flags.c_contiguous:
                    return "an array is not float32 without gaps, row by row"
    return True
