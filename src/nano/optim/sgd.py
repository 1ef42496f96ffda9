"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..backends import kernels
from ..errors import InputError
from ..tensor import Tensor, wrap
from .bound import BoundStep
from .optimizer import Optimizer, arrays, gradients

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
        self._check_implementation(differentiable, foreach, fused)
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
        self._check_lr(group["lr"])
        self._require("momentum value", group["momentum"], group["momentum"] >= 0)
        self._require("weight_decay value", group["weight_decay"], group["weight_decay"] >= 0)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise InputError("SGD", "Nesterov momentum requires a momentum and zero dampening.")

    def _bound_step(self) -> Callable[[], None]:
        return BoundStep(self, self._bind)

    def _bind(self, group: dict[str, Any], params: list[Tensor]) -> Any:
        heavy = bool(group["momentum"])
        names = self._like_parameter if heavy else ()
        buffers = [self.state[p]["momentum_buffer"]._data for p in params] if heavy else None
        step = kernels.sgd_bound(arrays(params), gradients(params), buffers)
        read = group.__getitem__

        def run() -> None:
            if bool(read("momentum")) is not heavy:
                self._step_group(group, params)
                return
            step(
                float(read("lr")),
                float(read("momentum")),
                read("dampening"),
                read("weight_decay"),
                read("nesterov"),
                read("maximize"),
            )

        return names, run

    def _step_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        # float() also takes a 0-d tensor as learning rate.
        momentum = float(group["momentum"])
        options = (
            float(group["lr"]),
            momentum,
            group["dampening"],
            group["weight_decay"],
            group["nesterov"],
            group["maximize"],
        )
        if not momentum:
            kernels.sgd_step(arrays(params), gradients(params), None, *options, False)
            return
        buffers = [self.state[p].get("momentum_buffer") for p in params]
        known = [b._data for b in buffers if b is not None]
        if len(known) < len(params):
            pairs = list(zip(params, buffers, strict=True))
            fresh = [p for p, b in pairs if b is None]
            params = [p for p, b in pairs if b is not None]
            new = [np.empty_like(p._data) for p in fresh]
            kernels.sgd_step(arrays(fresh), gradients(fresh), new, *options, True)
            for p, buffer in zip(fresh, new, strict=True):
                self.state[p]["momentum_buffer"] = wrap(buffer)
        if params:
            kernels.sgd_step(arrays(params), gradients(params), known, *options, False)
