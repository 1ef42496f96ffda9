"""DataLoader: samples in batches, in an order that a generator draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, ShapeError, TypeMismatchError
from ..functions.conversion import tensor
from ..random import Generator, default_generator
from ..tensor import Tensor, wrap
from .sets import Subset, TensorDataset

__all__ = ["DataLoader", "default_collate"]


class DataLoader:
    """Batches of a data set.

    Args:
        dataset: anything with a length and numbered samples.
        batch_size: samples in a batch.
        shuffle: draw a new order at the start of each pass.
        sampler: instead of ``shuffle``, the numbers of the samples in the order wanted;
            iterated over at the start of each pass.
        collate_fn: makes a batch of a list of samples; :func:`default_collate` if not given.
        drop_last: leave out the last batch if it is smaller than the others.
        generator: draws the order; the default generator if not given. Its state at the start
            of a pass decides the order of the whole pass.
        in_memory: hold all samples as tensors, and make a batch with one indexing operation
            instead of sample by sample. A TensorDataset, or a Subset of one, is used as it
            is; other sets are read whole, once.

    Raises:
        ValueError: if the arguments contradict each other.

    >>> data = nano.data.TensorDataset(nano.arange(5))
    >>> [batch for (batch,) in nano.data.DataLoader(data, batch_size=2)]
    [tensor([0, 1]), tensor([2, 3]), tensor([4])]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        sampler: Iterable[int] | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        drop_last: bool = False,
        generator: Generator | None = None,
        in_memory: bool = False,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(
                "DataLoader", f"batch_size should be a positive integer, got {batch_size!r}."
            )
        if sampler is not None and shuffle:
            raise InputError("DataLoader", "sampler gives the order, so shuffle must be False.")
        if in_memory and collate_fn is not None:
            raise InputError(
                "DataLoader", "with in_memory no samples are collated: give no collate_fn."
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.sampler = sampler
        self.collate_fn = collate_fn or default_collate
        self.drop_last = drop_last
        self.generator = generator
        self.in_memory = in_memory
        self._arrays = _whole(dataset) if in_memory else None

    def __len__(self) -> int:
        n = len(self.dataset if self.sampler is None else self.sampler)  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        # The order is drawn here and now, not when the first batch is asked for: who sets the
        # generator's state before iter() and another one after it gets what was meant.
        order = self._order()
        return self._batches(order)

    def _order(self) -> NDArray:
        if self.sampler is not None:
            return np.fromiter(self.sampler, np.int64)
        if self.shuffle:
            return (self.generator or default_generator).numpy.permutation(len(self.dataset))
        return np.arange(len(self.dataset))

    def _batches(self, order: NDArray) -> Iterator[Any]:
        size = self.batch_size
        stop = len(order) - size + 1 if self.drop_last else len(order)
        for start in range(0, stop, size):
            chosen = order[start : start + size]
            if self._arrays is not None:
                yield tuple(wrap(a.take(chosen, axis=0)) for a in self._arrays)
            else:
                yield self.collate_fn([self.dataset[i] for i in chosen.tolist()])


def default_collate(samples: list[Any]) -> Any:
    """A batch of samples: tensors, arrays and numbers are stacked, inside tuples and dicts.

    Args:
        samples: all of the same kind and the same shapes.

    Raises:
        RuntimeError: if shapes differ.
        TypeError: for other kinds of samples.

    >>> nano.data.default_collate([(1.0, "a"), (2.0, "b")])
    [tensor([1., 2.]), ['a', 'b']]
    """
    first = samples[0]
    if isinstance(first, (Tensor, np.ndarray)):
        arrays = [np.asarray(s.detach()._data if isinstance(s, Tensor) else s) for s in samples]
        shapes = {a.shape for a in arrays}
        if len(shapes) > 1:
            raise ShapeError(
                "default_collate",
                "samples of one batch must have the same shape.",
                facts=" · ".join(str(s) for s in sorted(shapes)),
                hint="Give the DataLoader a collate_fn that pads or crops them.",
            )
        return tensor(np.stack(arrays))
    if isinstance(first, (bool, int, float, np.generic)):
        return tensor(samples)
    if isinstance(first, (str, bytes)):
        return samples
    if isinstance(first, Mapping):
        return {key: default_collate([s[key] for s in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        return [default_collate(list(column)) for column in zip(*samples, strict=True)]
    raise TypeMismatchError(
        "default_collate",
        f"cannot make a batch of {type(first).__name__}.",
        hint="Give the DataLoader a collate_fn.",
    )


def _whole(dataset: Any) -> tuple[NDArray, ...]:
    """All samples of a data set, as one array for each element of a sample."""
    if isinstance(dataset, TensorDataset):
        if any(t.requires_grad for t in dataset.tensors):
            raise InputError(
                "DataLoader",
                "batches made in memory have no history, but a tensor of the set requires "
                "gradients.",
                hint="Detach it, or leave in_memory out.",
            )
        return tuple(t.detach()._data for t in dataset.tensors)
    if isinstance(dataset, Subset):
        chosen = np.asarray(dataset.indices, np.int64)
        return tuple(a.take(chosen, axis=0) for a in _whole(dataset.dataset))
    if not len(dataset):
        raise InputError("DataLoader", "an empty data set cannot be held in memory.")
    batch = default_collate([dataset[i] for i in range(len(dataset))])
    columns = batch if isinstance(batch, list) else [batch]
    if not all(isinstance(c, Tensor) for c in columns):
        raise InputError(
            "DataLoader", "in_memory needs samples that are tensors or tuples of tensors."
        )
    return tuple(c._data for c in columns)
