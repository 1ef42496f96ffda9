"""What the processor has beyond vectors: asked once, without Numba."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

__all__ = ["multiplies_tiles"]

#: Linux on x86: arch_prctl, its request for a part of the registers, and that of the tiles.
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILES = 158, 0x1023, 18


@cache
def multiplies_tiles() -> bool | str:
    """True if bfloat16 tiles can be multiplied (Intel's AMX), or why not.

    The system keeps room for the tiles' content only in processes that ask for it, as this does.
    """
    from llvmlite.binding import get_host_cpu_features

    features = get_host_cpu_features()
    if not (features.get("amx-tile") and features.get("amx-bf16") and features.get("avx512bw")):
        return "the processor has no tiles of bfloat16 (AMX)"
    for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
        if os.environ.get(name):
            return f"{name} chooses what code is made for"
    if sys.platform != "linux":
        return "tiles (AMX) are asked for as Linux wants it"
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    if syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILES):
        return "the system does not let this process use tiles (AMX)"
    return True
