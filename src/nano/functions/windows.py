"""What convolution and pooling do with their arguments: pairs of sizes, batches, 1-d as 2-d."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

from ..errors import ShapeError, TypeMismatchError
from ..tensor import Tensor
from .operands import check_tensor

__all__ = ["as_images", "as_sizes", "check_all", "like_input"]


def as_sizes(owner: str, name: str, value: Any, count: int = 2) -> tuple[int, ...]:
    """One integer for each dimension of the window: one given counts for all of them.

    Raises:
        TypeError: if they are no integers.
        RuntimeError: if there are neither one nor ``count`` of them.

    >>> as_sizes("conv2d", "stride", 2), as_sizes("conv2d", "stride", (1, 2))
    ((2, 2), (1, 2))
    """
    if type(value) is int:
        return (value,) * count
    if type(value) is tuple and len(value) == count and set(map(type, value)) == {int}:
        return value
    try:
        if isinstance(value, (bool, str)):
            raise TypeError
        if isinstance(value, Iterable):
            sizes = tuple([operator.index(n) for n in value])
        else:
            sizes = (operator.index(value),)
    except TypeError:
        raise TypeMismatchError(
            owner, f"{name} must be an integer or {count} of them, got {value!r}."
        ) from None
    if len(sizes) == 1:
        return sizes * count
    if len(sizes) != count:
        raise ShapeError(owner, f"{name} must be one integer or {count}, got {sizes}.")
    return sizes


def check_all(owner: str, name: str, sizes: tuple[int, ...], least: int) -> None:
    """
    Raises:
        RuntimeError: if one of ``sizes`` is smaller than ``least``.
    """
    if min(sizes) < least:
        what = "positive" if least else "zero or more"
        raise ShapeError(owner, f"{name} must be {what}, got {sizes}.")


def as_images(owner: str, input: Any, dims: int) -> Tensor:
    """``input`` as a batch of images (n, c, h, w); a signal (``dims`` 1) becomes one row.

    Raises:
        TypeError: if it is no Tensor.
        RuntimeError: if it is neither a sample of ``dims`` dimensions nor a batch of them.
    """
    ndim = check_tensor(owner, input)._data.ndim
    if ndim == 4 and dims == 2:
        return input
    if ndim not in (dims + 1, dims + 2):
        names = "c, h, w" if dims == 2 else "c, length"
        raise ShapeError(
            owner,
            f"input must be {dims + 2}-d, (n, {names}), or {dims + 1}-d, ({names}), "
            f"got shape {input.shape}.",
        )
    if dims == 1:
        input = input.unsqueeze(-2)
    return input if ndim == dims + 2 else input.unsqueeze(0)


def like_input(images: Tensor, input: Tensor, dims: int) -> Tensor:
    """Undo on a result what :func:`as_images` did to ``input``."""
    ndim = input._data.ndim
    if dims == 1:
        images = images.squeeze(-2)
    return images if ndim == dims + 2 else images.squeeze(0)
