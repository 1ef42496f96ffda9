"""Random choices: whole numbers, permutations, coins and indices."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..autograd.views import write_in_place
from ..dtypes import int64
from ..errors import DtypeError, ShapeError, TypeMismatchError
from ..layouts import checked_format, preserve_format
from ..random import Generator
from ..tensor import Tensor
from .creation import checked_dtype, checked_shape, like
from .drawing import Draw, Drawn, finished, laid_out, numpy_generator
from .operands import check_tensor, is_number, require_floating

__all__ = ["bernoulli", "multinomial", "randint", "randint_like", "randperm"]


class DrawnIntegers(Drawn):
    """Whole numbers drawn uniformly from low to high - 1."""

    @staticmethod
    def forward(ctx, *beside, low, high, shape, dtype, generator, order=None):
        drawn = numpy_generator("randint", generator).integers(low, high, shape)
        drawn = np.asarray(drawn).astype(dtype.numpy, copy=False)
        return laid_out("randint_like", drawn, beside, order)


def randint(
    *bounds_and_size: Any,
    low: int | None = None,
    high: int | None = None,
    size: Any = None,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Whole numbers drawn uniformly from low to high - 1.

    Called ``randint(high, size)`` or ``randint(low, high, size)``.

    Args:
        low: the smallest; 0 if not given.
        high: one above the largest.
        size: the shape, a sequence of integers.
        dtype: int64 if not given.

    Raises:
        RuntimeError: if low >= high, or the dtype does not hold them.

    >>> nano.randint(3, 4, (2,))
    tensor([3, 3])
    """
    low, high, size = _bounds_and_size(bounds_and_size, low, high, size)
    d = checked_dtype(int64 if dtype is None else dtype, device)
    _check_held(low, high, d)
    shape = checked_shape("randint", (size,))
    drawn = DrawnIntegers.apply(low=low, high=high, shape=shape, dtype=d, generator=generator)
    return finished(drawn, requires_grad)


def _bounds_and_size(given: Any, low: Any, high: Any, size: Any) -> tuple[int, int, Any]:
    """The arguments of :func:`randint`, by position and by name, as (low, high, size)."""
    given = list(given)
    if size is None and given:
        size = given.pop()
    if high is None and given:
        high = given.pop()
    if low is None:
        low = given.pop() if given else 0
    if given or high is None or size is None:
        raise TypeMismatchError("randint", "expected (high, size) or (low, high, size).")
    try:
        low, high = operator.index(low), operator.index(high)
    except TypeError:
        raise TypeMismatchError("randint", "low and high must be integers.") from None
    if low >= high:
        raise ShapeError("randint", f"low must be below high, got {low} and {high}.")
    return low, high, size


def _check_held(low: int, high: int, d: Any) -> None:
    if d.numpy.kind in "iu":
        range_ = np.iinfo(d.numpy)
        if low < range_.min or high - 1 > range_.max:
            raise DtypeError("randint", f"{d} does not hold the numbers {low} to {high - 1}.")


def randint_like(
    input: Tensor,
    *bounds: Any,
    low: int | None = None,
    high: int | None = None,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = preserve_format,
) -> Tensor:
    """:func:`randint` in the shape and, unless given, the dtype and memory format of ``input``."""
    shape, d = like("randint_like", input, dtype, device)
    order = checked_format("randint_like", memory_format, preserve_format)
    low, high, _ = _bounds_and_size(bounds, low, high, shape)
    _check_held(low, high, d)
    drawn = DrawnIntegers.apply(
        input, low=low, high=high, shape=shape, dtype=d, generator=generator, order=order
    )
    return finished(drawn, requires_grad)


class Permutation(Drawn):
    """The numbers 0 to n - 1 in random order."""

    @staticmethod
    def forward(ctx, *, n, dtype, generator):
        order = numpy_generator("randperm", generator).permutation(n)
        return order.astype(dtype.numpy, copy=False)


def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    dtype: Any = int64,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The numbers 0 to n - 1 in random order.

    >>> sorted(nano.randperm(4).tolist())
    [0, 1, 2, 3]
    """
    (n,) = checked_shape("randperm", (n,))
    d = checked_dtype(dtype, device)
    return finished(Permutation.apply(n=n, dtype=d, generator=generator), requires_grad)


class Bernoulli(Drawn):
    """1 with probability p, element by element, else 0; p is x where it is None."""

    @staticmethod
    def forward(ctx, x, p, *, generator):
        return _draw_bernoulli("bernoulli", x, x if p is None else p, generator)


def bernoulli(
    input: Tensor, p: float | None = None, *, generator: Generator | None = None
) -> Tensor:
    """1 with the probability that ``input`` says, element by element, else 0.

    Args:
        input: probabilities, floating point.
        p: one probability for all elements; ``input`` then only gives shape and dtype.

    Raises:
        RuntimeError: if a probability is not in [0, 1].

    >>> nano.bernoulli(nano.tensor([0.0, 1.0]))
    tensor([0., 1.])
    """
    if p is None:
        require_floating("bernoulli", input)
    return Bernoulli.apply(check_tensor("bernoulli", input), p, generator=generator)


def _draw_bernoulli(owner: str, x: NDArray, p: Any, generator: Any) -> NDArray:
    p = np.asarray(p)
    if not np.all((p >= 0) & (p <= 1)):
        raise ShapeError(owner, "probabilities must lie between 0 and 1.")
    wide = p.dtype == np.float64
    unit = numpy_generator(owner, generator).random(
        x.shape, dtype=np.float64 if wide else np.float32
    )
    return np.asarray(unit < p).astype(x.dtype)


class Multinomial(Drawn):
    """Indices drawn with the given weights."""

    @staticmethod
    def forward(ctx, weights, *, num_samples, replacement, generator):
        weights = weights.astype(np.float64)
        total = weights.sum(-1, keepdims=True)
        if not (np.isfinite(weights).all() and (weights >= 0).all() and (total > 0).all()):
            raise ShapeError(
                "multinomial",
                "weights must be finite and not negative, and some above 0 in each row.",
            )
        source = numpy_generator("multinomial", generator)
        if replacement:
            edges = np.cumsum(weights / total, axis=-1)
            edges[..., -1:] = np.maximum(edges[..., -1:], 1.0)
            unit = source.random((*weights.shape[:-1], num_samples))
            # An index is where the draw falls between the cumulated weights.
            return (unit[..., None] >= edges[..., None, :]).sum(-1)
        if num_samples > (weights > 0).sum(-1).min():
            raise ShapeError(
                "multinomial",
                f"cannot draw {num_samples} different indices: too few weights are above 0.",
            )
        # The order of exponential waiting times is a draw without replacement.
        waiting = source.standard_exponential(weights.shape)
        waiting = np.where(weights > 0, waiting / np.where(weights > 0, weights, 1.0), np.inf)
        order = np.argsort(waiting, axis=-1, kind="stable")[..., :num_samples]
        return np.ascontiguousarray(order)


def multinomial(
    input: Tensor,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Indices drawn with the given weights.

    Args:
        input: weights, (n,) or (rows, n), floating point, not negative; each row is
            divided by its sum.
        num_samples: how many to draw from each row.
        replacement: whether an index may come twice.

    Returns:
        int64 Tensor of shape (num_samples,) or (rows, num_samples).

    Raises:
        RuntimeError: if weights are negative, not finite or all zero in a row, or too few
            for a draw without replacement.

    >>> nano.multinomial(nano.tensor([0.0, 3.0, 0.0]), 2, replacement=True)
    tensor([1, 1])
    """
    if require_floating("multinomial", input)._data.ndim not in (1, 2):
        raise ShapeError("multinomial", f"weights must have 1 or 2 dims, got {input.shape}.")
    if num_samples <= 0:
        raise ShapeError("multinomial", f"num_samples must be positive, got {num_samples}.")
    return Multinomial.apply(
        input, num_samples=num_samples, replacement=replacement, generator=generator
    )


# In place -------------------------------------------------------------------------------


class DrawBernoulli(Draw):
    """1 with probability p, else 0."""

    @staticmethod
    def forward(ctx, x, p, *, generator):
        return _draw_bernoulli("bernoulli_", x, p, generator)

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output * 0.0, None


def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Any = None) -> Tensor:
    """Fill with 1 with probability ``p`` (a number or a Tensor of this shape), else 0."""
    if not is_number(p) and not isinstance(p, (Tensor, np.ndarray)):
        raise TypeMismatchError("bernoulli_", f"p must be a number, got {type(p).__name__}.")
    return write_in_place("bernoulli_", self, DrawBernoulli, self, p, generator=generator)
