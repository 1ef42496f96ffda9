"""Kernels: arrays in, arrays out. No Tensor is known here."""

from . import reference
from .registry import backends_in_use, candidates, explain, kernels, register, use

__all__ = ["backends_in_use", "candidates", "explain", "kernels", "reference", "register", "use"]
