"""Whether a compiled loop takes some arguments: asked at every call, hence short and light.

A kernel takes float32 and bfloat16 arrays that are large enough to be worth it; for
smaller ones, NumPy's fixed costs are as low, and nothing needs to be compiled.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

__all__ = ["BFLOAT16", "FLOAT32", "INT64", "MANY_STEPS", "large"]

FLOAT32 = np.dtype(np.float32)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
INT64 = np.dtype(np.int64)

#: Elements. Below, NumPy needs some tens of microseconds, and a model never needs Numba,
#: whose import takes half a second.
_LARGE = 1 << 14
#: Elements of a row that is summed in float32.
_LONGEST_ROW = 1 << 16
#: The same for what NumPy computes in many steps: 44 us for 8,192 elements, in place of 10.
MANY_STEPS = 1 << 12
#: The same for short rows, at which NumPy's reductions along them are slow: log_softmax of
#: 128 rows of 10 takes it 15 us, and the loop 5; picking at 128 labels 5 and 1.
_MANY_ROWS = 1 << 10


def large(x: Any, fewest: int = _LARGE) -> bool | str:
    """True, or why loops over ``x`` are left to NumPy."""
    if x.size < fewest:
        return f"fewer than {fewest} elements, for which NumPy is as fast"
    dtype = x.dtype
    if dtype is FLOAT32 or dtype is BFLOAT16:
        return True
    return f"the loops are for float32 and bfloat16, not for {dtype}"


# One function a kernel, with its parameters -----------------------------------------------


def batch_norm(x, weight, bias, eps, residual, activation):
    return large(x)


def batch_norm_inference(x, weight, bias, mean, var, eps, residual, activation):
    return large(x, MANY_STEPS)


def batch_norm_backward(
    grad_output, x, y, weight, bias, mean, var, eps, activation, training, residual, more=None
):
    return large(x)


def layer_norm(x, weight, bias, axes, eps):
    return _short_rows(x, axes)


def layer_norm_backward(grad_output, x, weight, mean, rstd, axes):
    return _short_rows(x, axes)


def _short_rows(x: Any, axes: int) -> bool | str:
    answer = large(x)
    if answer is True:
        length = 1
        for n in x.shape[x.ndim - axes :]:
            length *= n
        if length > _LONGEST_ROW:
            return "rows so long are summed more exactly by NumPy"
    return answer


def softmax(x, axis):
    return _in_a_row(x, axis)


def softmax_backward(grad_output, y, axis):
    return _in_a_row(y, axis)


def _in_a_row(x: Any, axis: int) -> bool | str:
    answer = large(x, _MANY_ROWS)
    if answer is True:
        if x.strides[axis] != x.dtype.itemsize:
            return "the axis does not lie in a row"
        if x.shape[axis] > _LONGEST_ROW:
            return "rows so long are summed more exactly by NumPy"
    return answer


def nll_loss(log_p, target, weight, ignore_index, reduction):
    if log_p.dtype is not FLOAT32 or not log_p.flags.c_contiguous:
        return "the loops are for float32 in C order"
    return _labels(target, weight, log_p.shape, reduction)


def nll_loss_backward(grad_output, target, weight, shape, ignore_index, reduction):
    if grad_output.dtype is not FLOAT32:
        return f"the loops are for float32, not for {grad_output.dtype}"
    return _labels(target, weight, shape, reduction)


def _labels(target: Any, weight: Any, shape: tuple[int, ...], reduction: str) -> bool | str:
    if len(shape) != 2 or shape[0] * shape[1] < _MANY_ROWS:
        return f"no matrix, or fewer than {_MANY_ROWS} elements, for which NumPy is as fast"
    if target.dtype is not INT64 or not target.flags.c_contiguous:
        return "the labels are not int64, one after the other"
    if weight is not None or reduction == "none":
        return "the loops know no weights, and no losses one by one"
    return True


def attention(q, k, v, mask, causal, scale):
    return _heads(q, k, v)


def attention_backward(grad_output, q, k, v, out, top, log_total, mask, causal, scale):
    return _heads(q, k, v)


def _heads(q: Any, k: Any, v: Any) -> bool | str:
    if q.dtype is not FLOAT32 and q.dtype is not BFLOAT16:
        return f"the loops are for float32 and bfloat16, not for {q.dtype}"
    if not (q.size and k.size and v.size):
        return "there is nothing to compute"
    if q.size * k.shape[-2] < _LARGE * q.shape[-1]:
        return f"fewer than {_LARGE} scores, for which NumPy is as fast"
    return True


def embedding_backward(grad_output, index, rows, padding_idx):
    if not rows:
        return "there is nothing to add to"
    return large(grad_output)
