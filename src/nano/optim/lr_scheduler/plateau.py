"""A schedule that looks at how training goes."""

from __future__ import annotations

import math
from typing import Any

from ...errors import ArgumentError, InputError
from ..optimizer import Optimizer
from .schedule import (
    LRScheduler,
    check_optimizer,
    for_each_group,
    set_value,
    shown_to_hooks,
    values_of,
    warn_of_epoch,
)

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(LRScheduler):
    """Multiply the rate by ``factor`` when a value has not become better for some epochs.

    Args:
        optimizer: whose learning rates are set.
        mode: ``"min"`` if less is better (a loss), ``"max"`` if more is (an accuracy).
        factor: below 1.
        patience: how many epochs without a better value are allowed.
        threshold: by how much a value must be better to count.
        threshold_mode: ``"rel"`` for a share of the best value, ``"abs"`` for a difference.
        cooldown: how many epochs after a change do not count.
        min_lr: the rate does not fall below; one number, or one a group.
        eps: a smaller change of the rate is not made.

    Raises:
        ValueError: if an option makes no sense.

    >>> optimizer = nano.optim.SGD([nano.ones(1, requires_grad=True)], lr=1.0)
    >>> schedule = nano.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     optimizer.step(); schedule.step(loss)
    >>> schedule.get_last_lr()
    [0.1]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: list[float] | float = 0,
        eps: float = 1e-8,
    ) -> None:
        owner = type(self).__name__
        if factor >= 1:
            raise InputError(owner, f"factor should be < 1.0, got {factor}.")
        check_optimizer(self, optimizer)
        for name, given, known in (
            ("mode", mode, ("min", "max")),
            ("threshold_mode", threshold_mode, ("rel", "abs")),
        ):
            if given not in known:
                raise InputError(owner, f"{name} {given!r} is unknown; there is {known}.")
        self.factor = factor
        self.optimizer = optimizer
        self.default_min_lr = None if isinstance(min_lr, (list, tuple)) else min_lr
        self.min_lrs = for_each_group(self, "min_lrs", optimizer, min_lr)
        self.patience = patience
        self.cooldown = cooldown
        self.eps = eps
        self.last_epoch = 0
        self._last_lr = values_of(optimizer, "lr")
        self.mode_worse = math.inf if mode == "min" else -math.inf
        self.mode = mode
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self._reset()

    def _reset(self) -> None:
        self.best = self.mode_worse
        self.cooldown_counter = 0
        self.num_bad_epochs = 0

    @property
    def in_cooldown(self) -> bool:
        """Whether the rate was changed so lately that epochs do not count."""
        return self.cooldown_counter > 0

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Go on by one epoch, at whose end the value is ``metrics``.

        Args:
            metrics: a number or a tensor of one element. NaN is not better than anything.
            epoch: the number of the epoch. Deprecated, as in PyTorch.
        """
        current = float(metrics)
        if epoch is not None:
            warn_of_epoch()
        self._go_on(current, epoch)

    @shown_to_hooks
    def _go_on(self, current: float, epoch: int | None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._is_better(current, self.best):
            self.best = current
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce_lr()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = values_of(self.optimizer, "lr")

    def _is_better(self, value: float, best: float) -> bool:
        relative = self.threshold_mode == "rel"
        if self.mode == "min":
            return value < (best * (1.0 - self.threshold) if relative else best - self.threshold)
        return value > (best * (self.threshold + 1.0) if relative else best + self.threshold)

    def _reduce_lr(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):
            if self.default_min_lr is None:
                raise ArgumentError(
                    "ReduceLROnPlateau",
                    f"the optimizer has {len(groups)} groups, but min_lr {len(self.min_lrs)}.",
                    hint="After add_param_group, set schedule.min_lrs anew.",
                )
            self.min_lrs = [self.default_min_lr] * len(groups)
        for group, least in zip(groups, self.min_lrs, strict=True):
            old = float(group["lr"])
            new = max(old * self.factor, least)
            if old - new > self.eps:
                set_value(group, "lr", new)
