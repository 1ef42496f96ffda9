"""Embedding: each integer stands for a row of a table."""

from __future__ import annotations

from math import inf

import numpy as np
from numpy.typing import NDArray

from ..autograd.function import Function
from ..autograd.views import check_writeable, overwrite
from ..backends import kernels
from ..errors import ArgumentError, AssertedError, DtypeError, IndexingError, ShapeError
from ..tensor import Tensor
from .operands import check_tensor

__all__ = ["embedding"]


class Embedding(Function):
    """y = weight[index]; the gradient of a row is the sum over the places where it stands."""

    refuses = True

    @staticmethod
    def forward(ctx, weight, index, *, padding_idx, by_frequency):
        _check_rows(index, weight.shape)
        ctx.save_for_backward(index)
        ctx.rows, ctx.padding_idx, ctx.by_frequency = len(weight), padding_idx, by_frequency
        return kernels.embedding(weight, index)

    @staticmethod
    def backward(ctx, grad_output):
        (index,) = ctx.saved_tensors
        if ctx.by_frequency:
            grad_output = grad_output * Frequency.apply(index, dtype=grad_output._data.dtype)
        return (
            EmbeddingBackward.apply(grad_output, index, rows=ctx.rows, padding_idx=ctx.padding_idx),
            None,
        )


class EmbeddingBackward(Function):
    """Zeros with g added at the rows ``index``, but at ``padding_idx``; linear in g."""

    @staticmethod
    def forward(ctx, grad_output, index, *, rows, padding_idx):
        _check_rows(index, (rows, grad_output.shape[-1]))
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


class Frequency(Function):
    """1 / (how often it occurs) for each index, with a dimension appended."""

    differentiable = False

    @staticmethod
    def forward(ctx, index, *, dtype):
        _, place, counts = np.unique(index, return_inverse=True, return_counts=True)
        return (1 / counts)[place.reshape(index.shape)][..., None].astype(dtype)


class LimitNorms(Function):
    """The table with those rows at ``index`` whose p-norm is above ``max_norm`` scaled to it."""

    differentiable = False

    @staticmethod
    def forward(ctx, weight, index, *, max_norm, p):
        _check_rows(index, weight.shape)
        out = weight.copy()
        used = np.unique(index)
        rows = weight[used].astype(np.float64)
        size = np.abs(rows).max(-1) if p == inf else (np.abs(rows) ** p).sum(-1) ** (1 / p)
        large = size > max_norm
        # As in PyTorch: the small number guards against a division by zero.
        scaled = rows[large] * (max_norm / (size[large] + 1e-7))[:, None]
        out[used[large]] = scaled.astype(out.dtype)
        return out


def _check_rows(index: NDArray, shape: tuple[int, ...]) -> None:
    """
    Raises:
        IndexError: if an index is not one of a row of a table of that shape.
    """
    if index.size and not (index.min() >= 0 and index.max() < shape[0]):
        wrong = index[(index < 0) | (index >= shape[0])].flat[0]
        raise IndexingError(
            "embedding",
            f"index out of range: {wrong} is no row of a weight of shape {shape}.",
        )


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
    if max_norm is not None:
        check_writeable("embedding", rows)
        limited = LimitNorms.apply(weight, input, max_norm=float(max_norm), p=float(norm_type))
        overwrite("embedding", weight, limited)
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
