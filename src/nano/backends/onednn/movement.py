"""Bringing arrays to the order in memory that a primitive wants, and results back."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from .memory import Descriptor, describe, plain
from .primitives import aligned, reorder, scratch

__all__ = ["Target", "bring", "packed"]


def bring(x: NDArray, wanted: Descriptor, name: str) -> int:
    """The address of ``x`` in the order ``wanted``: its own, or of a copy in scratch memory.

    Only arrays in strides that oneDNN cannot describe (reversed or shared) are copied first.
    """
    has = describe(x)
    if has is None:
        x = np.ascontiguousarray(x)
        has = plain(x.shape, x.dtype)
    elif has is wanted or has == wanted:
        return x.ctypes.data
    address = scratch(name, wanted.nbytes)
    reorder(has, wanted)(x.ctypes.data, address)
    return address


class Target:
    """Where a primitive writes: into the array itself, or beside it if the orders differ."""

    __slots__ = ("_array", "_has", "_wanted", "address")

    def __init__(self, y: NDArray, wanted: Descriptor) -> None:
        has = describe(y)
        if has is wanted or has == wanted:
            self._has = None
            self.address = y.ctypes.data
        else:
            self._has, self._array, self._wanted = has, y, wanted
            self.address = scratch("target", wanted.nbytes)

    def finish(self) -> None:
        """Bring what was written beside the array into it."""
        if self._has is not None:
            reorder(self._wanted, self._has)(self.address, self._array.ctypes.data)


#: The weights in oneDNN's order that may be kept, by the owner of their memory.
_packed: WeakKeyDictionary[Any, dict[Any, tuple[int, NDArray, Descriptor]]] = WeakKeyDictionary()


def packed(weight: NDArray, wanted: Descriptor, token: Any) -> int:
    """The address of the weight in the order ``wanted``.

    ``token`` is None, or the owner of the weight's memory and the version of its content:
    the reordered weight is kept until the version moves or the owner goes.
    """
    if token is None:
        return bring(weight, wanted, "weight")
    owner, version = token
    kept = _packed.setdefault(owner, {})
    key = (weight.ctypes.data, weight.shape, weight.strides, id(wanted))
    found = kept.get(key)
    if found is None or found[0] != version:
        has = describe(weight)
        if has is None or has == wanted:
            return bring(weight, wanted, "weight")
        buffer = aligned(wanted.nbytes) if found is None else found[1]
        reorder(has, wanted)(weight.ctypes.data, buffer.ctypes.data)
        # The descriptor is kept too: its id must not become another's.
        found = kept[key] = (version, buffer, wanted)
    return found[1].ctypes.data
