"""Compiled modules: another way to call a network, which stays what it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..nn.module import Module, indent
from .graph import Graph
from .report import Report

__all__ = ["OptimizedModule"]


class OptimizedModule(Module):
    """A module that is run as a program; all else is the module's own (PyTorch's name).

    Its parameters, parts, modes, hooks and attributes are those of the module that it was made
    of: what is set, trained or loaded here is there. So are the names in ``state_dict()``, which
    PyTorch begins with ``_orig_mod.``: a checkpoint of one can be loaded into the other.

    Attributes:
        _orig_mod: the module that it was made of.

    >>> layer = nano.nn.Linear(2, 1)
    >>> compiled = nano.compile(layer)
    >>> compiled.weight is layer.weight, list(compiled.state_dict())
    (True, ['weight', 'bias'])
    >>> compiled.eval() is compiled, layer.training
    (True, False)
    """

    def __init__(self, module: Module, call: Any, again: Callable[[Module], Any]) -> None:
        tables = {k: v for k, v in vars(module).items() if k in _TABLES}
        self.__dict__.update(tables, _orig_mod=module, _compiled_call=call, _again=again)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._compiled_call(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes."""
        return self._compiled_call(*args, **kwargs)

    def passes(self) -> str:
        """What each pass has made of the latest program's graph."""
        return self._compiled_call.passes()

    def graph(self) -> Graph:
        """What the latest program computes; see :func:`nano.compile`."""
        return self._compiled_call.graph()

    def source(self) -> str:
        """The text of the latest program."""
        return self._compiled_call.source()

    def report(self, *args: Any, **kwargs: Any) -> Report:
        """What the latest program does, and how long it takes for these arguments."""
        return self._compiled_call.report(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "_orig_mod":  # while it is being copied
            raise AttributeError(name)
        return getattr(self._orig_mod, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._orig_mod, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._orig_mod, name)

    def __reduce__(self) -> Any:
        return self._again, (self._orig_mod,)

    def __repr__(self) -> str:
        return f"OptimizedModule(\n  (_orig_mod): {indent(repr(self._orig_mod))}\n)"


#: What a module consists of; both have the same.
_TABLES = frozenset(vars(Module())) - {"training"}


def _handed_on(name: str) -> Callable[..., Any]:
    """A method that is the module's own; where that returns the module, this one."""

    def method(self: OptimizedModule, *args: Any, **kwargs: Any) -> Any:
        answer = getattr(self._orig_mod, name)(*args, **kwargs)
        return self if answer is self._orig_mod else answer

    method.__name__ = name
    method.__doc__ = getattr(Module, name).__doc__
    return method


for _name, _method in vars(Module).items():
    if callable(_method) and not _name.startswith("_") and _name not in ("forward", "compile"):
        setattr(OptimizedModule, _name, _handed_on(_name))
