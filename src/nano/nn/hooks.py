"""Hooks around ``forward``: how they are kept, and how a module that has some is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..handles import HookHandle

__all__ = ["add_hook", "call_with_hooks"]


def add_hook(
    hooks: dict[int, Any], hook: tuple[Callable[..., Any], bool], prepend: bool
) -> HookHandle:
    """Register a hook, and whether it wants the keyword arguments, last or first."""
    before = list(hooks.items()) if prepend else []
    handle = HookHandle(hooks, hook)  # type: ignore[arg-type]
    for key, earlier in before:
        # A key that is put back goes to the end: after the new one.
        del hooks[key]
        hooks[key] = earlier
    return handle


def call_with_hooks(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``module.forward`` between the hooks before and after it."""
    for hook, with_kwargs in list(module._forward_pre_hooks.values()):
        if with_kwargs:
            changed = hook(module, args, kwargs)
            if changed is not None:
                args, kwargs = changed
        else:
            changed = hook(module, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
    output = module.forward(*args, **kwargs)
    for hook, with_kwargs in list(module._forward_hooks.values()):
        changed = hook(module, args, kwargs, output) if with_kwargs else hook(module, args, output)
        if changed is not None:
            output = changed
    return output
