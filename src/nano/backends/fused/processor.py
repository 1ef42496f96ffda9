"""What the processor has beyond vectors: asked once, without Numba."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

__all__ = ["multiplies_tiles", "rounds_to_bfloat16"]

#: Linux on x86: arch_prctl, its request for a part of the registers, and that of the tiles.
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILES = 158, 0x1023, 18
#: Where the user says what compiled code is for.
_CHOICES = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")


def _has(*features: str) -> bool:
    from llvmlite.binding import get_host_cpu_features

    there = get_host_cpu_features()
    return all(there.get(feature) for feature in features)


def _chosen() -> str | None:
    """The variable by which the user has chosen a processor, or part of one."""
    return next((name for name in _CHOICES if os.environ.get(name)), None)


@cache
def rounds_to_bfloat16() -> bool:
    """Whether compiled code may use the instruction that rounds a vector to bfloat16."""
    return _has("avx512bf16", "avx512vl") and _chosen() is None


@cache
def multiplies_tiles() -> bool | str:
    """True if bfloat16 tiles can be multiplied (Intel's AMX), or why not.

    The system keeps room for the tiles' content only in processes that ask for it, as this does.
    """
    if not _has("amx-tile", "amx-bf16", "avx512bw"):
        return "the processor has no tiles of bfloat16 (AMX)"
    if _chosen() is not None:
        return f"{_chosen()} chooses what code is made for"
    if sys.platform != "linux":
        return "tiles (AMX) are asked for as Linux wants it"
    if ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILES):
        return "the system does not let this process use tiles (AMX)"
    return True
