"""Metrics: the mean over a batch of how good the outputs are."""

from __future__ import annotations

from ..tensor import Tensor

__all__ = ["accuracy"]


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """The fraction of samples whose largest output is that of the right class.

    Args:
        outputs: (n, classes), floating point.
        targets: (n,), the right classes.

    >>> nano.train.accuracy(nano.tensor([[1.0, 2.0], [3.0, 0.0]]), nano.tensor([1, 1]))
    0.5
    """
    return float((outputs.detach()._data.argmax(1) == targets.detach()._data).mean())
