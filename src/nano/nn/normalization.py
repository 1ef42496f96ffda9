"""Layer, root-mean-square and group normalisation as layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import get_default_dtype, to_dtype
from ..errors import InputError
from ..functions.normalisation import group_norm, layer_norm, normal_shape, rms_norm
from ..tensor import Tensor, wrap
from . import init
from .module import Module
from .parameter import Parameter

__all__ = ["GroupNorm", "LayerNorm", "RMSNorm"]


class _Affine(Module):
    """A layer with a weight that begins with ones and a bias that begins with zeros."""

    weight: Parameter | None
    bias: Parameter | None

    def _make(self, shape: tuple[int, ...], dtype: Any, **wanted: bool) -> None:
        d = (get_default_dtype() if dtype is None else to_dtype(dtype)).numpy
        for name, want in wanted.items():
            self.register_parameter(name, Parameter(wrap(np.empty(shape, d))) if want else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self._parameters.get("bias") is not None:
            init.zeros_(self.bias)  # type: ignore[arg-type]


class LayerNorm(_Affine):
    """y = (x - mean) / sqrt(var + eps) weight + bias, over the last dimensions.

    Source: J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer normalization", 2016,
    arXiv:1607.06450.

    Args:
        normalized_shape: the sizes of the last dimensions; an integer means one dimension.
        eps: added to the variance.
        elementwise_affine: whether there are a weight and a bias of that shape.
        bias: whether there is a bias.
        device: only ``"cpu"``.
        dtype: of weight and bias; the default dtype if left out.

    Shapes: input and output (*, *normalized_shape).

    >>> nano.nn.LayerNorm(3, elementwise_affine=False)(nano.tensor([[1.0, 2.0, 3.0]]))
    tensor([[-1.2247,  0.0000,  1.2247]])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _as_shape("LayerNorm", normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self._make(
            self.normalized_shape,
            dtype,
            weight=elementwise_affine,
            bias=elementwise_affine and bias,
        )

    def forward(self, input: Tensor) -> Tensor:
        """(*, *normalized_shape); the output has the same shape."""
        return layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )


class RMSNorm(_Affine):
    """y = x / sqrt(mean(x^2) + eps) weight, over the last dimensions.

    Source: B. Zhang and R. Sennrich, "Root mean square layer normalization",
    NeurIPS 2019, arXiv:1910.07467.

    Args:
        normalized_shape: the sizes of the last dimensions; an integer means one dimension.
        eps: added to the mean square; the machine epsilon if None.
        elementwise_affine: whether there is a weight of that shape.
        device: only ``"cpu"``.
        dtype: of the weight; the default dtype if left out.

    Shapes: input and output (*, *normalized_shape).

    >>> nano.nn.RMSNorm(2)(nano.tensor([3.0, 4.0])).detach()
    tensor([0.8485, 1.1314])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _as_shape("RMSNorm", normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self._make(self.normalized_shape, dtype, weight=elementwise_affine)

    def forward(self, input: Tensor) -> Tensor:
        """(*, *normalized_shape); the output has the same shape."""
        return rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


class GroupNorm(_Affine):
    """Each group of channels of each sample, normalised by its own mean and variance.

    Source: Y. Wu and K. He, "Group normalization", ECCV 2018, arXiv:1803.08494.

    Args:
        num_groups: how many groups the channels make.
        num_channels: a multiple of ``num_groups``.
        eps: added to the variance.
        affine: whether each channel has a weight and a bias.
        device: only ``"cpu"``.
        dtype: of weight and bias; the default dtype if left out.
        bias: whether there is a bias.

    Shapes: input and output (n, num_channels, *).

    Raises:
        ValueError: if ``num_groups`` does not divide ``num_channels``.

    >>> nano.nn.GroupNorm(2, 4, affine=False)(nano.tensor([[1.0, 2.0, 3.0, 5.0]]))
    tensor([[-1.0000,  1.0000, -1.0000,  1.0000]])
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise InputError(
                "GroupNorm",
                f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups}).",
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        self._make((num_channels,), dtype, weight=affine, bias=affine and bias)

    def forward(self, input: Tensor) -> Tensor:
        """(n, num_channels, *); the output has the same shape."""
        return group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, "
            f"affine={self.affine}, bias={self.bias is not None}"
        )


def _as_shape(owner: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    if isinstance(normalized_shape, (int, np.integer)):
        return (int(normalized_shape),)
    return normal_shape(owner, normalized_shape)
