"""Kernels of oneDNN, called through its C API. The library is loaded on first use."""

from ..registry import available, unavailable
from . import convolution, matmul, pooling
from .library import Unavailable, library

__all__ = ["convolution", "matmul", "pooling"]


def _describe() -> str:
    try:
        loaded = library()
    except Unavailable as reason:
        unavailable("onednn", str(reason))
        return str(reason)
    return f"oneDNN {loaded.version}, {loaded.isa}"


available("onednn", _describe)
