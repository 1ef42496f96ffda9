"""Schedules that go up and down: cosines, and cycles of rate and momentum together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...errors import InputError
from ..optimizer import Optimizer
from .schedule import (
    LRScheduler,
    check_optimizer,
    for_each_group,
    set_value,
    shown_to_hooks,
    without_functions,
)

__all__ = ["CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR"]


class CosineAnnealingLR(LRScheduler):
    """The rate falls along half a cosine to ``eta_min`` in ``T_max`` epochs, then rises again.

    lr = eta_min + (first - eta_min) (1 + cos(pi epoch / T_max)) / 2.

    Source: I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm
    restarts", ICLR 2017; without the restarts.

    >>> optimizer = nano.optim.SGD([nano.ones(1, requires_grad=True)], lr=1.0)
    >>> schedule = nano.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
    >>> optimizer.step(); schedule.step()
    >>> schedule.get_last_lr()
    [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_max: int,  # noqa: N803  (PyTorch's name)
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rate now, times the quotient of this epoch's height and the last one's."""
        rates = self._present_lr()
        if self._is_initial:
            return rates
        if self._step_count == 1 and self.last_epoch > 0:
            return self._get_closed_form_lr()
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:
            # The last height was 0, and says nothing about this one.
            rise = (1 - math.cos(math.pi / self.T_max)) / 2
            return [
                lr + (base - self.eta_min) * rise
                for base, lr in zip(self.base_lrs, rates, strict=True)
            ]
        height = 1 + math.cos(math.pi * self.last_epoch / self.T_max)
        before = 1 + math.cos(math.pi * (self.last_epoch - 1) / self.T_max)
        return [height / before * (lr - self.eta_min) + self.eta_min for lr in rates]

    def _get_closed_form_lr(self) -> list[float]:
        height = 1 + math.cos(math.pi * self.last_epoch / self.T_max)
        return [self.eta_min + (base - self.eta_min) * height / 2 for base in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """The rate falls along half a cosine, jumps back, and falls again, in longer periods.

    Args:
        optimizer: whose learning rates are set.
        T_0: how many epochs the first period has.
        T_mult: how many times longer each period is than the one before it.
        eta_min: the lowest rate.
        last_epoch: the epoch that was done last; -1 begins anew.

    Raises:
        ValueError: if ``T_0`` or ``T_mult`` is no positive integer.

    Source: I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm
    restarts", ICLR 2017.

    >>> optimizer = nano.optim.SGD([nano.ones(1, requires_grad=True)], lr=1.0)
    >>> schedule = nano.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2)
    >>> for _ in range(3):
    ...     print(schedule.get_last_lr())
    ...     optimizer.step(); schedule.step()
    [1.0]
    [0.5]
    [1.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,  # noqa: N803  (PyTorch's name)
        T_mult: int = 1,  # noqa: N803
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        owner = type(self).__name__
        if not isinstance(T_0, int) or T_0 <= 0:
            raise InputError(owner, f"expected positive integer T_0, but got {T_0}.")
        if not isinstance(T_mult, int) or T_mult < 1:
            raise InputError(owner, f"expected integer T_mult >= 1, but got {T_mult}.")
        if not isinstance(eta_min, (float, int)):
            raise InputError(owner, f"expected float or int eta_min, got {eta_min!r}.")
        self.T_0 = T_0
        self.T_i = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rate after ``T_cur`` epochs of a period that has ``T_i``."""
        self._present_lr()
        height = 1 + math.cos(math.pi * self.T_cur / self.T_i)
        return [self.eta_min + (base - self.eta_min) * height / 2 for base in self.base_lrs]

    @shown_to_hooks
    def step(self, epoch: float | None = None) -> None:
        """Go on by one epoch, or to ``epoch``, which may be a fraction.

        Raises:
            ValueError: if ``epoch`` is negative.

        >>> optimizer = nano.optim.SGD([nano.ones(1, requires_grad=True)], lr=1.0)
        >>> schedule = nano.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2)
        >>> schedule.step(0 + 3 / 6)  # after 3 of 6 batches
        >>> round(schedule.get_last_lr()[0], 4)
        0.8536
        """
        self._update_lr(epoch)  # type: ignore[arg-type]

    def _update_lr(self, epoch: float | None = None) -> None:
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        elif epoch < 0:
            raise InputError(type(self).__name__, f"expected non-negative epoch, got {epoch}.")
        else:
            self._place(epoch)
        self.last_epoch = math.floor(epoch)
        with self._within_step():
            rates = self.get_lr()
        self._set_lr(rates)

    def _place(self, epoch: float) -> None:
        """In which period ``epoch`` lies, and where."""
        if epoch < self.T_0:
            self.T_i, self.T_cur = self.T_0, epoch
        elif self.T_mult == 1:
            self.T_cur = epoch % self.T_0
        else:
            # Periods of T_0, T_0 q, T_0 q^2 ...: n of them end before T_0 (q^n - 1) / (q - 1).
            q = self.T_mult
            n = int(math.log(epoch / self.T_0 * (q - 1) + 1, q))
            self.T_cur = epoch - self.T_0 * (q**n - 1) / (q - 1)
            self.T_i = self.T_0 * q**n


class _WithMomentum(LRScheduler):
    """A schedule that also moves the momentum, or the first beta, against the rate."""

    cycle_momentum: bool
    use_beta1: bool

    def _begin_momentum(
        self, optimizer: Optimizer, base_momentum: Any, max_momentum: Any, last_epoch: int
    ) -> tuple[list[float], list[float]]:
        """The lowest and the highest momentum of each group."""
        if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
            raise InputError(
                type(self).__name__,
                "optimizer must support momentum or beta1 with `cycle_momentum` option enabled.",
                hint="Say cycle_momentum=False.",
            )
        self.use_beta1 = "betas" in optimizer.defaults
        lowest = for_each_group(self, "base_momentum", optimizer, base_momentum)
        highest = for_each_group(self, "max_momentum", optimizer, max_momentum)
        if last_epoch == -1:
            for low, high, group in zip(lowest, highest, optimizer.param_groups, strict=True):
                self._set_momentum(group, high)
                group["max_momentum"] = high
                group["base_momentum"] = low
        return lowest, highest

    def _set_momentum(self, group: dict[str, Any], momentum: float) -> None:
        if self.use_beta1:
            group["betas"] = (momentum, *group["betas"][1:])
        else:
            group["momentum"] = momentum


class OneCycleLR(_WithMomentum):
    """The rate rises from ``max_lr / div_factor`` to ``max_lr``, then falls to almost nothing.

    To be stepped after every batch. The momentum (or the first beta) does the opposite.

    Args:
        optimizer: whose learning rates are set.
        max_lr: the highest rate; one number, or one a group.
        total_steps: how many steps there are in all; or
        epochs, steps_per_epoch: ... this many times that many.
        pct_start: the part of all steps in which the rate rises.
        anneal_strategy: ``"cos"`` or ``"linear"``.
        cycle_momentum: whether to move the momentum too,
        base_momentum, max_momentum: ... between these.
        div_factor: the first rate is ``max_lr`` divided by this,
        final_div_factor: ... and the last rate the first one divided by this.
        three_phase: fall to the first rate as fast as it rose, and only then further.
        last_epoch: the step that was done last; -1 begins anew.

    Raises:
        ValueError: if an option makes no sense, or at a step too many.

    Source: L. Smith and N. Topin, "Super-convergence: very fast training of neural networks
    using large learning rates", 2018.

    >>> optimizer = nano.optim.SGD([nano.ones(1, requires_grad=True)], lr=0.1, momentum=0.9)
    >>> schedule = nano.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=10)
    >>> for _ in range(2):
    ...     optimizer.step(); schedule.step()
    >>> schedule.get_last_lr(), optimizer.param_groups[0]["momentum"]
    ([1.0], 0.85)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        check_optimizer(self, optimizer)
        self.optimizer = optimizer
        self.total_steps = self._steps_in_all(total_steps, epochs, steps_per_epoch)
        if not isinstance(pct_start, float) or not 0 <= pct_start <= 1:
            raise InputError("OneCycleLR", f"expected float between 0 and 1 pct_start: {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise InputError(
                "OneCycleLR",
                f"anneal_strategy must be one of 'cos' or 'linear', got {anneal_strategy!r}.",
            )
        self._schedule_phases = _phases(pct_start * self.total_steps, self.total_steps, three_phase)
        self._anneal_func_type = anneal_strategy
        highest = for_each_group(self, "max_lr", optimizer, max_lr)
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self._begin_momentum(optimizer, base_momentum, max_momentum, last_epoch)
        if last_epoch == -1:
            for group, high in zip(optimizer.param_groups, highest, strict=True):
                group["initial_lr"] = high / div_factor
                group["max_lr"] = high
                group["min_lr"] = group["initial_lr"] / final_div_factor
        super().__init__(optimizer, last_epoch)

    def _steps_in_all(self, total_steps: Any, epochs: Any, steps_per_epoch: Any) -> int:
        if total_steps is None and (epochs is None or steps_per_epoch is None):
            raise InputError(
                "OneCycleLR",
                "you must define either total_steps OR (epochs AND steps_per_epoch).",
            )
        given = {"total_steps": total_steps}
        if total_steps is None:
            given = {"epochs": epochs, "steps_per_epoch": steps_per_epoch}
        for name, value in given.items():
            if not isinstance(value, int) or value <= 0:
                raise InputError("OneCycleLR", f"expected positive integer {name}, got {value}.")
        return math.prod(given.values())

    def get_lr(self) -> list[float]:
        """The rate of this step; sets the momentum, too."""
        self._present_lr()
        if self.last_epoch > self.total_steps:
            raise InputError(
                "OneCycleLR",
                f"tried to step {self.last_epoch} times. "
                f"The specified number of total steps is {self.total_steps}.",
            )
        begin = 0.0
        for phase in self._schedule_phases:
            end = phase["end_step"]
            if self.last_epoch <= end or phase is self._schedule_phases[-1]:
                break
            begin = end
        part = (self.last_epoch - begin) / (end - begin)
        if self.cycle_momentum:
            for group in self.optimizer.param_groups:
                start, stop = group[phase["start_momentum"]], group[phase["end_momentum"]]
                self._set_momentum(group, self._between(start, stop, part))
        return [
            self._between(group[phase["start_lr"]], group[phase["end_lr"]], part)
            for group in self.optimizer.param_groups
        ]

    def _between(self, start: float, end: float, part: float) -> float:
        if self._anneal_func_type == "linear":
            return (end - start) * part + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)


def _phases(rise: float, total: int, three: bool) -> list[dict[str, Any]]:
    """Each phase's last step, and between which options of a group rate and momentum go."""

    def phase(end_step: float, lrs: str, momentums: str) -> dict[str, Any]:
        (start_lr, end_lr), (start, end) = lrs.split(), momentums.split()
        return {
            "end_step": end_step,
            "start_lr": start_lr,
            "end_lr": end_lr,
            "start_momentum": start,
            "end_momentum": end,
        }

    up = phase(float(rise) - 1, "initial_lr max_lr", "max_momentum base_momentum")
    if not three:
        return [up, phase(total - 1, "max_lr min_lr", "base_momentum max_momentum")]
    return [
        up,
        phase(float(2 * rise) - 2, "max_lr initial_lr", "base_momentum max_momentum"),
        phase(total - 1, "initial_lr min_lr", "max_momentum max_momentum"),
    ]


class CyclicLR(_WithMomentum):
    """The rate goes up and down between two bounds, again and again.

    To be stepped after every batch. The momentum (or the first beta) does the opposite.

    Args:
        optimizer: whose learning rates are set.
        base_lr, max_lr: the bounds; one number, or one a group.
        step_size_up, step_size_down: how many steps up, and down (as many, if None).
        mode: ``"triangular"`` for equal cycles, ``"triangular2"`` for cycles of which each is
            half as high as the last, ``"exp_range"`` for a height of ``gamma ** step``.
        gamma: see ``mode``.
        scale_fn: the height as a function, instead of ``mode``,
        scale_mode: ... of the number of the ``"cycle"`` or of ``"iterations"``.
        cycle_momentum: whether to move the momentum too,
        base_momentum, max_momentum: ... between these.
        last_epoch: the step that was done last; -1 begins anew.

    Raises:
        ValueError: if an option makes no sense.

    Source: L. Smith, "Cyclical learning rates for training neural networks", WACV 2017.

    >>> optimizer = nano.optim.SGD([nano.ones(1, requires_grad=True)], lr=0.1, momentum=0.9)
    >>> schedule = nano.optim.lr_scheduler.CyclicLR(optimizer, 0.0, 1.0, step_size_up=2)
    >>> for _ in range(3):
    ...     optimizer.step(); schedule.step()
    >>> schedule.get_last_lr()
    [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float = 0.8,
        max_momentum: float = 0.9,
        last_epoch: int = -1,
    ) -> None:
        check_optimizer(self, optimizer)
        self.optimizer = optimizer
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise InputError("CyclicLR", f"mode {mode!r} is invalid and scale_fn is None.")
        lowest = for_each_group(self, "base_lr", optimizer, base_lr)
        self.max_lrs = for_each_group(self, "max_lr", optimizer, max_lr)
        down = step_size_up if step_size_down is None else step_size_down
        self.total_size = float(step_size_up) + float(down)
        self.step_ratio = float(step_size_up) / self.total_size
        self.mode = mode
        self.gamma = gamma
        self._scale_fn_custom = scale_fn
        self.scale_mode = scale_mode
        if scale_fn is None:
            self.scale_mode = "iterations" if mode == "exp_range" else "cycle"
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.base_momentums, self.max_momentums = self._begin_momentum(
                optimizer, base_momentum, max_momentum, last_epoch
            )
        if last_epoch == -1:
            for lr, group in zip(lowest, optimizer.param_groups, strict=True):
                set_value(group, "lr", lr)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = lowest

    def scale_fn(self, x: float) -> float:
        """How high a cycle is, as a part of the first: of the cycle's number, or the step's."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        if self.mode == "triangular2":
            return 1 / 2.0 ** (x - 1)
        return self.gamma**x if self.mode == "exp_range" else 1.0

    def get_lr(self) -> list[float]:
        """The rate of this step; sets the momentum, too."""
        self._present_lr()
        done = self.last_epoch / self.total_size
        cycle = math.floor(1 + done)
        x = 1.0 + done - cycle
        ratio = self.step_ratio
        height = x / ratio if x <= ratio else (x - 1) / (ratio - 1)
        scale = self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            bounds = zip(self.base_momentums, self.max_momentums, strict=True)
            for group, (low, high) in zip(self.optimizer.param_groups, bounds, strict=True):
                self._set_momentum(group, high - (high - low) * height * scale)
        return [
            low + (high - low) * height * scale
            for low, high in zip(self.base_lrs, self.max_lrs, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """As of every schedule; of ``scale_fn``, the attributes if it is an object."""
        kept = without_functions(self._scale_fn_custom)
        return {**super().state_dict(), "_scale_fn_custom": kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to what :meth:`state_dict` gave; a function stays as it is."""
        kept = state_dict["_scale_fn_custom"]
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "_scale_fn_custom"})
        if kept is not None:
            vars(self._scale_fn_custom).update(kept)
