"""Learning rates that change from epoch to epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import InputError, TypeMismatchError
from .optimizer import Optimizer

__all__ = ["LRScheduler", "LambdaLR", "StepLR"]


class LRScheduler:
    """Base of all schedules: sets every group's ``"lr"`` at each :meth:`step`.

    Args:
        optimizer: whose learning rates are set. Each group's rate at the beginning is
            kept as ``"initial_lr"``.
        last_epoch: the epoch that was done last; -1 begins anew.

    Raises:
        TypeError: if ``optimizer`` is no Optimizer.
        ValueError: if it goes on from an epoch without ``"initial_lr"`` in every group.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeMismatchError(
                type(self).__name__, f"{type(optimizer).__name__} is not an Optimizer."
            )
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise InputError(
                    type(self).__name__,
                    f"param 'initial_lr' is not specified in param_groups[{i}], which is needed "
                    f"to go on from epoch {last_epoch}.",
                )
        self.optimizer = optimizer
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def get_lr(self) -> list[float]:
        """The rate of each group in epoch ``last_epoch``. Every subclass says it."""
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The rate of each group that was set last."""
        return self._last_lr

    def step(self) -> None:
        """Go on by one epoch."""
        self.last_epoch += 1
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = lr
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """All that changes, and the options; functions are left out."""
        return {k: v for k, v in self.__dict__.items() if k not in ("optimizer", "lr_lambdas")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to what :meth:`state_dict` gave."""
        self.__dict__.update(state_dict)


class StepLR(LRScheduler):
    """Multiply the rate by ``gamma`` every ``step_size`` epochs.

    >>> optimizer = nano.optim.SGD([nano.ones(1, requires_grad=True)], lr=1.0)
    >>> schedule = nano.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> for _ in range(2):
    ...     optimizer.step(); schedule.step()
    >>> optimizer.param_groups[0]["lr"]
    0.5
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rate now, multiplied where an interval ends."""
        ends = self.last_epoch > 0 and self.last_epoch % self.step_size == 0
        factor = self.gamma if ends else 1.0
        return [group["lr"] * factor for group in self.optimizer.param_groups]


class LambdaLR(LRScheduler):
    """The first rate times ``lr_lambda(epoch)``.

    Args:
        optimizer: whose learning rates are set.
        lr_lambda: a function of the epoch, or one for each group.
        last_epoch: the epoch that was done last; -1 begins anew.

    Raises:
        ValueError: if there are not as many functions as groups.

    >>> optimizer = nano.optim.SGD([nano.ones(1, requires_grad=True)], lr=1.0)
    >>> schedule = nano.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch))
    >>> optimizer.step(); schedule.step()
    >>> schedule.get_last_lr()
    [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(optimizer.param_groups) if isinstance(optimizer, Optimizer) else 0
        several = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(several) != groups:
            raise InputError(
                "LambdaLR", f"expected {groups} functions, one a group, got {len(several)}."
            )
        self.lr_lambdas = several
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The first rates, each times its function of the epoch."""
        return [
            base * factor(self.last_epoch)
            for base, factor in zip(self.base_lrs, self.lr_lambdas, strict=True)
        ]
