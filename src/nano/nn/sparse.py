"""Embedding: a table whose rows are learned."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.grad_mode import no_grad
from ..dtypes import get_default_dtype, to_dtype
from ..errors import AssertedError
from ..functions.embedding import embedding, normal_padding
from ..functions.operands import check_tensor
from ..tensor import Tensor, wrap
from . import init
from .module import Module
from .parameter import Parameter

__all__ = ["Embedding"]


class Embedding(Module):
    """Gives each integer a row of a table, whose entries are learned.

    The rows are drawn from the standard normal distribution.

    Source: Y. Bengio et al., "A neural probabilistic language model", JMLR 3, 2003.

    Args:
        num_embeddings: how many rows there are.
        embedding_dim: how long a row is.
        padding_idx: a row of zeros that is not learned; negative ones count from the end.
        max_norm: rows used whose norm is larger are scaled down to it.
        norm_type: p of that norm.
        scale_grad_by_freq: divide gradients by how often an index occurs in the batch.
        sparse: only False: nano has no sparse gradients.
        device: only ``"cpu"``.
        dtype: of the rows; the default dtype if left out.

    Shapes: input (*), int64 or int32; output (*, embedding_dim); weight
    (num_embeddings, embedding_dim).

    Raises:
        AssertionError: if ``padding_idx`` is not the index of a row.

    >>> nano.nn.Embedding(10, 3)(nano.tensor([[1, 2, 3, 4]])).shape
    (1, 4, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = normal_padding("Embedding", padding_idx, num_embeddings)
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.sparse = sparse
        shape = (num_embeddings, embedding_dim)
        if _weight is not None:
            if _weight.shape != shape:
                raise AssertedError(
                    "Embedding", f"the weight must have shape {shape}, got {_weight.shape}."
                )
            self.weight = Parameter(_weight, requires_grad=not _freeze)
            return
        d = (get_default_dtype() if dtype is None else to_dtype(dtype)).numpy
        self.weight = Parameter(wrap(np.empty(shape, d)), requires_grad=not _freeze)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the rows anew; that of ``padding_idx`` is zero."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx].fill_(0)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """A layer around a table that is there already; the memory is shared.

        Args:
            embeddings: (num_embeddings, embedding_dim).
            freeze: whether the rows are not learned any more.
            padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse: as of the class.

        Raises:
            AssertionError: if ``embeddings`` is not 2-d.

        >>> layer = nano.nn.Embedding.from_pretrained(nano.tensor([[1.0, 2.0], [3.0, 4.0]]))
        >>> layer(nano.tensor([1]))
        tensor([[3., 4.]])
        """
        if check_tensor("from_pretrained", embeddings, "embeddings").ndim != 2:
            raise AssertedError(
                "from_pretrained", f"embeddings must be 2-d, got shape {embeddings.shape}."
            )
        rows, columns = embeddings.shape
        return cls(
            rows,
            columns,
            padding_idx,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            sparse,
            _weight=embeddings,
            _freeze=freeze,
        )

    def forward(self, input: Tensor) -> Tensor:
        """The rows at ``input``."""
        return embedding(
            input,
            self.weight,
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
        )

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        for name, default in (
            ("padding_idx", None),
            ("max_norm", None),
            ("norm_type", 2.0),
            ("scale_grad_by_freq", False),
            ("sparse", False),
        ):
            value = getattr(self, name)
            if value != default:
                text += f", {name}={value}"
        return text
