"""Second derivatives of operators whose first derivative has a kernel of its own.

Such a derivative is a Function too, and needs a backward. It need not be fast, and by
hand it is long: so it states its formula once more in elementary operators, and the
engine differentiates these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from ..tensor import Tensor
from .engine import grad
from .function import Function
from .grad_mode import enable_grad, mode

__all__ = ["gradients_of"]


class Alias(Function):
    """The input itself, as another place in the graph."""

    is_view = True

    @staticmethod
    def forward(ctx: Any, x: NDArray) -> NDArray:
        return x.view()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return grad_output


def gradients_of(
    formula: Callable[..., tuple[Tensor, ...]],
    inputs: Sequence[Any],
    grad_outputs: Sequence[Tensor],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients of ``formula(*inputs)`` with respect to the inputs that are ``needed``.

    Made for ``backward``: if that is recorded (create_graph), so is what is computed here.

    Args:
        formula: elementary operators; takes the inputs and returns a tuple of Tensors.
        inputs: Tensors, numbers or None. One Tensor may stand there twice: it has two
            gradients.
        grad_outputs: the gradient at each result of ``formula``.
        needed: for each input, whether its gradient is wanted; it must require one then.

    Returns:
        For each input its gradient, or None.

    >>> x = nano.tensor(3.0, requires_grad=True)
    >>> with nano.no_grad():
    ...     gradients_of(lambda a, b: (a * a * b,), (x, x), [nano.tensor(1.0)], (True, True))
    [tensor(18.), tensor(9.)]
    """
    recorded = mode.enabled
    with enable_grad():
        places = []
        for x, need in zip(inputs, needed, strict=True):
            if isinstance(x, Tensor):
                x = Alias.apply(x) if recorded else x.detach().requires_grad_(need)
            places.append(x)
        pairs = [
            (y, g) for y, g in zip(formula(*places), grad_outputs, strict=True) if y.requires_grad
        ]
        wanted = [p for p, need in zip(places, needed, strict=True) if need]
        if not pairs or not wanted:
            return [None] * len(places)
        results = iter(
            grad(
                [y for y, _ in pairs],
                wanted,
                [g for _, g in pairs],
                create_graph=recorded,
                allow_unused=True,
            )
        )
    return [next(results) if need else None for need in needed]
