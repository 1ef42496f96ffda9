"""Kernels of oneDNN, called through its C API. The library is loaded on first use."""

from ..registry import available, unavailable
from . import convolution, epilogue, library, matmul, normalise, pooling

__all__ = ["convolution", "epilogue", "library", "matmul", "normalise", "pooling"]


def _describe() -> str:
    try:
        loaded = library.library()
    except library.UnavailableError as reason:
        unavailable("onednn", str(reason))
        return str(reason)
    return f"oneDNN {loaded.version}, {loaded.isa}"


available("onednn", _describe)
