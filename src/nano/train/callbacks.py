"""Callbacks: what happens around training without being part of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["Callback", "OneCycle"]


class Callback:
    """Called by a Trainer at the moments that the methods name; a subclass fills some in.

    A callback that keeps a state of its own cannot be resumed; derive what is needed from
    ``trainer.step``, ``trainer.epoch`` and ``trainer.history``.
    """

    def on_fit_start(self, trainer: Trainer) -> None:
        """Before the first batch."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Before an epoch, or what is left of it after a resume."""

    def on_batch_start(self, trainer: Trainer) -> None:
        """Before a batch; ``trainer.step`` counts the optimizer steps done."""

    def on_batch_end(self, trainer: Trainer) -> None:
        """After an optimizer step; ``trainer.running`` holds the means of the epoch so far."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        """After an epoch; ``trainer.history[-1]`` is its row."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """At the end, also when training is stopped or fails."""


class OneCycle(Callback):
    """The learning rate rises along a cosine to its maximum, then falls to almost nothing.

    A function of the step alone: from max_lr / 25 up in the first part ``warm_up`` of all
    steps, then down to max_lr / 250,000.

    Args:
        max_lr: the highest learning rate, or one for each group of the optimizer.
        warm_up: the part of all steps in which it rises, between 0 and 1.

    Raises:
        ValueError: for a maximum that is not positive or a part outside (0, 1); when training
            begins, for another number of maxima than groups.

    Source: L. Smith and N. Topin 2018, "Super-Convergence: Very Fast Training of Neural
    Networks Using Large Learning Rates".

    >>> cycle = nano.train.OneCycle(1.0)
    >>> [round(cycle.at(part), 2) for part in (0.0, 0.3, 0.65, 1.0)]
    [0.04, 1.0, 0.5, 0.0]
    """

    start_divisor = 25.0
    end_divisor = 250_000.0

    def __init__(self, max_lr: float | Sequence[float], warm_up: float = 0.3) -> None:
        self.max_lrs = list(max_lr) if isinstance(max_lr, Sequence) else [max_lr]
        for x in self.max_lrs:
            if not x > 0:
                raise InputError("OneCycle", f"max_lr must be positive, got {x}.")
        if not 0 < warm_up < 1:
            raise InputError("OneCycle", f"warm_up must be between 0 and 1, got {warm_up}.")
        self.warm_up = warm_up

    def at(self, part: float, group: int = 0) -> float:
        """The learning rate of a group when ``part`` of all steps is done."""
        high = self.max_lrs[group]
        if part < self.warm_up:
            low, progress = high / self.start_divisor, 1 - part / self.warm_up
        else:
            low = high / self.end_divisor
            progress = (part - self.warm_up) / (1 - self.warm_up)
        return low + (high - low) * (1 + math.cos(math.pi * progress)) / 2

    def on_fit_start(self, trainer: Trainer) -> None:
        groups = len(trainer.optimizer.param_groups)
        if len(self.max_lrs) not in (1, groups):
            raise InputError(
                "OneCycle", f"expected {groups} values for max_lr, got {len(self.max_lrs)}."
            )

    def on_batch_start(self, trainer: Trainer) -> None:
        part = min(trainer.step / max(trainer.total_steps - 1, 1), 1.0)
        several = len(self.max_lrs) > 1
        for i, group in enumerate(trainer.optimizer.param_groups):
            group["lr"] = self.at(part, i if several else 0)
