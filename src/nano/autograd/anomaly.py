"""Anomaly mode: find the first NaN or infinity, and the user's line that made it.

Every Function is watched through the hook of ``Function.apply``, in the forward
pass and, since derivatives are written with Functions, in the backward pass.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import AnomalyError
from ..hook import add_hook, remove_hook
from ..tensor import Tensor
from .engine import running

__all__ = ["detect_anomaly", "set_detect_anomaly", "user_line"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def user_line() -> str:
    """The innermost line of the call stack that is not nano's own: ``file:line, in f: code``."""
    import traceback  # not light, and needed only here

    for frame in reversed(traceback.extract_stack()):
        if not frame.filename.startswith(_PACKAGE):
            return f"{frame.filename}:{frame.lineno}, in {frame.name}: {frame.line}"
    return "unknown"


def _first_fault(tensors: tuple[Any, ...]) -> str:
    """``"NaN"``, ``"an infinity"`` or nothing."""
    for t in tensors:
        if isinstance(t, Tensor) and t._data.dtype.kind in "fV":
            finite = np.isfinite(t._data)
            if not finite.all():
                return "NaN" if np.isnan(t._data).any() else "an infinity"
    return ""


def _describe(inputs: tuple[Any, ...]) -> str:
    parts = []
    for x in inputs:
        if not isinstance(x, Tensor):
            parts.append(repr(x))
        elif x.numel() and x.is_floating_point():
            low, high = float(x._data.min()), float(x._data.max())
            parts.append(f"{x.shape} from {low:.4g} to {high:.4g}")
        else:
            parts.append(f"{x.shape} {x.dtype}")
    return "inputs: " + " · ".join(parts)


def _watch(
    function: Any,
    inputs: tuple[Any, ...],
    attributes: dict[str, Any],
    proceed: Callable[[], Any],
) -> Any:
    outputs = proceed()
    if not isinstance(function, type):
        return outputs  # no operator; those of a derivative have been watched
    tensors = outputs if isinstance(outputs, tuple) else (outputs,)
    node = running.node
    fault = _first_fault(tensors)
    if fault and not _first_fault(inputs):
        if node is None:
            raise AnomalyError(
                function.__name__,
                f"made the first {fault}, in the forward pass.",
                facts=_describe(inputs),
                hint=f"at {user_line()}",
            )
        raise AnomalyError(
            node.name(),
            f"made the first {fault}, in the backward pass ({function.__name__}).",
            facts=_describe(inputs),
            hint=f"of the forward operator at {node.stack or 'a line not recorded'}",
        )
    line = ""
    for t in tensors:
        if isinstance(t, Tensor) and t._edge is not None and not t._edge[0].stack:
            line = line or (node.stack if node is not None else user_line())
            t._edge[0].stack = line
    return outputs


class set_detect_anomaly:  # noqa: N801  (PyTorch's name)
    """Switch anomaly mode on or off; as a context manager, until its end."""

    def __init__(self, mode: bool) -> None:
        self._before = _state[0]
        _switch(mode)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        _switch(self._before)


class detect_anomaly(set_detect_anomaly):  # noqa: N801  (PyTorch's name)
    """Stop at the first NaN or infinity that a Function makes of finite inputs.

    Raises:
        RuntimeError: naming the Function, its inputs' ranges and the user's line;
            for a backward pass, the line of the forward operator.

    >>> x = nano.tensor(0.0, requires_grad=True)
    >>> with nano.autograd.detect_anomaly():
    ...     nano.sqrt(x).backward()
    Traceback (most recent call last):
    ...
    nano.errors.AnomalyError: [SqrtBackward0] made the first an infinity, in the backward ...
    """

    def __init__(self) -> None:
        super().__init__(True)


_state = [False]


def _switch(on: bool) -> None:
    if on and not _state[0]:
        add_hook(_watch)
    elif not on and _state[0]:
        remove_hook(_watch)
    _state[0] = bool(on)
