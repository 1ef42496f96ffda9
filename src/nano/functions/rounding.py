"""Element-wise functions made of steps, and questions about single elements.

Between its steps such a function is flat: its derivative is 0.
"""

from __future__ import annotations

import builtins
from typing import Any

from ..backends import kernels
from ..errors import DtypeError
from ..tensor import Tensor
from .operands import check_tensor
from .unary import Elementwise

__all__ = ["ceil", "floor", "isfinite", "isinf", "isnan", "round", "sign"]


class _Flat(Elementwise):
    """A function made of steps: its derivative is 0 wherever it has one."""

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output * 0.0


class Sign(_Flat):
    """-1, 0 or 1; d/dx = 0."""

    formula = "sign(x)"

    @staticmethod
    def forward(ctx, x):
        # NumPy keeps NaN where PyTorch says 0, and knows no sign of booleans.
        if x.dtype.kind == "b":
            return x.copy()
        s = kernels.sign(x)
        return kernels.where(kernels.isnan(s), s.dtype.type(0), s) if x.dtype.kind in "fV" else s


def sign(input: Tensor) -> Tensor:
    """-1, 0 or 1, element by element; 0 for NaN.

    >>> nano.sign(nano.tensor([-3.0, 0.0, 2.0]))
    tensor([-1.,  0.,  1.])
    """
    return Sign.apply(check_tensor("sign", input))


class Floor(_Flat):
    """floor(x); d/dx = 0."""

    formula = "floor(x)"

    @staticmethod
    def forward(ctx, x):
        return kernels.floor(x)


class Ceil(_Flat):
    """ceil(x); d/dx = 0."""

    formula = "ceil(x)"

    @staticmethod
    def forward(ctx, x):
        return kernels.ceil(x)


class Round(_Flat):
    """The nearest integer, halves to the even one; d/dx = 0."""

    formula = "rint(x)"

    @staticmethod
    def forward(ctx, x, *, decimals=0):
        if not decimals:
            return kernels.rint(x)
        scale = x.dtype.type(10.0 ** builtins.abs(decimals))
        if decimals > 0:
            return kernels.divide(kernels.rint(kernels.multiply(x, scale)), scale)
        return kernels.multiply(kernels.rint(kernels.divide(x, scale)), scale)


def _whole(name: str, input: Any) -> Tensor | None:
    """A copy of an integer tensor, whose elements are whole already; None for others."""
    if check_tensor(name, input)._data.dtype.kind == "b":
        raise DtypeError(name, "booleans are not supported.")
    return input.clone() if input._data.dtype.kind in "iu" else None


def floor(input: Tensor) -> Tensor:
    """The largest whole number not above input, element by element.

    >>> nano.floor(nano.tensor([-1.5, 1.5]))
    tensor([-2.,  1.])
    """
    whole = _whole("floor", input)
    return Floor.apply(input) if whole is None else whole


def ceil(input: Tensor) -> Tensor:
    """The smallest whole number not below input, element by element.

    >>> nano.ceil(nano.tensor([-1.5, 1.5]))
    tensor([-1.,  2.])
    """
    whole = _whole("ceil", input)
    return Ceil.apply(input) if whole is None else whole


def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """The nearest number with ``decimals`` decimals; halves go to the even neighbour.

    >>> nano.round(nano.tensor([0.5, 1.5, 2.7]))
    tensor([0., 2., 3.])
    """
    whole = _whole("round", input)
    return Round.apply(input, decimals=decimals) if whole is None else whole


class _Test(Elementwise):
    """A question about each element: the answer has no derivative."""

    differentiable = False


class IsNan(_Test):
    """Whether x is NaN."""

    formula = "x != x"

    @staticmethod
    def forward(ctx, x):
        return kernels.isnan(x)


class IsInf(_Test):
    """Whether x is +inf or -inf."""

    formula = "abs(x) == inf"

    @staticmethod
    def forward(ctx, x):
        return kernels.isinf(x)


class IsFinite(_Test):
    """Whether x is neither infinite nor NaN."""

    formula = "abs(x) < inf"

    @staticmethod
    def forward(ctx, x):
        return kernels.isfinite(x)


def isnan(input: Tensor) -> Tensor:
    """Whether each element is NaN.

    >>> nano.isnan(nano.tensor([1.0, float("nan")]))
    tensor([False,  True])
    """
    return IsNan.apply(check_tensor("isnan", input))


def isinf(input: Tensor) -> Tensor:
    """Whether each element is infinite.

    >>> nano.isinf(nano.tensor([1.0, float("-inf")]))
    tensor([False,  True])
    """
    return IsInf.apply(check_tensor("isinf", input))


def isfinite(input: Tensor) -> Tensor:
    """Whether each element is neither infinite nor NaN.

    >>> nano.isfinite(nano.tensor([1.0, float("inf")]))
    tensor([ True, False])
    """
    return IsFinite.apply(check_tensor("isfinite", input))
