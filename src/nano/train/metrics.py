"""Metrics: how good outputs are, as the mean over a batch or as counts to be added up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import IndexingError, ShapeError
from ..tensor import Tensor

__all__ = ["accuracy", "confusion_counts"]


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """The fraction of samples whose largest output is that of the right class.

    Args:
        outputs: (n, classes), floating point.
        targets: (n,), the right classes.

    >>> nano.train.accuracy(nano.tensor([[1.0, 2.0], [3.0, 0.0]]), nano.tensor([1, 1]))
    0.5
    """
    return float((outputs.detach()._data.argmax(1) == targets.detach()._data).mean())


def confusion_counts(outputs: Tensor, targets: Tensor) -> NDArray:
    """How often samples of each class were taken for each class: the confusion matrix.

    The counts of batches add up to those of all samples; :func:`nano.viz.confusion_matrix`
    draws them.

    Args:
        outputs: (n, classes); the largest output of a sample is its predicted class.
        targets: (n,), the right classes.

    Returns:
        (classes, classes) int64: rows are right classes, columns predicted ones.

    Raises:
        RuntimeError: if the shapes do not fit.
        IndexError: if a target is no class.

    >>> outputs = nano.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> nano.train.confusion_counts(outputs, nano.tensor([0, 1, 1]))
    array([[1, 0],
           [1, 1]])
    """
    if outputs.ndim != 2 or targets.shape != outputs.shape[:1]:
        raise ShapeError(
            "confusion_counts",
            "expected outputs (n, classes) and targets (n,).",
            facts=f"outputs {outputs.shape} · targets {targets.shape}",
        )
    n, classes = outputs.shape
    right = targets.detach()._data
    if n and not 0 <= right.min() <= right.max() < classes:
        raise IndexingError(
            "confusion_counts",
            f"there are {classes} classes, got targets from {right.min()} to {right.max()}.",
        )
    predicted = outputs.detach()._data.argmax(1) if n else right
    # Each pair of classes has a number, and these are counted.
    pairs = right.astype(np.int64) * classes + predicted
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
