"""Schedules in which the rate is multiplied by a factor, mostly one below 1."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...errors import InputError, TypeMismatchError
from ..optimizer import Optimizer
from .schedule import LRScheduler, check_optimizer, for_each_group, without_functions

__all__ = [
    "ConstantLR",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "PolynomialLR",
    "StepLR",
]

Factor = Callable[[int], float]


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
        rates = self._present_lr()
        if self.last_epoch == 0 or self.last_epoch % self.step_size:
            return rates
        return [lr * self.gamma for lr in rates]

    def _get_closed_form_lr(self) -> list[float]:
        factor = self.gamma ** (self.last_epoch // self.step_size)
        return [base * factor for base in self.base_lrs]


class MultiStepLR(LRScheduler):
    """Multiply the rate by ``gamma`` at each of the ``milestones``.

    Args:
        optimizer: whose learning rates are set.
        milestones: epochs; one that is named twice counts twice.
        gamma: the factor.
        last_epoch: the epoch that was done last; -1 begins anew.

    >>> optimizer = nano.optim.SGD([nano.ones(1, requires_grad=True)], lr=1.0)
    >>> schedule = nano.optim.lr_scheduler.MultiStepLR(optimizer, [1, 3], gamma=0.5)
    >>> for _ in range(4):
    ...     optimizer.step(); schedule.step()
    >>> schedule.get_last_lr()
    [0.25]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones = Counter(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rate now, multiplied at a milestone."""
        rates = self._present_lr()
        if self.last_epoch not in self.milestones:
            return rates
        factor = self.gamma ** self.milestones[self.last_epoch]
        return [lr * factor for lr in rates]

    def _get_closed_form_lr(self) -> list[float]:
        passed = bisect_right(sorted(self.milestones.elements()), self.last_epoch)
        return [base * self.gamma**passed for base in self.base_lrs]


class ConstantLR(LRScheduler):
    """The first rate times ``factor`` until epoch ``total_iters``, then the first rate itself.

    Raises:
        ValueError: if the factor is not between 0 and 1.

    >>> optimizer = nano.optim.SGD([nano.ones(1, requires_grad=True)], lr=1.0)
    >>> schedule = nano.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=2)
    >>> schedule.get_last_lr()
    [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 <= factor <= 1:
            raise InputError("ConstantLR", f"factor must be between 0 and 1, got {factor}.")
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rate now, with the factor put in at the beginning and taken out at the end."""
        rates = self._present_lr()
        if self.last_epoch == 0:
            return [lr * self.factor for lr in rates]
        if self.last_epoch == self.total_iters:
            return [lr * (1.0 / self.factor) for lr in rates]
        return rates

    def _get_closed_form_lr(self) -> list[float]:
        factor = self.factor + (self.last_epoch >= self.total_iters) * (1 - self.factor)
        return [base * factor for base in self.base_lrs]


class LinearLR(LRScheduler):
    """The first rate times a factor that goes in even steps from one value to another.

    Before another schedule (see :class:`SequentialLR`) it is a warm-up.

    Args:
        optimizer: whose learning rates are set.
        start_factor: the factor in the first epoch; above 0, at most 1.
        end_factor: the factor from epoch ``total_iters`` on, between 0 and 1.
        total_iters: in how many epochs.
        last_epoch: the epoch that was done last; -1 begins anew.

    Raises:
        ValueError: for another factor.

    >>> optimizer = nano.optim.SGD([nano.ones(1, requires_grad=True)], lr=1.0)
    >>> schedule = nano.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> optimizer.step(); schedule.step()
    >>> schedule.get_last_lr()
    [0.75]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise InputError(
                "LinearLR", f"start_factor must be above 0 and at most 1, got {start_factor}."
            )
        if not 0 <= end_factor <= 1:
            raise InputError("LinearLR", f"end_factor must be between 0 and 1, got {end_factor}.")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rate now, times the quotient of this epoch's factor and the last one's."""
        rates = self._present_lr()
        if self.last_epoch == 0:
            return [lr * self.start_factor for lr in rates]
        if self._is_initial or self.last_epoch > self.total_iters:
            return rates
        rise = self.end_factor - self.start_factor
        before = self.total_iters * self.start_factor + (self.last_epoch - 1) * rise
        return [lr * (1.0 + rise / before) for lr in rates]

    def _get_closed_form_lr(self) -> list[float]:
        rise = self.end_factor - self.start_factor
        done = min(self.total_iters, self.last_epoch)
        factor = self.start_factor + rise * done / self.total_iters
        return [base * factor for base in self.base_lrs]


class ExponentialLR(LRScheduler):
    """Multiply the rate by ``gamma`` in every epoch.

    >>> optimizer = nano.optim.SGD([nano.ones(1, requires_grad=True)], lr=1.0)
    >>> schedule = nano.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    >>> optimizer.step(); schedule.step()
    >>> schedule.get_last_lr()
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rate now, multiplied."""
        rates = self._present_lr()
        return rates if self._is_initial else [lr * self.gamma for lr in rates]

    def _get_closed_form_lr(self) -> list[float]:
        return [base * self.gamma**self.last_epoch for base in self.base_lrs]


class PolynomialLR(LRScheduler):
    """The first rate times (1 - epoch / total_iters)^power, down to 0.

    >>> optimizer = nano.optim.SGD([nano.ones(1, requires_grad=True)], lr=1.0)
    >>> schedule = nano.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=4, power=2.0)
    >>> for _ in range(2):
    ...     optimizer.step(); schedule.step()
    >>> schedule.get_last_lr()
    [0.25]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_iters: int = 5,
        power: float = 1.0,
        last_epoch: int = -1,
    ) -> None:
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rate now, times the quotient of this epoch's factor and the last one's."""
        rates = self._present_lr()
        if self._is_initial or self.last_epoch > self.total_iters:
            return rates
        left = 1.0 - self.last_epoch / self.total_iters
        left_before = 1.0 - (self.last_epoch - 1) / self.total_iters
        factor = (left / left_before) ** self.power
        return [lr * factor for lr in rates]

    def _get_closed_form_lr(self) -> list[float]:
        left = 1.0 - min(self.total_iters, self.last_epoch) / self.total_iters
        return [base * left**self.power for base in self.base_lrs]


class _OfFunctions(LRScheduler):
    """A schedule by functions of the epoch, one a group; they are left out of the state."""

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Factor | Sequence[Factor], last_epoch: int = -1
    ) -> None:
        check_optimizer(self, optimizer)
        self.lr_lambdas = for_each_group(self, "functions", optimizer, lr_lambda)
        for factor in self.lr_lambdas:
            if not callable(factor):
                raise TypeMismatchError(
                    type(self).__name__,
                    f"lr_lambda should be a function, but got {type(factor).__name__}.",
                )
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        """As of every schedule; of ``lr_lambdas``, the attributes of those that are objects."""
        kept = [without_functions(factor) for factor in self.lr_lambdas]
        return {**super().state_dict(), "lr_lambdas": kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to what :meth:`state_dict` gave; functions stay as they are."""
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "lr_lambdas"})
        for factor, kept in zip(self.lr_lambdas, state_dict["lr_lambdas"], strict=True):
            if kept is not None:
                vars(factor).update(kept)


class LambdaLR(_OfFunctions):
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

    def get_lr(self) -> list[float]:
        """The first rates, each times its function of the epoch."""
        self._present_lr()
        return [
            base * factor(self.last_epoch)
            for base, factor in zip(self.base_lrs, self.lr_lambdas, strict=True)
        ]


class MultiplicativeLR(_OfFunctions):
    """The last rate times ``lr_lambda(epoch)``; arguments as for :class:`LambdaLR`.

    >>> optimizer = nano.optim.SGD([nano.ones(1, requires_grad=True)], lr=1.0)
    >>> schedule = nano.optim.lr_scheduler.MultiplicativeLR(optimizer, lambda epoch: 0.5)
    >>> for _ in range(2):
    ...     optimizer.step(); schedule.step()
    >>> schedule.get_last_lr()
    [0.25]
    """

    def get_lr(self) -> list[float]:
        """The rates now, each times its function of the epoch."""
        rates = self._present_lr()
        if self._is_initial:
            return rates
        return [
            lr * factor(self.last_epoch) for lr, factor in zip(rates, self.lr_lambdas, strict=True)
        ]
