"""Turning functions into programs: trace, graph, passes, generated code."""

from .compiled import Compiled

__all__ = ["Compiled"]
