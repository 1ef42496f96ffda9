"""Reading and writing along one dimension, at positions in a tensor: gather and its kin."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.function import Function
from ..backends import kernels
from ..errors import (
    DtypeError,
    IndexingError,
    InputError,
    OutOfRangeError,
    ShapeError,
    TypeMismatchError,
)
from ..tensor import Tensor, wrap
from .autocast import state as autocast_state
from .autocast import widest
from .operands import as_tensor_like, check_tensor, normal_dim
from .parts import Slice

__all__ = [
    "gather",
    "index_add",
    "index_copy",
    "index_fill",
    "index_select",
    "scatter",
    "scatter_add",
    "take_along_dim",
]


class Gather(Function):
    """y[i, j] = x[index[i, j], j] for dim 0; the derivative adds up at these positions."""

    @staticmethod
    def forward(ctx, x, index, *, dim):
        ctx.dim, ctx.shape = dim, x.shape
        ctx.save_for_backward(index)
        return kernels.take_along_axis(x, index, dim)

    @staticmethod
    def backward(ctx, grad_output):
        (index,) = ctx.saved_tensors
        return AddAlongDim.apply(grad_output, index, dim=ctx.dim, shape=ctx.shape), None


class AddAlongDim(Function):
    """Zeros of ``shape`` with g added at ``index`` along ``dim``; linear in g."""

    @staticmethod
    def forward(ctx, grad_output, index, *, dim, shape):
        ctx.dim = dim
        ctx.save_for_backward(index)
        return kernels.add_along_axis(shape, index, dim, grad_output)

    @staticmethod
    def backward(ctx, grad_output):
        (index,) = ctx.saved_tensors
        return Gather.apply(grad_output, index, dim=ctx.dim), None


def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """out[i, j] = input[index[i, j], j] for ``dim`` 0, input[i, index[i, j]] for ``dim`` 1.

    Args:
        input: any tensor.
        dim: the dimension along which ``index`` counts.
        index: integers, with as many dimensions as ``input``, and in the others than
            ``dim`` no longer than it.

    Returns:
        Tensor of the shape of ``index``.

    Raises:
        RuntimeError: if the shapes do not fit, or a position is out of range (then also
            an IndexError).

    >>> nano.gather(nano.tensor([[1, 2], [3, 4]]), 1, nano.tensor([[1], [0]]))
    tensor([[2],
            [3]])
    """
    d, index = _check_index("gather", input, dim, index, negative=False)
    if not input._data.ndim or not index._data.ndim:
        wide = input.reshape(-1)
        flat = Gather.apply(wide, index.reshape(-1), dim=0)
        return flat.reshape(index.shape)
    return Gather.apply(input, index, dim=d)


def _check_index(
    owner: str, input: Tensor, dim: int, index: Tensor, *, negative: bool, whole: bool = False
) -> tuple[int, Tensor]:
    """The dimension counted from the front, and the index, of which nothing can be wrong now.

    Args:
        negative: whether positions may count from the end.
        whole: whether the other dimensions of ``index`` need not fit those of ``input``.
    """
    x, i = check_tensor(owner, input)._data, check_tensor(owner, index, "index")._data
    d = normal_dim(owner, dim, x.ndim)
    facts = f"input {x.shape} · index {i.shape} · dim {dim}"
    if i.dtype.kind not in "iu":
        raise DtypeError(owner, f"index must be integers, got {index.dtype}.", facts=facts)
    if not whole:
        if max(x.ndim, 1) != max(i.ndim, 1):
            raise ShapeError(
                owner, f"index has {i.ndim} dimensions, but input has {x.ndim}.", facts=facts
            )
        if any(k != d and n > x.shape[k] for k, n in enumerate(i.shape) if x.ndim):
            raise ShapeError(
                owner, "index is longer than input in a dimension other than dim.", facts=facts
            )
    size = x.shape[d] if x.ndim else 1
    return d, Within.apply(
        index, owner=owner, lowest=-size if negative else 0, size=size, dim=d, facts=facts
    )


class Within(Function):
    """The positions x themselves, if all of them lie in a dimension of that size."""

    differentiable = False
    is_view = True
    refuses = True

    @staticmethod
    def forward(ctx, x, *, owner, lowest, size, dim, facts):
        if x.size:
            low, high = int(x.min()), int(x.max())
            if low < lowest or high >= size:
                wrong = high if high >= size else low
                raise OutOfRangeError(
                    owner,
                    f"index {wrong} is out of range for dim {dim} of size {size}.",
                    facts=facts,
                )
        return x.view()


class PutAlongDim(Function):
    """x with src written at ``index`` along ``dim``; d/dx = 0 there, d/dsrc = g there."""

    @staticmethod
    def forward(ctx, x, index, src, *, dim):
        ctx.dim = dim
        ctx.save_for_backward(index)
        return kernels.put_along_axis(x, index, dim, src)

    @staticmethod
    def backward(ctx, grad_output):
        (index,) = ctx.saved_tensors
        grad_x = grad_src = None
        if ctx.needs_input_grad[0]:
            zero = wrap(np.zeros((), grad_output._data.dtype))
            grad_x = PutAlongDim.apply(grad_output, index, zero, dim=ctx.dim)
        if ctx.needs_input_grad[2]:
            grad_src = Gather.apply(grad_output, index, dim=ctx.dim)
        return grad_x, None, grad_src


class ScatterAdd(Function):
    """x with src added at ``index`` along ``dim``; d/dx = g, d/dsrc = g there."""

    @staticmethod
    def forward(ctx, x, index, src, *, dim):
        ctx.dim = dim
        ctx.save_for_backward(index)
        return kernels.add(x, kernels.add_along_axis(x.shape, index, dim, src))

    @staticmethod
    def backward(ctx, grad_output):
        (index,) = ctx.saved_tensors
        need_src = ctx.needs_input_grad[2]
        grad_src = Gather.apply(grad_output, index, dim=ctx.dim) if need_src else None
        return grad_output, None, grad_src


def scatter(
    input: Tensor,
    dim: int,
    index: Tensor,
    src: Any = None,
    *,
    value: Any = None,
    reduce: str | None = None,
) -> Tensor:
    """``input`` with out[index[i, j], j] = src[i, j] for ``dim`` 0: the reverse of gather.

    Where positions repeat, which of the values stays is not defined.

    Args:
        input: any tensor.
        dim: the dimension along which ``index`` counts.
        index: integers, no longer than ``src``, nor than ``input`` except along ``dim``.
        src: Tensor of the dtype of ``input``, or a number.
        value: the number, by name.
        reduce: None, or ``"add"`` to add instead.

    Raises:
        RuntimeError: if shapes or dtypes do not fit, or a position is out of range.

    >>> nano.scatter(nano.zeros(2, 3), 1, nano.tensor([[2], [0]]), 1.0)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    src = value if src is None else src
    if reduce not in (None, "add"):
        raise InputError("scatter", f'reduce must be None or "add", got {reduce!r}.')
    function = PutAlongDim if reduce is None else ScatterAdd
    return _scatter("scatter", function, input, dim, index, src)


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """``input`` with out[index[i, j], j] += src[i, j] for ``dim`` 0; repeats add up.

    Args and errors: as for :func:`scatter`.

    >>> nano.scatter_add(nano.zeros(3), 0, nano.tensor([0, 0, 2]), nano.ones(3))
    tensor([2., 0., 1.])
    """
    check_tensor("scatter_add", src, "src")
    return _scatter("scatter_add", ScatterAdd, input, dim, index, src)


def _scatter(
    owner: str, function: type[Function], input: Tensor, dim: int, index: Tensor, src: Any
) -> Tensor:
    d, index = _check_index(owner, input, dim, index, negative=False)
    if src is None:
        raise TypeMismatchError(owner, "src or value must be given.")
    if not isinstance(src, Tensor):
        spread = np.broadcast_to(as_tensor_like(src, input.dtype)._data, index._data.shape)
        src = wrap(spread)
    if src._data.dtype != input._data.dtype:
        raise DtypeError(owner, f"input is {input.dtype}, but src is {src.dtype}.")
    have, want = src._data.shape, index._data.shape
    if max(len(have), 1) != max(len(want), 1) or any(
        n < m for n, m in zip(have, want, strict=False)
    ):
        raise ShapeError(owner, f"index {want} is longer than src {have}.")
    if not input._data.ndim or not want or not have:
        flat = [t.reshape(-1) for t in (input, index, src)]
        return function.apply(*flat, dim=0).reshape(input.shape)
    if have != want:
        src = Slice.apply(src, key=tuple([slice(n) for n in want]))
    return function.apply(input, index, src, dim=d)


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """The elements at ``indices`` along ``dim``; the other dimensions are broadcast.

    Without ``dim``, both are flattened. It undoes argsort:

    >>> t = nano.tensor([[3, 1, 2]])
    >>> nano.take_along_dim(t, nano.argsort(t, 1), 1)
    tensor([[1, 2, 3]])

    Raises:
        RuntimeError: if the shapes do not fit, or a position is out of range.
    """
    if dim is None:
        flat = input.reshape(-1), indices.reshape(-1)
        return take_along_dim(*flat, 0)
    x, i = input._data, check_tensor("take_along_dim", indices, "indices")._data
    if x.ndim != i.ndim:
        raise ShapeError("take_along_dim", f"input has {x.ndim} dimensions, indices have {i.ndim}.")
    d = normal_dim("take_along_dim", dim, x.ndim)
    both = [(1, 1) if k == d else (n, m) for k, (n, m) in enumerate(zip(x.shape, i.shape))]  # noqa: B905
    if any(n != m and 1 not in (n, m) for n, m in both):
        raise ShapeError(
            "take_along_dim", f"input {x.shape} and indices {i.shape} cannot be broadcast."
        )
    common = [m if n == 1 else n for n, m in both]
    for_x = [x.shape[k] if k == d else n for k, n in enumerate(common)]
    for_i = [i.shape[k] if k == d else n for k, n in enumerate(common)]
    wide, spread = input.expand(for_x), indices.expand(for_i)
    _, spread = _check_index("take_along_dim", wide, dim, spread, negative=True)
    return Gather.apply(wide, spread, dim=d)


# Whole slices ----------------------------------------------------------------------------


class IndexSelect(Function):
    """Slices of x at ``index`` along ``dim``; the derivative adds them up."""

    @staticmethod
    def forward(ctx, x, index, *, dim):
        ctx.dim, ctx.size = dim, x.shape[dim]
        ctx.save_for_backward(index)
        return kernels.take(x, index, dim)

    @staticmethod
    def backward(ctx, grad_output):
        (index,) = ctx.saved_tensors
        shape = grad_output._data.shape
        zeros = np.zeros(
            (*shape[: ctx.dim], ctx.size, *shape[ctx.dim + 1 :]), grad_output._data.dtype
        )
        return IndexAdd.apply(wrap(zeros), index, grad_output, dim=ctx.dim), None


class IndexAdd(Function):
    """x with slices of source added at ``index`` along ``dim``; d/dx = g, d/dsource = g there."""

    @staticmethod
    def forward(ctx, x, index, source, *, dim):
        ctx.dim = dim
        ctx.save_for_backward(index)
        key = (*([slice(None)] * dim), index)
        return kernels.add(x, kernels.add_at(x.shape, key, source))

    @staticmethod
    def backward(ctx, grad_output):
        (index,) = ctx.saved_tensors
        need = ctx.needs_input_grad[2]
        grad_source = IndexSelect.apply(grad_output, index, dim=ctx.dim) if need else None
        return grad_output, None, grad_source


class IndexCopy(Function):
    """x with slices of source written at ``index``; d/dx = 0 there, d/dsource = g there."""

    @staticmethod
    def forward(ctx, x, index, source, *, dim):
        ctx.dim = dim
        ctx.save_for_backward(index)
        return kernels.put_at(x, (*([slice(None)] * dim), index), source)

    @staticmethod
    def backward(ctx, grad_output):
        (index,) = ctx.saved_tensors
        grad_x = grad_source = None
        if ctx.needs_input_grad[0]:
            zero = wrap(np.zeros((), grad_output._data.dtype))
            grad_x = IndexCopy.apply(grad_output, index, zero, dim=ctx.dim)
        if ctx.needs_input_grad[2]:
            grad_source = IndexSelect.apply(grad_output, index, dim=ctx.dim)
        return grad_x, None, grad_source


def _vector(owner: str, input: Tensor, dim: int, index: Tensor) -> tuple[int, Tensor]:
    d, index = _check_index(owner, input, dim, index, negative=False, whole=True)
    if index._data.ndim > 1:
        raise IndexingError(owner, f"index must be a vector, got shape {index.shape}.")
    return d, index if index._data.ndim else index.reshape(1)


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of ``input`` at ``index`` along ``dim``, copied.

    Args:
        input: any tensor.
        dim: the dimension along which ``index`` counts.
        index: a vector of integers, from 0 on.

    Raises:
        IndexError: if a position is out of range or ``index`` is no vector.

    >>> nano.index_select(nano.tensor([[1, 2], [3, 4]]), 0, nano.tensor([1, 1]))
    tensor([[3, 4],
            [3, 4]])
    """
    d, index = _vector("index_select", input, dim, index)
    if not input._data.ndim:
        return IndexSelect.apply(input.reshape(1), index, dim=0).reshape(())
    return IndexSelect.apply(input, index, dim=d)


def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """``input`` with ``alpha`` times the slices of ``source`` added at ``index`` along ``dim``.

    Raises:
        RuntimeError: if shapes or dtypes do not fit, or a position is out of range.

    >>> nano.index_add(nano.zeros(3), 0, nano.tensor([0, 0, 2]), nano.ones(3))
    tensor([2., 0., 1.])
    """
    d, index = _vector("index_add", input, dim, index)
    _check_source("index_add", input, d, index, source)
    return IndexAdd.apply(input, index, source if alpha == 1 else source * alpha, dim=d)


def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """``input`` with the slices of ``source`` written at ``index`` along ``dim``.

    Both have the same dtype; under ``nano.autocast()`` the result has the wider one.

    Raises:
        RuntimeError: if shapes or dtypes do not fit, or a position is out of range.

    >>> nano.index_copy(nano.zeros(3), 0, nano.tensor([2, 0]), nano.tensor([5.0, 6.0]))
    tensor([6., 0., 5.])
    """
    d, index = _vector("index_copy", input, dim, index)
    check_tensor("index_copy", source, "source")
    if autocast_state.dtype is not None:
        input, source = widest(input, source)
    _check_source("index_copy", input, d, index, source)
    return IndexCopy.apply(input, index, source, dim=d)


def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """``input`` with the slices at ``index`` along ``dim`` set to a number.

    Raises:
        RuntimeError: if a position is out of range.

    >>> nano.index_fill(nano.zeros(3), 0, nano.tensor([2, 0]), 1.0)
    tensor([1., 0., 1.])
    """
    d, index = _vector("index_fill", input, dim, index)
    return IndexCopy.apply(input, index, as_tensor_like(value, input.dtype), dim=d)


def _check_source(owner: str, input: Tensor, dim: int, index: Tensor, source: Tensor) -> None:
    have = check_tensor(owner, source, "source")._data.shape
    if source._data.dtype != input._data.dtype:
        raise DtypeError(owner, f"input is {input.dtype}, but source is {source.dtype}.")
    shape = input._data.shape
    want = (*shape[:dim], index._data.size, *shape[dim + 1 :])
    if have != want:
        raise ShapeError(
            owner,
            f"source has shape {have}, expected {want}.",
            facts=f"input {shape} · index {index.shape} · dim {dim}",
        )
