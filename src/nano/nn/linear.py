"""Linear layers, and those that only change the shape."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from ..dtypes import get_default_dtype, to_dtype
from ..errors import ShapeError
from ..functions.matmul import linear
from ..functions.movement import flatten
from ..tensor import Tensor, wrap
from . import init
from .module import Module
from .parameter import Parameter

__all__ = ["Flatten", "Identity", "Linear"]


class Linear(Module):
    """y = x W^T + b.

    W and b are drawn uniformly from [-1/sqrt(in), 1/sqrt(in)): Kaiming's
    initialisation with a = sqrt(5), as in PyTorch.

    Args:
        in_features: size of the input's last dimension.
        out_features: size of the output's last dimension.
        bias: whether there is a b.
        device: only ``"cpu"``.
        dtype: of W and b; the default dtype if left out.

    Shapes: input (..., in_features), output (..., out_features); weight
    (out_features, in_features), bias (out_features,).

    >>> nano.nn.Linear(3, 5)(nano.ones(2, 3)).shape
    (2, 5)
    """

    bias: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if in_features < 0 or out_features < 0:
            raise ShapeError(
                "Linear",
                "sizes cannot be negative, got "
                f"in_features={in_features}, out_features={out_features}.",
            )
        self.in_features = in_features
        self.out_features = out_features
        d = (get_default_dtype() if dtype is None else to_dtype(dtype)).numpy
        self.weight = Parameter(wrap(np.empty((out_features, in_features), d)))
        self.register_parameter(
            "bias", Parameter(wrap(np.empty(out_features, d))) if bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        bound = 1 / sqrt(self.in_features) if self.in_features else 0.0
        if self.weight._data.size:
            init.kaiming_uniform_(self.weight, a=sqrt(5))
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """x W^T + b."""
        return linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Flatten(Module):
    """Join the dimensions from ``start_dim`` to ``end_dim`` into one; by default all but the first.

    >>> nano.nn.Flatten()(nano.ones(2, 3, 4)).shape
    (2, 12)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Tensor) -> Tensor:
        """Shape (n, d1, d2 ...) to (n, d1 d2 ...)."""
        return flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Identity(Module):
    """Gives back what it gets; takes and ignores any arguments.

    >>> nano.nn.Identity(54, unused=True)(nano.tensor(1.0))
    tensor(1.)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        """The input."""
        return input
