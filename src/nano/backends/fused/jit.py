"""Compiling Python loops with Numba: when, for how many threads, and where it is kept.

A kernel is written once, as a loop over ``prange``. It is compiled twice at most, on
first use: serially for small arrays (and in forked processes, which have no threads),
and for the thread pool. Compiled code is kept on disk, in a folder named after the
content of these sources, so that a changed source never meets old code.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba import prange
from numba.core.caching import CompileResultCacheImpl, FunctionCache, UserProvidedCacheLocator
from numba.core.ccallback import CFunc
from numba.core.sigutils import normalize_signature

from .. import threads
from . import ahead
from .linking import KernelCompiler, inner

__all__ = ["Kernel", "by_address", "inline", "kernel", "prange"]

#: What the compiler may assume: sums may be done in another order, and a product and a sum
#: in one step. Not that there are no NaNs or infinities: those must come out as they should.
_FAST = {"reassoc", "contract", "nsz", "arcp"}
_KEPT_FOLDERS = 4
#: Of what Numba can do in parallel; else each array expression is a parallel region too.
_ONLY_PRANGE = {
    "prange": True,
    "comprehension": False,
    "inplace_binop": False,
    "numpy": False,
    "reduction": False,
    "setitem": False,
    "stencil": False,
}
#: Elements that take one thread about as long as waking the others does.
_WORTH_WAKING = 1 << 17


@cache
def _folder() -> str | None:
    """Where compiled kernels are kept; None if none are there and nothing can be written."""
    root = os.environ.get("NANO_CACHE_DIR")
    if root is None:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        root = str(Path(base) / "nano")
    digest = hashlib.sha256(f"{numba.__version__} {sys.version_info[:2]}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    kernels = Path(root) / "kernels"
    folder = kernels / digest.hexdigest()[:16]
    if _takes_files(str(folder)):
        with suppress(OSError):  # another process may do the same
            os.utime(folder)
            _forget_old(kernels)
    elif not folder.is_dir():
        return None
    return str(folder)


@cache
def _takes_files(folder: str) -> bool:
    """Whether files can be written there; it is made if it is missing."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        probe = Path(folder) / f".probe-{os.getpid()}-{threading.get_ident()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError:
        return False
    return True


def _forget_old(kernels: Path) -> None:
    """Remove the kernels of older sources, but for a few."""
    folders = sorted(kernels.iterdir(), key=lambda f: f.stat().st_mtime, reverse=True)
    for old in folders[_KEPT_FOLDERS:]:
        with suppress(OSError):
            shutil.rmtree(old)


def _compile(function: Callable[..., Any], parallel: bool, fastmath: Any, kept: bool) -> Any:
    options: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": fastmath,
        "parallel": _ONLY_PRANGE if parallel else False,
        "no_cfunc_wrapper": True,
        "pipeline_class": KernelCompiler,
    }
    compiled = numba.njit(**options)(function)
    # Numba's own key does not tell the two forms of a kernel apart.
    _keep(compiled, function, "pool" if parallel else "serial", kept)
    return compiled


def by_address(function: Callable[..., Any], signature: str, fastmath: Any, kept: bool) -> Any:
    """Compile a function for one thread and one signature; the result has an ``address``."""
    options = {"error_model": "numpy", "fastmath": fastmath}
    types = normalize_signature(signature)
    compiled = CFunc(function, types, {}, options, pipeline_class=KernelCompiler)
    _keep(compiled, function, "serial", kept)
    compiled.compile()
    return compiled


#: Held while Numba is told a folder, which it takes from its configuration.
_lock = threading.Lock()


class _Locator(UserProvidedCacheLocator):  # type: ignore[misc]
    """Numba's folder inside of ours. One that only can be read will do."""

    def ensure_cache_path(self) -> None:
        try:
            super().ensure_cache_path()
        except OSError:
            if not os.path.isdir(self.get_cache_path()):
                raise


class _InOurFolder(CompileResultCacheImpl):  # type: ignore[misc]
    """Where Numba looks for its files: nowhere else, such as beside the sources."""

    _locator_classes = (_Locator,)


class _Cache(FunctionCache):  # type: ignore[misc]
    """Numba's files of compiled code; what a disk does not read or take is compiled anew."""

    _impl_class = _InOurFolder

    @contextmanager
    def _guard_against_spurious_io_errors(self) -> Iterator[None]:
        with suppress(OSError):
            yield


def _keep(compiled: Any, function: Callable[..., Any], form: str, kept: bool) -> None:
    """Let Numba keep what it compiles, in a folder for this form of it, if it can."""
    folder = _folder() if kept else None
    if folder is None:
        return
    with _lock:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = f"{folder}/{form}"
        try:
            compiled._cache = _Cache(function)
        except RuntimeError:  # the source is gone, or nothing is kept and nothing can be
            pass
        finally:
            numba.config.CACHE_DIR = before


def _on_disk(compiled: Any) -> bool:
    """Whether some form of a function was compiled before; yes, too, if none can be kept."""
    folder, function = compiled.stats.cache_path, compiled.py_func
    if folder is None or not _takes_files(folder):
        return True
    module = function.__module__.rpartition(".")[2]
    return any(Path(folder).glob(f"{module}.{function.__qualname__}-*.nbi"))


def inline(function: Callable[..., Any]) -> Any:
    """A function that kernels call, with the compiler's choice whether to copy it into them."""
    return inner(function, _FAST, inline="never")


class Kernel:
    """A loop in Python, compiled on first use.

    Args:
        function: the loop.
        fastmath: what the compiler may assume; see Numba. Nothing if False.
        kept: whether the compiled code may be kept on disk: the source must lie there, too.
    """

    def __init__(
        self, function: Callable[..., Any], *, fastmath: Any = _FAST, kept: bool = True
    ) -> None:
        self._function = function
        self._fastmath, self._kept = fastmath, kept
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self._serial: Any = None
        self._parallel: Any = None

    @property
    def serial(self) -> Any:
        """For one thread: for arrays so small that waking the others takes longer."""
        if self._serial is None:
            self._serial = _compile(self._function, False, self._fastmath, self._kept)
        return self._serial

    def __call__(self, *args: Any) -> Any:
        """Run it on all threads of the pool."""
        if threads.this_thread() == 1:
            return self.serial(*args)
        if self._parallel is None:
            _start_pool()
            self._parallel = _compile(self._function, True, self._fastmath, self._kept)
            if ahead.of_a_network(self.__name__) and not _on_disk(self._parallel):
                halves = any(getattr(x, "dtype", None) == "uint16" for x in args)
                ahead.start(halves)
        return self._parallel(*args)

    def over(self, elements: int) -> Any:
        """For that many elements: all threads, or one if waking the others takes longer."""
        return self if elements >= _WORTH_WAKING else self.serial


def kernel(function: Callable[..., Any]) -> Kernel:
    """Decorate a loop over ``prange``."""
    return Kernel(function)


@cache
def _start_pool() -> None:
    """Let Numba use OpenMP's pool, and as many threads as nano."""
    threads.before_openmp_loads()
    threads.start()
    numba.config.THREADING_LAYER = "omp"
    limit = numba.config.NUMBA_NUM_THREADS
    threads.on_change(lambda count: numba.set_num_threads(min(count, limit)))
