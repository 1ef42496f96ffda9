"""Scaled dot-product attention."""

from __future__ import annotations

from math import sqrt

import numpy as np

from ..autograd.function import Function
from ..autograd.restated import gradients_of
from ..backends import kernels
from ..errors import ArgumentError, DtypeError, ShapeError
from ..tensor import Tensor, wrap
from .activation import dropout
from .autocast import lowered
from .autocast import state as autocast_state
from .batch_norm import widened
from .matmul import matmul
from .operands import check_tensor
from .softmax import softmax

__all__ = ["scaled_dot_product_attention"]


class Attention(Function):
    """out = p v with p = softmax(scale q k^T + mask) along the keys.

    With g the gradient: dv = p^T g, ds = scale p (g v^T - sum(g out)), dq = ds k and
    dk = ds^T q. No p is kept: each row's top score and the logarithm of its sum give it back.
    """

    @staticmethod
    def forward(ctx, q, k, v, mask, *, causal, scale):
        out, top, log_total = kernels.attention(q, k, v, mask, causal, scale)
        ctx.save_for_backward(q, k, v, mask, out, top, log_total)
        ctx.causal, ctx.scale = causal, scale
        return out

    @staticmethod
    def backward(ctx, grad_output):
        q, k, v, mask, out, top, log_total = ctx.saved_tensors
        grads = AttentionBackward.apply(
            *(grad_output, q, k, v, mask, out.detach(), top, log_total),
            causal=ctx.causal,
            scale=ctx.scale,
        )
        return (
            *[g if n else None for g, n in zip(grads, ctx.needs_input_grad, strict=False)],
            None,
        )


class AttentionBackward(Function):
    """dq, dk and dv of :class:`Attention`."""

    @staticmethod
    def forward(ctx, grad_output, q, k, v, mask, out, top, log_total, *, causal, scale):
        ctx.save_for_backward(grad_output, q, k, v, mask)
        ctx.causal, ctx.scale = causal, scale
        return kernels.attention_backward(
            grad_output, q, k, v, out, top, log_total, mask, causal, scale
        )

    @staticmethod
    def backward(ctx, *gradients):
        g, q, k, v, mask = ctx.saved_tensors

        def formula(g, q, k, v):
            wg, wq, wk, wv = (widened(t) for t in (g, q, k, v))
            p = _probabilities(wq, wk, mask, ctx.causal, ctx.scale)
            dp = wg @ wv.mT
            ds = p * (dp - (p * dp).sum(-1, keepdim=True)) * ctx.scale
            return (ds @ wk).to(q.dtype), (ds.mT @ wq).to(k.dtype), (p.mT @ wg).to(v.dtype)

        grads = gradients_of(formula, (g, q, k, v), gradients, ctx.needs_input_grad[:4])
        return (*grads, None, None, None, None)


def _probabilities(q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, scale: float) -> Tensor:
    """softmax(scale q k^T + mask), in elementary operators; 0 in rows without a key."""
    scores = matmul(q, k.mT) * scale
    if causal:
        mask = wrap(np.tri(q.shape[-2], k.shape[-2], dtype=bool))
    if mask is None:
        return softmax(scores, -1)
    if mask._data.dtype.kind == "b":
        scores = scores.masked_fill(~mask, -np.inf)
    else:
        scores = scores + mask.to(scores.dtype)
    blind = (scores == -np.inf).all(-1, keepdim=True)
    return softmax(scores.masked_fill(blind, 0.0), -1).masked_fill(blind, 0.0)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query key^T * scale + attn_mask) value: each query's mean of the values.

    Source: A. Vaswani et al., "Attention is all you need", NeurIPS 2017, arXiv:1706.03762.
    Grouped queries: J. Ainslie et al., "GQA", EMNLP 2023, arXiv:2305.13245.

    Args:
        query: (..., l, e), floating point.
        key: (..., s, e), of the same dtype; dimensions before the last two are broadcast.
        value: (..., s, ev), of the same dtype.
        attn_mask: broadcastable to (..., l, s): boolean, True where a key takes part, or
            floating point, added to the scores.
        dropout_p: probability with which each probability is set to 0; pass 0 in evaluation.
        is_causal: let query i see the keys up to i only.
        scale: 1 / sqrt(e) if left out.
        enable_gqa: repeat the heads (dimension -3) of key and value to as many as query has.

    Returns:
        Tensor (..., l, ev). A query that may see no key gives 0.

    Raises:
        RuntimeError: if shapes or dtypes do not fit together, a mask is given and
            ``is_causal``, or ``dropout_p`` is no probability.

    >>> q, k, v = nano.zeros(1, 2), nano.zeros(3, 2), nano.tensor([[1.0], [2.0], [6.0]])
    >>> scaled_dot_product_attention(q, k, v)
    tensor([[3.]])
    """
    owner = "scaled_dot_product_attention"
    if autocast_state.dtype is not None:
        query, key, value = lowered(query, key, value)
        if isinstance(attn_mask, Tensor) and attn_mask._data.dtype.itemsize == 2:
            # A float32 mask stays so: its least number would be -inf in 16 bits.
            (attn_mask,) = lowered(attn_mask)
    _check_operands(owner, query, key, value)
    if attn_mask is not None:
        if is_causal:
            raise ArgumentError(
                owner,
                "explicit attn_mask should not be set when is_causal=True.",
                hint="Combine them: attn_mask & nano.ones(l, s, dtype=nano.bool).tril().",
            )
        d = check_tensor(owner, attn_mask, "attn_mask")._data.dtype
        if d.kind != "b" and d != np.float32 and d != query._data.dtype:
            raise DtypeError(
                owner,
                f"attn_mask must be bool, float32 or of query's dtype {query.dtype}, "
                f"got {attn_mask.dtype}.",
            )
    if not 0 <= dropout_p <= 1:
        raise ArgumentError(owner, f"dropout_p must be between 0 and 1, got {dropout_p}.")
    if enable_gqa:
        key, value = (_repeat_heads(owner, query, t) for t in (key, value))
    query, key, value = _broadcast(owner, query, key, value)
    if attn_mask is not None:
        scores = (*query.shape[:-1], key.shape[-2])
        if not _fits(attn_mask.shape, scores):
            raise ShapeError(
                owner,
                f"attn_mask {attn_mask.shape} cannot be broadcast to the scores {scores}.",
            )
    if scale is None:
        scale = 1 / sqrt(query.shape[-1] or 1)
    if dropout_p > 0 or (attn_mask is not None and attn_mask.requires_grad):
        p = _probabilities(query, key, attn_mask, is_causal, scale)
        return matmul(dropout(p, dropout_p), value)
    return Attention.apply(query, key, value, attn_mask, causal=is_causal, scale=float(scale))


def _check_operands(owner: str, query: Tensor, key: Tensor, value: Tensor) -> None:
    for name, t in (("query", query), ("key", key), ("value", value)):
        check_tensor(owner, t, name)
        if t.ndim < 2:
            raise ShapeError(
                owner, f"query, key and value must be at least 2-d, got {name} of shape {t.shape}."
            )
    if not query._data.dtype == key._data.dtype == value._data.dtype:
        raise DtypeError(
            owner,
            "query, key and value must have the same dtype, "
            f"got {query.dtype}, {key.dtype} and {value.dtype}.",
        )
    if not query.is_floating_point():
        raise DtypeError(owner, f"query must be floating point, got {query.dtype}.")
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise ShapeError(
            owner,
            "query (..., l, e), key (..., s, e) and value (..., s, ev) do not fit together: "
            f"got {query.shape}, {key.shape} and {value.shape}.",
        )


def _fits(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether ``shape`` can be broadcast to ``target``."""
    return len(shape) <= len(target) and all(
        n in (1, m) for n, m in zip(reversed(shape), reversed(target), strict=False)
    )


def _repeat_heads(owner: str, query: Tensor, t: Tensor) -> Tensor:
    """``t`` with each head repeated, so that it has as many as ``query``."""
    if query.ndim < 3 or t.ndim < 3:
        raise ArgumentError(
            owner,
            "enable_gqa needs a dimension -3, that of the heads: "
            f"got shapes {query.shape} and {t.shape}.",
        )
    heads, have = query.shape[-3], t.shape[-3]
    if have == heads:
        return t
    if not have or heads % have:
        raise ArgumentError(
            owner,
            "the number of heads in key and value must divide that in query, "
            f"got {have} and {heads}.",
        )
    *batch, _, s, e = t.shape
    repeated = t.unsqueeze(-3).expand(*batch, have, heads // have, s, e)
    return repeated.reshape(*batch, heads, s, e)


def _broadcast(owner: str, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors with equal dimensions before the last two."""
    first = tensors[0].shape[:-2]
    if all(t.shape[:-2] == first for t in tensors):
        return tensors
    try:
        batch = np.broadcast_shapes(*[t.shape[:-2] for t in tensors])
    except ValueError:
        raise ShapeError(
            owner,
            "the dimensions before the last two cannot be broadcast together: got "
            + ", ".join(str(t.shape) for t in tensors)
            + ".",
        ) from None
    return tuple([t.expand(*batch, *t.shape[-2:]) for t in tensors])
