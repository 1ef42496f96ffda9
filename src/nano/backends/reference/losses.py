"""Losses: what a network's outputs cost, and the gradient of picking one class of several.

``reduction`` is ``"none"``, ``"mean"`` or ``"sum"``. What is 16 bits wide is computed
in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import IndexingError
from ..registry import register


def _widened(x: Any) -> Any:
    """float32 for 16-bit floats, whose sums would lose digits."""
    return x.astype(np.float32) if x is not None and x.dtype.itemsize == 2 else x


def _reduce(losses: NDArray, reduction: str, dtype: np.dtype) -> NDArray:
    """``losses`` as they are, their sum, or their mean, which is NaN for none."""
    if reduction == "none":
        return losses.astype(dtype, copy=False)
    total = np.add.reduce(losses, axis=None)
    if reduction == "mean":
        # NumPy's scalar division gives NaN for 0 / 0, as an array's does.
        total = np.true_divide(total, losses.size, dtype=total.dtype)
    return np.asarray(total, dtype)


def mse_loss(x: NDArray, target: NDArray, reduction: str) -> NDArray:
    """(x - target)^2."""
    d = np.subtract(_widened(x), _widened(target))
    return _reduce(np.multiply(d, d, out=d) if d.ndim else d * d, reduction, x.dtype)


def l1_loss(x: NDArray, target: NDArray, reduction: str) -> NDArray:
    """|x - target|."""
    return _reduce(np.abs(np.subtract(_widened(x), _widened(target))), reduction, x.dtype)


def _weighted(losses: NDArray, weight: NDArray | None) -> NDArray:
    if weight is None:
        return losses
    out = losses * weight
    if out.shape != losses.shape:
        raise ValueError(f"weight {weight.shape} cannot be broadcast to {losses.shape}")
    return out


def binary_cross_entropy(
    x: NDArray, target: NDArray, weight: NDArray | None, reduction: str
) -> NDArray:
    """-w (t log x + (1 - t) log(1 - x)); a logarithm below -100 counts as -100."""
    wide, t = _widened(x), _widened(target)
    log_x = np.maximum(np.log(wide), -100)
    log_rest = np.maximum(np.log1p(-wide), -100)
    losses = (t - 1) * log_rest - t * log_x
    return _reduce(_weighted(losses, _widened(weight)), reduction, x.dtype)


def binary_cross_entropy_with_logits(
    x: NDArray,
    target: NDArray,
    weight: NDArray | None,
    pos_weight: NDArray | None,
    reduction: str,
) -> NDArray:
    """w ((1 - t) x + (1 + (p - 1) t) log(1 + exp(-x))), with an exp that cannot overflow."""
    wide, t = _widened(x), _widened(target)
    # log(1 + exp(-x)) = log(1 + exp(-|x|)) + max(-x, 0)
    softplus = np.log1p(np.exp(-np.abs(wide))) + np.maximum(-wide, 0)
    if pos_weight is not None:
        softplus = softplus * (1 + (_widened(pos_weight) - 1) * t)
    losses = (1 - t) * wide + softplus
    return _reduce(_weighted(losses, _widened(weight)), reduction, x.dtype)


# Picking the class that is right ---------------------------------------------------------


def _grid(shape: tuple[int, ...], target: NDArray) -> tuple[Any, ...]:
    """The NumPy index of the right class: ``target`` at axis 1, counting along the others."""
    if len(shape) == 2:
        return np.arange(shape[0]), target
    if len(shape) == 1:
        return (target,)
    grid = np.ogrid[tuple(slice(n) for n in target.shape)]
    return (grid[0], target, *grid[1:])


def _classes(target: NDArray, classes: int, ignore_index: int) -> tuple[NDArray, NDArray | None]:
    """``target`` with ignored labels as 0, and where it is not ignored (None: nowhere).

    Raises:
        IndexError: for a label that is no class.
    """
    labels = target.astype(np.int64, copy=False)
    # A negative label is a huge one without sign: one reduction finds both.
    if not 0 <= ignore_index < classes and (
        not labels.size or np.maximum.reduce(labels.view(np.uint64), axis=None) < classes
    ):
        return labels, None
    kept = np.not_equal(labels, ignore_index)
    labels = np.where(kept, labels, 0)
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        label = labels[wrong].flat[0]
        raise IndexingError(
            "nll_loss",
            f"target {label} is out of bounds: there are {classes} classes, 0 to {classes - 1}.",
            facts=f"{np.count_nonzero(wrong)} of {labels.size} labels are no class",
            hint=f"Labels to leave out must be ignore_index, which is {ignore_index}.",
        )
    return labels, kept


def _class_weights(
    labels: NDArray, kept: NDArray | None, weight: NDArray | None, dtype: np.dtype
) -> NDArray | None:
    """The weight of every label, 0 where it is ignored; None if all weigh 1."""
    if weight is None:
        return None if kept is None else kept.astype(dtype)
    each = weight[labels]
    return each if kept is None else np.where(kept, each, each.dtype.type(0))


def nll_loss(
    log_p: NDArray,
    target: NDArray,
    weight: NDArray | None,
    ignore_index: int,
    reduction: str,
) -> NDArray:
    """-w[t] log_p[t], with log_p (n, classes, ...) and target (n, ...).

    The mean is the sum over the sum of the weights; ignored labels weigh nothing.
    """
    shape = log_p.shape
    labels, kept = _classes(target, shape[1 if len(shape) > 1 else 0], ignore_index)
    picked = _widened(log_p[_grid(shape, labels)])
    each = _class_weights(labels, kept, _widened(weight), picked.dtype)
    if kept is not None:
        picked = np.where(kept, picked, picked.dtype.type(0))
    losses = -picked if each is None else np.multiply(-picked, each)
    if reduction == "mean" and each is not None:
        total = np.add.reduce(losses, axis=None) / np.add.reduce(each, axis=None)
        return np.asarray(total, log_p.dtype)
    return _reduce(np.asarray(losses), reduction, log_p.dtype)


def nll_loss_backward(
    grad_output: NDArray,
    target: NDArray,
    weight: NDArray | None,
    shape: tuple[int, ...],
    ignore_index: int,
    reduction: str,
) -> NDArray:
    """-w[t] g (over the sum of the weights, for the mean) at the right classes, 0 elsewhere."""
    labels, kept = _classes(target, shape[1 if len(shape) > 1 else 0], ignore_index)
    g = _widened(grad_output)
    each = _class_weights(labels, kept, _widened(weight), g.dtype)
    if reduction == "mean":
        count = labels.size if each is None else np.add.reduce(each, axis=None)
        g = np.true_divide(g, count, dtype=g.dtype)
    slope = -g if each is None else np.multiply(-g, each)
    if kept is not None:
        # Also where all labels are ignored, and the mean's gradient would be 0 / 0.
        slope = np.where(kept, slope, 0)
    out = np.zeros(shape, grad_output.dtype)
    out[_grid(shape, labels)] = slope
    return out


for _kernel in (
    mse_loss,
    l1_loss,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    nll_loss,
    nll_loss_backward,
):
    register(_kernel.__name__, _kernel)
