"""Data sets: numbered samples. Files and formats are elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

from ..errors import IndexingError, InputError, ShapeError, TypeMismatchError
from ..random import Generator, default_generator
from ..tensor import Tensor

__all__ = ["Dataset", "Subset", "TensorDataset", "random_split"]


class Dataset:
    """Samples by number: a subclass says ``__len__`` and ``__getitem__``."""

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__")

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")


class TensorDataset(Dataset):
    """Sample i is element i of each tensor.

    Args:
        tensors: of the same first dimension.
        transform: changes the first element of samples when they are asked for: from a batch
            of them, and a generator (or none, for the default one), to as many. Those in
            :mod:`nano.data.transforms` augment images.

    Raises:
        RuntimeError: if the first dimensions differ.

    >>> data = nano.data.TensorDataset(nano.tensor([[1.0], [2.0]]), nano.tensor([0, 1]))
    >>> data[1]
    (tensor([2.]), tensor(1))
    >>> data.transform = lambda batch, generator=None: batch * 10
    >>> data[1]
    (tensor([20.]), tensor(1))
    """

    def __init__(self, *tensors: Tensor, transform: Callable[..., Tensor] | None = None) -> None:
        for t in tensors:
            if not isinstance(t, Tensor):
                raise TypeMismatchError(
                    "TensorDataset", f"expected Tensors, got {type(t).__name__}."
                )
        if not tensors:
            raise InputError("TensorDataset", "expected at least one tensor.")
        shapes = [t.shape for t in tensors]
        if any(not s or s[0] != shapes[0][0] for s in shapes):
            raise ShapeError(
                "TensorDataset",
                "the tensors must have the same first dimension, the number of samples.",
                facts=" · ".join(str(s) for s in shapes),
            )
        self.tensors = tensors
        self.transform = transform

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        first, *others = (t[index] for t in self.tensors)
        if self.transform is not None:
            is_batch = first.ndim == self.tensors[0].ndim  # of a slice or a list of numbers
            first = self.transform(first) if is_batch else self.transform(first[None])[0]
        return (first, *others)


class Subset(Dataset):
    """The samples of ``dataset`` with the numbers ``indices``, in that order.

    >>> data = nano.data.TensorDataset(nano.arange(10))
    >>> nano.data.Subset(data, [7, 3])[1]
    (tensor(3),)
    """

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexingError("Subset", f"there are {len(self)} samples, got index {index}.")
        return self.dataset[self.indices[index]]


def random_split(
    dataset: Any, lengths: Sequence[int | float], generator: Generator | None = None
) -> list[Subset]:
    """Split at random into parts that share no sample.

    Args:
        dataset: anything with a length and numbered samples.
        lengths: how many samples for each part, adding up to all; or fractions adding up to
            1, of which what is left by rounding down goes to the first parts, one each.
        generator: draws the order; the default generator if not given.

    Raises:
        ValueError: if the lengths do not add up.

    >>> parts = nano.data.random_split(range(10), [0.75, 0.25], nano.Generator())
    >>> [len(p) for p in parts]
    [8, 2]
    """
    n = len(dataset)
    for x in lengths:
        if not isinstance(x, Real):
            raise TypeMismatchError(
                "random_split", f"lengths must be numbers, got {type(x).__name__}."
            )
    counts = _counts(n, lengths)
    if sum(counts) != n or any(c < 0 for c in counts):
        raise InputError(
            "random_split",
            f"the lengths {list(lengths)} must add up to the {n} samples of the data set.",
            hint="Fractions must add up to 1.",
        )
    order = (generator or default_generator).numpy.permutation(n).tolist()
    parts, start = [], 0
    for c in counts:
        parts.append(Subset(dataset, order[start : start + c]))
        start += c
    return parts


def _counts(n: int, lengths: Sequence[int | float]) -> list[int]:
    """Whole numbers of samples from lengths or fractions."""
    fractions = any(isinstance(x, float) for x in lengths)
    if not (fractions and math.isclose(sum(lengths), 1.0)) or any(x < 0 for x in lengths):
        return [int(x) if x % 1 == 0 else -1 for x in lengths]  # NaN and infinity: -1
    counts = [math.floor(n * x) for x in lengths]
    for i in range(n - sum(counts)):
        counts[i % len(counts)] += 1
    return counts
