"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.views import bump_version
from ..backends import kernels
from ..tensor import wrap
from .optimizer import Optimizer, with_gradients

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Steps that are scaled by running averages of the gradient and of its square.

    m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
    w = w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).

    Sources: D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015;
    S. J. Reddi, S. Kale and S. Kumar, "On the convergence of Adam and beyond", ICLR 2018,
    for ``amsgrad``.

    Args:
        params: the parameters; see :class:`Optimizer`.
        lr: the learning rate.
        betas: what is kept of the two averages at each step.
        eps: added to the root, so that nothing is divided by 0.
        weight_decay: the factor of the L2 penalty, added to the gradient.
        amsgrad: divide by the largest v so far.
        maximize: go uphill.
        foreach, capturable, fused: how PyTorch is to compute; nano has one way, and ignores them.
        differentiable: only False.
        decoupled_weight_decay: take the decay from the weights as :class:`AdamW` does.

    Raises:
        ValueError: if an option makes no sense.

    >>> w = nano.tensor([1.0], requires_grad=True)
    >>> optimizer = nano.optim.Adam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step(); w
    tensor([0.9000], requires_grad=True)
    """

    _like_parameter = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        self._refuse_differentiable(differentiable)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        self._check_options(defaults)
        super().__init__(params, defaults)

    def _check_options(self, group: dict[str, Any]) -> None:
        self._require("learning rate", group["lr"], group["lr"] >= 0)
        self._require("epsilon value", group["eps"], group["eps"] >= 0)
        for i, beta in enumerate(group["betas"]):
            self._require(f"beta parameter at index {i}", beta, 0 <= beta < 1)
        self._require("weight_decay value", group["weight_decay"], group["weight_decay"] >= 0)

    def _step_group(self, group: dict[str, Any]) -> None:
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        amsgrad, update = group["amsgrad"], kernels.adam_step
        for p in with_gradients(group):
            state = self.state[p]
            if not state:
                # float32 as in PyTorch: exact up to 16 million steps.
                state["step"] = wrap(np.zeros((), np.float32))
                for name in self._like_parameter[: 3 if amsgrad else 2]:
                    state[name] = wrap(np.zeros_like(p._data))
            elif amsgrad and "max_exp_avg_sq" not in state:
                state["max_exp_avg_sq"] = wrap(np.zeros_like(p._data))
            count = state["step"]._data
            count += 1
            update(
                p._data,
                p._grad._data,  # type: ignore[union-attr]
                state["exp_avg"]._data,
                state["exp_avg_sq"]._data,
                state["max_exp_avg_sq"]._data if amsgrad else None,
                int(count),
                lr,
                beta1,
                beta2,
                group["eps"],
                group["weight_decay"],
                group["decoupled_weight_decay"],
                group["maximize"],
            )
            bump_version(p, "Adam.step")


class AdamW(Adam):
    """:class:`Adam` whose weight decay is not part of the gradient: w = w (1 - lr weight_decay).

    Source: I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Args: as of :class:`Adam`; ``weight_decay`` is 0.01 if left out.

    >>> w = nano.tensor([1.0], requires_grad=True)
    >>> optimizer = nano.optim.AdamW([w], lr=0.1, weight_decay=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step(); w
    tensor([0.8500], requires_grad=True)
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            differentiable=differentiable,
            decoupled_weight_decay=True,
        )
