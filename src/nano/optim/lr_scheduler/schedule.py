"""LRScheduler: what all schedules share. The formulas are in the files beside this one.

A schedule computes the next rate from the present one (``get_lr``), so that several
schedules may act on one optimizer. Where there is a formula of the epoch alone, it
stands in ``_get_closed_form_lr``, and is used when ``step`` is given an epoch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from types import FunctionType
from typing import Any

from ...errors import InputError, KeyMissingError, TypeMismatchError
from ...hook import Call, hooks, through_hooks
from ...tensor import Tensor
from ..optimizer import Optimizer

__all__ = ["LRScheduler"]


def shown_to_hooks(step: Callable[..., None]) -> Callable[..., None]:
    """Let a method that changes rates pass through the hooks: it can be done again."""

    @wraps(step)
    def run(self: Any, *args: Any, **kwargs: Any) -> None:
        if not hooks:
            return step(self, *args, **kwargs)
        again = partial(step, self, *args, **kwargs)
        return through_hooks(Call(f"{type(self).__name__}.step", "schedule", again), (), {}, again)

    return run


class LRScheduler:
    """Base of all schedules: sets every group's ``"lr"`` at each :meth:`step`.

    Args:
        optimizer: whose learning rates are set. Each group's rate at the beginning is
            kept as ``"initial_lr"``.
        last_epoch: the epoch that was done last; -1 begins anew.

    Raises:
        TypeError: if ``optimizer`` is no Optimizer.
        KeyError: if it goes on from an epoch without ``"initial_lr"`` in every group.
    """

    _get_lr_called_within_step = False
    _is_initial = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        check_optimizer(self, optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", copied(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyMissingError(
                    type(self).__name__,
                    f"param 'initial_lr' is not specified in param_groups[{i}], which is needed "
                    f"to go on from epoch {last_epoch}.",
                    hint="Load the optimizer's state_dict before.",
                )
        self.optimizer = optimizer
        self.base_lrs = values_of(optimizer, "initial_lr")
        self.last_epoch = last_epoch
        if optimizer._opt_called is None:
            optimizer._opt_called = False
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def get_lr(self) -> list[float]:
        """The rate of each group in epoch ``last_epoch``; for :meth:`step` to call.

        Every subclass says it. :meth:`get_last_lr` is for users.
        """
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The rate of each group that was set last."""
        return self._last_lr

    @shown_to_hooks
    def step(self, epoch: int | None = None) -> None:
        """Go on by one epoch; to be called after the optimizer's ``step``.

        Args:
            epoch: go to this epoch instead. Deprecated, as in PyTorch.
        """
        if self._step_count == 1:
            self._warn_of_order()
        self._step_count += 1
        if epoch is not None:
            warn_of_epoch(stacklevel=4)
        self._update_lr(epoch)

    def _warn_of_order(self) -> None:
        if "step" in vars(self.optimizer):
            what = (
                "Seems like `optimizer.step()` has been overridden after learning rate scheduler "
                "initialization. Please, make sure to call `optimizer.step()` before "
                "`lr_scheduler.step()`."
            )
        elif type(self.optimizer).step is Optimizer.step and not self.optimizer._opt_called:
            what = (
                "Detected call of `lr_scheduler.step()` before `optimizer.step()`. They should be "
                "called in the opposite order: `optimizer.step()` before `lr_scheduler.step()`. "
                "Else the first value of the learning rate schedule is skipped."
            )
        else:
            return
        warnings.warn(what, UserWarning, stacklevel=4)

    def _update_lr(self, epoch: int | None = None) -> None:
        with self._within_step():
            if epoch is None:
                self.last_epoch += 1
                rates = self.get_lr()
            else:
                self.last_epoch = epoch
                closed_form = getattr(self, "_get_closed_form_lr", self.get_lr)
                rates = closed_form()
        self._set_lr(rates)

    def _set_lr(self, rates: Iterable[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            set_value(group, "lr", lr)
        self._last_lr = values_of(self.optimizer, "lr")

    @contextmanager
    def _within_step(self) -> Iterator[None]:
        self._get_lr_called_within_step = True
        try:
            yield
        finally:
            self._get_lr_called_within_step = False

    def _present_lr(self) -> list[float]:
        """The rate of each group now; warns if a user asked."""
        if not self._get_lr_called_within_step:
            warnings.warn(
                "To get the last learning rate computed by the scheduler, "
                "please use `get_last_lr()`.",
                UserWarning,
                stacklevel=3,
            )
        return values_of(self.optimizer, "lr")

    def state_dict(self) -> dict[str, Any]:
        """All that changes, and the options; the optimizer has a state of its own."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to what :meth:`state_dict` gave."""
        self.__dict__.update(state_dict)


def check_optimizer(schedule: Any, optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise TypeMismatchError(
            type(schedule).__name__, f"{type(optimizer).__name__} is not an Optimizer."
        )


def warn_of_epoch(stacklevel: int = 3) -> None:
    warnings.warn(
        "The epoch parameter in `scheduler.step()` was not necessary and is being deprecated "
        "where possible. Please use `scheduler.step()` to step the scheduler.",
        UserWarning,
        stacklevel=stacklevel,
    )


def for_each_group(schedule: Any, name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """An option of a schedule as one value a group."""
    groups = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [copied(value) for _ in range(groups)]
    if len(value) != groups:
        raise InputError(
            type(schedule).__name__, f"expected {groups} {name}, one a group, got {len(value)}."
        )
    return [copied(x) for x in value]


def copied(value: Any) -> Any:
    """A rate that later changes of the group do not reach; it may be a 0-d Tensor."""
    return value.detach().clone() if isinstance(value, Tensor) else value


def values_of(optimizer: Optimizer, key: str) -> list[Any]:
    """The value of an option in each group."""
    return [copied(group[key]) for group in optimizer.param_groups]


def set_value(group: dict[str, Any], key: str, value: Any) -> None:
    """Set an option of a group; a Tensor stays the same object."""
    if isinstance(group[key], Tensor):
        group[key].detach().fill_(float(value))
    else:
        group[key] = value


def without_functions(value: Any) -> Any:
    """What a state_dict keeps of a callable: the attributes of an object, None of a function."""
    return None if value is None or isinstance(value, FunctionType) else dict(vars(value))
