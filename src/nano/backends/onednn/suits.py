"""Whether oneDNN can take some arrays: the questions that every candidate here asks.

First :func:`suits`, of the arrays; then the operation for their sizes is built, which
:func:`built` keeps, or the reason why there is none; :func:`answer` is what it says then.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from ..registry import unavailable
from .library import OneDnnError, UnavailableError, library
from .memory import BFLOAT16, FLOAT32
from .primitives import cached

__all__ = ["answer", "built", "suits"]

#: How oneDNN's slow implementations are named, for what it has no fast ones.
_REFERENCE = "ref"


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


def built(key: Hashable, build: Callable[[], Any], slow: bool = False) -> Any:
    """What ``build`` makes, or the reason why oneDNN cannot, a text; either is kept.

    It makes a Primitive, or something that has one as its ``primitive``, or such a text. A
    slow implementation is refused unless ``slow``.
    """

    def attempt() -> Any:
        try:
            found = build()
        except OneDnnError as error:
            return f"oneDNN has no implementation for these sizes (status {error.status})"
        if slow or isinstance(found, str):
            return found
        primitive = getattr(found, "primitive", found)
        if primitive.implementation.startswith(_REFERENCE):
            return "oneDNN has no fast implementation for these sizes"
        return found

    return cached(key, attempt)


def answer(operation: Any) -> bool | str:
    """What ``accepts`` says of an operation that :func:`built` has given."""
    return operation if isinstance(operation, str) else True
