"""Turning functions into programs: trace, graph, passes, generated code."""

from .compiled import Compiled, compile  # noqa: A004  (PyTorch's name)

__all__ = ["Compiled", "compile"]
