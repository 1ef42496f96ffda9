"""Handles with which hooks are taken away again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["HookHandle"]


class HookHandle:
    """Returned where a hook is registered; :meth:`remove` takes the hook away."""

    __slots__ = ("_hooks", "_key")
    _next = 0

    def __init__(self, hooks: dict[int, Any], hook: Callable[..., Any]) -> None:
        self._hooks = hooks
        self._key = HookHandle._next
        HookHandle._next += 1
        hooks[self._key] = hook

    def remove(self) -> None:
        """Take the hook away. A second call does nothing."""
        self._hooks.pop(self._key, None)

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()
