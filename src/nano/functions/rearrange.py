"""Copies of the elements at other places: pad, repeat, flip, roll, triangles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..autograd.function import Function
from ..backends import kernels
from ..errors import ShapeError
from ..tensor import Tensor
from .movement import reshape
from .operands import as_dims, as_one, as_shape, check_tensor, normal_dim

__all__ = ["flip", "fliplr", "flipud", "pad", "repeat", "roll", "tile", "tril", "triu"]

Widths = tuple[tuple[int, int], ...]


class Pad(Function):
    """A constant put around x, or (negative widths) x cut; the derivative does the opposite."""

    @staticmethod
    def forward(ctx, x, *, widths, value):
        ctx.widths = widths
        return kernels.pad_constant(x, widths, value)

    @staticmethod
    def backward(ctx, grad_output):
        opposite = tuple([(-low, -high) for low, high in ctx.widths])
        return Pad.apply(grad_output, widths=opposite, value=0)


class TakeAlong(Function):
    """y[.., i, ..] = x[.., index[i], ..] along one axis; the derivative adds up repeats."""

    @staticmethod
    def forward(ctx, x, *, index, axis):
        ctx.index, ctx.axis, ctx.size = index, axis, x.shape[axis]
        return kernels.take(x, index, axis)

    @staticmethod
    def backward(ctx, grad_output):
        return AddAlong.apply(grad_output, index=ctx.index, axis=ctx.axis, size=ctx.size)


class AddAlong(Function):
    """Zeros, ``size`` long along one axis, with the slices of g added at ``index``."""

    @staticmethod
    def forward(ctx, grad_output, *, index, axis, size):
        ctx.index, ctx.axis = index, axis
        shape = (*grad_output.shape[:axis], size, *grad_output.shape[axis + 1 :])
        return kernels.add_at(shape, (*([slice(None)] * axis), index), grad_output)

    @staticmethod
    def backward(ctx, grad_output):
        return TakeAlong.apply(grad_output, index=ctx.index, axis=ctx.axis)


def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """Put elements around ``input``; negative widths cut elements off.

    Args:
        input: any tensor.
        pad: ``(before, after)`` for the last dimension, then for the one before it, and so
            on: PyTorch's order.
        mode: ``"constant"``; ``"reflect"`` (mirrored at the first and last element),
            ``"replicate"`` (these repeated), ``"circular"`` (from the other end).
        value: what a constant pad is made of; 0 by default.

    Raises:
        RuntimeError: if there are more widths than dimensions, or more is cut or mirrored
            than there is.

    >>> nano.pad(nano.tensor([[1, 2, 3]]), (1, -1, 0, 1), value=9)
    tensor([[9, 1, 2],
            [9, 9, 9]])
    >>> nano.pad(nano.tensor([[1, 2, 3]]), (2, 1), mode="reflect")
    tensor([[3, 2, 1, 2, 3, 2]])
    """
    shape = check_tensor("pad", input)._data.shape
    widths = _widths(as_shape("pad", (pad,)), shape)
    if mode == "constant":
        return Pad.apply(input, widths=widths, value=0 if value is None else value)
    if mode not in _SOURCES:
        raise NotImplementedError(
            f"[pad] mode {mode!r} does not exist; there is constant, {', '.join(_SOURCES)}."
        )
    if value not in (None, 0):
        raise ShapeError("pad", f"mode {mode!r} takes no value, got {value}.")
    for axis, (low, high) in enumerate(widths):
        if low or high:
            index = _SOURCES[mode](shape[axis], low, high)
            input = TakeAlong.apply(input, index=index, axis=axis)
    return input


def _widths(flat: tuple[int, ...], shape: tuple[int, ...]) -> Widths:
    """(before, after) for each dimension, from the last dimension's first in one row."""
    facts = f"input {shape} · pad {flat}"
    if len(flat) % 2 or len(flat) > 2 * len(shape):
        raise ShapeError(
            "pad",
            f"expected an even number of widths, at most {2 * len(shape)}, got {len(flat)}.",
            facts=facts,
        )
    pairs = list(zip(flat[::2], flat[1::2], strict=True))[::-1]
    widths = ((0, 0),) * (len(shape) - len(pairs)) + tuple(pairs)
    for n, (low, high) in zip(shape, widths, strict=True):
        if n + low + high < 0 or min(low, high) < -n:
            raise ShapeError(
                "pad",
                f"widths ({low}, {high}) cut more than the {n} elements there are.",
                facts=facts,
            )
    return widths


def _reflected(n: int, low: int, high: int) -> np.ndarray:
    if max(low, high) >= n:
        raise ShapeError(
            "pad", f"reflect needs widths smaller than the size {n}, got ({low}, {high})."
        )
    place = np.abs(np.arange(-low, n + high))
    return np.where(place >= n, 2 * (n - 1) - place, place)


def _replicated(n: int, low: int, high: int) -> np.ndarray:
    if not n:
        raise ShapeError("pad", "replicate needs an element to repeat, the dimension has none.")
    return np.clip(np.arange(-low, n + high), 0, n - 1)


def _circular(n: int, low: int, high: int) -> np.ndarray:
    if max(low, high) > n:
        raise ShapeError(
            "pad", f"circular needs widths of at most the size {n}, got ({low}, {high})."
        )
    # Negative widths cut first, and what is left goes round.
    start, stop = max(-low, 0), n - max(-high, 0)
    place = np.arange(-max(low, 0), stop - start + max(high, 0))
    return start + place % max(stop - start, 1)


_SOURCES = {"reflect": _reflected, "replicate": _replicated, "circular": _circular}


class Repeat(Function):
    """Copies of x side by side; the derivative adds the copies up."""

    @staticmethod
    def forward(ctx, x, *, repeats):
        ctx.shape, ctx.repeats = x.shape, repeats
        return kernels.tile(x, repeats)

    @staticmethod
    def backward(ctx, grad_output):
        sizes = (1,) * (len(ctx.repeats) - len(ctx.shape)) + ctx.shape
        apart = [n for pair in zip(ctx.repeats, sizes, strict=True) for n in pair]
        if not apart:
            return grad_output
        copies = tuple(range(0, len(apart), 2))
        return reshape(reshape(grad_output, apart).sum(copies), ctx.shape)


def repeat(input: Tensor, *repeats: Any) -> Tensor:
    """``input`` laid side by side, ``repeats`` times along each dimension; a copy.

    Args:
        input: any tensor.
        repeats: at least as many as dimensions; more add dimensions in front.

    Raises:
        RuntimeError: if there are fewer repeats than dimensions, or one is negative.

    >>> nano.tensor([1, 2]).repeat(2, 2)
    tensor([[1, 2, 1, 2],
            [1, 2, 1, 2]])
    """
    counts = as_shape("repeat", repeats)
    ndim = check_tensor("repeat", input)._data.ndim
    if len(counts) < ndim:
        raise ShapeError(
            "repeat",
            f"{len(counts)} repeats given for {ndim} dimensions.",
            hint="Use tile(...), which leaves leading dimensions as they are.",
        )
    if min(counts, default=0) < 0:
        raise ShapeError("repeat", f"repeats must not be negative, got {counts}.")
    return Repeat.apply(input, repeats=counts)


def tile(input: Tensor, *dims: Any) -> Tensor:
    """As :func:`repeat`, but where ``dims`` are few, leading dimensions are not repeated.

    >>> nano.tile(nano.tensor([[1], [2]]), (2,))
    tensor([[1, 1],
            [2, 2]])
    """
    counts = as_shape("tile", dims)
    ndim = check_tensor("tile", input)._data.ndim
    return repeat(input, (1,) * (ndim - len(counts)) + counts)


class Flip(Function):
    """x read backwards along some dimensions; the derivative reads backwards again."""

    @staticmethod
    def forward(ctx, x, *, dims):
        ctx.dims = dims
        return kernels.flip(x, dims)

    @staticmethod
    def backward(ctx, grad_output):
        return Flip.apply(grad_output, dims=ctx.dims)


def flip(input: Tensor, *order: Any, dims: Any = None) -> Tensor:
    """``input`` read backwards along some dimensions; a copy.

    Args:
        input: any tensor.
        order, dims: the dimensions, as integers, as one tuple or by name.

    Raises:
        IndexError: if there is no such dimension.
        RuntimeError: if one is named twice.

    >>> nano.flip(nano.tensor([[1, 2], [3, 4]]), (1,))
    tensor([[2, 1],
            [4, 3]])
    """
    ndim = check_tensor("flip", input)._data.ndim
    order = as_dims("flip", as_shape("flip", as_one("flip", "dims", order, dims)), ndim)
    return Flip.apply(input, dims=order if ndim else ())


def fliplr(input: Tensor) -> Tensor:
    """``input`` read backwards along its second dimension."""
    if check_tensor("fliplr", input)._data.ndim < 2:
        raise ShapeError("fliplr", f"expected 2 or more dimensions, got {input.ndim}.")
    return flip(input, 1)


def flipud(input: Tensor) -> Tensor:
    """``input`` read backwards along its first dimension."""
    if check_tensor("flipud", input)._data.ndim < 1:
        raise ShapeError("flipud", "expected 1 or more dimensions, got 0.")
    return flip(input, 0)


class Roll(Function):
    """x moved in a circle; the derivative moves it back."""

    @staticmethod
    def forward(ctx, x, *, shifts, dims):
        ctx.shifts, ctx.dims = shifts, dims
        return kernels.roll(x, shifts, dims)

    @staticmethod
    def backward(ctx, grad_output):
        return Roll.apply(grad_output, shifts=tuple([-s for s in ctx.shifts]), dims=ctx.dims)


def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """``input`` moved along ``dims``; what falls off one end comes in at the other.

    Args:
        input: any tensor.
        shifts: by how much, an integer or one for each of ``dims``.
        dims: along what; by default the flattened tensor is moved.

    Raises:
        RuntimeError: if ``shifts`` and ``dims`` differ in length.
        IndexError: if there is no such dimension.

    >>> nano.roll(nano.tensor([1, 2, 3, 4]), 1)
    tensor([4, 1, 2, 3])
    """
    ndim = check_tensor("roll", input)._data.ndim
    shifts = as_shape("roll", (shifts,))
    if dims is None:
        if len(shifts) != 1:
            raise ShapeError("roll", f"{len(shifts)} shifts need as many dims, got none.")
        return Roll.apply(input, shifts=shifts, dims=None)
    axes = tuple([normal_dim("roll", d, ndim) for d in as_shape("roll", (dims,))])
    if len(axes) != len(shifts):
        raise ShapeError("roll", f"shifts {shifts} and dims {dims} differ in length.")
    return Roll.apply(input, shifts=shifts, dims=axes if ndim else None)


class Tril(Function):
    """x below and on a diagonal, else 0; the derivative is cut in the same way."""

    @staticmethod
    def forward(ctx, x, *, diagonal):
        ctx.diagonal = diagonal
        return kernels.tril(x, diagonal)

    @staticmethod
    def backward(ctx, grad_output):
        return Tril.apply(grad_output, diagonal=ctx.diagonal)


class Triu(Function):
    """x above and on a diagonal, else 0; the derivative is cut in the same way."""

    @staticmethod
    def forward(ctx, x, *, diagonal):
        ctx.diagonal = diagonal
        return kernels.triu(x, diagonal)

    @staticmethod
    def backward(ctx, grad_output):
        return Triu.apply(grad_output, diagonal=ctx.diagonal)


def _matrices(owner: str, input: Tensor) -> Tensor:
    if check_tensor(owner, input)._data.ndim < 2:
        raise ShapeError(owner, f"expected 2 or more dimensions, got {input.ndim}.")
    return input


def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of each matrix, with zeros above it.

    Args:
        input: two or more dimensions.
        diagonal: the last diagonal that is kept; 0 is the main one, 1 the one above.

    Raises:
        RuntimeError: for less than two dimensions.

    >>> nano.tril(nano.tensor([[1, 2], [3, 4]]))
    tensor([[1, 0],
            [3, 4]])
    """
    return Tril.apply(_matrices("tril", input), diagonal=int(diagonal))


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of each matrix, with zeros below it.

    Args:
        input: two or more dimensions.
        diagonal: the first diagonal that is kept; 0 is the main one, 1 the one above.

    Raises:
        RuntimeError: for less than two dimensions.

    >>> nano.triu(nano.tensor([[1, 2], [3, 4]]))
    tensor([[1, 2],
            [0, 4]])
    """
    return Triu.apply(_matrices("triu", input), diagonal=int(diagonal))
