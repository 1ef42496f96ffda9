"""Bringing arrays to the order in memory that a primitive wants, and results back."""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ..memory import aligned
from .memory import Descriptor, alike, describe, plain
from .primitives import reorder, scratch

__all__ = ["Target", "bring", "packed"]


def bring(x: NDArray, wanted: Descriptor, name: str) -> int:
    """The address of ``x`` in the order ``wanted``: its own, or of a copy in scratch memory.

    Only arrays in strides that oneDNN cannot describe (reversed or shared) are copied first.
    """
    has = describe(x)
    if has is None:
        x = np.ascontiguousarray(x)
        has = plain(x.shape, x.dtype)
    elif alike(has, wanted):
        return x.ctypes.data
    address = scratch(name, wanted.nbytes)
    reorder(has, wanted)(x.ctypes.data, address)
    return address


class Target:
    """Where a primitive writes: into the array itself, or beside it if the orders differ."""

    __slots__ = ("_array", "_has", "_wanted", "address")

    def __init__(self, y: NDArray, wanted: Descriptor) -> None:
        has = describe(y)
        if has is not None and alike(has, wanted):
            self._has = None
            self.address = y.ctypes.data
        else:
            self._has, self._array, self._wanted = has, y, wanted
            self.address = scratch("target", wanted.nbytes)

    def finish(self) -> None:
        """Bring what was written beside the array into it."""
        if self._has is not None:
            reorder(self._wanted, self._has)(self.address, self._array.ctypes.data)


class _Kept(threading.local):
    """The weights in oneDNN's order that this thread keeps, by the owner of their memory.

    Another thread must not overwrite or let go what a primitive of this one reads.
    """

    def __init__(self) -> None:
        self.weights: WeakKeyDictionary[Any, list[_Weight]] = WeakKeyDictionary()


class _Weight:
    """A weight in the order ``descriptor``: where it was, and the version of its content."""

    __slots__ = ("buffer", "descriptor", "place", "version")

    def __init__(self, place: Any, descriptor: Descriptor) -> None:
        self.place, self.descriptor = place, descriptor
        self.version: Any = None
        self.buffer = aligned(descriptor.nbytes)


_kept = _Kept()


def packed(weight: NDArray, wanted: Descriptor, token: Any) -> int:
    """The address of the weight in the order ``wanted``.

    ``token`` is None, or the owner of the weight's memory and the version of its content:
    the reordered weight is kept until the version moves or the owner goes.
    """
    if token is None:
        return bring(weight, wanted, "weight")
    owner, version = token
    weights = _kept.weights.setdefault(owner, [])
    place = (weight.ctypes.data, weight.shape, weight.strides)
    for kept in weights:
        # Primitives for images of other sizes mostly want the weight in the same order.
        if kept.place == place and alike(kept.descriptor, wanted):
            break
    else:
        has = describe(weight)
        if has is None or alike(has, wanted):
            return bring(weight, wanted, "weight")
        kept = _Weight(place, wanted)
        weights.append(kept)
    if kept.version != version:
        has = describe(weight)
        assert has is not None, "it was when the weight was first kept"
        reorder(has, wanted)(weight.ctypes.data, kept.buffer.ctypes.data)
        kept.version = version
    return kept.buffer.ctypes.data
