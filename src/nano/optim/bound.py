"""An optimizer's step for arrays that stay where they are, as a compiled program asks for it.

A step of many small parameters takes longer to look up than to compute. Here everything is
looked up once: parameters, gradients, state. What may change from step to step, the options of
the groups, is read anew; if a gradient or a state has become another tensor, it is looked up
again.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from ..storage import storage_of
from ..tensor import Tensor

__all__ = ["BoundStep"]


class BoundStep:
    """``optimizer.step()`` for parameters that each keep their array.

    Args:
        optimizer: whose step it is.
        bind: given a group and its parameters, returns the names of the state that the step
            uses, and the step.
    """

    def __init__(self, optimizer: Any, bind: Callable[[dict[str, Any], list[Tensor]], Any]) -> None:
        self._optimizer = optimizer
        self._bind = bind
        self._writer = f"{type(optimizer).__name__}.step"
        self._groups: list[Any] = []

    def __call__(self) -> None:
        if not self._groups or not self._stands():
            self._optimizer._move()
            self._groups = self._bound()
            return
        writer = self._writer
        for _, storages, _, step in self._groups:
            step()
            for storage in storages:
                storage.version += 1
                storage.changed_by = writer

    def _stands(self) -> bool:
        """Whether every gradient and every state is the array that it was."""
        state = self._optimizer.state
        for entries, _, names, _ in self._groups:
            for p, grad, kept in entries:
                t = p._grad
                if t is None or t._data is not grad():
                    return False
                for name, array in zip(names, kept):  # noqa: B905  (equal, and this is quick)
                    if name not in state[p] or state[p][name]._data is not array:
                        return False
        return len(self._groups) == len(self._optimizer.param_groups)

    def _bound(self) -> list[Any]:
        optimizer = self._optimizer
        groups = []
        for group in optimizer.param_groups:
            params = [p for p in group["params"] if p._grad is not None]
            if not params or len(params) < len(group["params"]):
                return []
            names, step = self._bind(group, params)
            entries = []
            for p in params:
                kept = [optimizer.state[p][name]._data for name in names]
                # Not held: who leaves the gradient there takes other memory if somebody has it.
                entries.append((p, weakref.ref(p._grad._data), kept))
            groups.append((entries, [storage_of(p) for p in params], names, step))
        return groups
