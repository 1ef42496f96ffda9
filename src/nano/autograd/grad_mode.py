"""Whether operations are recorded: a switch that each thread has for itself."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = [
    "enable_grad",
    "inference_mode",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "no_grad",
    "set_grad_enabled",
]

F = TypeVar("F", bound=Callable[..., Any])


class _Mode(threading.local):
    enabled = True
    inference = False


mode = _Mode()


def is_grad_enabled() -> bool:
    """Whether operations are recorded in this thread."""
    return mode.enabled


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside :class:`inference_mode`."""
    return mode.inference


class _GradMode:
    """A context manager that is a decorator too, and may be entered again while active."""

    _enabled: bool
    _inference: bool | None = None

    def __init__(self) -> None:
        self._before: list[tuple[bool, bool]] = []

    def _switch(self) -> tuple[bool, bool]:
        """Switch, and return how it was."""
        before = (mode.enabled, mode.inference)
        mode.enabled = self._enabled
        if self._inference is not None:
            mode.inference = self._inference
        return before

    def __enter__(self) -> None:
        self._before.append(self._switch())

    def __exit__(self, *exc: object) -> None:
        mode.enabled, mode.inference = self._before.pop()

    def __call__(self, function: F) -> F:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            # Kept here, not in self: threads may call the function at the same time.
            before = self._switch()
            try:
                return function(*args, **kwargs)
            finally:
                mode.enabled, mode.inference = before

        return wrapper  # type: ignore[return-value]


class no_grad(_GradMode):  # noqa: N801  (PyTorch's name)
    """Record nothing: results have ``requires_grad=False``.

    >>> x = nano.ones(2, requires_grad=True)
    >>> with nano.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    _enabled = False

    def __new__(cls, function: Any = None) -> Any:
        # ``@no_grad`` without parentheses works too.
        self = super().__new__(cls)
        if function is None:
            return self
        self.__init__()
        return self(function)


class enable_grad(no_grad):  # noqa: N801  (PyTorch's name)
    """Record, also inside :class:`no_grad`."""

    _enabled = True


class set_grad_enabled(_GradMode):  # noqa: N801  (PyTorch's name)
    """Record or not, as the argument says; takes effect at once, and as a context until its end.

    >>> with nano.set_grad_enabled(False):
    ...     nano.is_grad_enabled()
    False
    """

    def __init__(self, mode_: bool) -> None:
        super().__init__()
        self._enabled = bool(mode_)
        self._at_call = (mode.enabled, mode.inference)
        mode.enabled = self._enabled

    def __enter__(self) -> None:
        self._before.append(self._at_call)
        mode.enabled = self._enabled

    def __call__(self, function: F) -> F:
        mode.enabled, mode.inference = self._at_call
        return super().__call__(function)


class inference_mode(_GradMode):  # noqa: N801  (PyTorch's name)
    """:class:`no_grad` for code that never trains.

    PyTorch's tensors made here are barred from autograd for ever; nano's are
    ordinary tensors without history.
    """

    def __init__(self, mode_: bool = True) -> None:
        super().__init__()
        self._enabled = not mode_ and mode.enabled
        self._inference = bool(mode_)
