"""Losses of numbers: how far outputs are from their targets. Those of classes have their own file.

All take ``reduction``: ``"mean"``, ``"sum"``, or ``"none"`` for one loss an element. What follows
``weight`` is given by name: PyTorch has two deprecated arguments in between, which nano has not.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..autograd.derivatives import Broadcasting
from ..autograd.function import Function
from ..backends import kernels
from ..errors import ArgumentError, DtypeError, InputError, ShapeError
from ..tensor import Tensor, wrap
from .autocast import raised
from .autocast import state as autocast_state
from .binary import maximum
from .class_losses import check_constant, check_reduction
from .operands import as_tensor_like, check_tensor, require_floating, result_type

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "l1_loss",
    "mse_loss",
]

# Distances -------------------------------------------------------------------------------


class _Distance(Broadcasting, Function):
    """A loss of x - t."""

    def _both(self, grad_x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        need_x, need_t = self.needs_input_grad
        return (
            self.undo_broadcast(grad_x, 0) if need_x else None,
            self.undo_broadcast(-grad_x, 1) if need_t else None,
        )


class MseLoss(_Distance):
    """(x - t)^2; d/dx = 2 (x - t) = -d/dt."""

    @staticmethod
    def forward(ctx, x, target, *, reduction):
        ctx.save_for_backward(x, target)
        ctx.reduction = reduction
        return kernels.mse_loss(x, target, reduction)

    @staticmethod
    def backward(ctx, grad_output):
        x, target = ctx.saved_tensors
        d = x - target
        slope = 2.0 / d._data.size if ctx.reduction == "mean" and d._data.size else 2.0
        return ctx._both(d * (grad_output * slope))


class L1Loss(_Distance):
    """|x - t|; d/dx = sign(x - t) = -d/dt."""

    @staticmethod
    def forward(ctx, x, target, *, reduction):
        ctx.save_for_backward(x, target)
        ctx.reduction = reduction
        return kernels.l1_loss(x, target, reduction)

    @staticmethod
    def backward(ctx, grad_output):
        x, target = ctx.saved_tensors
        sign = (x - target).sign()
        if ctx.reduction == "mean" and sign._data.size:
            grad_output = grad_output * (1.0 / sign._data.size)
        return ctx._both(sign * grad_output)


def _distance(
    function: type[Function], owner: str, input: Tensor, target: Tensor, reduction: str
) -> Tensor:
    check_reduction(owner, reduction)
    check_tensor(owner, input)
    if autocast_state.dtype is not None:
        input, target = raised(input, target)
    check_tensor(owner, target, "target")
    if input._data.shape != target._data.shape:
        # PyTorch warns even where the shapes then turn out not to fit.
        warnings.warn(
            f"[{owner}] using a target size {target.shape} that is different to the input size "
            f"{input.shape}. This will likely lead to incorrect results due to broadcasting.",
            stacklevel=3,
        )
        try:
            np.broadcast_shapes(input.shape, target.shape)
        except ValueError:
            raise ShapeError(
                owner,
                f"input {input.shape} and target {target.shape} cannot be broadcast together.",
                hint="Give the target the shape of the input.",
            ) from None
    if input._data.dtype is not target._data.dtype:
        common = result_type(input, target)
        input, target = as_tensor_like(input, common), as_tensor_like(target, common)
    require_floating(owner, input)
    return function.apply(input, target, reduction=reduction)


def mse_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """Mean squared error: (input - target)^2, averaged over all elements.

    Args:
        input: any shape.
        target: the same shape; if it is only broadcastable, there is a warning.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        RuntimeError: if the shapes cannot be broadcast, or nothing is floating point.
        ValueError: for another ``reduction``.

    >>> mse_loss(nano.tensor([1.0, 2.0]), nano.tensor([1.0, 4.0]))
    tensor(2.)
    """
    return _distance(MseLoss, "mse_loss", input, target, reduction)


def l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """Mean absolute error: abs(input - target), averaged over all elements.

    Args and errors: as of :func:`mse_loss`.

    >>> l1_loss(nano.tensor([1.0, 2.0]), nano.tensor([1.0, 4.0]))
    tensor(1.)
    """
    return _distance(L1Loss, "l1_loss", input, target, reduction)


# Yes or no -------------------------------------------------------------------------------


class BinaryCrossEntropy(Function):
    """-(t log x + (1 - t) log(1 - x)); d/dx = (x - t) / (x (1 - x)), d/dt = log((1 - x) / x)."""

    refuses = True

    @staticmethod
    def forward(ctx, x, target, weight, *, reduction):
        _check_probabilities(input=x, target=target)
        ctx.save_for_backward(x, target, weight)
        ctx.scale = 1.0 / x.size if reduction == "mean" and x.size else None
        return kernels.binary_cross_entropy(x, target, weight, reduction)

    @staticmethod
    def backward(ctx, grad_output):
        x, target, weight = ctx.saved_tensors
        need_x, need_t, _ = ctx.needs_input_grad
        g = grad_output if ctx.scale is None else grad_output * ctx.scale
        g = g if weight is None else g * weight
        grad_x = grad_t = None
        if need_x:
            # PyTorch's bound, for x = 0 and x = 1.
            floor = wrap(np.asarray(1e-12, x._data.dtype))
            grad_x = g * (x - target) / maximum(x * (1.0 - x), floor)
        if need_t:
            grad_t = g * ((-x).log1p() - x.log())
        return grad_x, grad_t, None


def _check_probabilities(**arrays: NDArray) -> None:
    for name, x in arrays.items():
        # Written so that NaN is refused too.
        if x.size and not (x.min() >= 0 and x.max() <= 1):
            raise ArgumentError(
                "binary_cross_entropy",
                f"all elements of {name} should be between 0 and 1, "
                f"got {float(x.min()):g} to {float(x.max()):g}.",
                hint="For logits, use binary_cross_entropy_with_logits.",
            )


class BinaryCrossEntropyWithLogits(Function):
    """(1 - t) x + l log(1 + exp(-x)) with l = 1 + (p - 1) t, p the weight of positive targets.

    d/dx = 1 - t - l (1 - sigmoid(x)), d/dt = (p - 1) log(1 + exp(-x)) - x.
    """

    @staticmethod
    def forward(ctx, x, target, weight, pos_weight, *, reduction):
        ctx.save_for_backward(x, target, weight, pos_weight)
        ctx.scale = 1.0 / x.size if reduction == "mean" and x.size else None
        return kernels.binary_cross_entropy_with_logits(x, target, weight, pos_weight, reduction)

    @staticmethod
    def backward(ctx, grad_output):
        x, target, weight, pos_weight = ctx.saved_tensors
        need_x, need_t, _, _ = ctx.needs_input_grad
        g = grad_output if ctx.scale is None else grad_output * ctx.scale
        g = g if weight is None else g * weight
        grad_x = grad_t = None
        if need_x:
            if pos_weight is None:
                grad_x = g * (x.sigmoid() - target)
            else:
                share = (pos_weight - 1.0) * target + 1.0
                grad_x = g * (1.0 - target - share * (-x).sigmoid())
        if need_t:
            slope = -x
            if pos_weight is not None:
                softplus = (-x.abs()).exp().log1p() + (-x).relu()
                slope = slope + (pos_weight - 1.0) * softplus
            grad_t = g * slope
        return grad_x, grad_t, None, None


def _check_same_size(owner: str, input: Tensor, target: Tensor, **weights: Any) -> None:
    """Refuse a target of another shape, and weights that cannot be broadcast or need gradients."""
    if input._data.shape != target._data.shape:
        raise InputError(
            owner,
            f"target size {target.shape} must be the same as input size {input.shape}.",
            hint="Use target.unsqueeze(...) or target.reshape(input.shape).",
        )
    for name, weight in weights.items():
        if weight is None:
            continue
        check_constant(owner, name, weight)
        try:
            fits = np.broadcast_shapes(weight.shape, input.shape) == input.shape
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(
                owner, f"{name} {weight.shape} cannot be broadcast to the input's {input.shape}."
            )


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean"
) -> Tensor:
    """-weight (target log(input) + (1 - target) log(1 - input)).

    A logarithm below -100 counts as -100, so that the loss stays finite.

    Args:
        input: probabilities, any shape.
        target: probabilities, the same shape and dtype.
        weight: broadcastable to the input.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        RuntimeError: if an element is not between 0 and 1, or a dtype or the shape of
            ``weight`` does not fit.
        ValueError: if the shapes differ, or for another ``reduction``.

    >>> binary_cross_entropy(nano.tensor([0.9, 0.2]), nano.tensor([1.0, 0.0]))
    tensor(0.1643)
    """
    owner = "binary_cross_entropy"
    check_reduction(owner, reduction)
    if autocast_state.dtype is not None:
        input, target, weight = raised(input, target, weight)
    require_floating(owner, input)
    check_tensor(owner, target, "target")
    _check_same_size(owner, input, target, weight=weight)
    for name, t in (("target", target), ("weight", weight)):
        if t is not None and t._data.dtype != input._data.dtype:
            raise DtypeError(
                owner, f"{name} must have the input's dtype {input.dtype}, got {t.dtype}."
            )
    return BinaryCrossEntropy.apply(input, target, weight, reduction=reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """:func:`binary_cross_entropy` of sigmoid(input), computed without overflow.

    Args:
        input: logits, any shape.
        target: probabilities, the same shape.
        weight: broadcastable to the input.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        pos_weight: multiplies the loss of positive targets; broadcastable to the input.

    Raises:
        ValueError: if the shapes differ, or for another ``reduction``.
        RuntimeError: if a dtype or the shape of a weight does not fit.

    >>> binary_cross_entropy_with_logits(nano.tensor([2.0, -1.0]), nano.tensor([1.0, 0.0]))
    tensor(0.2201)
    """
    owner = "binary_cross_entropy_with_logits"
    check_reduction(owner, reduction)
    if autocast_state.dtype is not None:
        input, target, weight, pos_weight = raised(input, target, weight, pos_weight)
    require_floating(owner, input)
    require_floating(owner, target, "target")
    _check_same_size(owner, input, target, weight=weight, pos_weight=pos_weight)
    operands = [t for t in (input, target, weight, pos_weight) if t is not None]
    if any(t._data.dtype is not input._data.dtype for t in operands):
        common = result_type(*operands)
        input, target = as_tensor_like(input, common), as_tensor_like(target, common)
        weight = None if weight is None else as_tensor_like(weight, common)
        pos_weight = None if pos_weight is None else as_tensor_like(pos_weight, common)
    return BinaryCrossEntropyWithLogits.apply(
        input, target, weight, pos_weight, reduction=reduction
    )
