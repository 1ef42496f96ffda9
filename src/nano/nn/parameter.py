"""Parameter: a tensor that a Module learns."""

from __future__ import annotations

from typing import Any

from ..errors import TypeMismatchError
from ..hook import hooks, reading
from ..tensor import Tensor, wrap

__all__ = ["Parameter"]


class Parameter(Tensor):
    """A leaf tensor that counts as a parameter of the :class:`Module` it is assigned to.

    Args:
        data: its values; the memory is shared. An empty tensor if left out.
        requires_grad: whether it is learned.

    Raises:
        TypeError: if ``data`` is no Tensor.
        RuntimeError: if ``requires_grad`` is set for a dtype that is not floating point.

    >>> nano.nn.Parameter(nano.tensor([1.0, 2.0]))
    Parameter containing:
    tensor([1., 2.], requires_grad=True)
    """

    __slots__ = ()

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        if data is None:
            data = Tensor()
        if not isinstance(data, Tensor):
            raise TypeMismatchError(
                "Parameter",
                f"data must be a Tensor, got {type(data).__name__}.",
                hint="Make one with nano.tensor(...).",
            )
        t: Any = data.detach()
        t.__class__ = cls
        t.requires_grad = requires_grad
        return t

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        # As in PyTorch, a copied parameter starts without a gradient.
        if hooks:
            reading("deepcopy", self)
        t: Any = wrap(self._data.copy(order="K"))
        t.__class__ = type(self)
        t._requires_grad = self._requires_grad
        memo[id(self)] = t
        return t
