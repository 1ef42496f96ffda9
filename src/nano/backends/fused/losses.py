"""The loss of classes by labels, and its gradient, each in one pass over the labels.

A wrong label is left to the reference kernel, which says what is wrong with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..memory import empty
from ..reference import losses as reference
from .jit import kernel
from .suits import FLOAT32

__all__ = ["nll_loss", "nll_loss_backward"]


@kernel
def _count(labels, classes, ignore_index):
    """How many labels count; -1 if one is no class."""
    count = 0
    for r in range(labels.size):
        if labels[r] != ignore_index:
            if labels[r] < 0 or labels[r] >= classes:
                return -1
            count += 1
    return count


@kernel
def _minus_the_sum(log_p, labels, ignore_index):
    total = 0.0
    for r in range(labels.size):
        if labels[r] != ignore_index:
            total -= log_p[r, labels[r]]
    return total


@kernel
def _at_the_labels(value, labels, ignore_index, out):
    rows, classes = out.shape
    for r in range(rows):
        for j in range(classes):
            out[r, j] = 0
        if labels[r] != ignore_index:
            out[r, labels[r]] = value


def nll_loss(
    log_p: NDArray, target: NDArray, weight: None, ignore_index: int, reduction: str
) -> NDArray:
    count = _count.serial(target, log_p.shape[1], ignore_index)
    if count < 0:
        return reference.nll_loss(log_p, target, weight, ignore_index, reduction)
    total = _minus_the_sum.serial(log_p, target, ignore_index)
    if reduction == "mean":
        total = total / count if count else np.nan
    return np.asarray(total, FLOAT32)


def nll_loss_backward(
    grad_output: NDArray,
    target: NDArray,
    weight: None,
    shape: tuple[int, ...],
    ignore_index: int,
    reduction: str,
) -> NDArray:
    arguments: Any = (grad_output, target, weight, shape, ignore_index, reduction)
    count = _count.serial(target, shape[1], ignore_index)
    if count < 0:
        return reference.nll_loss_backward(*arguments)
    value = -grad_output.item()
    if reduction == "mean" and count:
        value /= count
    out = empty(shape, FLOAT32)
    _at_the_labels.serial(value, target, ignore_index, out)
    return out
