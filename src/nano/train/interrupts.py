"""Ctrl-C without damage: a signal is noted, and acted on between two batches."""

from __future__ import annotations

import signal
import threading
from types import FrameType

__all__ = ["Interrupts", "Stopped"]


class Stopped(KeyboardInterrupt):
    """Training was stopped by a signal, and its checkpoint written.

    Attributes:
        signum: the signal; a command ends with status 128 + signum.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


class Interrupts:
    """Within this context, SIGINT (Ctrl-C) and SIGTERM only set ``received``.

    A second one stops at once, as if this were not here. Only the main thread can handle
    signals; elsewhere the context does nothing.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]
        self._before.clear()

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt("stopped at once; the last checkpoint is that of before")
        self.received = signum
