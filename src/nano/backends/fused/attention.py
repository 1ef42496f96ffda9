"""Scaled dot-product attention without the matrix of all scores.

A thread takes a head, and of it a block of queries at a time: their scores fit into its
cache. What lies between the products is one pass over the block; where queries see the keys
up to their own only, nothing behind is computed. The gradient makes the probabilities again.

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
from .tiles import GROUP, LANES, product, transpose

__all__ = ["attention", "attention_backward"]

_f = np.float32
#: Queries of a block. Their scores lie in the processor's second cache for 2000 keys.
_QUERIES = 64


@intrinsic
def _read(typing: Any, address: Any, i: Any) -> Any:
    """The float32 number ``i`` after the one at ``address``."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first = builder.inttoptr(args[0], ir.FloatType().as_pointer())
        return builder.load(builder.gep(first, [args[1]]))

    return types.float32(types.int64, types.int64), code


@inline
def _transposed(x, x_row, rows, columns):
    """The matrix at an address with its columns as rows, filled up with zeros to whole vectors."""
    y = np.zeros((columns, _whole(rows)), np.float32)
    for r in range(0, rows, LANES):
        here = x + 4 * r * x_row
        if r + LANES <= rows:
            for c in range(0, columns, LANES):
                transpose(here + 4 * c, x_row, y.ctypes.data + 4 * (c * y.shape[1] + r), y.shape[1])
        else:
            for i in range(rows - r):
                for c in range(columns):
                    y[c, r + i] = _read(here + 4 * i * x_row, c)
    return y


@inline
def _whole(n):
    """The next multiple of a vector's length."""
    return (n + LANES - 1) // LANES * LANES


@inline
def _reach(row, first, keys, causal):
    """How many keys the group of queries to which ``row`` of a block belongs may see."""
    return min(keys, first + row // GROUP * GROUP + GROUP) if causal else keys


@inline
def _times(x, x_row, y, first, rows, keys, causal, scale, scores):
    """scale x y for the rows of a block, as far as they reach."""
    for r in range(0, rows, GROUP):
        product(
            *(min(GROUP, rows - r), _whole(_reach(r, first, keys, causal)), y.shape[0], scale),
            *(x + 4 * r * x_row, x_row, 1, y.ctypes.data, y.shape[1]),
            *(False, scores.ctypes.data + 4 * r * scores.shape[1], scores.shape[1]),
        )


@inline
def _hide(scores, mask, mask_row, first, rows, keys, causal):
    """Add the mask, if it is not 0, and -inf for keys that are not seen."""
    for r in range(rows):
        seen = min(keys, first + r + 1) if causal else keys
        if mask != 0:
            for j in range(seen):
                scores[r, j] += _read(mask + 4 * mask_row * (first + r), j)
        for j in range(seen, _whole(_reach(r, first, keys, causal))):
            scores[r, j] = _f(-np.inf)


@kernel
def _forward(q, q_row, k, k_row, v, v_row, mask, mask_row, causal, scale, sizes,
             out, out_row, logsumexp):  # fmt: skip
    queries, keys, width, value_width = sizes
    for head in prange(q.size):
        k_columns = _transposed(k[head], k_row, keys, width)
        p = np.empty((min(queries, _QUERIES), k_columns.shape[1]), np.float32)
        totals = np.empty(_QUERIES, np.float32)
        for first in range(0, queries, _QUERIES):
            rows = min(_QUERIES, queries - first)
            these = q[head] + 4 * q_row * first
            _times(these, q_row, k_columns, first, rows, keys, causal, scale, p)
            _hide(p, mask[head], mask_row, first, rows, keys, causal)
            for r in range(rows):
                n = _whole(_reach(r, first, keys, causal))
                highest = _f(-np.inf)
                for j in range(n):
                    highest = larger(highest, p[r, j])
                if highest == _f(-np.inf):  # no key: nothing to shift by
                    highest = _f(0)
                total = _f(0)
                for j in range(n):
                    e = exp_within_range(p[r, j] - highest)
                    p[r, j] = e
                    total += e
                share = _f(1) / (total if total != _f(0) else _f(1))
                for j in range(n):
                    p[r, j] *= share
                totals[r], logsumexp[head, first + r] = total, highest
            for r in range(rows):
                logsumexp[head, first + r] += log(totals[r])
            for r in range(0, rows, GROUP):
                product(
                    *(min(GROUP, rows - r), value_width, _reach(r, first, keys, causal), _f(1)),
                    *(p.ctypes.data + 4 * r * p.shape[1], p.shape[1], 1, v[head], v_row),
                    *(False, out[head] + 4 * out_row * (first + r), out_row),
                )


@kernel
def _backward(g, g_row, q, q_row, k, k_row, v, v_row, mask, mask_row, causal, scale,
              sizes, logsumexp, dq, dq_row, dk, dk_row, dv, dv_row):  # fmt: skip
    queries, keys, width, value_width = sizes
    for head in prange(q.size):
        k_columns = _transposed(k[head], k_row, keys, width)
        v_columns = _transposed(v[head], v_row, keys, value_width)
        p = np.empty((min(queries, _QUERIES), k_columns.shape[1]), np.float32)
        ds = np.empty_like(p)
        row = p.shape[1]
        # The last block sees all keys that any block sees: it writes, the others add.
        add = False
        for first in range((queries - 1) // _QUERIES * _QUERIES, -1, -_QUERIES):
            rows = min(_QUERIES, queries - first)
            these, those = q[head] + 4 * q_row * first, g[head] + 4 * g_row * first
            _times(these, q_row, k_columns, first, rows, keys, causal, scale, p)
            _hide(p, mask[head], mask_row, first, rows, keys, causal)
            _times(those, g_row, v_columns, first, rows, keys, causal, _f(1), ds)
            for r in range(rows):
                n = _whole(_reach(r, first, keys, causal))
                shift = logsumexp[head, first + r]
                if shift == _f(-np.inf):
                    shift = _f(0)
                along = _f(0)
                for j in range(n):
                    e = exp_within_range(p[r, j] - shift)
                    p[r, j] = e
                    along += e * ds[r, j]
                for j in range(n):
                    ds[r, j] = p[r, j] * (ds[r, j] - along) * scale
            for r in range(0, rows, GROUP):
                product(
                    *(min(GROUP, rows - r), width, _reach(r, first, keys, causal), _f(1)),
                    *(ds.ctypes.data + 4 * r * row, row, 1, k[head], k_row),
                    *(False, dq[head] + 4 * dq_row * (first + r), dq_row),
                )
            for j in range(0, min(keys, first + rows) if causal else keys, GROUP):
                start = max(0, j - first) if causal else 0  # the first query that sees the key
                count, at = min(GROUP, keys - j), 4 * (start * row + j)
                product(
                    *(count, value_width, rows - start, _f(1), p.ctypes.data + at, 1, row),
                    *(those + 4 * g_row * start, g_row, add, dv[head] + 4 * dv_row * j, dv_row),
                )
                product(
                    *(count, width, rows - start, _f(1), ds.ctypes.data + at, 1, row),
                    *(these + 4 * q_row * start, q_row, add, dk[head] + 4 * dk_row * j, dk_row),
                )
            add = True


# The kernels ----------------------------------------------------------------------------


class _Heads:
    """An array (..., rows, columns) as the loops see it: where each head begins.

    Attributes:
        array: float32, with columns next to each other, filled up with zeros to whole vectors;
            holds the memory.
        starts: the address of each head's first element.
        row: elements from one row to the next.
        width: columns.
    """

    def __init__(self, x: NDArray) -> None:
        if x.dtype != np.float32:
            x = kernels.cast(x, np.float32)
        columns = x.shape[-1]
        if columns % LANES:
            filled = np.zeros((*x.shape[:-1], -(-columns // LANES) * LANES), np.float32)
            filled[..., :columns] = x
            x = filled
        elif x.strides[-1] != 4 or x.strides[-2] % 4:
            x = np.ascontiguousarray(x)
        self.array = x
        self.width = x.shape[-1]
        starts = np.array(x.__array_interface__["data"][0], np.int64)
        for n, stride in zip(x.shape[:-2], x.strides[:-2], strict=True):
            starts = starts[..., None] + np.arange(n) * stride
        self.starts = starts.reshape(-1)
        self.row = x.strides[-2] // 4

    @property
    def loop(self) -> tuple[NDArray, int]:
        return self.starts, self.row


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


def _finished(result: _Heads, like: NDArray, width: int) -> NDArray:
    """A result without what it was filled up with, in the dtype of ``like``."""
    y = result.array
    if y.shape[-1] != width:
        y = _like(like, (*y.shape[:-1], width))
        y[...] = result.array[..., :width]
    return y.astype(like.dtype, copy=False)


def attention(
    q: NDArray, k: NDArray, v: NDArray, mask: NDArray | None, causal: bool, scale: float
) -> tuple[NDArray, NDArray]:
    logsumexp = empty(q.shape[:-1], np.float32)
    queries, keys, values = _Heads(q), _Heads(k), _Heads(v)
    result = _Heads(_like(q, (*q.shape[:-1], values.width)))
    count = queries.starts.size
    starts, row, memory = _mask(mask, (*q.shape[:-1], k.shape[-2]), count)
    sizes = (q.shape[-2], k.shape[-2], queries.width, values.width)
    _forward(
        *(*queries.loop, *keys.loop, *values.loop, starts, row, causal, _f(scale)),
        *(sizes, *result.loop, logsumexp.reshape(count, -1)),
    )
    del memory
    return _finished(result, q, v.shape[-1]), logsumexp


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
    g, queries, keys, values = _Heads(grad_output), _Heads(q), _Heads(k), _Heads(v)
    operands = ((q, queries), (k, keys), (v, values))
    results = [_Heads(_like(x, (*x.shape[:-1], heads.width))) for x, heads in operands]
    if causal and q.shape[-2] < k.shape[-2]:  # keys that no query sees
        results[1].array[...], results[2].array[...] = 0, 0
    count = queries.starts.size
    starts, row, memory = _mask(mask, (*q.shape[:-1], k.shape[-2]), count)
    sizes = (q.shape[-2], k.shape[-2], queries.width, values.width)
    _backward(
        *(*g.loop, *queries.loop, *keys.loop, *values.loop, starts, row, causal, _f(scale)),
        *(sizes, np.ascontiguousarray(logsumexp).reshape(count, -1)),
        *[part for r in results for part in r.loop],
    )
    del memory
    dq, dk, dv = (_finished(r, x, x.shape[-1]) for r, x in zip(results, (q, k, v), strict=True))
    return dq, dk, dv
