"""Holding an interrupt back while a program changes what is seen from outside.

Ctrl-C comes between any two lines of Python. Between the gradients, the running statistics and
the optimizer's step it would leave a model that no number of whole steps leads to.
"""

from __future__ import annotations

# What the module signal calls, without its names for numbers: 0.4 us for there and back, not 6.
import _signal
import signal
import threading
from types import FrameType
from typing import Any

__all__ = ["hold", "release"]

_MAIN = threading.main_thread().ident


class _Held:
    """Notes an interrupt, in the place of what the user wants done."""

    __slots__ = ("came", "handler")

    def __init__(self) -> None:
        self.came = False
        self.handler: Any = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.came = True


def hold() -> _Held | None:
    """From now on, only note interrupts; None where none arrive: in other threads."""
    if threading.get_ident() != _MAIN:
        return None
    held = _Held()
    handler = _signal.getsignal(signal.SIGINT)
    if not callable(handler):  # the process ends at once, or ignores it
        return None
    held.handler = handler
    _signal.signal(signal.SIGINT, held)
    return held


def release(held: _Held | None) -> None:
    """Do what an interrupt asks for, which has come since :func:`hold`."""
    if held is not None:
        _signal.signal(signal.SIGINT, held.handler)
        if held.came:
            held.handler(int(signal.SIGINT), None)
