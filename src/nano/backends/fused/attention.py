"""Scaled dot-product attention without the matrix of all scores.

A thread takes a head, and of it a slab of queries at a time. Each has a column of scores, with
a row for each key: what lies between the products goes down the rows, for a vector of queries at
once. Where queries see the keys up to their own only, little behind is computed. The gradient
makes the probabilities again.

Source: T. Dao et al., "FlashAttention: fast and memory-efficient exact attention with
IO-awareness", NeurIPS 2022, arXiv:2205.14135.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from ..memory import empty
from ..registry import kernels
from .jit import inline, kernel, prange
from .math import exp_of_vector, log
from .tiles import GROUP, LANES, lines, product, transpose
from .vectors import at_least, behind, larger_ones, load, load_some, store, zeros

__all__ = ["attention", "attention_backward"]

_f = np.float32
#: Queries of a slab: as many as a tile of a product has columns.
_SLAB = 2 * LANES
#: Queries of whose slabs the gradients of k and v are made at a time. For 2000 keys, their
#: probabilities and the gradient of their scores lie in the processor's second cache.
_QUERIES = 64
#: Rows of these are longer than that: else a column would lie in few places of the cache.
_ROW = _QUERIES + LANES
_LOWEST = np.finfo(_f).min


@intrinsic
def _read(typing: Any, address: Any, i: Any) -> Any:
    """The float32 number ``i`` after the one at ``address``."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first = builder.inttoptr(args[0], ir.FloatType().as_pointer())
        return builder.load(builder.gep(first, [args[1]]))

    return types.float32(types.int64, types.int64), code


@inline
def _whole(n):
    """The next multiple of a vector's length."""
    return (n + LANES - 1) // LANES * LANES


@inline
def _turn(x, x_row, rows, columns, y):
    """y = the matrix at an address with its columns as rows, filled up with zeros to vectors."""
    for r in range(0, rows, LANES):
        here = x + 4 * r * x_row
        if r + LANES <= rows:
            for c in range(0, columns, LANES):
                transpose(here + 4 * c, x_row, y.ctypes.data + 4 * (c * y.shape[1] + r), y.shape[1])
        else:
            for c in range(columns):
                for i in range(LANES):
                    y[c, r + i] = _read(here + 4 * i * x_row, c) if r + i < rows else _f(0)


@inline
def _copy(x, x_row, rows, columns, y):
    """y = the matrix at an address: rows that are far apart share few places of the cache."""
    for r in range(rows):
        for c in range(0, columns, LANES):
            store(load(x + 4 * (r * x_row + c)), y.ctypes.data + 4 * (r * columns + c))


@inline
def _times(x, columns, first, count, seen, causal, scale, y, y_row):
    """y = scale x columns: for each key that is seen, a number for each query of the slab."""
    width, row = columns.shape
    for j in range(0, seen, GROUP):
        skip = max(0, j - first) // LANES * LANES if causal else 0  # queries before the keys
        product(
            *(min(GROUP, seen - j), _whole(count) - skip, width, scale),
            *(x.ctypes.data + 4 * j * width, width, 1, columns.ctypes.data + 4 * skip, row),
            *(False, y + 4 * (j * y_row + skip), y_row),
        )


@inline
def _hide(mask, mask_row, turned, first, count, seen, causal, s, s_row):
    """Add the mask, if it is not 0, and -inf for keys that are not seen."""
    if mask != 0:
        _turn(mask + 4 * mask_row * first, mask_row, count, _whole(seen), turned)
        for j in range(seen):
            for i in range(0, count, LANES):
                at = s + 4 * (j * s_row + i)
                store(load(at) + load(turned.ctypes.data + 4 * (j * _SLAB + i)), at)
    if causal:
        for j in range(first, seen):
            at = s + 4 * (j * s_row + (j - first) // LANES * LANES)
            store(behind(load(at), (j - first) % LANES, _f(-np.inf)), at)


@kernel
def _forward(q, q_row, k, k_row, v, v_row, mask, mask_row, causal, scale, sizes,
             out, out_row, top_scores, log_totals):  # fmt: skip
    queries, keys, width, value_width = sizes
    for head in prange(q.size):
        k_rows, v_rows = lines(keys, width), lines(keys, value_width)
        q_columns, p = lines(width, _SLAB), lines(keys, _SLAB)
        turned = lines(_whole(keys) if mask[head] != 0 else 0, _SLAB)
        tops, totals = lines(1, _whole(queries))[0], lines(1, _whole(queries))[0]
        _copy(k[head], k_row, keys, width, k_rows)
        _copy(v[head], v_row, keys, value_width, v_rows)
        for first in range(0, queries, _SLAB):
            count = min(_SLAB, queries - first)
            seen = min(keys, first + count) if causal else keys
            s = p.ctypes.data
            _turn(q[head] + 4 * q_row * first, q_row, count, width, q_columns)
            _times(k_rows, q_columns, first, count, seen, causal, scale, s, _SLAB)
            _hide(mask[head], mask_row, turned, first, count, seen, causal, s, _SLAB)
            for r in range(0, count, LANES):
                reach = min(seen, first + r + LANES) if causal else keys
                here, step = s + 4 * r, 4 * _SLAB
                end = here + reach * step
                top = load(here)
                for at in range(here + step, end, step):
                    top = larger_ones(top, load(at))
                top = at_least(top, _LOWEST)  # no key: nothing to shift by
                total = zeros()
                for at in range(here, end, step):
                    e = exp_of_vector(load(at) - top)
                    store(e, at)
                    total = total + e
                store(top, tops.ctypes.data + 4 * (first + r))
                store(total, totals.ctypes.data + 4 * (first + r))
            for r in range(0, count, GROUP):
                reach = min(seen, first + r + GROUP) if causal else keys
                product(
                    *(min(GROUP, count - r), value_width, reach, _f(1), s + 4 * r, 1, _SLAB),
                    *(v_rows.ctypes.data, value_width),
                    *(False, out[head] + 4 * out_row * (first + r), out_row),
                )
        for r in range(queries):
            if totals[r] == _f(0):
                tops[r], totals[r] = _f(0), _f(1)
            top_scores[head, r], log_totals[head, r] = tops[r], log(totals[r])
            totals[r] = _f(1) / totals[r]
        for r in range(queries):
            for c in range(0, value_width, LANES):
                at = out[head] + 4 * (r * out_row + c)
                store(totals[r] * load(at), at)


@kernel
def _backward(g, g_row, q, q_row, k, k_row, v, v_row, mask, mask_row, causal, scale,
              sizes, top_scores, log_totals, dq, dq_row, dk, dk_row, dv, dv_row):  # fmt: skip
    queries, keys, width, value_width = sizes
    for head in prange(q.size):
        k_rows, v_rows = lines(keys, width), lines(keys, value_width)
        q_rows, g_rows = lines(_QUERIES, width), lines(_QUERIES, value_width)
        q_columns, g_columns = lines(width, _SLAB), lines(value_width, _SLAB)
        turned = lines(_whole(keys) if mask[head] != 0 else 0, _SLAB)
        p, ds = lines(keys, _ROW), lines(keys, _ROW)
        _copy(k[head], k_row, keys, width, k_rows)
        _copy(v[head], v_row, keys, value_width, v_rows)
        # The last block sees all keys that any block sees: it writes, the others add.
        add = False
        for begin in range((queries - 1) // _QUERIES * _QUERIES, -1, -_QUERIES):
            rows = min(_QUERIES, queries - begin)
            _copy(q[head] + 4 * q_row * begin, q_row, rows, width, q_rows)
            _copy(g[head] + 4 * g_row * begin, g_row, rows, value_width, g_rows)
            for first in range(begin, begin + rows, _SLAB):
                count = min(_SLAB, begin + rows - first)
                seen = min(keys, first + count) if causal else keys
                s, t = p.ctypes.data + 4 * (first - begin), ds.ctypes.data + 4 * (first - begin)
                _turn(q[head] + 4 * q_row * first, q_row, count, width, q_columns)
                _times(k_rows, q_columns, first, count, seen, causal, scale, s, _ROW)
                _hide(mask[head], mask_row, turned, first, count, seen, causal, s, _ROW)
                _turn(g[head] + 4 * g_row * first, g_row, count, value_width, g_columns)
                _times(v_rows, g_columns, first, count, seen, causal, _f(1), t, _ROW)
                for r in range(0, count, LANES):
                    reach = min(seen, first + r + LANES) if causal else keys
                    at = 4 * (head * queries + first + r)
                    top = load_some(top_scores.ctypes.data + at, count - r, _f(0))
                    log_total = load_some(log_totals.ctypes.data + at, count - r, _f(0))
                    along = zeros()
                    for at in range(4 * r, 4 * (r + reach * _ROW), 4 * _ROW):
                        e = exp_of_vector(load(s + at) - top - log_total)
                        store(e, s + at)
                        along = along + e * load(t + at)
                    for at in range(4 * r, 4 * (r + reach * _ROW), 4 * _ROW):
                        store(scale * (load(s + at) * (load(t + at) - along)), t + at)
                for r in range(0, count, GROUP):
                    reach = min(seen, first + r + GROUP) if causal else keys
                    product(
                        *(min(GROUP, count - r), width, reach, _f(1), t + 4 * r, 1, _ROW),
                        *(k_rows.ctypes.data, width),
                        *(False, dq[head] + 4 * dq_row * (first + r), dq_row),
                    )
            end = min(keys, begin + rows) if causal else keys
            for j in range(0, end, GROUP):
                start = max(0, j - begin) if causal else 0  # the first query that sees the key
                some, at = min(GROUP, end - j), 4 * (j * _ROW + start)
                product(
                    *(some, value_width, rows - start, _f(1), p.ctypes.data + at, _ROW, 1),
                    *(g_rows.ctypes.data + 4 * start * value_width, value_width),
                    *(add, dv[head] + 4 * dv_row * j, dv_row),
                )
                product(
                    *(some, width, rows - start, _f(1), ds.ctypes.data + at, _ROW, 1),
                    *(q_rows.ctypes.data + 4 * start * width, width),
                    *(add, dk[head] + 4 * dk_row * j, dk_row),
                )
            add = True


# The kernels ----------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _steps(shape: tuple[int, ...], strides: tuple[int, ...]) -> NDArray:
    """Bytes from the first head to each one."""
    steps = np.zeros((), np.int64)
    for n, stride in zip(shape, strides, strict=True):
        steps = steps[..., None] + np.arange(n) * stride
    return steps.reshape(-1)


def _starts(x: NDArray) -> NDArray:
    """The address of the first element of each head."""
    first: int = x.__array_interface__["data"][0]
    return _steps(x.shape[:-2], x.strides[:-2]) + first


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
        self.starts = _starts(x)
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
    columns = shape[-1]
    filled = np.zeros((*mask.shape[:-1], -(-columns // LANES) * LANES), np.float32)
    filled[..., :columns] = mask
    spread = np.broadcast_to(filled, (*shape[:-1], filled.shape[-1]))
    return _starts(spread), spread.strides[-2] // 4, filled


@lru_cache(maxsize=256)
def _order(strides: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """The axes from the outermost to the innermost, which is the last one, and their places."""
    order = sorted(range(len(strides) - 1), key=lambda d: -strides[d])
    order.append(len(strides) - 1)
    return order, sorted(range(len(order)), key=order.__getitem__)


def _like(x: NDArray, shape: tuple[int, ...]) -> NDArray:
    """A float32 array of ``shape`` whose axes lie in the order of x's, the last one innermost."""
    order, places = _order(x.strides)
    return empty(tuple([shape[d] for d in order]), np.float32).transpose(places)


def _finished(result: _Heads, like: NDArray, width: int) -> NDArray:
    """A result without what it was filled up with, in the dtype of ``like``."""
    y = result.array
    if y.shape[-1] != width:
        y = _like(like, (*y.shape[:-1], width))
        y[...] = result.array[..., :width]
    return y.astype(like.dtype, copy=False)


def attention(
    q: NDArray, k: NDArray, v: NDArray, mask: NDArray | None, causal: bool, scale: float
) -> tuple[NDArray, NDArray, NDArray]:
    top, log_total = empty(q.shape[:-1], np.float32), empty(q.shape[:-1], np.float32)
    queries, keys, values = _Heads(q), _Heads(k), _Heads(v)
    result = _Heads(_like(q, (*q.shape[:-1], values.width)))
    count = queries.starts.size
    starts, row, memory = _mask(mask, (*q.shape[:-1], k.shape[-2]), count)
    sizes = (q.shape[-2], k.shape[-2], queries.width, values.width)
    _forward(
        *(*queries.loop, *keys.loop, *values.loop, starts, row, causal, _f(scale)),
        *(sizes, *result.loop, top.reshape(count, -1), log_total.reshape(count, -1)),
    )
    del memory
    return _finished(result, q, v.shape[-1]), top, log_total


def attention_backward(
    grad_output: NDArray,
    q: NDArray,
    k: NDArray,
    v: NDArray,
    out: NDArray,
    top: NDArray,
    log_total: NDArray,
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
        *(sizes, *[np.ascontiguousarray(a).reshape(count, -1) for a in (top, log_total)]),
        *[part for r in results for part in r.loop],
    )
    del memory
    dq, dk, dv = (_finished(r, x, x.shape[-1]) for r, x in zip(results, (q, k, v), strict=True))
    return dq, dk, dv
