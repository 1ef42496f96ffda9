"""What many derivatives share: undoing a broadcast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..tensor import Tensor

__all__ = ["Broadcasting", "sum_to_shape"]


def sum_to_shape(grad: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Add up ``grad`` over the dimensions in which an operand of ``shape`` was repeated.

    Broadcasting copies an element to many places; its gradient is the sum of theirs.

    >>> sum_to_shape(nano.ones(2, 3), (3,))
    tensor([2., 2., 2.])
    """
    have = grad._data.shape
    if have == shape:
        return grad
    extra = len(have) - len(shape)
    repeated = [extra + i for i, n in enumerate(shape) if n == 1 and have[extra + i] != 1]
    dims = (*range(extra), *repeated)
    if dims:
        grad = grad.sum(dims, keepdim=True)
    return grad.reshape(shape) if grad._data.shape != shape else grad


class Broadcasting:
    """Mixed into the context of an operator whose operands are broadcast together."""

    _edges: Sequence[Any]

    def undo_broadcast(self, grad: Tensor, position: int) -> Tensor:
        """``grad`` with the shape of the operand at ``position``."""
        return sum_to_shape(grad, self._edges[position][2])
