"""Whether oneDNN can take some arrays at all; the first question of every candidate here."""

from __future__ import annotations

from typing import Any

from ..registry import unavailable
from .library import UnavailableError, library
from .memory import BFLOAT16, FLOAT32

__all__ = ["suits"]


def suits(*arrays: Any) -> bool | str:
    """True, or why oneDNN has no kernel for these arrays or is not there."""
    dtype = arrays[0].dtype
    if dtype is not FLOAT32 and dtype != FLOAT32 and dtype != BFLOAT16:
        return f"oneDNN computes in float32 and bfloat16, not in {dtype}"
    for a in arrays:
        if a.dtype is not dtype and a.dtype != dtype:
            return f"the dtypes differ: {dtype} and {a.dtype}"
        if not a.size:
            return "there is nothing to compute"
    try:
        loaded = library()
    except UnavailableError as reason:
        unavailable("onednn", str(reason))
        return str(reason)
    if dtype == BFLOAT16 and not loaded.has_bfloat16:
        return "the processor does not multiply bfloat16 numbers"
    return True
