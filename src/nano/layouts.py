"""Memory formats: in which order the elements of a tensor lie in memory.

A tensor of shape (n, c, h, w) has the same elements in the same places whether its
memory goes through the channels last or through the columns last. What differs is
the speed: convolutions like all channels of a pixel side by side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ShapeError, TypeMismatchError

__all__ = ["channels_last", "channels_last_3d", "contiguous_format", "memory_format"]
__all__ += ["preserve_format"]


class memory_format:  # noqa: N801  (PyTorch's name)
    """An order of the elements in memory; there are four, and no more can be made.

    ``contiguous_format`` is row-major order. ``channels_last`` puts the elements of a tensor of
    shape (n, c, h, w) in the order n, h, w, c, and ``channels_last_3d`` those of (n, c, d, h, w)
    in the order n, d, h, w, c. ``preserve_format`` keeps the order of the tensor given.

    >>> image = nano.zeros(2, 3, 4, 5).to(memory_format=nano.channels_last)
    >>> image.shape, image.stride()
    ((2, 3, 4, 5), (60, 1, 15, 3))
    >>> nano.channels_last
    nano.channels_last
    """

    __slots__ = ("name", "ndim")

    name: str
    #: The number of dimensions that a tensor must have; None for any.
    ndim: int | None

    def __init__(self) -> None:
        raise TypeMismatchError("memory_format", "cannot create instances of memory_format.")

    def __repr__(self) -> str:
        return f"nano.{self.name}"

    def __reduce__(self) -> str:
        return self.name


def _make(name: str, ndim: int | None) -> memory_format:
    made = object.__new__(memory_format)
    made.name, made.ndim = name, ndim
    return made


contiguous_format = _make("contiguous_format", None)
preserve_format = _make("preserve_format", None)
channels_last = _make("channels_last", 4)
channels_last_3d = _make("channels_last_3d", 5)


def checked_format(owner: str, wanted: Any, default: memory_format | None = None) -> memory_format:
    """``wanted``, or ``default`` where it is None.

    Raises:
        TypeError: if it is no memory format.
    """
    if wanted is None and default is not None:
        return default
    if not isinstance(wanted, memory_format):
        raise TypeMismatchError(
            owner,
            f"argument 'memory_format' must be a nano.memory_format, not {type(wanted).__name__}.",
            hint="There is nano.contiguous_format, nano.channels_last and nano.preserve_format.",
        )
    return wanted


def lies_in(array: NDArray, wanted: memory_format) -> bool:
    """Whether the elements lie in that order, without gaps."""
    if wanted.ndim is None:
        return array.flags.c_contiguous
    return array.ndim == wanted.ndim and np.moveaxis(array, 1, -1).flags.c_contiguous


def empty_in(owner: str, wanted: memory_format, shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
    """A fresh array, not filled, in that order.

    Raises:
        RuntimeError: if the format needs another number of dimensions, or is ``preserve_format``.
    """
    if wanted is preserve_format:
        raise ShapeError(owner, "unsupported memory format Preserve: there is no order to keep.")
    if wanted.ndim is None:
        return np.empty(shape, dtype)
    if len(shape) != wanted.ndim:
        raise ShapeError(
            owner,
            f"required rank {wanted.ndim} tensor to use {wanted.name} format.",
            facts=f"shape {shape}",
        )
    n, c, *pixels = shape
    return np.moveaxis(np.empty((n, *pixels, c), dtype), -1, 1)


def empty_beside(owner: str, wanted: memory_format, array: NDArray, dtype: np.dtype) -> NDArray:
    """A fresh array of the shape of ``array``, not filled; ``preserve_format`` takes its order."""
    if wanted is preserve_format:
        return np.empty_like(array, dtype)
    return empty_in(owner, wanted, array.shape, dtype)


def copy_in(owner: str, wanted: memory_format, array: NDArray) -> NDArray:
    """A copy of ``array`` in that order."""
    y = empty_beside(owner, wanted, array, array.dtype)
    y[...] = array
    return y
