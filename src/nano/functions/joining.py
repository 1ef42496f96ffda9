"""Putting tensors together and taking them apart: cat, stack, split, chunk, unbind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..autograd.function import Function
from ..dtypes import promote_types
from ..errors import DimensionError, InputError, ShapeError, TypeMismatchError
from ..tensor import Tensor
from .operands import as_shape, as_tensor_like, check_tensor, normal_dim
from .parts import Slice

__all__ = [
    "cat",
    "chunk",
    "concat",
    "concatenate",
    "hstack",
    "split",
    "stack",
    "tensor_split",
    "unbind",
    "vstack",
]


class Cat(Function):
    """The inputs one after the other along ``dim``; the derivative cuts them apart."""

    @staticmethod
    def forward(ctx, *arrays, dim):
        ctx.dim, ctx.sizes = dim, [a.shape[dim] for a in arrays]
        return np.concatenate(arrays, axis=dim)

    @staticmethod
    def backward(ctx, grad_output):
        before = (slice(None),) * ctx.dim
        grads, start = [], 0
        for needed, size in zip(ctx.needs_input_grad, ctx.sizes, strict=True):
            part = (*before, slice(start, start + size))
            grads.append(Slice.apply(grad_output, key=part) if needed else None)
            start += size
        return tuple(grads)


def _promoted(owner: str, tensors: Any) -> list[Tensor]:
    """The tensors in their common dtype."""
    if isinstance(tensors, Tensor) or not isinstance(tensors, Sequence):
        raise TypeMismatchError(
            owner, f"expected a tuple or list of Tensors, got {type(tensors).__name__}."
        )
    if not tensors:
        error = ShapeError if owner == "stack" else InputError
        raise error(owner, "expected at least one Tensor, got none.")
    common = None
    mixed = False
    for i, t in enumerate(tensors):
        d = check_tensor(owner, t, f"tensors[{i}]")._data.dtype
        mixed = mixed or d != tensors[0]._data.dtype
    if not mixed:
        return list(tensors)
    for t in tensors:
        common = t.dtype if common is None else promote_types(common, t.dtype)
    return [as_tensor_like(t, common) for t in tensors]


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors one after the other along ``dim``.

    Args:
        tensors: of equal shapes except along ``dim``; empty vectors (0,) are skipped.
        dim: the dimension along which they are put together.

    Returns:
        Tensor of the promoted dtype.

    Raises:
        RuntimeError: if the shapes do not fit.
        ValueError: if there are no tensors.
        TypeError: if one is no Tensor.

    >>> nano.cat([nano.tensor([1, 2]), nano.tensor([0.5])])
    tensor([1.0000, 2.0000, 0.5000])
    """
    tensors = _promoted("cat", tensors)
    shapes = [t._data.shape for t in tensors]
    for i, shape in enumerate(shapes):
        if not shape:
            raise ShapeError(
                "cat", f"tensors[{i}] is 0-d and cannot be concatenated.", hint="Use stack(...)."
            )
    if (0,) in shapes and any(s != (0,) for s in shapes):
        tensors = [t for t in tensors if t._data.shape != (0,)]
        shapes = [t._data.shape for t in tensors]
    d = normal_dim("cat", dim, len(shapes[0]))
    try:
        return Cat.apply(*tensors, dim=d)
    except ValueError:
        raise ShapeError(
            "cat",
            f"shapes must be equal except in dim {dim}.",
            facts=" · ".join([f"tensors[{i}] {s}" for i, s in enumerate(shapes[:6])]),
        ) from None


concat = concatenate = cat


class Stack(Function):
    """The inputs side by side along a new dimension; the derivative takes them apart."""

    @staticmethod
    def forward(ctx, *arrays, dim):
        ctx.dim = dim
        return np.stack(arrays, axis=dim)

    @staticmethod
    def backward(ctx, grad_output):
        before = (slice(None),) * ctx.dim
        return tuple(
            [
                Slice.apply(grad_output, key=(*before, i, ...)) if needed else None
                for i, needed in enumerate(ctx.needs_input_grad)
            ]
        )


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors, all of one shape, along a new dimension.

    Raises:
        RuntimeError: if the shapes differ, or there are no tensors.

    >>> nano.stack([nano.tensor([1, 2]), nano.tensor([3, 4])], 1)
    tensor([[1, 3],
            [2, 4]])
    """
    tensors = _promoted("stack", tensors)
    d = normal_dim("stack", dim, tensors[0]._data.ndim + 1)
    try:
        return Stack.apply(*tensors, dim=d)
    except ValueError:
        shapes = [t._data.shape for t in tensors]
        odd = next(i for i, s in enumerate(shapes) if s != shapes[0])
        raise ShapeError(
            "stack",
            "all tensors must have the same shape.",
            facts=f"tensors[0] {shapes[0]} · tensors[{odd}] {shapes[odd]}",
        ) from None


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors side by side: along dim 1, or dim 0 for vectors."""
    wide = [t.reshape(1) if not t.ndim else t for t in tensors]
    return cat(wide, 0 if wide and wide[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors below each other; vectors become rows."""
    return cat([t.reshape(1, -1) if t.ndim < 2 else t for t in tensors])


# Taking apart ----------------------------------------------------------------------------


class Split(Function):
    """x cut along ``dim``: views; the gradient is the parts' gradients put together again."""

    is_view = True

    @staticmethod
    def forward(ctx, x, *, dim, sizes):
        ctx.dim = dim
        before = (slice(None),) * dim
        parts, start = [], 0
        for size in sizes:
            parts.append(x[(*before, slice(start, start + size))])
            start += size
        return tuple(parts)

    @staticmethod
    def backward(ctx, *grad_outputs):
        return Cat.apply(*grad_outputs, dim=ctx.dim)


def _parts(input: Tensor, dim: int, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    if not sizes:
        return ()
    return Split.apply(input, dim=dim, sizes=tuple(sizes))


def split(tensor: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """``tensor`` cut along ``dim``; the parts are views.

    Args:
        tensor: one or more dimensions.
        split_size_or_sections: the size of each part (the last may be smaller), or the
            list of all sizes.
        dim: the dimension that is cut.

    Raises:
        RuntimeError: if the sizes do not add up to that of the dimension.

    >>> nano.split(nano.tensor([1, 2, 3]), 2)
    (tensor([1, 2]), tensor([3]))
    """
    shape = check_tensor("split", tensor)._data.shape
    if not shape:
        raise ShapeError("split", "a 0-d tensor cannot be split.")
    d = normal_dim("split", dim, len(shape))
    n = shape[d]
    if isinstance(split_size_or_sections, (int, np.integer)):
        size = int(split_size_or_sections)
        if size < 0 or (size == 0 and n):
            raise ShapeError("split", f"the size of the parts must be positive, got {size}.")
        count = max(math.ceil(n / size), 1) if size else 1
        sizes = [min(size, n - i * size) for i in range(count)]
    else:
        sizes = list(as_shape("split", (split_size_or_sections,)))
        if min(sizes, default=0) < 0 or sum(sizes) != n:
            raise ShapeError(
                "split",
                f"sizes {sizes} must not be negative and must add up to {n}.",
                facts=f"tensor {shape} · dim {dim}",
            )
    return _parts(tensor, d, sizes)


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """``input`` cut along ``dim`` into at most ``chunks`` parts of equal size; views.

    Raises:
        RuntimeError: if ``chunks`` is not positive.

    >>> nano.chunk(nano.tensor([1, 2, 3, 4, 5]), 3)
    (tensor([1, 2]), tensor([3, 4]), tensor([5]))
    """
    shape = check_tensor("chunk", input)._data.shape
    if not shape:
        raise ShapeError("chunk", "a 0-d tensor cannot be cut.")
    if chunks < 1:
        raise ShapeError("chunk", f"chunks must be greater than 0, got {chunks}.")
    d = normal_dim("chunk", dim, len(shape))
    size = math.ceil(shape[d] / chunks)
    return split(input, size if size else [0] * chunks, d)


def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """``input`` cut along ``dim`` into a number of parts, or before given positions; views.

    Raises:
        RuntimeError: if the number of parts is not positive, or ``input`` is 0-d.

    >>> nano.tensor_split(nano.tensor([1, 2, 3, 4]), 3)
    (tensor([1, 2]), tensor([3]), tensor([4]))
    """
    shape = check_tensor("tensor_split", input)._data.shape
    if not shape:
        raise ShapeError("tensor_split", "a 0-d tensor cannot be cut.")
    d = normal_dim("tensor_split", dim, len(shape))
    n = shape[d]
    before = (slice(None),) * d
    if isinstance(indices_or_sections, (int, np.integer)):
        count = int(indices_or_sections)
        if count < 1:
            raise ShapeError("tensor_split", f"the number of parts must be positive, got {count}.")
        return _parts(input, d, [n // count + (i < n % count) for i in range(count)])
    cuts = list(as_shape("tensor_split", (indices_or_sections,)))
    return tuple(
        [
            Slice.apply(input, key=(*before, slice(start, stop)))
            for start, stop in zip([0, *cuts], [*cuts, n], strict=True)
        ]
    )


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices of ``input`` along ``dim``, without that dimension; views.

    Raises:
        IndexError: if there is no such dimension.

    >>> nano.unbind(nano.tensor([[1, 2], [3, 4]]), 1)
    (tensor([1, 3]), tensor([2, 4]))
    """
    shape = check_tensor("unbind", input)._data.shape
    if not shape:
        raise DimensionError("unbind", "a 0-d tensor has no dimensions.")
    d = normal_dim("unbind", dim, len(shape))
    before = (slice(None),) * d
    return tuple([Slice.apply(input, key=(*before, i, ...)) for i in range(shape[d])])
