"""Indexing: ``x[key]``, ``x[key] = value``, and reading and writing at given positions.

A key has a basic part (integers, slices, None, ``...``), which gives a view, and an
advanced part (arrays of integers, masks), which copies. The basic part is applied
first, so that ``x[0, :, [1, 2]]`` means what it means in PyTorch, not in NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..autograd.derivatives import sum_to_shape
from ..autograd.function import Function
from ..autograd.grad_mode import mode
from ..autograd.views import bump_version, check_writeable, write_in_place
from ..backends import kernels
from ..errors import DtypeError, IndexingError, InputError, ShapeError, TypeMismatchError
from ..hook import hooks, reading
from ..tensor import Tensor, wrap
from .movement import Reshape
from .operands import as_tensor_like, check_tensor, fitting, is_number
from .parts import Slice

__all__ = ["masked_select", "nonzero", "take"]

_BASIC = (int, slice, type(None), type(Ellipsis))


class Index(Function):
    """x[.., index, ..]: elements at integers or masks, copied; the derivative adds them up.

    ``slots`` says of each place in the key whether an index stands there (else ``:``).
    """

    refuses = True

    @staticmethod
    def forward(ctx, x, *indices, slots):
        ctx.slots, ctx.shape = slots, x.shape
        ctx.save_for_backward(*indices)
        return kernels.take_at(x, _fill(slots, indices))

    @staticmethod
    def backward(ctx, grad_output):
        indices = ctx.saved_tensors
        grad = AddIndex.apply(grad_output, *indices, slots=ctx.slots, shape=ctx.shape)
        return (grad, *([None] * len(indices)))


class AddIndex(Function):
    """Zeros of ``shape`` with g added at an index; linear in g."""

    @staticmethod
    def forward(ctx, grad_output, *indices, slots, shape):
        ctx.slots = slots
        ctx.save_for_backward(*indices)
        key = _fill(slots, indices)
        if all(i.dtype.kind == "b" for i in indices):  # a mask meets no element twice
            return kernels.put_slice(shape, key, grad_output)
        return kernels.add_at(shape, key, grad_output)

    @staticmethod
    def backward(ctx, grad_output):
        indices = ctx.saved_tensors
        grad = Index.apply(grad_output, *indices, slots=ctx.slots)
        return (grad, *([None] * len(indices)))


class PutIndex(Function):
    """x with ``value`` written at an index; d/dx = 0 there, d/dvalue = g there."""

    refuses = True

    @staticmethod
    def forward(ctx, x, value, *indices, slots):
        ctx.slots = slots
        ctx.value_shape = value.shape
        ctx.save_for_backward(*indices)
        return kernels.put_at(x, _fill(slots, indices), value)

    @staticmethod
    def backward(ctx, grad_output):
        indices = ctx.saved_tensors
        grad_x = grad_value = None
        if ctx.needs_input_grad[0]:
            zero = wrap(np.zeros((), grad_output._data.dtype))
            grad_x = PutIndex.apply(grad_output, zero, *indices, slots=ctx.slots)
        if ctx.needs_input_grad[1]:
            if hooks:
                _announce_masks(indices)
            taken = Index.apply(grad_output, *indices, slots=ctx.slots)
            grad_value = sum_to_shape(taken, ctx.value_shape)
        return (grad_x, grad_value, *([None] * len(indices)))


class PutPart(Function):
    """x with ``value`` written at a basic key; d/dx = 0 there, d/dvalue = g there."""

    @staticmethod
    def forward(ctx, x, value, *, key):
        ctx.key, ctx.value_shape = key, value.shape
        return kernels.put_at(x, key, value)

    @staticmethod
    def backward(ctx, grad_output):
        grad_x = grad_value = None
        if ctx.needs_input_grad[0]:
            zero = wrap(np.zeros((), grad_output._data.dtype))
            grad_x = PutPart.apply(grad_output, zero, key=ctx.key)
        if ctx.needs_input_grad[1]:
            grad_value = sum_to_shape(Slice.apply(grad_output, key=ctx.key), ctx.value_shape)
        return grad_x, grad_value


def _fill(slots: tuple[bool, ...], indices: tuple[NDArray, ...]) -> tuple[Any, ...]:
    """The NumPy key with an index where ``slots`` has True."""
    rest = iter(indices)
    return tuple([next(rest) if slot else slice(None) for slot in slots])


# The key ---------------------------------------------------------------------------------


def _parse(x: NDArray, key: Any) -> tuple[tuple[Any, ...], tuple[bool, ...], list[Any]]:
    """A key taken apart.

    Returns:
        The basic part (with ``...`` at its end, so that the result is always an array),
        the slots of the advanced part, and the indices that stand there.
    """
    items = [_as_item(k) for k in (key if type(key) is tuple else (key,))]
    taken = [_dims_taken(k) for k in items]
    if items.count(Ellipsis) > 1 if not any(taken) else _ellipses(items) > 1:
        raise IndexingError("index", "an index can have one ellipsis (...) only.")
    basic: list[Any] = []
    slots: list[bool] = []
    indices: list[Any] = []
    for item, dims in zip(items, taken, strict=True):
        if item is Ellipsis:
            missing = max(x.ndim - sum(taken), 0)
            basic += [slice(None)] * missing
            slots += [False] * missing
        elif isinstance(item, bool):  # a mask without dimensions: all or nothing
            basic.append(None)
            slots.append(True)
            indices.append(np.arange(int(item)))
        elif isinstance(item, _BASIC):
            basic.append(item)
            slots += [] if type(item) is int else [False]
        else:
            basic += [slice(None)] * dims
            slots.append(True)
            indices.append(item)
    return (*basic, ...), tuple(slots), indices


def _ellipses(items: list[Any]) -> int:
    return sum([item is Ellipsis for item in items])


def _dims_taken(item: Any) -> int:
    """How many dimensions of the tensor an item of the key is for."""
    if item is None or item is Ellipsis or isinstance(item, bool):
        return 0
    if isinstance(item, (int, slice)):
        return 1
    data = item._data if isinstance(item, Tensor) else item
    return data.ndim if data.dtype.kind == "b" else 1


def _as_item(item: Any) -> Any:
    """One item of a key as int, slice, None, Ellipsis, bool, or an index (array or Tensor)."""
    if item is None or item is Ellipsis or type(item) in (int, bool):
        return item
    if isinstance(item, slice):
        return _as_slice(item)
    if isinstance(item, Tensor):
        data = item._data
    elif isinstance(item, (np.ndarray, np.generic)):
        data = np.asarray(item)
    elif isinstance(item, (list, tuple, range)):
        data = _from_list(item)
    elif hasattr(item, "__index__"):
        return item.__index__()
    else:
        # PyTorch's error for text is another one than for other things that are no index.
        raise (TypeMismatchError if isinstance(item, str) else IndexingError)(
            "index",
            "a key is made of integers, slices, ..., None, and tensors, arrays or lists of "
            f"integers or booleans; got {type(item).__name__}.",
        )
    kind = data.dtype.kind
    if kind not in "iub":
        raise IndexingError(
            "index",
            f"tensors used as indices must be integers or booleans, got {data.dtype}.",
            hint="Convert it with t.long().",
        )
    if hooks and isinstance(item, Tensor) and (not data.ndim or data.dtype == np.uint8):
        reading("index", item)
    if not data.ndim and (kind == "b" or data.dtype != np.uint8):
        return data.item()
    if data.dtype == np.uint8:  # PyTorch reads bytes as a mask
        return data.astype(bool) if data.ndim else bool(data)
    return item if isinstance(item, Tensor) else data


def _as_slice(item: slice) -> slice:
    try:
        bounds = [None if n is None else n.__index__() for n in (item.start, item.stop, item.step)]
    except AttributeError:
        raise TypeMismatchError("index", f"slices are made of integers, got {item}.") from None
    if bounds[2] is not None and bounds[2] <= 0:
        raise InputError(
            "index",
            f"the step of a slice must be greater than zero, got {bounds[2]}.",
            hint="Use nano.flip(...) to read backwards.",
        )
    return slice(*bounds)


def _from_list(item: Any) -> NDArray:
    if any(isinstance(k, (slice, list, tuple, type(None), type(Ellipsis))) for k in item) or any(
        getattr(k, "ndim", 0) for k in item
    ):
        raise IndexingError(
            "index",
            "a list as a key must hold integers or booleans.",
            facts=f"index {_show(item)}",
            hint="Write x[tuple(...)] for one item a dimension, x[nano.tensor(...)] for an array.",
        )
    return np.asarray(
        [k.item() if isinstance(k, Tensor) else k for k in item] or [],
        None if len(item) else np.int64,
    )


def _show(key: Any) -> str:
    """A key as the user wrote it; arrays by their values if short."""
    if isinstance(key, tuple):
        return ", ".join([_show(k) for k in key])
    if isinstance(key, slice):
        parts = ["" if n is None else str(n) for n in (key.start, key.stop)]
        return ":".join(parts if key.step is None else [*parts, str(key.step)])
    if key is Ellipsis:
        return "..."
    data = key._data if isinstance(key, Tensor) else key
    if isinstance(data, np.ndarray) and data.size > 8:
        return f"{data.dtype} of shape {data.shape}"
    text = str(data.tolist() if isinstance(data, np.ndarray) else data)
    return text if len(text) < 80 else text[:76] + " ..."


def _outside(x: Tensor, key: Any, error: IndexError) -> IndexingError:
    """NumPy's complaint in our words."""
    what = str(error).replace("axis", "dimension").replace("array is", "the tensor is")
    what = what.replace("for array", "for the tensor").replace("indexed array", "indexed tensor")
    return IndexingError("index", what + ".", facts=f"shape {x.shape} · index [{_show(key)}]")


# Reading and writing ---------------------------------------------------------------------


def getitem(input: Tensor, key: Any) -> Tensor:
    """``input[key]``: a view for integers, slices, None and ``...``; else a copy.

    Args:
        input: any tensor.
        key: integers, slices (with positive step), ``...``, None (a new dimension),
            booleans, masks, and arrays, lists or tensors of integers, in a tuple.

    Raises:
        IndexError: if an index is out of range, of the wrong type, or a mask does not fit.
        ValueError: if the step of a slice is not positive.

    >>> t = nano.tensor([[1, 2, 3], [4, 5, 6]])
    >>> t[1], t[:, 1:], t[[1, 0], 2], t[t > 4]
    (tensor([4, 5, 6]), tensor([[2, 3],
            [5, 6]]), tensor([6, 3]), tensor([5, 6]))
    """
    try:
        if type(key) is int:
            return Slice.apply(input, key=(key, ...))
        basic, slots, indices = _parse(input._data, key)
        if not indices:
            return Slice.apply(input, key=basic)
        if hooks:
            _announce_masks(indices)
        if any(item != _ALL for item in basic[:-1]):
            input = Slice.apply(input, key=basic)
        return Index.apply(input, *indices, slots=slots)
    except IndexError as error:
        if isinstance(error, IndexingError):
            raise
        raise _outside(input, key, error) from None


_ALL = slice(None)


def _announce_masks(indices: Any) -> None:
    """How many elements a mask selects depends on its values."""
    masks = [i for i in indices if isinstance(i, Tensor) and _is_mask(i)]
    if masks:
        reading("mask index", *masks)


def _is_mask(index: Any) -> bool:
    """Whether an index, an array or a Tensor, is a mask."""
    return (index._data if isinstance(index, Tensor) else index).dtype.kind == "b"


def setitem(input: Tensor, key: Any, value: Any) -> None:
    """``input[key] = value``, in place; gradients flow to both.

    Args:
        input: the tensor that is written.
        key: as for reading.
        value: a number or a tensor that can be broadcast to what the key selects.

    Raises:
        IndexError: as for reading.
        RuntimeError: if the value does not fit, or ``input`` is a leaf (or a view of one)
            that requires gradients and operations are recorded.
        TypeError: if the value is neither number nor tensor.
    """
    if not isinstance(value, Tensor) and not is_number(value):
        raise TypeMismatchError(
            "index assignment",
            f"the value must be a Tensor or a number, got {type(value).__name__}.",
            hint="Make a Tensor of it with nano.tensor(...).",
        )
    try:
        basic, slots, indices = (
            ((key, ...), (), []) if type(key) is int else _parse(input._data, key)
        )
        if indices and isinstance(value, Tensor) and value._data.dtype != input._data.dtype:
            if not (value._data.size == 1 and len(indices) == 1 and _is_mask(indices[0])):
                raise DtypeError(
                    "index assignment",
                    f"the value is {value.dtype}, the tensor {input.dtype}.",
                    hint=f"Convert the value with .to({input.dtype}).",
                )
            value = as_tensor_like(value, input.dtype)  # one value fills a mask, as a number does
        recorded = mode.enabled and (
            input.requires_grad
            or (input._view is not None and input._view.base.requires_grad)
            or (isinstance(value, Tensor) and value.requires_grad)
        )
        if recorded or hooks:
            _assign(input, basic, slots, indices, value, recorded)
        else:
            _write(input, basic, slots, indices, value)
    except IndexError as error:
        if isinstance(error, IndexingError):
            raise
        raise _outside(input, key, error) from None


def _write(input: Tensor, basic: Any, slots: Any, indices: list[Any], value: Any) -> None:
    """Assignment without history."""
    target = input._data[basic]
    check_writeable("index assignment", target)
    new = value._data if isinstance(value, Tensor) else value
    if type(new) is int and new < 0 and target.dtype.kind == "u":
        new = fitting("index assignment", new, input.dtype) % (np.iinfo(target.dtype).max + 1)
    try:
        if indices:
            arrays = tuple([i._data if isinstance(i, Tensor) else i for i in indices])
            target[_fill(slots, arrays)] = new
        else:
            target[...] = new
    except ValueError as error:
        raise _does_not_fit(value, target.shape, error) from None
    except OverflowError as error:
        raise DtypeError("index assignment", f"{error}.") from None
    bump_version(input, "index assignment")


def _assign(
    input: Tensor, basic: Any, slots: Any, indices: list[Any], value: Any, recorded: bool
) -> None:
    """Assignment by operators: with history if it is recorded, and for those who look on."""
    target = input._data[basic]
    if not isinstance(value, Tensor):
        if isinstance(value, int):
            fitting("index assignment", value, input.dtype)
        value = as_tensor_like(value, input.dtype)
    elif not indices and _is_same_memory(input, target, value):
        return  # x[0] += 1 has written x already; Python then assigns x[0] to itself
    value = as_tensor_like(_without_leading_ones(value), input.dtype)
    name = "index assignment"
    check_writeable(name, target)
    try:
        if not indices and not recorded:
            part = Slice.apply(input, key=basic)
            write_in_place(name, part, PutPart, part, value, key=(...,))
        elif not indices:
            write_in_place(name, input, PutPart, input, value, key=basic)
        elif all(item == _ALL for item in basic[:-1]):
            write_in_place(name, input, PutIndex, input, value, *indices, slots=slots)
        else:
            part = Slice.apply(input, key=basic)
            write_in_place(name, part, PutIndex, part, value, *indices, slots=slots)
    except ValueError as error:
        raise _does_not_fit(value, target.shape, error) from None


def _is_same_memory(input: Tensor, target: NDArray, value: Tensor) -> bool:
    """Whether ``value`` is a view of ``input`` that shows just what is to be written."""
    a = value._data
    base = input if input._view is None else input._view.base
    return (
        value._view is not None
        and value._view.base is base  # not of what input was detached from: that has a history
        and a.__array_interface__["data"] == target.__array_interface__["data"]
        and a.shape == target.shape
        and a.strides == target.strides
    )


def _without_leading_ones(value: Tensor) -> Tensor:
    """Broadcasting puts ones in front anyway; NumPy and gradients want no more than needed."""
    shape = value._data.shape
    skip = 0
    while skip < len(shape) and shape[skip] == 1:
        skip += 1
    return Reshape.apply(value, shape=shape[skip:]) if skip else value


def _does_not_fit(value: Any, shape: tuple[int, ...], error: Exception) -> ShapeError:
    have = value.shape if isinstance(value, Tensor) else ()
    return ShapeError(
        "index assignment",
        f"a value of shape {have} does not fit what the index selects.",
        facts=f"indexed part {shape} · {error}".split("\n")[0],
    )


# Masks -----------------------------------------------------------------------------------


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements of ``input`` where ``mask`` is True, in one row; both are broadcast.

    Raises:
        RuntimeError: if the mask is not boolean or the shapes do not fit.

    >>> nano.masked_select(nano.tensor([1, 2, 3]), nano.tensor([True, False, True]))
    tensor([1, 3])
    """
    check_tensor("masked_select", input)
    if check_tensor("masked_select", mask, "mask")._data.dtype.kind != "b":
        raise DtypeError("masked_select", f"mask must be boolean, got {mask.dtype}.")
    if hooks:
        reading("masked_select", mask)
    try:
        shape = np.broadcast_shapes(input._data.shape, mask._data.shape)
    except ValueError:
        raise ShapeError(
            "masked_select", f"input {input.shape} and mask {mask.shape} cannot be broadcast."
        ) from None
    if not shape:
        input, mask, shape = input.reshape(1), mask.reshape(1), (1,)
    spread = np.broadcast_to(mask._data, shape)
    return Index.apply(input.expand(shape), spread, slots=(True,))


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The positions of the elements that are not zero; no derivative.

    Args:
        input: any tensor.
        as_tuple: one tensor of positions a dimension, ready to be an index, instead of
            one row an element.

    Returns:
        An int64 tensor (count, input.ndim), or a tuple of tensors (count,).

    >>> nano.nonzero(nano.tensor([[1, 0], [0, 2]]))
    tensor([[0, 0],
            [1, 1]])
    """
    x = check_tensor("nonzero", input)._data
    if hooks:
        reading("nonzero", input)
    if as_tuple:
        return tuple([wrap(i) for i in np.nonzero(x.reshape(1) if not x.ndim else x)])
    if not x.ndim:
        return wrap(np.zeros((int(bool(x)), 0), np.int64))
    return wrap(np.argwhere(x))


def take(input: Tensor, index: Tensor) -> Tensor:
    """The elements of the flattened ``input`` at ``index``, in the shape of ``index``.

    Raises:
        IndexError: if an index is out of range.

    >>> nano.take(nano.tensor([[1, 2], [3, 4]]), nano.tensor([3, 0]))
    tensor([4, 1])
    """
    flat = check_tensor("take", input).reshape(-1)
    return getitem(flat, check_tensor("take", index, "index"))
