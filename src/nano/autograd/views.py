"""In-place operators, and what they do to the history of tensors that share memory.

Writing into a tensor changes the history of every tensor over the same memory.
The tensor that owns the memory (the *base*) gets a new history at once; a view
of it notices by a counter and makes its own anew when it is next used. That a
saved tensor was overwritten is noticed by the version counter (function.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import kernels
from ..dtypes import can_cast, from_numpy_dtype
from ..errors import DtypeError, GradientError, ShapeError
from ..hook import Write, hooks, through_hooks
from ..storage import Storage, View, storage_of
from ..tensor import Tensor, wrap
from .function import Function
from .grad_mode import mode

__all__ = ["bump_version", "check_writeable", "overwrite", "refresh", "write_in_place"]


class TakeFlat(Function):
    """out = input.flatten()[index]: what a view shows of its base."""

    @staticmethod
    def forward(ctx: Any, x: NDArray, *, index: NDArray) -> NDArray:
        ctx.index, ctx.shape = index, x.shape
        return x.reshape(-1)[index]

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return AddFlat.apply(grad_output, index=ctx.index, shape=ctx.shape)


class AddFlat(Function):
    """Zeros of ``shape`` with the input added at the flat ``index``."""

    @staticmethod
    def forward(ctx: Any, x: NDArray, *, index: NDArray, shape: tuple[int, ...]) -> NDArray:
        ctx.index = index
        size = int(np.prod(shape))
        return kernels.add_at((size,), index.reshape(-1), x.reshape(-1)).reshape(shape)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return TakeFlat.apply(grad_output, index=ctx.index)


class PutFlat(Function):
    """The base with ``value`` written at the flat ``index``."""

    @staticmethod
    def forward(ctx: Any, x: NDArray, value: NDArray, *, index: NDArray) -> NDArray:
        ctx.index, ctx.value_shape, ctx.value_dtype = index, value.shape, value.dtype
        out = x.reshape(-1).copy()
        out[index.reshape(-1)] = value.reshape(-1)
        return out.reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        zeros = wrap(np.zeros(ctx.value_shape, ctx.value_dtype))
        kept = PutFlat.apply(grad_output, zeros, index=ctx.index)
        return kept, TakeFlat.apply(grad_output, index=ctx.index)


def flat_index(view: NDArray, base: NDArray, fill: int = -1) -> NDArray:
    """For each element of ``view``, its position in ``base.flatten()``.

    Both show the same memory, in whatever order. The positions are written into
    a map of that memory through the base's strides and read through the view's.
    What the view shows and the base does not has the position ``fill``.
    """
    size = base.itemsize
    bounds = np.lib.array_utils.byte_bounds
    (low, high), (first, last) = bounds(base), bounds(view)
    low, high = min(low, first), max(high, last)
    memory = np.full((high - low) // size, fill, np.int64)

    def window(a: NDArray) -> NDArray:
        offset = (a.__array_interface__["data"][0] - low) // size
        strides = tuple(s // size * memory.itemsize for s in a.strides)
        return np.ndarray(a.shape, np.int64, memory, offset * memory.itemsize, strides)

    window(base)[...] = np.arange(base.size).reshape(base.shape)
    return window(view).copy()


def refresh(view: Tensor) -> None:
    """Give a view the history that follows from its base's."""
    assert view._view is not None
    assert view._storage is not None
    base = view._view.base
    if view._view.made_by:
        raise GradientError(
            view._view.made_by,
            "its output is a view of its input, whose memory was changed in place since.",
            facts=f"shape {view.shape} · changed by {view._storage.changed_by}",
            hint="Return a copy from forward().",
        )
    view._view = View(base, view._storage.rebased)
    if not base._requires_grad:
        view._edge, view._requires_grad = None, False
        return
    before, mode.enabled = mode.enabled, True
    try:
        made = TakeFlat.apply(base, index=flat_index(view._data, base._data))
    finally:
        mode.enabled = before
    _give_history(view, made)


def bump_version(t: Tensor, writer: str) -> None:
    """Count one more write into the memory of ``t``."""
    storage = storage_of(t)
    storage.version += 1
    storage.changed_by = writer


def check_writeable(name: str, array: NDArray) -> None:
    """Refuse to write where one element of memory is shown at many places, or none may be.

    Raises:
        RuntimeError: if so.
    """
    if 0 in array.strides and any(
        s == 0 and n > 1 for s, n in zip(array.strides, array.shape, strict=True)
    ):
        raise ShapeError(
            name,
            "an expanded tensor shows one element at many places and cannot be written.",
            facts=f"shape {array.shape}",
            hint="Write into a clone().",
        )
    if not array.flags.writeable:
        raise ShapeError(
            name, "the NumPy array under this tensor is read-only.", hint="Write into a clone()."
        )


def write_in_place(
    name: str, t: Tensor, cls: type[Function], *inputs: Any, **attributes: Any
) -> Any:
    """``t[...] = cls.apply(*inputs, **attributes)``, with the history that follows.

    Args:
        name: the operator as the user wrote it, for messages: ``add_``.
        t: the tensor that is written; it may be among the inputs.

    Raises:
        RuntimeError: if ``t`` is a leaf that requires gradients (or a view of one) and
            operations are recorded, or the result does not fit its shape or dtype.
    """
    t._refresh()
    base = t if t._view is None else t._view.base
    leaf = base if base._requires_grad else t
    if mode.enabled and leaf._requires_grad and leaf._edge is None:
        what = "a leaf" if leaf is t else "a view of a leaf"
        raise GradientError(
            name,
            f"{what} tensor that requires gradients cannot be changed in place.",
            facts=f"shape {t.shape} · dtype {t.dtype}",
            hint="Do it under nano.no_grad(), or on a clone().",
        )
    if mode.enabled and base._requires_grad and not t._requires_grad:
        raise GradientError(
            name,
            "a view made under no_grad() is changed in place while gradients are recorded.",
            facts=f"shape {t.shape} · dtype {t.dtype}",
            hint="Make the view outside of no_grad(), or change it inside.",
        )
    if mode.enabled and t._view is not None and t._view.made_by:
        raise GradientError(
            name,
            f"this is a view that {t._view.made_by} returned of its input, "
            "and cannot be changed in place.",
            facts=f"shape {t.shape} · dtype {t.dtype}",
            hint="Return a copy from forward(), or change a clone().",
        )
    check_writeable(name, t._data)
    # The operator sees the old values under another name: if it saves them, they are copied
    # before they are overwritten.
    old = wrap(t._data.view())
    old._requires_grad, old._edge = t._requires_grad, t._edge
    old._storage = Storage()
    inputs = tuple([old if x is t else x for x in inputs])
    result = cls.apply(*inputs, **attributes)
    if result._data.shape != t._data.shape:
        raise ShapeError(
            name, f"the result has shape {result.shape}, which does not fit into {t.shape}."
        )
    if result._data.dtype != t._data.dtype and not can_cast(result.dtype, t.dtype):
        raise DtypeError(
            name,
            f"the result is {result.dtype}, which can't be cast to {t.dtype}.",
            hint="Use the operator without underscore.",
        )
    if result._requires_grad:
        _keep_old_values(result, old, (*inputs, *attributes.values()))
    commit(name, t, result)
    return t


def _keep_old_values(result: Tensor, old: Tensor, inputs: tuple[Any, ...]) -> None:
    """Copy what the operator's nodes have saved of ``old``, whose memory will be overwritten.

    An operator may be made of several Functions: their nodes lie between the result and
    the nodes of its inputs.
    """
    seen = {id(x._edge[0]) for x in inputs if isinstance(x, Tensor) and x._edge is not None}
    waiting = [] if result._edge is None else [result._edge[0]]
    while waiting:
        node = waiting.pop()
        if id(node) in seen or not isinstance(node, Function):
            continue
        seen.add(id(node))
        if node._saved:
            node._saved = [_kept(entry, old) for entry in node._saved]
        waiting.extend([edge[0] for edge in node._edges if edge is not None])


def _kept(entry: Any, old: Tensor) -> Any:
    """A saved entry (see ``function._pack``), in memory of its own if it shows that of ``old``."""
    if isinstance(entry, Tensor):
        if entry is not old and entry._storage is not old._storage:
            return entry
        kept = wrap(_copied(entry._data))
        kept._requires_grad, kept._edge = entry._requires_grad, entry._edge
        return kept
    if isinstance(entry, np.ndarray):
        return _copied(entry) if np.may_share_memory(entry, old._data) else entry
    if type(entry) is tuple and np.may_share_memory(entry[0], old._data):
        return _copied(entry[0]), entry[1]
    return entry


class Keep(Function):
    """A copy of x, whose memory will be overwritten."""

    differentiable = False

    @staticmethod
    def forward(ctx: Any, x: NDArray) -> NDArray:
        return x.copy()


def _copied(array: NDArray) -> NDArray:
    return Keep.apply(wrap(array))._data


def commit(name: str, t: Tensor, result: Tensor) -> None:
    """Write ``result`` into the memory of ``t`` and give ``t`` and its base their new history."""
    if result._data.dtype != t._data.dtype and result._requires_grad:
        result = result.to(from_numpy_dtype(t._data.dtype))
    # Asked for before the history changes: the Function that made the old values must know it.
    storage_of(t)
    view = t._view
    if not (mode.enabled and (result._requires_grad or t._requires_grad)):
        overwrite(name, t, result)
        return
    if view is None:
        _give_history(t, result)
    else:
        base = view.base
        _give_history(base, PutFlat.apply(base, result, index=flat_index(t._data, base._data)))
    overwrite(name, t, result)
    storage_of(t).rebased += 1
    if view is not None:
        refresh(t)


def overwrite(name: str, t: Tensor, result: Tensor) -> None:
    """Copy the values of ``result`` into the memory of ``t``, whose history stays as it is."""

    def run() -> None:
        # First the values, then the count: a kernel in another thread may keep what it makes
        # of a weight, and must not take half-written values for those of the new version.
        np.copyto(t._data, result._data, casting="unsafe")
        bump_version(t, name)

    if hooks:
        through_hooks(Write(name), (t, result), {}, run)
    else:
        run()


def _give_history(t: Tensor, made: Tensor) -> None:
    """Let ``t`` be what ``made`` is in the graph; ``retain_grad()`` goes with it."""
    before = t._edge
    t._edge, t._requires_grad = made._edge, made._requires_grad
    if before is not None and before[0]._retained:
        reference = before[0]._retained.get(before[1])
        if reference is not None and reference() is t:
            del before[0]._retained[before[1]]
            if t._edge is not None:
                t._edge[0].retain_grad(t, t._edge[1])
