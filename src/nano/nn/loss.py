"""Losses as modules. Formulas, shapes and errors: ``functions/losses.py``
and ``class_losses.py``."""

from __future__ import annotations

from ..functions import class_losses
from ..functions import losses as functions
from ..tensor import Tensor
from .module import Module

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
]


class _Loss(Module):
    """A loss with a reduction: ``"mean"``, ``"sum"`` or ``"none"``."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction


class _WeightedLoss(_Loss):
    """A loss with weights, which belong to its state but are not learned."""

    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.register_buffer("weight", weight)


class MSELoss(_Loss):
    """Mean squared error; see :func:`nano.nn.functional.mse_loss`.

    >>> nano.nn.MSELoss()(nano.tensor([1.0, 2.0]), nano.tensor([1.0, 4.0]))
    tensor(2.)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Both of one shape."""
        return functions.mse_loss(input, target, reduction=self.reduction)


class L1Loss(_Loss):
    """Mean absolute error; see :func:`nano.nn.functional.l1_loss`.

    >>> nano.nn.L1Loss()(nano.tensor([1.0, 2.0]), nano.tensor([1.0, 4.0]))
    tensor(1.)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Both of one shape."""
        return functions.l1_loss(input, target, reduction=self.reduction)


class NLLLoss(_WeightedLoss):
    """Negative log likelihood of log-probabilities; see :func:`nano.nn.functional.nll_loss`.

    >>> nano.nn.NLLLoss()(nano.tensor([[-0.5, -1.0], [-2.0, -0.1]]), nano.tensor([0, 1]))
    tensor(0.3000)
    """

    def __init__(
        self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(weight, reduction=reduction)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Log-probabilities (n, classes, ...) and labels (n, ...)."""
        return class_losses.nll_loss(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )


class CrossEntropyLoss(_WeightedLoss):
    """Cross entropy of logits; see :func:`nano.nn.functional.cross_entropy`.

    >>> nano.nn.CrossEntropyLoss()(nano.tensor([[2.0, 0.0], [0.0, 1.0]]), nano.tensor([0, 1]))
    tensor(0.2201)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, reduction=reduction)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits (n, classes, ...), and labels (n, ...) or probabilities (n, classes, ...)."""
        return class_losses.cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class BCELoss(_WeightedLoss):
    """Binary cross entropy; see :func:`nano.nn.functional.binary_cross_entropy`.

    >>> nano.nn.BCELoss()(nano.tensor([0.9, 0.2]), nano.tensor([1.0, 0.0]))
    tensor(0.1643)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Both of one shape."""
        return functions.binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_WeightedLoss):
    """See :func:`nano.nn.functional.binary_cross_entropy_with_logits`.

    >>> nano.nn.BCEWithLogitsLoss()(nano.tensor([2.0, -1.0]), nano.tensor([1.0, 0.0]))
    tensor(0.2201)
    """

    pos_weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
    ) -> None:
        super().__init__(weight, reduction=reduction)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Both of one shape."""
        return functions.binary_cross_entropy_with_logits(
            input,
            target,
            self.weight,
            reduction=self.reduction,
            pos_weight=self.pos_weight,
        )
