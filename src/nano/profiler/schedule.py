"""When to watch: the steps of a training that a profile notes, for a long run is too much."""

from __future__ import annotations

import enum
from collections.abc import Callable

from ..errors import InputError

__all__ = ["ProfilerAction", "schedule"]


class ProfilerAction(enum.Enum):
    """What a profile does in a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3

    @property
    def records(self) -> bool:
        """Whether events of the step are noted."""
        return self.value >= 2


def schedule(
    *,
    wait: int,
    warmup: int,
    active: int,
    repeat: int = 0,
    skip_first: int = 0,
    skip_first_wait: int = 0,
) -> Callable[[int], ProfilerAction]:
    """Cycles of steps: ``wait`` and ``warmup`` go by unseen, then ``active`` are noted.

    Args:
        wait: steps before each cycle.
        warmup: further steps that are not noted; PyTorch warms its tracer up in them.
        active: steps that are noted; then ``on_trace_ready`` is called.
        repeat: how many cycles; 0: until the end.
        skip_first: steps before the first cycle.
        skip_first_wait: not 0: the first cycle begins without ``wait``.

    Returns:
        A function from the step's number to what is done in it, for ``profile(schedule=...)``.

    Raises:
        ValueError: for negative numbers, or without active steps.

    >>> when = nano.profiler.schedule(wait=1, warmup=0, active=2, repeat=1)
    >>> [when(step).name for step in range(4)]
    ['NONE', 'RECORD', 'RECORD_AND_SAVE', 'NONE']
    """
    if min(wait, warmup, repeat, skip_first) < 0 or active <= 0:
        raise InputError(
            "schedule",
            "active must be positive, the others must not be negative.",
            facts=f"wait {wait} · warmup {warmup} · active {active} · repeat {repeat} · "
            f"skip_first {skip_first}",
        )
    cycle = wait + warmup + active

    def action(step: int) -> ProfilerAction:
        step -= skip_first
        if step < 0:
            return ProfilerAction.NONE
        if skip_first_wait:
            step += wait
        if repeat and step >= repeat * cycle:
            return ProfilerAction.NONE
        step %= cycle
        if step < wait:
            return ProfilerAction.NONE
        if step < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD if step < cycle - 1 else ProfilerAction.RECORD_AND_SAVE

    return action
