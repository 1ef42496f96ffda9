"""Adagrad."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import kernels
from ..tensor import Tensor
from .optimizer import Optimizer, arrays, gradients

__all__ = ["Adagrad"]


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients so far.

    s = s + g^2; w = w - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps).

    Source: J. Duchi, E. Hazan and Y. Singer, "Adaptive subgradient methods for online
    learning and stochastic optimization", Journal of Machine Learning Research 12, 2011.

    Args:
        params: the parameters; see :class:`Optimizer`.
        lr: the learning rate.
        lr_decay: how fast the rate falls with the number of steps.
        weight_decay: the factor of the L2 penalty, added to the gradient.
        initial_accumulator_value: what the sums begin with.
        eps: added to the root, so that nothing is divided by 0.
        foreach, fused: how PyTorch is to compute; nano has one way, and ignores them.
        maximize: go uphill.
        differentiable: only False.

    Raises:
        ValueError: if an option makes no sense.

    >>> w = nano.tensor([1.0], requires_grad=True)
    >>> optimizer = nano.optim.Adagrad([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step(); w
    tensor([0.9000], requires_grad=True)
    """

    _like_parameter = ("sum",)

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        self._check_implementation(differentiable, foreach, fused)
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "maximize": maximize,
        }
        self._check_options(defaults)
        super().__init__(params, defaults)
        # As in PyTorch, the sums exist before the first step, also of parameters that never move.
        for group in self.param_groups:
            for p in group["params"]:
                self._begin(p, self.state[p], self._like_parameter)

    def _check_options(self, group: dict[str, Any]) -> None:
        self._check_lr(group["lr"])
        self._require("lr_decay value", group["lr_decay"], group["lr_decay"] >= 0)
        self._require("weight_decay value", group["weight_decay"], group["weight_decay"] >= 0)
        initial = group["initial_accumulator_value"]
        self._require("initial_accumulator_value value", initial, initial >= 0)
        self._require("epsilon value", group["eps"], group["eps"] >= 0)

    def _initial(self, p: Tensor) -> NDArray:
        return np.full_like(p._data, self.defaults["initial_accumulator_value"])

    def _step_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        steps, (sums,) = self._kept(params, self._like_parameter)
        kernels.adagrad_step(
            arrays(params),
            gradients(params),
            sums,
            steps,
            float(group["lr"]),
            group["lr_decay"],
            group["eps"],
            group["weight_decay"],
            group["maximize"],
        )
