"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.views import bump_version
from ..backends import kernels
from ..errors import InputError
from ..tensor import wrap
from .optimizer import Optimizer, with_gradients

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if wanted.

    g = gradient + weight_decay w; v = momentum v + (1 - dampening) g, beginning with
    v = g; w = w - lr v. Nesterov's form is w = w - lr (g + momentum v).

    Sources: H. Robbins and S. Monro, "A stochastic approximation method", 1951; I. Sutskever
    et al., "On the importance of initialization and momentum in deep learning", ICML 2013.

    Args:
        params: the parameters; see :class:`Optimizer`.
        lr: the learning rate.
        momentum: the share of the last step that is kept.
        dampening: how much of the gradient momentum takes away.
        weight_decay: the factor of the L2 penalty.
        nesterov: look ahead by the momentum; needs momentum and no dampening.
        maximize: go uphill.
        foreach, fused: how PyTorch is to compute; nano has one way, and ignores them.
        differentiable: only False.

    Raises:
        ValueError: if an option makes no sense.

    >>> w = nano.tensor([1.0], requires_grad=True)
    >>> optimizer = nano.optim.SGD([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step(); w
    tensor([0.8000], requires_grad=True)
    """

    _like_parameter = ("momentum_buffer",)

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        self._refuse_differentiable(differentiable)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        self._check_options(defaults)
        super().__init__(params, defaults)

    def _check_options(self, group: dict[str, Any]) -> None:
        self._require("learning rate", group["lr"], group["lr"] >= 0)
        self._require("momentum value", group["momentum"], group["momentum"] >= 0)
        self._require("weight_decay value", group["weight_decay"], group["weight_decay"] >= 0)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise InputError("SGD", "Nesterov momentum requires a momentum and zero dampening.")

    def _step_group(self, group: dict[str, Any]) -> None:
        # float() also takes a 0-d tensor as learning rate.
        lr, momentum = float(group["lr"]), float(group["momentum"])
        dampening, weight_decay = group["dampening"], group["weight_decay"]
        nesterov, maximize = group["nesterov"], group["maximize"]
        update = kernels.sgd_step
        buffer, first = None, False
        for p in with_gradients(group):
            if momentum:
                state = self.state[p]
                kept = state.get("momentum_buffer")
                first = kept is None
                if first:
                    kept = state["momentum_buffer"] = wrap(np.empty_like(p._data))
                buffer = kept._data
            update(
                p._data,
                p._grad._data,  # type: ignore[union-attr]
                buffer,
                lr,
                momentum,
                dampening,
                weight_decay,
                nesterov,
                maximize,
                first,
            )
            bump_version(p, "SGD.step")
