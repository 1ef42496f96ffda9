"""Scaled dot-product attention without the matrix of all scores.

A thread takes a head, and of it a block of queries at a time: their scores fit into its
cache. The products are oneDNN's, called from within the loop; what lies between them is
one pass over the block. The gradient makes the probabilities again.

Source: T. Dao et al., "FlashAttention: fast and memory-efficient exact attention with
IO-awareness", NeurIPS 2022, arXiv:2205.14135.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from ..memory import empty
from ..registry import kernels
from .jit import inline, kernel, prange
from .math import exp_within_range, larger, log
from .sgemm import NORMAL, TRANSPOSED, address
from .sgemm import sgemm as multiply

__all__ = ["attention", "attention_backward"]

_f = np.float32
#: Queries of a block. The products like large ones; causal ones compute scores in vain.
_QUERIES, _CAUSAL_QUERIES = 128, 64


@intrinsic
def _read(typing: Any, address: Any, i: Any) -> Any:
    """The float32 number ``i`` after the one at ``address``."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first = builder.inttoptr(args[0], ir.FloatType().as_pointer())
        return builder.load(builder.gep(first, [args[1]]))

    return types.float32(types.int64, types.int64), code


@inline
def _masked_scores(
    sgemm, q, q_row, k, k_row, width, mask, mask_row, first, causal, scale, scores, rows, keys
):
    """scale q k^T + mask of ``rows`` queries and ``keys`` keys; ``mask`` is 0 for none."""
    multiply(
        *(sgemm, NORMAL, TRANSPOSED, rows, keys, width, scale),
        *(q, q_row, k, k_row, _f(0), scores.ctypes.data, scores.shape[1]),
    )
    if mask != 0:
        for r in range(rows):
            for j in range(keys):
                scores[r, j] += _read(mask + 4 * mask_row * (first + r), j)
    if causal:
        for r in range(rows):
            for j in range(first + r + 1, keys):
                scores[r, j] = _f(-np.inf)


@kernel
def _forward(sgemm, q, q_row, k, k_row, v, v_row, mask, mask_row, causal, scale, sizes,
             out, out_row, logsumexp):  # fmt: skip
    queries, all_keys, width, value_width = sizes
    block = _CAUSAL_QUERIES if causal else _QUERIES
    for head in prange(q.size):
        scores = np.empty((min(queries, block), all_keys), np.float32)
        for first in range(0, queries, block):
            rows = min(block, queries - first)
            keys = min(all_keys, first + rows) if causal else all_keys
            _masked_scores(
                *(sgemm, q[head] + 4 * q_row * first, q_row, k[head], k_row, width),
                *(mask[head], mask_row, first, causal, scale, scores, rows, keys),
            )
            for r in range(rows):
                highest = _f(-np.inf)
                for j in range(keys):
                    highest = larger(highest, scores[r, j])
                if highest == _f(-np.inf):  # no key: nothing to shift by
                    highest = _f(0)
                total = _f(0)
                for j in range(keys):
                    e = exp_within_range(scores[r, j] - highest)
                    scores[r, j] = e
                    total += e
                share = _f(1) / (total if total != _f(0) else _f(1))
                for j in range(keys):
                    scores[r, j] *= share
                logsumexp[head, first + r] = log(total) + highest
            multiply(
                *(sgemm, NORMAL, NORMAL, rows, value_width, keys, _f(1)),
                *(scores.ctypes.data, all_keys, v[head], v_row),
                *(_f(0), out[head] + 4 * out_row * first, out_row),
            )


@kernel
def _backward(sgemm, g, g_row, q, q_row, k, k_row, v, v_row, mask, mask_row, causal, scale,
              sizes, logsumexp, dq, dq_row, dk, dk_row, dv, dv_row):  # fmt: skip
    queries, all_keys, width, value_width = sizes
    block = _CAUSAL_QUERIES if causal else _QUERIES
    for head in prange(q.size):
        p = np.empty((min(queries, block), all_keys), np.float32)
        ds = np.empty((min(queries, block), all_keys), np.float32)
        # The last block sees all keys that any block sees: it writes, the others add.
        keep = _f(0)
        for first in range((queries - 1) // block * block, -1, -block):
            rows = min(block, queries - first)
            keys = min(all_keys, first + rows) if causal else all_keys
            these, those = q[head] + 4 * q_row * first, g[head] + 4 * g_row * first
            _masked_scores(
                *(sgemm, these, q_row, k[head], k_row, width),
                *(mask[head], mask_row, first, causal, scale, p, rows, keys),
            )
            multiply(
                *(sgemm, NORMAL, TRANSPOSED, rows, keys, value_width, _f(1)),
                *(those, g_row, v[head], v_row, _f(0), ds.ctypes.data, all_keys),
            )
            for r in range(rows):
                shift = logsumexp[head, first + r]
                if shift == _f(-np.inf):
                    shift = _f(0)
                along = _f(0)
                for j in range(keys):
                    e = exp_within_range(p[r, j] - shift)
                    p[r, j] = e
                    along += e * ds[r, j]
                for j in range(keys):
                    ds[r, j] = p[r, j] * (ds[r, j] - along) * scale
            multiply(
                *(sgemm, TRANSPOSED, NORMAL, keys, value_width, rows, _f(1)),
                *(p.ctypes.data, all_keys, those, g_row, keep, dv[head], dv_row),
            )
            multiply(
                *(sgemm, NORMAL, NORMAL, rows, width, keys, _f(1), ds.ctypes.data, all_keys),
                *(k[head], k_row, _f(0), dq[head] + 4 * dq_row * first, dq_row),
            )
            multiply(
                *(sgemm, TRANSPOSED, NORMAL, keys, width, rows, _f(1)),
                *(ds.ctypes.data, all_keys, these, q_row, keep, dk[head], dk_row),
            )
            keep = _f(1)


# The kernels ----------------------------------------------------------------------------


class _Heads:
    """An array (..., rows, columns) as the loops see it: where each head begins.

    Attributes:
        array: float32, with columns next to each other; holds the memory.
        starts: the address of each head's first element.
        row: elements from one row to the next.
    """

    def __init__(self, x: NDArray) -> None:
        if x.dtype != np.float32:
            x = kernels.cast(x, np.float32)
        rows, columns = x.shape[-2:]
        if x.strides[-1] != 4 or (rows > 1 and not _steps(x.strides[-2], columns)):
            x = np.ascontiguousarray(x)
        self.array = x
        starts = np.array(x.__array_interface__["data"][0], np.int64)
        for n, stride in zip(x.shape[:-2], x.strides[:-2], strict=True):
            starts = starts[..., None] + np.arange(n) * stride
        self.starts = starts.reshape(-1)
        self.row = x.strides[-2] // 4 if rows > 1 else max(columns, 1)

    @property
    def loop(self) -> tuple[NDArray, int]:
        return self.starts, self.row


def _steps(stride: int, columns: int) -> bool:
    """Whether rows lie one after the other, as oneDNN wants them."""
    return stride >= 4 * columns and stride % 4 == 0


def _mask(mask: NDArray | None, shape: tuple[int, ...], heads: int) -> tuple[Any, int, Any]:
    """The address of each head's mask (0: none), elements between its rows, and its memory."""
    if mask is None:
        return np.zeros(heads, np.int64), 0, None
    if mask.dtype.kind == "b":
        mask = np.where(mask, _f(0), _f(-np.inf))
    mask = mask.astype(np.float32, copy=False)
    if mask.shape[-1:] != shape[-1:]:
        mask = np.broadcast_to(mask, (*mask.shape[:-1], shape[-1]))
    mask = np.ascontiguousarray(mask)
    spread = np.broadcast_to(mask, shape)
    starts = np.array(mask.__array_interface__["data"][0], np.int64)
    for n, stride in zip(shape[:-2], spread.strides[:-2], strict=True):
        starts = starts[..., None] + np.arange(n) * stride
    return starts.reshape(-1), spread.strides[-2] // 4, mask


def _like(x: NDArray, shape: tuple[int, ...]) -> NDArray:
    """A float32 array of ``shape`` whose axes lie in the order of x's, the last one innermost."""
    order = sorted(range(x.ndim - 1), key=lambda d: -x.strides[d])
    order.append(x.ndim - 1)
    y = empty(tuple([shape[d] for d in order]), np.float32)
    return y.transpose(np.argsort(order))


def attention(
    q: NDArray, k: NDArray, v: NDArray, mask: NDArray | None, causal: bool, scale: float
) -> tuple[NDArray, NDArray]:
    out = _like(q, (*q.shape[:-1], v.shape[-1]))
    logsumexp = empty(q.shape[:-1], np.float32)
    heads = _Heads(q)
    count = heads.starts.size
    starts, row, memory = _mask(mask, (*q.shape[:-1], k.shape[-2]), count)
    keys, values, result = _Heads(k), _Heads(v), _Heads(out)
    sizes = (q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1])
    _forward(
        *(address(), *heads.loop, *keys.loop, *values.loop, starts, row, causal, _f(scale)),
        *(sizes, *result.loop, logsumexp.reshape(count, -1)),
    )
    del memory
    return out.astype(q.dtype, copy=False), logsumexp


def attention_backward(
    grad_output: NDArray,
    q: NDArray,
    k: NDArray,
    v: NDArray,
    out: NDArray,
    logsumexp: NDArray,
    mask: NDArray | None,
    causal: bool,
    scale: float,
) -> tuple[NDArray, NDArray, NDArray]:
    dq, dk, dv = (_like(x, x.shape) for x in (q, k, v))
    if causal and q.shape[-2] < k.shape[-2]:  # keys that no query sees
        dk[...], dv[...] = 0, 0
    queries = _Heads(q)
    count = queries.starts.size
    starts, row, memory = _mask(mask, (*q.shape[:-1], k.shape[-2]), count)
    g, keys, values = _Heads(grad_output), _Heads(k), _Heads(v)
    results = [_Heads(d) for d in (dq, dk, dv)]
    sizes = (q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1])
    _backward(
        *(address(), *g.loop, *queries.loop, *keys.loop, *values.loop, starts, row),
        *(causal, _f(scale), sizes),
        np.ascontiguousarray(logsumexp).reshape(count, -1),
        *[part for r in results for part in r.loop],
    )
    del memory
    return tuple([d.astype(q.dtype, copy=False) for d in (dq, dk, dv)])  # type: ignore[return-value]
