"""Embedding: each integer stands for a row of a table."""

from __future__ import annotations

from math import inf

import numpy as np
from numpy.typing import NDArray

from ..autograd.function import Function
from ..autograd.views import bump_version, check_writeable
from ..backends import kernels
from ..errors import ArgumentError, AssertedError, DtypeError, IndexingError, ShapeError
from ..tensor import Tensor, wrap
from .operands import check_tensor

__all__ = ["embedding"]


class Embedding(Function):
    """y = weight[index]; the gradient of a row is the sum over the places where it stands."""

    @staticmethod
    def forward(ctx, weight, index, *, padding_idx, by_frequency):
        ctx.save_for_backward(index)
        ctx.rows, ctx.padding_idx, ctx.by_frequency = len(weight), padding_idx, by_frequency
        return kernels.embedding(weight, index)

    @staticmethod
    def backward(ctx, grad_output):
        (index,) = ctx.saved_tensors
        if ctx.by_frequency:
            grad_output = grad_output * _shares(index._data, grad_output._data.dtype)
        return (
            EmbeddingBackward.apply(grad_output, index, rows=ctx.rows, padding_idx=ctx.padding_idx),
            None,
        )


class EmbeddingBackward(Function):
    """Zeros with g added at the rows ``index``, but at ``padding_idx``; linear in g."""

    @staticmethod
    def forward(ctx, grad_output, index, *, rows, padding_idx):
        ctx.save_for_backward(index)
        ctx.padding_idx = padding_idx
        return kernels.embedding_backward(grad_output, index, rows, padding_idx)

    @staticmethod
    def backward(ctx, v):
        (index,) = ctx.saved_tensors
        grad = Embedding.apply(v, index, padding_idx=ctx.padding_idx, by_frequency=False)
        if ctx.padding_idx >= 0:
            grad = grad.masked_fill(index.unsqueeze(-1) == ctx.padding_idx, 0.0)
        return grad, None


def _shares(index: NDArray, dtype: np.dtype) -> Tensor:
    """1 / (how often it occurs) for each index, with a dimension appended."""
    _, place, counts = np.unique(index, return_inverse=True, return_counts=True)
    return wrap((1 / counts)[place.reshape(index.shape)][..., None].astype(dtype))


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of ``weight`` at the positions ``input``.

    Source: Y. Bengio et al., "A neural probabilistic language model", JMLR 3, 2003.

    Args:
        input: int64 or int32, any shape.
        weight: (rows, columns).
        padding_idx: a row that gets no gradient; negative ones count from the end.
        max_norm: rows used whose norm is larger are scaled down to it, in place.
        norm_type: p of that norm.
        scale_grad_by_freq: divide the gradient by how often an index occurs in ``input``.
        sparse: only False: nano has no sparse gradients.

    Returns:
        Tensor (*input.shape, columns) of weight's dtype.

    Raises:
        IndexError: if an index is not one of a row.
        RuntimeError: for other dtypes of ``input``, or a weight that is not 2-d.
        AssertionError: if ``padding_idx`` is not the index of a row.

    >>> embedding(nano.tensor([2, 0]), nano.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    tensor([[5., 6.],
            [1., 2.]])
    """
    index = check_tensor("embedding", input)._data
    rows = check_tensor("embedding", weight, "weight")._data
    if index.dtype not in (np.int64, np.int32):
        raise DtypeError(
            "embedding",
            f"input must be int64 or int32, got {input.dtype}.",
            hint="Convert it with t.long().",
        )
    if rows.ndim != 2:
        raise ShapeError("embedding", f"weight must be 2-d, got shape {weight.shape}.")
    if sparse:
        raise ArgumentError(
            "embedding", "nano has no sparse gradients.", hint="Leave out sparse=True."
        )
    padding = normal_padding("embedding", padding_idx, len(rows))
    if index.size and not (index.min() >= 0 and index.max() < len(rows)):
        wrong = index[(index < 0) | (index >= len(rows))].flat[0]
        raise IndexingError(
            "embedding",
            f"index out of range: {wrong} is no row of a weight of shape {weight.shape}.",
        )
    if max_norm is not None:
        _limit_norms(weight, index, float(max_norm), float(norm_type))
    return Embedding.apply(
        weight,
        input,
        padding_idx=-1 if padding is None else padding,
        by_frequency=bool(scale_grad_by_freq),
    )


def normal_padding(owner: str, padding_idx: int | None, rows: int) -> int | None:
    """``padding_idx`` counted from the front.

    Raises:
        AssertionError: if there is no such row.
    """
    if padding_idx is None:
        return None
    if not -rows <= padding_idx < rows:
        raise AssertedError(
            owner,
            f"padding_idx must be within the number of embeddings, {rows}, got {padding_idx}.",
        )
    return padding_idx % rows


def _limit_norms(weight: Tensor, index: NDArray, max_norm: float, p: float) -> None:
    """Scale the rows at ``index`` whose p-norm is above ``max_norm`` down to it, in place."""
    used = np.unique(index)
    check_writeable("embedding", weight._data)
    rows = weight._data[used].astype(np.float64)
    size = np.abs(rows).max(-1) if p == inf else (np.abs(rows) ** p).sum(-1) ** (1 / p)
    large = size > max_norm
    if large.any():
        # As in PyTorch: the small number guards against a division by zero.
        scaled = rows[large] * (max_norm / (size[large] + 1e-7))[:, None]
        weight._data[used[large]] = scaled.astype(weight._data.dtype)
        bump_version(weight, "embedding")
