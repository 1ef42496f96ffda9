"""Kernels whose source was generated: kept on disk by content, compiled as any other.

A source becomes a module file in the folder of the compiled kernels, named by its hash, so
that Numba finds in the next process what it compiled in this one. Where nothing can be
written, the module lives in memory and is compiled anew in each process.
"""

from __future__ import annotations

import hashlib
import linecache
import os
import sys
import threading
from functools import cache
from pathlib import Path
from types import ModuleType

from .jit import Kernel, _folder

__all__ = ["generated_kernel"]


@cache
def generated_kernel(source: str, name: str) -> Kernel:
    """The function ``name`` of a module with this source, as a kernel.

    It may assume nothing about its numbers: no sum is done in another order, and no product
    and sum in one step, so that it gives what the operators give one after the other.
    """
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
    return Kernel(getattr(made, name), fastmath=False, kept=kept)


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
