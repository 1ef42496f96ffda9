"""Storage: what all tensors over one piece of memory share, and whether it has changed.

An in-place operator counts its write here, so that ``backward()`` can tell that a saved
tensor is no longer what it was, a view that its history is out of date, and a kernel that
a weight which it reordered has moved. Tensors are known here only by their attributes.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import numpy as np

__all__ = ["Storage", "View", "content_token", "storage_of"]


class Storage:
    """What all tensors over one piece of memory share.

    Attributes:
        version: how often the memory was written in place.
        changed_by: the operator that wrote last.
        rebased: how often an in-place operator changed the history of the base tensor.
        exposed: how often the memory was handed to where writes are not counted.
    """

    __slots__ = ("__weakref__", "changed_by", "exposed", "rebased", "version")

    def __init__(self) -> None:
        self.version = 0
        self.changed_by = ""
        self.rebased = 0
        self.exposed = 0


def content_token(t: Any) -> tuple[Storage, tuple[int, int]] | None:
    """A token that stays equal as long as the content of ``t`` does; None if nobody can say.

    Kernels keep weights that they have reordered for as long as the token stays. Writes by
    operators move the version. Whoever writes to the memory itself has got it as an array
    (``numpy()``, ``data``), which is counted, and holds it until then: while somebody does,
    there is no token.
    """
    if _references(t) != _references_if_alone(t._data.base is not None):
        return None
    storage = storage_of(t)
    return storage, (storage.version, storage.exposed)


def _references(t: Any) -> tuple[int, int]:
    """How often the array of ``t`` is referred to, and the one that owns its memory.

    The owner is counted only if it is another array, as for a Parameter, whose array is a
    view of the one that it was made from. Its views refer to it.
    """
    array = t._data
    base = array.base
    if base is None:
        return sys.getrefcount(array), 0
    if type(base) is not np.ndarray or base.base is not None:
        return 0, 0  # the memory is not NumPy's
    return sys.getrefcount(array), sys.getrefcount(base)


@cache
def _references_if_alone(is_view: bool) -> tuple[int, int]:
    """What :func:`_references` says if nobody else has the array; it depends on the Python."""

    class Holder:
        __slots__ = ("_data",)

    array = np.empty(1)
    t = Holder()
    t._data = array[:] if is_view else array
    del array
    return _references(t)


class View:
    """Ties a view to the tensor whose memory it shows.

    Attributes:
        base: the tensor that owns the memory.
        rebased: the value of ``storage.rebased`` for which the view's history is right.
        made_by: the user's Function that made it, whose derivative a new history would lose.
    """

    __slots__ = ("base", "made_by", "rebased")

    def __init__(self, base: Any, rebased: int, made_by: str = "") -> None:
        self.base = base
        self.rebased = rebased
        self.made_by = made_by


def storage_of(t: Any) -> Storage:
    """What ``t`` shares with the tensors over its memory, made at the first call.

    The Function that made ``t`` is told, for it may have saved ``t`` and must know
    when it is written.
    """
    storage = t._storage
    if storage is None:
        storage = t._storage = Storage()
        if t._edge is not None:
            node, number, _ = t._edge
            if not node._output_storages:
                node._output_storages = {}
            node._output_storages[number] = storage
    return storage
