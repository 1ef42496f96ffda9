"""Schedules made of schedules: one after another, or all at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from ...errors import InputError, TypeMismatchError
from ..optimizer import Optimizer
from .plateau import ReduceLROnPlateau
from .schedule import LRScheduler, set_value, shown_to_hooks, values_of

__all__ = ["ChainedScheduler", "SequentialLR"]


class _Combined(LRScheduler):
    """What both share: checking the parts, and keeping their states."""

    _schedulers: Sequence[LRScheduler]

    def _check_parts(self, optimizer: Any, schedulers: Sequence[Any]) -> None:
        name = type(self).__name__
        for i, part in enumerate(schedulers):
            if not hasattr(part, "optimizer"):
                raise TypeMismatchError(
                    name,
                    f"at index {i} should have `optimizer` as its attribute, "
                    f"but {type(part).__name__} has not.",
                )
            if isinstance(part, ReduceLROnPlateau):
                raise InputError(
                    name,
                    "does not support ReduceLROnPlateau, whose step() needs a value, "
                    f"but got one at index {i}.",
                )
            if part.optimizer is not optimizer:
                raise InputError(
                    name,
                    "expects all schedulers to belong to the same optimizer, "
                    f"but {type(part).__name__} at index {i} does not.",
                )

    def state_dict(self) -> dict[str, Any]:
        """As of every schedule, with the states of the parts."""
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to what :meth:`state_dict` gave."""
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "_schedulers"})
        for part, kept in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            part.load_state_dict(kept)


class SequentialLR(_Combined):
    """One schedule after another; each begins at a milestone.

    Args:
        optimizer: whose learning rates are set.
        schedulers: the schedules, of that optimizer.
        milestones: the epochs in which the second, third ... schedule begins.
        last_epoch: the epoch that was done last; -1 begins anew.

    Raises:
        ValueError: if there is not one milestone less than schedules, or a schedule
            belongs to another optimizer.

    >>> optimizer = nano.optim.SGD([nano.ones(1, requires_grad=True)], lr=1.0)
    >>> warm_up = nano.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> decay = nano.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    >>> schedule = nano.optim.lr_scheduler.SequentialLR(optimizer, [warm_up, decay], [2])
    >>> for _ in range(4):
    ...     print(schedule.get_last_lr())
    ...     optimizer.step(); schedule.step()
    [0.5]
    [0.75]
    [1.0]
    [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: list[LRScheduler],
        milestones: list[int],
        last_epoch: int = -1,
    ) -> None:
        if not schedulers:
            raise InputError("SequentialLR", "expects at least one scheduler, got none.")
        self._check_parts(optimizer, schedulers)
        if len(milestones) != len(schedulers) - 1:
            raise InputError(
                "SequentialLR",
                "expects number of schedulers to be one more than the number of milestones, "
                f"got {len(schedulers)} and {len(milestones)}.",
            )
        self._schedulers = schedulers
        self._milestones = milestones
        self.last_epoch = last_epoch + 1
        self.optimizer = optimizer
        # Each schedule took its first step when it was made. Undo them all, and begin.
        for group in optimizer.param_groups:
            set_value(group, "lr", group["initial_lr"])
        self.recursive_undo()
        first = schedulers[bisect_right(milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def recursive_undo(self, sched: LRScheduler | None = None) -> None:
        """Take back one step of every schedule inside ``sched``."""
        part = self if sched is None else sched
        if hasattr(part, "_schedulers"):
            for inner in part._schedulers:
                self.recursive_undo(inner)
        elif hasattr(part, "last_epoch"):
            part.last_epoch -= 1

    @shown_to_hooks
    def step(self) -> None:  # type: ignore[override]
        """Go on by one epoch, in the schedule whose turn it is."""
        self.last_epoch += 1
        turn = bisect_right(self._milestones, self.last_epoch)
        part = self._schedulers[turn]
        if turn > 0 and self._milestones[turn - 1] == self.last_epoch:
            part._update_lr(0)
        else:
            part.step()
        self._last_lr = part.get_last_lr()


class ChainedScheduler(_Combined):
    """Several schedules at once: each multiplies what the one before it has set.

    Args:
        schedulers: the schedules, all of one optimizer.
        optimizer: that optimizer, if it is to be checked.

    Raises:
        ValueError: if there is no schedule, or one belongs to another optimizer.

    >>> optimizer = nano.optim.SGD([nano.ones(1, requires_grad=True)], lr=1.0)
    >>> first = nano.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=1)
    >>> second = nano.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    >>> schedule = nano.optim.lr_scheduler.ChainedScheduler([first, second])
    >>> for _ in range(2):
    ...     optimizer.step(); schedule.step()
    >>> schedule.get_last_lr()
    [0.25]
    """

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None
    ) -> None:
        if not schedulers:
            raise InputError("ChainedScheduler", "expects at least one scheduler, got none.")
        first = getattr(schedulers[0], "optimizer", None) if optimizer is None else optimizer
        self._check_parts(first, schedulers)
        self._schedulers = schedulers
        self.optimizer = schedulers[0].optimizer
        self._last_lr = values_of(self.optimizer, "lr")

    @shown_to_hooks
    def step(self) -> None:  # type: ignore[override]
        """Go on by one epoch in every schedule."""
        for part in self._schedulers:
            part.step()
        self._last_lr = values_of(self.optimizer, "lr")
