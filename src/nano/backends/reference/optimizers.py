"""One update step of a list of parameters, in place: a call for each parameter group.

A step is a chain of element-wise operators. Large arrays are gone through in
blocks, so that every operator but the first finds its block in the cache. Each
list holds one array a parameter; None stands for a list that is not wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..registry import register

#: Elements of a block: five float32 arrays of this size fit in the second-level cache.
_BLOCK = 16384

Arrays = Sequence[NDArray]


def _pieces(*lists: Sequence[Any] | None) -> Iterator[Any]:
    """For each parameter, its entry in every list; block by block if it is large.

    An entry that is no array is handed on with each block.
    """
    count = len(lists[0])  # type: ignore[arg-type]
    for entries in zip(*[repeat(None, count) if x is None else x for x in lists], strict=True):
        size = entries[0].size
        flat = _flattened(entries) if size > 2 * _BLOCK else None
        if flat is None:
            yield entries
            continue
        for start in range(0, size, _BLOCK):
            part = slice(start, start + _BLOCK)
            yield [x[part] if isinstance(x, np.ndarray) else x for x in flat]


def _flattened(entries: Sequence[Any]) -> list[Any] | None:
    """Each array as the row of its elements in memory; None unless they lie in one order."""
    arrays = [x for x in entries if isinstance(x, np.ndarray)]
    if not all(a.flags.c_contiguous for a in arrays):
        if any(a.strides != arrays[0].strides for a in arrays):
            return None
        # Where the elements have gaps between them, ravel() copies: the writes would be lost.
        if not np.may_share_memory(arrays[0], arrays[0].ravel("K")):
            return None
    return [x.ravel("K") if isinstance(x, np.ndarray) else x for x in entries]


def sgd_step(
    parameters: Arrays,
    grads: Arrays,
    momentum_buffers: Arrays | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    first: bool,
) -> None:
    """Stochastic gradient descent with momentum, in PyTorch's order of operations.

    The momentum buffers are written too; ``first`` says that they hold nothing yet.
    """
    dtype = None
    for w, g, v in _pieces(parameters, grads, momentum_buffers):
        if w.dtype is not dtype:
            # A number that is an array already is not converted by every operator anew.
            dtype = w.dtype
            rate, kept = np.array(lr, dtype), np.array(momentum, dtype)
        if maximize:
            g = np.negative(g)
        if weight_decay:
            g = np.add(g, np.multiply(w, weight_decay))
        if v is not None:
            if first:
                v[...] = g
            else:
                np.multiply(v, kept, v)
                np.add(v, np.multiply(g, 1 - dampening) if dampening else g, v)
            g = np.add(g, np.multiply(v, kept)) if nesterov else v
        np.subtract(w, np.multiply(g, rate), w)


def adam_step(
    parameters: Arrays,
    grads: Arrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    max_exp_avg_sqs: Arrays | None,
    steps: Sequence[int],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> None:
    """Adam (Kingma and Ba 2015); ``decoupled`` makes it AdamW (Loshchilov and Hutter 2019).

    ``max_exp_avg_sqs`` is given for AMSGrad (Reddi, Kale and Kumar 2018). ``steps`` count the
    updates of each parameter from 1, this one included.
    """
    sizes = [lr / (1 - beta1**step) for step in steps]
    root_corrections = [1 / (1 - beta2**step) ** 0.5 for step in steps]
    lists = parameters, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, sizes, root_corrections
    for w, g, m, v, largest, step_size, root_correction in _pieces(*lists):
        if maximize:
            g = np.negative(g)
        if weight_decay and decoupled:
            np.multiply(w, 1 - lr * weight_decay, w)
        elif weight_decay:
            g = np.add(g, np.multiply(w, weight_decay))
        scratch = np.asarray(np.subtract(g, m))
        np.multiply(scratch, 1 - beta1, scratch)
        np.add(m, scratch, m)
        _add_square(v, g, beta2, 1 - beta2, scratch)
        if largest is not None:
            np.maximum(largest, v, out=largest)
        np.sqrt(v if largest is None else largest, scratch)
        np.multiply(scratch, root_correction, scratch)
        np.add(scratch, eps, scratch)
        np.divide(m, scratch, scratch)
        np.multiply(scratch, step_size, scratch)
        np.subtract(w, scratch, w)


def rmsprop_step(
    parameters: Arrays,
    grads: Arrays,
    square_avgs: Arrays,
    grad_avgs: Arrays | None,
    momentum_buffers: Arrays | None,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    maximize: bool,
) -> None:
    """RMSprop (Hinton 2012); ``grad_avgs`` are given for the centered form (Graves 2013)."""
    lists = parameters, grads, square_avgs, grad_avgs, momentum_buffers
    for w, g, v, mean, buffer in _pieces(*lists):
        if maximize:
            g = np.negative(g)
        if weight_decay:
            g = np.add(g, np.multiply(w, weight_decay))
        scratch = np.empty_like(w)
        _add_square(v, g, alpha, 1 - alpha, scratch)
        if mean is None:
            np.sqrt(v, scratch)
        else:
            np.subtract(g, mean, scratch)
            np.multiply(scratch, 1 - alpha, scratch)
            np.add(mean, scratch, mean)
            np.multiply(mean, mean, scratch)
            np.subtract(v, scratch, scratch)
            np.sqrt(scratch, scratch)
        np.add(scratch, eps, scratch)
        np.divide(g, scratch, scratch)
        if buffer is not None:
            np.multiply(buffer, momentum, buffer)
            np.add(buffer, scratch, buffer)
            np.multiply(buffer, lr, scratch)
        else:
            np.multiply(scratch, lr, scratch)
        np.subtract(w, scratch, w)


def adagrad_step(
    parameters: Arrays,
    grads: Arrays,
    sums: Arrays,
    steps: Sequence[int],
    lr: float,
    lr_decay: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    """Adagrad (Duchi, Hazan and Singer 2011). ``steps`` count from 1, this one included."""
    rates = [lr / (1 + (step - 1) * lr_decay) for step in steps]
    for w, g, total, rate in _pieces(parameters, grads, sums, rates):
        if maximize:
            g = np.negative(g)
        if weight_decay:
            g = np.add(g, np.multiply(w, weight_decay))
        scratch = np.empty_like(w)
        _add_square(total, g, 1, 1, scratch)
        np.sqrt(total, scratch)
        np.add(scratch, eps, scratch)
        np.divide(g, scratch, scratch)
        np.multiply(scratch, rate, scratch)
        np.subtract(w, scratch, w)


def _add_square(average: NDArray, g: NDArray, keep: float, add: float, scratch: NDArray) -> None:
    """average = keep average + add g^2, in place."""
    np.multiply(g, g, scratch)
    if keep != 1:
        np.multiply(average, keep, average)
    if add != 1:
        np.multiply(scratch, add, scratch)
    np.add(average, scratch, average)


def sgd_bound(
    parameters: Arrays, grads: Arrays, momentum_buffers: Arrays | None
) -> Callable[..., None]:
    """:func:`sgd_step` for these arrays, as often as it is called: with the other arguments.

    The momentum buffers must hold something. Who calls it holds the arrays.
    """

    def step(*options: Any) -> None:
        sgd_step(parameters, grads, momentum_buffers, *options, False)

    return step


def adam_bound(
    parameters: Arrays,
    grads: Arrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    max_exp_avg_sqs: Arrays | None,
) -> Callable[..., None]:
    """:func:`adam_step` for these arrays, as often as it is called: with the other arguments.

    Who calls it holds the arrays.
    """
    return partial(adam_step, parameters, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs)


for _kernel in (sgd_step, adam_step, rmsprop_step, adagrad_step, sgd_bound, adam_bound):
    register(_kernel.__name__, _kernel)
