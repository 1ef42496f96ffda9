"""Turning functions into programs: trace, graph, passes, generated code."""
