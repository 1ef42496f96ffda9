"""Losses of classes: negative log likelihood and cross entropy.

Each takes ``reduction``: ``"mean"``, ``"sum"``, or ``"none"`` for one loss a label.
"""

from __future__ import annotations

import math
from typing import Any

from ..autograd.function import Function
from ..backends import kernels
from ..errors import ArgumentError, DtypeError, GradientError, InputError, ShapeError
from ..tensor import Tensor
from .along import IndexSelect
from .autocast import raised
from .autocast import state as autocast_state
from .operands import check_tensor, require_floating
from .softmax import log_softmax

__all__ = ["cross_entropy", "nll_loss"]

_REDUCTIONS = ("mean", "sum", "none")


def check_reduction(owner: str, reduction: Any) -> None:
    if reduction not in _REDUCTIONS:
        raise InputError(owner, f'reduction must be "none", "mean" or "sum", got {reduction!r}.')


def check_constant(owner: str, name: str, weight: Any) -> None:
    if weight is not None and check_tensor(owner, weight, name)._requires_grad:
        raise GradientError(
            owner,
            f"there is no derivative with respect to {name}, which requires gradients.",
            hint=f"Give {name}.detach().",
        )


class NllLoss(Function):
    """-w[t] x[t], with t the right class; linear in x."""

    refuses = True

    @staticmethod
    def forward(ctx, x, target, weight, *, ignore_index, reduction):
        ctx.save_for_backward(target, weight)
        ctx.shape, ctx.ignore_index, ctx.reduction = x.shape, ignore_index, reduction
        return kernels.nll_loss(x, target, weight, ignore_index, reduction)

    @staticmethod
    def backward(ctx, grad_output):
        target, weight = ctx.saved_tensors
        grad = NllLossBackward.apply(
            grad_output,
            target,
            weight,
            shape=ctx.shape,
            ignore_index=ctx.ignore_index,
            reduction=ctx.reduction,
        )
        return grad, None, None


class NllLossBackward(Function):
    """-w[t] g at the right class, 0 elsewhere; linear in g, so that its derivative is NllLoss."""

    @staticmethod
    def forward(ctx, grad_output, target, weight, *, shape, ignore_index, reduction):
        ctx.save_for_backward(target, weight)
        ctx.ignore_index, ctx.reduction = ignore_index, reduction
        return kernels.nll_loss_backward(
            grad_output, target, weight, shape, ignore_index, reduction
        )

    @staticmethod
    def backward(ctx, grad_output):
        target, weight = ctx.saved_tensors
        grad = NllLoss.apply(
            grad_output, target, weight, ignore_index=ctx.ignore_index, reduction=ctx.reduction
        )
        return grad, None, None


def _check_labels(owner: str, input: Tensor, target: Any, weight: Any) -> None:
    """Refuse labels and weights that do not fit (n, classes, ...)."""
    shape, labels = input._data.shape, check_tensor(owner, target, "target")._data
    if labels.dtype.char not in "lqB":
        raise DtypeError(
            owner,
            f"expected target dtype to be int64 or uint8 (class labels), but got {target.dtype}.",
            hint="Convert it with target.long(). Class probabilities have the input's shape.",
        )
    if not shape:
        raise InputError(owner, "expected 1 or more dimensions, the input has 0.")
    if len(shape) == 1:
        if labels.size != 1 or labels.ndim > 1:
            raise ShapeError(owner, f"input {shape} needs one label, got target {labels.shape}.")
    elif labels.shape != shape[:1] + shape[2:]:
        if labels.shape[:1] != shape[:1]:
            raise InputError(
                owner,
                f"expected input batch_size ({shape[0]}) to match target batch_size "
                f"({labels.shape[0] if labels.ndim else 'none'}).",
                facts=f"input {shape} · target {labels.shape}",
            )
        raise ShapeError(
            owner,
            f"expected target size {shape[:1] + shape[2:]}, got {labels.shape}.",
            facts=f"input {shape} · target {labels.shape}",
            hint="The target has the input's shape without the dimension of the classes.",
        )
    if weight is not None:
        check_constant(owner, "weight", weight)
        classes = shape[1] if len(shape) > 1 else shape[0]
        if weight.shape != (classes,):
            raise ShapeError(
                owner, f"weight must have one element a class, {(classes,)}, got {weight.shape}."
            )
        if weight._data.dtype != input._data.dtype:
            raise DtypeError(
                owner, f"weight must have the input's dtype {input.dtype}, got {weight.dtype}."
            )


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Negative log likelihood: -weight[target] input[target], averaged by weight.

    Args:
        input: log-probabilities, (n, classes), (n, classes, d1, ...) or (classes,).
        target: the right classes, int64 or uint8, (n,), (n, d1, ...) or ().
        weight: of each class, (classes,).
        ignore_index: the label that counts for nothing. If all labels are ignored, the
            mean is NaN.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        IndexError: if a label is no class.
        ValueError: if the batch sizes differ, or for another ``reduction``.
        RuntimeError: if another size or a dtype does not fit.

    >>> nll_loss(nano.tensor([[-0.5, -1.0], [-2.0, -0.1]]), nano.tensor([0, 1]))
    tensor(0.3000)
    """
    check_reduction("nll_loss", reduction)
    if autocast_state.dtype is not None:
        input, weight = raised(input, weight)
    require_floating("nll_loss", input)
    _check_labels("nll_loss", input, target, weight)
    return NllLoss.apply(input, target, weight, ignore_index=ignore_index, reduction=reduction)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross entropy between softmax(input) and the target: :func:`nll_loss` of log_softmax.

    Label smoothing: C. Szegedy et al., "Rethinking the Inception architecture for
    computer vision", CVPR 2016.

    Args:
        input: logits, (n, classes), (n, classes, d1, ...) or (classes,).
        target: class labels as of :func:`nll_loss`, or class probabilities: floating
            point, of the input's shape.
        weight: of each class, (classes,).
        ignore_index: the label that counts for nothing; not for probabilities.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        label_smoothing: the share, 0 to 1, of the target that is spread evenly over all
            classes.

    Raises:
        IndexError: if a label is no class.
        ValueError: if the batch sizes differ, or for another ``reduction``.
        RuntimeError: if another size, a dtype or ``label_smoothing`` does not fit.

    >>> cross_entropy(nano.tensor([[2.0, 0.0], [0.0, 1.0]]), nano.tensor([0, 1]))
    tensor(0.2201)
    """
    owner = "cross_entropy"
    check_reduction(owner, reduction)
    if autocast_state.dtype is not None:
        input, target, weight = raised(input, target, weight)
    require_floating(owner, input)
    check_tensor(owner, target, "target")
    if label_smoothing and not 0.0 <= label_smoothing <= 1.0:
        raise ArgumentError(
            owner, f"label_smoothing must be between 0.0 and 1.0, got {label_smoothing}."
        )
    dim = 1 if input._data.ndim > 1 else 0
    if input._data.shape == target._data.shape and input._data.ndim:
        _check_probabilities(target, ignore_index)
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing, dim)
    _check_labels(owner, input, target, weight)
    log_p = log_softmax(input, dim)
    hard = NllLoss.apply(log_p, target, weight, ignore_index=ignore_index, reduction=reduction)
    if not label_smoothing:
        return hard
    even = _even_cross_entropy(log_p, target, weight, ignore_index, reduction, dim)
    share = label_smoothing / input.shape[dim]
    return hard * (1.0 - label_smoothing) + even * share


def _by_class(weight: Tensor, ndim: int) -> Tensor:
    """``weight`` in a shape that broadcasts along the classes."""
    return weight.reshape(-1, *[1] * (ndim - 2))


def _even_cross_entropy(
    log_p: Any, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, dim: int
) -> Tensor:
    """-sum_c w[c] log_p[c] of the labels that count; reduced as :func:`nll_loss` reduces."""
    weighted = log_p if weight is None else log_p * _by_class(weight, log_p.ndim)
    losses: Any = -weighted.sum(dim)
    labels: Any = target.long().reshape(losses.shape)  # type: ignore[attr-defined]
    ignored: Any = labels == ignore_index
    losses = losses.masked_fill(ignored, 0.0)
    if reduction == "none":
        return losses
    total = losses.sum()
    if reduction == "sum":
        return total
    shares = ~ignored
    if weight is not None:
        # An ignored label need not be a class.
        known = labels.masked_fill(ignored, 0).reshape(-1)
        shares = IndexSelect.apply(weight, known, dim=0).reshape(losses.shape)
        shares = shares.masked_fill(ignored, 0.0).double()
    return total / shares.sum().to(total.dtype)


def _check_probabilities(target: Tensor, ignore_index: int) -> None:
    if not target.is_floating_point():
        raise DtypeError(
            "cross_entropy",
            f"expected floating point for a target of class probabilities, got {target.dtype}.",
            facts=f"the target has the input's shape {target.shape}",
            hint="Class labels have the input's shape without the dimension of the classes.",
        )
    if ignore_index >= 0:
        raise ArgumentError(
            "cross_entropy", "ignore_index is not supported for class probabilities."
        )


def _soft_cross_entropy(
    input: Tensor,
    target: Any,
    weight: Tensor | None,
    reduction: str,
    label_smoothing: float,
    dim: int,
) -> Tensor:
    """-sum_c w[c] t[c] log_p[c]; the mean is over all but the classes."""
    classes = input.shape[dim]
    if label_smoothing:
        target = target * (1.0 - label_smoothing) + label_smoothing / classes
    weighted: Any = log_softmax(input, dim) * target
    if weight is not None:
        check_tensor("cross_entropy", weight, "weight")
        if weight.shape != (classes,):
            raise ShapeError(
                "cross_entropy",
                f"weight must have one element a class, {(classes,)}, got {weight.shape}.",
            )
        weighted = weighted * _by_class(weight, input.ndim)
    if reduction == "none":
        return -weighted.sum(dim)
    total = -weighted.sum()
    if reduction == "sum":
        return total
    count = math.prod(input.shape) // classes if classes else 0
    return total / float(count)
