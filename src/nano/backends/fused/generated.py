"""Kernels whose source was generated: kept on disk by content, compiled as any other.

A source becomes a module file in the folder of the compiled kernels, named by its hash, so
that Numba finds in the next process what it compiled in this one. Where it is not and cannot be
written, the module lives in memory and is compiled anew in each process.
"""

from __future__ import annotations

import hashlib
import linecache
import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from .jit import _FAST, Kernel, _folder, by_address

__all__ = ["generated_function", "generated_kernel"]


@cache
def generated_kernel(source: str, name: str, fast: bool = False) -> Kernel:
    """The function ``name`` of a module with this source, as a kernel.

    It may assume nothing about its numbers, unless it is ``fast``: no sum is done in another
    order, and no product and sum in one step, so that it gives what the operators give one
    after the other.
    """
    function, kept = _loaded(source, name)
    return Kernel(function, fastmath=_FAST if fast else False, kept=kept)


@cache
def generated_function(source: str, name: str, signature: str) -> int:
    """The address of the function ``name`` of a module with this source, compiled for one thread.

    Loops on all threads can call it by that: what they do themselves is compiled once for all.
    It may add in another order, as kernels may.
    """
    function, kept = _loaded(source, name)
    compiled = by_address(function, signature, _FAST, kept)
    _alive.append(compiled)
    return compiled.address  # type: ignore[no-any-return]


#: The code at the addresses that were handed out.
_alive: list[Any] = []


def _loaded(source: str, name: str) -> tuple[Callable[..., Any], bool]:
    """The function of a module with this source, and whether that is kept on disk."""
    module = f"nano_generated_{hashlib.sha256(source.encode()).hexdigest()[:24]}"
    path = _written(source, module)
    kept = path is not None
    where = str(path) if kept else f"<{module}>"
    made = ModuleType(module)
    made.__file__ = where
    # Numba and tracebacks look for the lines here, if there is no file.
    linecache.cache[where] = (len(source), None, source.splitlines(keepends=True), where)
    sys.modules[module] = made
    exec(compile(source, where, "exec"), made.__dict__)
    return getattr(made, name), kept


def _written(source: str, module: str) -> Path | None:
    """The file with this source; None if it cannot be there.

    It is written once: Numba takes a file that is newer than its code for a changed one.
    """
    folder = _folder()
    if folder is None:
        return None
    path = Path(folder) / "generated" / f"{module}.py"
    try:
        if path.exists() and path.read_text(encoding="utf-8") == source:
            return path
        path.parent.mkdir(exist_ok=True)
        draft = path.with_name(f".{module}-{os.getpid()}-{threading.get_ident()}")
        draft.write_text(source, encoding="utf-8")
        os.replace(draft, path)
    except (OSError, UnicodeDecodeError):
        return None
    return path
