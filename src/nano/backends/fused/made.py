"""What is made of weights before they are multiplied, kept until they change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from numpy.typing import NDArray

__all__ = ["Made"]


class Made(threading.local):
    """What this thread has made of weights, by the owner of their memory."""

    def __init__(self) -> None:
        self._by_owner: WeakKeyDictionary[Any, dict[Any, tuple[Any, NDArray]]]
        self._by_owner = WeakKeyDictionary()

    def of(
        self,
        weight: NDArray,
        turned: bool,
        token: Any,
        room: Callable[[], NDArray],
        fill: Callable[[NDArray], Any],
    ) -> NDArray:
        """What ``fill`` writes into the ``room`` for a weight, ``turned`` round or not.

        ``token`` is None, or the owner of the weight's memory and the version of its content:
        what was made is kept until the version moves or the owner goes.
        """
        version, kept, place = None, {}, (weight.ctypes.data, weight.shape, weight.strides, turned)
        if token is not None:
            owner, version = token
            kept = self._by_owner.setdefault(owner, {})
            if place in kept and kept[place][0] == version:
                return kept[place][1]
        made = kept[place][1] if place in kept else room()
        fill(made)
        kept[place] = version, made
        return made
