"""Recognising arrays: the same memory comes as one array object here and as another there."""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .graph import Graph, Memory, Value, owner_of

__all__ = ["Arrays", "place_of", "stand_in"]


class Arrays:
    """The arrays of a trace and the values that they are.

    Arrays are not held: they are freed as in any run, and are forgotten then.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        #: By the id of the array that owns the memory: that array, the memory, and by place and
        #: layout the values in it.
        self._owners: dict[int, tuple[Any, Memory, dict[Any, Value]]] = {}

    def known(self, array: NDArray) -> Value | None:
        """The value that an array is, whichever object it comes as; None if it is new."""
        entry = self._entry(owner_of(array))
        return None if entry is None else entry[2].get(place_of(array))

    def has_memory_of(self, array: NDArray) -> bool:
        """Whether some value shows memory of the array's owner."""
        return self._entry(owner_of(array)) is not None

    def new(self, kind: str, content: Any, array: NDArray) -> Value:
        """A new value of the graph, which the array is from now on."""
        owner = owner_of(array)
        entry = self._entry(owner)
        if entry is None:
            # When it is freed, another array may get its id.
            forget = weakref.ref(owner, partial(self._forget, id(owner)))
            entry = self._owners[id(owner)] = forget, Memory(), {}
        place = place_of(array)
        value = self._graph.value(kind, content, array, entry[1], place[0] - place_of(owner)[0])
        entry[2][place] = value
        return value

    def _entry(self, owner: NDArray) -> Any:
        entry = self._owners.get(id(owner))
        return entry if entry is not None and entry[0]() is owner else None

    def _forget(self, number: int, reference: Any) -> None:
        """An array is gone; unless another one has its number by now, forget it."""
        entry = self._owners.get(number)
        if entry is not None and entry[0] is reference:
            del self._owners[number]


def place_of(array: NDArray) -> Any:
    """Where it lies in memory, and how."""
    address = array.__array_interface__["data"][0]
    return address, array.shape, array.strides, array.dtype


def stand_in(v: Value) -> NDArray:
    """An array of any content that lies as a value does; negative strides are turned round."""
    strides = [abs(s) for s in v.strides]
    last = sum((n - 1) * s for n, s in zip(v.shape, strides, strict=True) if n)
    content: NDArray = np.empty(last + v.dtype.itemsize, np.uint8)
    return np.ndarray(v.shape, v.dtype, content.data, 0, strides)
