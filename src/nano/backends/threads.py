"""The one thread pool: GNU OpenMP's, which oneDNN and Numba's ``omp`` layer share.

NumPy's OpenBLAS brings threads of its own; two pools that spin for work on the
same cores slow each other down tens of times. So OpenBLAS is held to one thread
as soon as the pool is there, and large products go to oneDNN.

Each Python thread that computes has a team of its own in this pool, so several
may compute at once. A process made by ``fork`` has none of its parent's threads:
there, everything runs on one. Where PyTorch has been imported before, its copy of
OpenMP serves both.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError

__all__ = [
    "before_openmp_loads",
    "get_num_threads",
    "on_change",
    "set_flush_denormal",
    "set_num_threads",
    "start",
    "this_thread",
]


def _default_count() -> int:
    """``OMP_NUM_THREADS``, or the number of cores that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_count = 0
#: Goes up when there is something new that every thread's team must be made ready for.
_changes = 0
#: A child made by fork from a process with a pool: it must do with one thread.
_forked = False
_lock = threading.RLock()
_listeners: list[Callable[[int], None]] = []
_openmp: Any = None
_blas: Any = None


class _ThisThread(threading.local):
    """What the calling thread's team has been made ready for."""

    changes = -1
    count = 1


_this = _ThisThread()


def get_num_threads() -> int:
    """The number of threads that one operator may use.

    >>> nano.get_num_threads() >= 1
    True
    """
    global _count
    if not _count:
        _count = _default_count()
    return 1 if _forked else _count


def set_num_threads(count: int) -> None:
    """Let one operator use ``count`` threads, in every Python thread.

    Without it, it is the environment variable ``OMP_NUM_THREADS`` when set, else the
    number of cores. In a process made by ``fork`` from one that has computed, it stays 1.

    Raises:
        RuntimeError: if ``count`` is no positive int.

    >>> before = nano.get_num_threads()
    >>> nano.set_num_threads(1)
    >>> nano.get_num_threads()
    1
    >>> nano.set_num_threads(before)
    """
    global _count, _changes
    if isinstance(count, bool) or not isinstance(count, int):
        raise ArgumentError("set_num_threads", f"expects an int, but got {type(count).__name__}.")
    if count < 1:
        raise ArgumentError("set_num_threads", f"expects a positive integer, but got {count}.")
    with _lock:
        _count = count
        _changes += 1
    this_thread()


def on_change(tell: Callable[[int], None]) -> None:
    """Call ``tell`` with the number of threads: now, and whenever it is set.

    It is called in every thread that computes, before that thread does so.
    """
    global _changes
    with _lock:
        _listeners.append(tell)
        _changes += 1
    this_thread()


def this_thread() -> int:
    """Make the calling thread's team ready; the number of threads that it has.

    OpenMP keeps the number of threads separately for every thread that computes.
    """
    if _this.changes != _changes:
        _make_ready()
    return _this.count


def _make_ready() -> None:
    # Read first: a change that comes in between is then met at the next call.
    changes = _changes
    count = get_num_threads()
    for tell in tuple(_listeners):
        tell(count)
    if _openmp is not None:
        # Behind Numba, whose pool begins with a number of its own for all of OpenMP.
        _openmp.omp_set_num_threads(count)
        _make_team(count)
    _this.count, _this.changes = count, changes


# Starting -------------------------------------------------------------------------------

#: How often a thread that waits looks again before it gives its core away: some tens of
#: milliseconds, longer than the Python between two kernels takes. Waking a core that sleeps
#: takes up to a millisecond on a virtual machine, and as long where another program has taken
#: it; a step has hundreds of regions. Measured (GPT of benchmarks/train.py, 2 cores): 260 ms
#: with 10,000, 101 ms with 1,000,000; beside a busy low-priority program 211 and 102 ms.
_SPIN_COUNT = "1000000"
_LIBRARY = "libgomp.so.1"


def before_openmp_loads() -> None:
    """Say how threads wait, unless the user has. OpenMP reads it once, when it is loaded."""
    with _lock:
        if _openmp is not None:
            return
        if "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
            _load_openmp()
            return
        os.environ["GOMP_SPINCOUNT"] = _SPIN_COUNT
        try:
            _load_openmp()
        finally:
            # Programs that this one starts, and other copies of OpenMP, are not our concern.
            del os.environ["GOMP_SPINCOUNT"]


def _load_openmp() -> None:
    global _openmp, _changes
    try:
        openmp = ctypes.CDLL(_LIBRARY)
        openmp.omp_set_num_threads.argtypes = [ctypes.c_int]
        openmp.omp_set_num_threads.restype = None
        openmp.GOMP_parallel.argtypes = [
            *(ctypes.c_void_p, ctypes.c_void_p),
            *(ctypes.c_uint, ctypes.c_uint),
        ]
        openmp.GOMP_parallel.restype = None
    except (OSError, AttributeError):
        return
    _openmp = openmp
    _changes += 1


def start() -> None:
    """Hold NumPy's BLAS to one thread, now that products go to the pool."""
    global _blas
    with _lock:
        if _blas is not None:
            return
        try:
            from threadpoolctl import ThreadpoolController
        except ImportError:
            _blas = ()
            return
        _blas = ThreadpoolController().select(user_api="blas").lib_controllers
        for blas in _blas:
            blas.set_num_threads(1)


def _make_team(count: int) -> None:
    """Start the calling thread's team, with denormal numbers flushed to zero in it.

    A product of denormal numbers takes 16 times as long as one of ordinary numbers. The
    mode is set by a parallel region, in each of the team's threads, and then given back
    to the calling one. Threads that OpenMP starts later have the calling thread's.
    """
    if count == 1:
        return
    found = _floating_point_mode()
    if found is None:
        nothing = ctypes.cast(_openmp.omp_get_thread_num, ctypes.c_void_p)
        _openmp.GOMP_parallel(nothing, None, count, 0)
        return
    libm, own = found
    flushing = type(own)(*own)
    flushing[_MXCSR] |= _FLUSH
    try:
        set_mode = ctypes.cast(libm.fesetenv, ctypes.c_void_p)
        _openmp.GOMP_parallel(set_mode, ctypes.addressof(flushing), count, 0)
    finally:
        libm.fesetenv(own)


# Denormal numbers -----------------------------------------------------------------------

_FLUSH = 0x8040  # MXCSR: flush results to zero (bit 15), take denormal operands as zero (bit 6)
_MXCSR = 7  # its place in glibc's fenv_t on x86-64, which is eight words long


def _floating_point_mode() -> tuple[Any, Any] | None:
    """glibc's functions, and the calling thread's mode as a buffer; None on other systems."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return None
    try:
        libm = ctypes.CDLL("libm.so.6")
        environment = (ctypes.c_uint32 * 8)()
        libm.fegetenv(environment)
    except (OSError, AttributeError):
        return None
    return libm, environment


def set_flush_denormal(mode: bool) -> bool:
    """Whether the calling thread takes denormal numbers (below 1.2e-38 in float32) as zero.

    The pool's threads always do. It is off elsewhere, as in PyTorch; ``nanodl train``
    switches it on.

    Returns:
        Whether this system can do it.
    """
    found = _floating_point_mode()
    if found is None:
        return False
    libm, environment = found
    word = environment[_MXCSR]
    environment[_MXCSR] = word | _FLUSH if mode else word & ~_FLUSH
    libm.fesetenv(environment)
    return True


# Forked processes -----------------------------------------------------------------------


def _after_fork() -> None:
    """A forked child has only the thread that forked: it must not wait for the others."""
    global _changes, _forked, _lock
    _lock = threading.RLock()
    if _openmp is None and not _is_loaded(_LIBRARY):
        return  # there was no pool: the child may make one of its own
    _forked = True
    _changes += 1


def _is_loaded(library: str) -> bool:
    """Whether the process has a shared library, be it through somebody else."""
    try:
        ctypes.CDLL(library, mode=os.RTLD_NOLOAD)
    except (OSError, AttributeError):
        return False
    return True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
