"""Worker processes that make a DataLoader's batches, for sets whose samples are slow to make.

Batch i is made by worker i mod n, and each worker hands over its batches in order through a
pipe of its own: so the parent takes them in turn, and nothing has to be sorted. A worker
knows the order of the whole pass; what the parent sends for each batch is only leave to go on.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import threads
from ..errors import DataError
from ..random import manual_seed
from ..tensor import Tensor, wrap

__all__ = ["WorkerInfo", "Workers", "get_worker_info"]

#: A worker looks this often whether its parent still lives.
_WATCH_SECONDS = 1.0
#: A worker that is asked to end, and does not, is killed after this time.
_PATIENCE_SECONDS = 2.0


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker process knows of itself.

    Attributes:
        id: from 0 to ``num_workers`` - 1.
        num_workers: how many there are.
        seed: of the random numbers of this worker.
        dataset: its copy of the data set.
    """

    id: int
    num_workers: int
    seed: int
    dataset: Any


_info: WorkerInfo | None = None
#: The ends of all pipes that this process, as a parent, holds.
_parents_ends: weakref.WeakSet[Connection] = weakref.WeakSet()


def get_worker_info() -> WorkerInfo | None:
    """In a worker process, what it knows of itself; in any other, None.

    >>> nano.data.get_worker_info() is None
    True
    """
    return _info


class Workers:
    """Processes that stand ready to make batches.

    Args:
        dataset: the samples.
        collate_fn: makes a batch of a list of them.
        count: how many processes.
        seed: of the first pass.
        init: called in each worker with its id, when it starts.
        timeout: seconds to wait for a batch; 0 to wait for ever.
        context: one of :mod:`multiprocessing`, or its name; ``fork`` on Linux, ``spawn``
            elsewhere, if not given.
    """

    def __init__(
        self,
        dataset: Any,
        collate_fn: Callable[[list[Any]], Any],
        count: int,
        seed: int,
        init: Callable[[int], None] | None,
        timeout: float,
        context: Any,
    ) -> None:
        if context is None:
            context = "fork" if sys.platform == "linux" else "spawn"
        if isinstance(context, str):
            context = multiprocessing.get_context(context)
        self.timeout = timeout
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []
        self._owner = os.getpid()
        try:
            for i in range(count):
                ours, theirs = context.Pipe()
                info = WorkerInfo(i, count, seed + i, dataset)
                process = context.Process(
                    target=_work, args=(theirs, info, collate_fn, init, os.getpid()), daemon=True
                )
                self._pipes.append(ours)
                _parents_ends.add(ours)
                with warnings.catch_warnings():
                    # Python warns of forking beside threads; the pool of nano's allows it.
                    warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
                    process.start()
                self._processes.append(process)
                # Only the worker holds its end: when it dies, ours says so.
                theirs.close()
        except BaseException:
            self.stop()
            raise

    def run(self, order: NDArray, size: int, total: int, seed: int, ahead: int) -> Iterator[Any]:
        """The batches of a pass, in order.

        Args:
            order: the numbers of the samples.
            size, total: samples in a batch, and batches in the pass.
            seed: of the pass; worker i seeds its random numbers with ``seed + i``.
            ahead: how many batches a worker makes before they are asked for.
        """
        count = len(self._pipes)
        for i in range(count):
            self._send(i, (order, size, seed + i))
        asked = min(count * ahead, total)
        for number in range(asked):
            self._send(number % count, number)
        for number in range(total):
            batch = self._receive(number % count)
            if asked < total:
                self._send(asked % count, asked)
                asked += 1
            yield batch

    def _send(self, i: int, message: Any) -> None:
        try:
            self._pipes[i].send(message)
        except (BrokenPipeError, ConnectionResetError):
            raise self._died(i) from None

    def _receive(self, i: int) -> Any:
        pipe, process = self._pipes[i], self._processes[i]
        if not wait([pipe, process.sentinel], self.timeout or None):
            raise DataError("DataLoader", f"timed out after {self.timeout} seconds.")
        try:
            result = _received(pipe)
        except (EOFError, ConnectionResetError):
            raise self._died(i) from None
        if isinstance(result, _Fault):
            raise result.error(i)
        return result

    def _died(self, i: int) -> DataError:
        process = self._processes[i]
        process.join(_PATIENCE_SECONDS)
        code = process.exitcode
        reason = f"signal {-code}" if code is not None and code < 0 else f"status {code}"
        return DataError(
            "DataLoader",
            f"worker {i} (pid {process.pid}) exited unexpectedly.",
            facts=f"It ended with {reason}.",
            hint="Was it out of memory? num_workers=0 shows an error where it is.",
        )

    def stop(self) -> None:
        """End all processes, and wait until they have ended."""
        if os.getpid() != self._owner:  # a forked copy of this object owns no process
            return
        for pipe in self._pipes:
            pipe.close()
        until = time.monotonic() + _PATIENCE_SECONDS
        for process in self._processes:
            process.join(max(until - time.monotonic(), 0))
            if process.exitcode is None:
                process.kill()
                process.join()
            process.close()
        self._pipes, self._processes = [], []

    def __del__(self) -> None:
        with suppress(Exception):  # at the end of the interpreter, modules may be gone
            self.stop()


# In the worker ----------------------------------------------------------------------------


def _work(
    pipe: Connection,
    info: WorkerInfo,
    collate_fn: Callable[[list[Any]], Any],
    init: Callable[[int], None] | None,
    parent: int,
) -> None:
    global _info
    # Ctrl-C reaches all processes of a terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A forked worker has copies of what the parent holds; with them open, a pipe would not
    # break when the parent closes it.
    for end in list(_parents_ends):
        end.close()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    threads.set_num_threads(1)
    _info = info
    _seed(info.seed)
    fault = None
    try:
        if init is not None:
            init(info.id)
    except Exception as error:
        fault = _packed(_Fault.of(error))
    seeded = info.seed
    order, size = np.arange(0), 1
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent has done with us
        while True:
            message = pipe.recv()
            if isinstance(message, tuple):
                order, size, seed = message
                # Seeding again for the first pass would undo what init may have done.
                if seed != seeded:
                    _seed(seed)
                    seeded = seed
            else:
                chosen = order[message * size : (message + 1) * size]
                _hand_over(pipe, fault or _made(info.dataset, collate_fn, chosen))


def _made(dataset: Any, collate_fn: Callable[[list[Any]], Any], chosen: NDArray) -> Any:
    """A batch, or what went wrong, ready to be handed over."""
    try:
        return _packed(collate_fn([dataset[i] for i in chosen.tolist()]))
    except Exception as error:
        return _packed(_Fault.of(error))


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    manual_seed(seed)


def _end_with(parent: int) -> None:
    """End this process when its parent has gone, whatever it is doing."""
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


@dataclass(frozen=True)
class _Fault:
    """An error on its way to the parent, where it is raised again with its traceback as text."""

    kind: type[BaseException]
    text: str

    @staticmethod
    def of(error: BaseException) -> _Fault:
        kind = type(error)
        try:
            pickle.loads(pickle.dumps(kind))
        except Exception:  # a class made inside a function
            kind = RuntimeError
        return _Fault(kind, "".join(traceback.format_exception(error)))

    def error(self, worker: int) -> BaseException:
        text = f"Caught {self.kind.__name__} in DataLoader worker process {worker}.\n"
        text += f"Original {self.text}"
        if self.kind is KeyError:
            return _WorkerKeyError(text)
        try:
            return self.kind(text)
        except Exception:  # one that wants other arguments
            return RuntimeError(text)


class _WorkerKeyError(KeyError):
    __str__ = Exception.__str__  # KeyError would print the traceback as one quoted line


# Batches through a pipe -------------------------------------------------------------------


class _Pickler(pickle.Pickler):
    """Tensors keep their layout in memory, which NumPy's pickles lose unless it is C's."""

    def reducer_override(self, x: Any) -> Any:
        if type(x) is Tensor and x.grad_fn is None and not x.requires_grad and x.ndim:
            axes = np.argsort([-s for s in x._data.strides], kind="stable").tolist()
            return _laid_out, (x._data.transpose(axes), np.argsort(axes).tolist())
        return NotImplemented


def _laid_out(array: NDArray, axes: list[int]) -> Tensor:
    return wrap(array.transpose(axes))


def _packed(result: Any) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """A pickle, and apart from it the memory of its arrays, which is not copied."""
    buffers: list[pickle.PickleBuffer] = []
    file = BytesIO()
    _Pickler(file, protocol=5, buffer_callback=buffers.append).dump(result)
    return file.getvalue(), buffers


def _hand_over(pipe: Connection, packed: tuple[bytes, list[pickle.PickleBuffer]]) -> None:
    content, buffers = packed
    raw = [b.raw() for b in buffers]
    pipe.send([r.nbytes for r in raw])
    pipe.send_bytes(content)
    for r in raw:
        if r.nbytes:
            pipe.send_bytes(r)


def _received(pipe: Connection) -> Any:
    sizes = pipe.recv()
    content = pipe.recv_bytes()
    buffers = [np.empty(size, np.uint8) for size in sizes]
    for b in buffers:
        if b.nbytes:
            pipe.recv_bytes_into(memoryview(b))
    return pickle.loads(content, buffers=buffers)
