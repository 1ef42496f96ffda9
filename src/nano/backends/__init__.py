"""Kernels: arrays in, arrays out. No Tensor is known here."""

from . import fused, memory, onednn, reference, threads
from .registry import (
    available,
    backends_in_use,
    candidates,
    choice,
    explain,
    is_available,
    kernels,
    observe,
    register,
    status,
    unavailable,
    unobserve,
    use,
)

__all__ = [
    "available",
    "backends_in_use",
    "candidates",
    "choice",
    "explain",
    "is_available",
    "kernels",
    "memory",
    "observe",
    "onednn",
    "reference",
    "register",
    "status",
    "threads",
    "unavailable",
    "unobserve",
    "use",
]

memory.keep_freed_memory()
