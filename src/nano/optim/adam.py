"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backends import kernels
from ..tensor import Tensor
from .bound import BoundStep
from .optimizer import Optimizer, arrays, count_steps, gradients

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
        self._check_implementation(differentiable, foreach, fused)
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
        self._check_lr(group["lr"])
        self._require("epsilon value", group["eps"], group["eps"] >= 0)
        for i, beta in enumerate(group["betas"]):
            self._require(f"beta parameter at index {i}", beta, 0 <= beta < 1)
        self._require("weight_decay value", group["weight_decay"], group["weight_decay"] >= 0)

    def _bound_step(self) -> Callable[[], None]:
        return BoundStep(self, self._bind)

    def _bind(self, group: dict[str, Any], params: list[Tensor]) -> Any:
        largest = bool(group["amsgrad"])
        names = self._like_parameter[: 3 if largest else 2]
        counts = [self.state[p]["step"]._data for p in params]
        kept = [[self.state[p][name]._data for p in params] for name in names]
        step = kernels.adam_bound(
            arrays(params), gradients(params), *kept, *([] if largest else [None])
        )
        read = group.__getitem__

        def run() -> None:
            if bool(read("amsgrad")) is not largest:
                self._step_group(group, params)
                return
            step(
                count_steps(counts),
                float(read("lr")),
                *read("betas"),
                read("eps"),
                read("weight_decay"),
                read("decoupled_weight_decay"),
                read("maximize"),
            )

        return ("step", *names), run

    def _step_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        names = self._like_parameter[: 3 if group["amsgrad"] else 2]
        steps, kept = self._kept(params, names)
        kernels.adam_step(
            arrays(params),
            gradients(params),
            *kept,
            *([] if group["amsgrad"] else [None]),
            steps,
            float(group["lr"]),
            *group["betas"],
            group["eps"],
            group["weight_decay"],
            group["decoupled_weight_decay"],
            group["maximize"],
        )


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
            foreach=foreach,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )
