"""Scaled dot-product attention, and its gradient.

The plain way: all scores are there at once. The gradient needs only each row's highest score
and the logarithm of its sum, from which the probabilities are made again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..registry import register


def _widened(x: NDArray) -> NDArray:
    """float32 for 16-bit floats, whose exponentials and sums would lose digits."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 else x


def _scores(q: NDArray, k: NDArray, mask: NDArray | None, causal: bool, scale: float) -> NDArray:
    """scale q k^T + mask; -inf where a key takes no part."""
    scores = np.matmul(q, k.swapaxes(-1, -2))
    scores *= scores.dtype.type(scale)
    if mask is not None:
        if mask.dtype.kind == "b":
            np.copyto(scores, -np.inf, where=~mask)
        else:
            scores += _widened(mask)
    if causal:
        rows, columns = scores.shape[-2:]
        np.copyto(scores, -np.inf, where=~np.tri(rows, columns, dtype=bool))
    return scores


def attention(
    q: NDArray, k: NDArray, v: NDArray, mask: NDArray | None, causal: bool, scale: float
) -> tuple[NDArray, NDArray, NDArray]:
    """softmax(scale q k^T + mask) v, and for each query its top score and log sum exp(s - top).

    These are not added up: beside a top score of -1e30 the logarithm would vanish. ``mask`` is
    added, or if boolean says which keys take part; ``causal`` lets query i see the keys up to i.
    A query that sees no key gives 0, and 0 as both of its numbers.
    """
    scores = _scores(_widened(q), _widened(k), mask, causal, scale)
    highest = np.maximum.reduce(scores, axis=-1, keepdims=True, initial=-np.inf)
    # -inf - -inf would be NaN: a row without a key is not shifted, and sums to 0.
    highest[np.isneginf(highest)] = 0
    np.subtract(scores, highest, out=scores)
    p = np.exp(scores, out=scores)
    total = np.add.reduce(p, axis=-1, keepdims=True)
    total[total == 0] = 1
    out = np.matmul(p, _widened(v))
    out /= total
    return out.astype(q.dtype, copy=False), highest[..., 0], np.log(total)[..., 0]


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
    """The gradients of q, k and v.

    With p = exp(scores - top - log_total): dv = p^T g; ds = p (g v^T - sum(g out)) scale;
    dq = ds k; dk = ds^T q.
    """
    g, wq, wk, wv = (_widened(a) for a in (grad_output, q, k, v))
    p = _scores(wq, wk, mask, causal, scale)
    p -= top[..., None]
    p -= log_total[..., None]
    np.exp(p, out=p)
    dv = np.matmul(p.swapaxes(-1, -2), g)
    ds = np.matmul(g, wv.swapaxes(-1, -2))
    ds -= np.add.reduce(g * _widened(out), axis=-1, keepdims=True)
    ds *= p
    ds *= ds.dtype.type(scale)
    dq = np.matmul(ds, wk)
    dk = np.matmul(ds.swapaxes(-1, -2), wq)
    return tuple(  # type: ignore[return-value]
        d.astype(x.dtype, copy=False) for d, x in ((dq, q), (dk, k), (dv, v))
    )


for _kernel in (attention, attention_backward):
    register(_kernel.__name__, _kernel)
