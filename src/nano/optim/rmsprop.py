"""RMSprop."""

from __future__ import annotations

from typing import Any

from ..backends import kernels
from ..tensor import Tensor
from .optimizer import Optimizer, arrays, gradients

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """Steps divided by the root of a running average of the squared gradient.

    v = alpha v + (1 - alpha) g^2; s = g / (sqrt(v) + eps); w = w - lr s. With momentum,
    b = momentum b + s and w = w - lr b. Centered, m = alpha m + (1 - alpha) g, and
    v - m^2, an estimate of the gradient's variance, takes the place of v in the root.

    Sources: G. Hinton, "Neural networks for machine learning", lecture 6, 2012; A. Graves,
    "Generating sequences with recurrent neural networks", 2013, for ``centered``.

    Args:
        params: the parameters; see :class:`Optimizer`.
        lr: the learning rate.
        alpha: what is kept of the averages at each step.
        eps: added to the root, so that nothing is divided by 0.
        weight_decay: the factor of the L2 penalty, added to the gradient.
        momentum: the share of the last step that is kept.
        centered: divide by the deviation of the gradient instead of its size.
        foreach, capturable: how PyTorch is to compute; nano has one way, and ignores them.
        maximize: go uphill.
        differentiable: only False.

    Raises:
        ValueError: if an option makes no sense.

    >>> w = nano.tensor([1.0], requires_grad=True)
    >>> optimizer = nano.optim.RMSprop([w], lr=0.01)
    >>> (w * w).sum().backward()
    >>> optimizer.step(); w
    tensor([0.9000], requires_grad=True)
    """

    _like_parameter = ("square_avg", "momentum_buffer", "grad_avg")

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        self._check_implementation(differentiable)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        self._check_options(defaults)
        super().__init__(params, defaults)

    def _check_options(self, group: dict[str, Any]) -> None:
        self._check_lr(group["lr"])
        self._require("epsilon value", group["eps"], group["eps"] >= 0)
        self._require("momentum value", group["momentum"], group["momentum"] >= 0)
        self._require("weight_decay value", group["weight_decay"], group["weight_decay"] >= 0)
        self._require("alpha value", group["alpha"], group["alpha"] >= 0)

    def _step_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        names = ["square_avg"]
        if group["momentum"]:
            names.append("momentum_buffer")
        if group["centered"]:
            names.append("grad_avg")
        _, lists = self._kept(params, names)
        kept = dict(zip(names, lists, strict=True))
        kernels.rmsprop_step(
            arrays(params),
            gradients(params),
            kept["square_avg"],
            kept.get("grad_avg"),
            kept.get("momentum_buffer"),
            float(group["lr"]),
            group["alpha"],
            group["eps"],
            group["weight_decay"],
            group["momentum"],
            group["maximize"],
        )
