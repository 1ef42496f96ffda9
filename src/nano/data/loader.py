"""DataLoader: samples in batches, in an order that a generator draws."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dtypes import float64
from ..errors import IndexingError, InputError, KeyMissingError, ShapeError, TypeMismatchError
from ..functions.conversion import tensor
from ..functions.joining import stack
from ..random import Generator, default_generator
from ..tensor import Tensor, wrap
from .sets import Subset, TensorDataset
from .workers import Workers

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
            is, and its transform gets whole batches; other sets are read whole, once.
        num_workers: processes that make batches beside this one, for sets whose samples are
            slow to make; 0 to make them here. Each seeds its random numbers with the seed of
            the pass, drawn from ``generator``, plus its id.
        worker_init_fn: called in each worker with its id, when it starts.
        prefetch_factor: batches that each worker makes ahead; 2 if not given.
        persistent_workers: keep the workers for the next pass.
        timeout: seconds to wait for a worker's batch; 0 to wait for ever.
        multiprocessing_context: ``"fork"``, ``"spawn"`` or ``"forkserver"``; if not given,
            ``"fork"`` on Linux and ``"spawn"`` elsewhere.

    Raises:
        ValueError: if the arguments contradict each other.
        RuntimeError: while iterating, if a worker ends unexpectedly or takes too long. An
            error inside a worker is raised here, as the same type, with its traceback as text.

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
        num_workers: int = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        timeout: float = 0,
        multiprocessing_context: Any = None,
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
        _check_workers(num_workers, in_memory, prefetch_factor, persistent_workers, timeout)
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.sampler = sampler
        self.collate_fn = collate_fn or default_collate
        self.drop_last = drop_last
        self.generator = generator
        self.in_memory = in_memory
        self.num_workers = num_workers
        self.worker_init_fn = worker_init_fn
        self.prefetch_factor = 2 if num_workers and prefetch_factor is None else prefetch_factor
        self.persistent_workers = persistent_workers
        self.timeout = timeout
        self.multiprocessing_context = multiprocessing_context
        # Workers between two passes.
        self._idle: Workers | None = None
        self._arrays, self._transform, self._is_bare = (
            _whole(dataset) if in_memory else (None, None, False)
        )
        if generator is not None and not isinstance(generator, Generator):
            raise TypeMismatchError(
                "DataLoader",
                f"generator must be a nano.Generator, got {type(generator).__name__}.",
                hint="nano.Generator().manual_seed(0)",
            )

    def __len__(self) -> int:
        n = len(self.dataset if self.sampler is None else self.sampler)  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        # The order is drawn here and now, not when the first batch is asked for: who sets the
        # generator's state before iter() and another one after it gets what was meant.
        order = self._order()
        size = self.batch_size
        total = len(order) // size if self.drop_last else -(-len(order) // size)
        seed = 0
        if self.num_workers or self._transform is not None:
            # Of all other random numbers of the pass: a batch depends on it and on the number
            # of the batch, not on when it is made or by whom.
            seed = int((self.generator or default_generator).numpy.integers(2**63))
        if self.num_workers:
            return self._from_workers(order, total, seed)
        return (self._make(i, order[i * size : (i + 1) * size], seed) for i in range(total))

    def _order(self) -> NDArray:
        if self.sampler is not None:
            order = _integers(self.sampler, "sampler")
            return order if self._arrays is None else _checked(order, len(self.dataset))
        if self.shuffle:
            return (self.generator or default_generator).numpy.permutation(len(self.dataset))
        return np.arange(len(self.dataset))

    def _make(self, number: int, chosen: NDArray, seed: int) -> Any:
        """The batch of that number in its pass, of the samples chosen."""
        if self._arrays is None:
            return self.collate_fn([self.dataset[i] for i in chosen.tolist()])
        batch = [wrap(a[chosen]) for a in self._arrays]
        if self._transform is not None:
            batch[0] = self._transform(batch[0], Generator().manual_seed(seed + number))
        return batch[0] if self._is_bare else batch

    def _from_workers(self, order: NDArray, total: int, seed: int) -> Iterator[Any]:
        workers, self._idle = self._idle, None
        if workers is None:
            workers = Workers(
                self.dataset,
                self.collate_fn,
                self.num_workers,
                seed,
                self.worker_init_fn,
                self.timeout,
                self.multiprocessing_context,
            )
        done = False
        try:
            ahead = self.prefetch_factor or 1
            yield from workers.run(order, self.batch_size, total, seed, ahead)
            done = True
        finally:
            # Of a pass that was left early, batches are still under way.
            if done and self.persistent_workers and self._idle is None:
                self._idle = workers
            else:
                workers.stop()


def default_collate(samples: list[Any]) -> Any:
    """A batch of samples: tensors, arrays and numbers are stacked, inside tuples and dicts.

    As in PyTorch, Python's floats become float64, and a named tuple stays one.

    Args:
        samples: all of the same kind and the same shapes.

    Raises:
        RuntimeError: if shapes differ.
        TypeError: for other kinds of samples.

    >>> nano.data.default_collate([(1.0, "a"), (2.0, "b")])
    [tensor([1., 2.], dtype=nano.float64), ['a', 'b']]
    """
    first = samples[0]
    if isinstance(first, Tensor) and any(
        isinstance(s, Tensor) and s.requires_grad for s in samples
    ):
        return stack(samples)
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
    if isinstance(first, np.generic):
        return tensor(np.asarray(samples))
    if isinstance(first, (bool, int, float)):
        return tensor(samples, dtype=float64 if isinstance(first, float) else None)
    if isinstance(first, (str, bytes)):
        return samples
    if isinstance(first, Mapping):
        for s in samples:
            if missing := [key for key in first if key not in s]:
                raise KeyMissingError(
                    "default_collate",
                    f"samples of one batch must have the same keys, but one has no {missing[0]!r}.",
                )
        return {key: default_collate([s[key] for s in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        if len({len(s) for s in samples}) > 1:
            raise ShapeError(
                "default_collate",
                "samples of one batch must have the same number of elements.",
                facts=" · ".join(str(n) for n in sorted({len(s) for s in samples})),
            )
        columns = [default_collate(list(column)) for column in zip(*samples, strict=True)]
        # A named tuple stays one.
        return type(first)(*columns) if hasattr(first, "_fields") else columns
    raise TypeMismatchError(
        "default_collate",
        f"cannot make a batch of {type(first).__name__}.",
        hint="Give the DataLoader a collate_fn.",
    )


def _integers(numbers: Iterable[int], name: str) -> NDArray:
    try:
        return np.fromiter(map(operator.index, numbers), np.int64)
    except TypeError as error:
        raise TypeMismatchError(
            "DataLoader", f"{name} must hold the numbers of samples, as integers: {error}."
        ) from None


def _checked(order: NDArray, count: int) -> NDArray:
    """Numbers of samples of a set that has ``count``."""
    wrong = order[(order < -count) | (order >= count)]
    if wrong.size:
        raise IndexingError("DataLoader", f"there are {count} samples, got index {wrong[0]}.")
    return order


def _check_workers(
    num_workers: int,
    in_memory: bool,
    prefetch_factor: int | None,
    persistent_workers: bool,
    timeout: float,
) -> None:
    if isinstance(num_workers, bool) or not isinstance(num_workers, int) or num_workers < 0:
        raise InputError(
            "DataLoader", f"num_workers must be an integer and not negative, got {num_workers!r}."
        )
    if num_workers and in_memory:
        raise InputError(
            "DataLoader",
            "batches made in memory are there sooner than a worker could hand them over: give "
            "in_memory or num_workers.",
        )
    if not num_workers and (prefetch_factor is not None or persistent_workers):
        raise InputError(
            "DataLoader", "prefetch_factor and persistent_workers need num_workers > 0."
        )
    if prefetch_factor is not None and prefetch_factor < 1:
        raise InputError("DataLoader", f"prefetch_factor must be positive, got {prefetch_factor}.")
    if timeout < 0:
        raise InputError("DataLoader", f"timeout must not be negative, got {timeout}.")


def _whole(dataset: Any) -> tuple[list[NDArray], Callable[..., Tensor] | None, bool]:
    """All samples of a data set, as one array for each element of a sample.

    And what changes the first element of a batch; and whether a sample is an element by itself,
    in no tuple.
    """
    if isinstance(dataset, TensorDataset):
        if any(t.requires_grad for t in dataset.tensors):
            raise InputError(
                "DataLoader",
                "batches made in memory have no history, but a tensor of the set requires "
                "gradients.",
                hint="Detach it, or leave in_memory out.",
            )
        return [t.detach()._data for t in dataset.tensors], dataset.transform, False
    if isinstance(dataset, Subset):
        chosen = _checked(_integers(dataset.indices, "indices"), len(dataset.dataset))
        arrays, transform, is_bare = _whole(dataset.dataset)
        return [a[chosen] for a in arrays], transform, is_bare
    if not len(dataset):
        raise InputError("DataLoader", "an empty data set cannot be held in memory.")
    batch = default_collate([dataset[i] for i in range(len(dataset))])
    is_bare = not isinstance(batch, list)
    columns = [batch] if is_bare else batch
    if not all(isinstance(c, Tensor) for c in columns):
        raise InputError(
            "DataLoader", "in_memory needs samples that are tensors or tuples of tensors."
        )
    return [c._data for c in columns], None, is_bare
