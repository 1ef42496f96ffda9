"""Compiling ahead, the first time ever: another process compiles what comes next.

Numba compiles one kernel at a time in a process. While this one compiles what a convolutional
network needs on its way forward, its derivatives, which it will want some seconds later, are
compiled by another on another core, and lie on disk when they are asked for. That process is
started once, when such a kernel is found nowhere on disk, and ended with this one at the latest.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

from ..memory import channels_last
from ..registry import kernels
from .suits import BFLOAT16, FLOAT32

__all__ = ["compile_derivatives", "of_a_network", "start"]

_SWITCH = "NANO_COMPILE_AHEAD"
#: Kernels of a training step's forward pass that take long to compile.
_FORWARD = {"_statistics_rows", "_convolve"}
#: As many numbers as optimizers share out among threads.
_PARAMETERS = 1 << 17


def of_a_network(name: str) -> bool:
    """Whether a kernel's name says that derivatives of a network will follow."""
    return name in _FORWARD and os.environ.get(_SWITCH) != "off"


@cache
def start(halves: bool = False) -> subprocess.Popen[bytes] | None:
    """Start the process, once for float32 and for bfloat16 (``halves``); None if it cannot be."""
    if not sys.executable or hasattr(sys, "frozen"):
        return None
    code = f"import sys; sys.path[:] = {sys.path!r}; " + (
        f"from nano.backends.fused.ahead import compile_derivatives; compile_derivatives({halves})"
    )
    quiet: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    quiet["stderr"] = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=os.environ | {_SWITCH: "off"}, **quiet
        )
    except OSError:
        return None
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        process.terminate()
        process.wait(10)


def compile_derivatives(halves: bool = False) -> None:
    """Call what the backward pass of a convolutional network calls, once, for small arrays.

    First what takes long to compile, then the rest, the last first: the other process comes from
    the front, and what it has compiled by then is found.
    """
    n, c, size = 128, 64, 8
    dtype = BFLOAT16 if halves else FLOAT32
    g, x = (channels_last((n, c, size, size), dtype) for _ in range(2))
    g.fill(0)
    x.fill(0)
    row = np.ones(c, np.float32)
    one = (1, 1)
    kernels.batch_norm_backward(g, x, None, row, row, row, row, 1e-5, "relu", True, False)
    kernels.conv2d_weight(g, x, (3, 3), one, (one, one), one, 1)
    w, v, dw = np.zeros((3, _PARAMETERS), np.float32)
    kernels.sgd_step([w], [dw], [v], 0.1, 0.9, 0.0, 0.0, False, False, False)
    kernels.add(g, x)
    pooled = g[:, :, :1, :1]
    kernels.adaptive_avg_pool2d_backward(pooled, (size, size))
    kernels.adaptive_avg_pool2d(x, one)
