"""Optimizers' steps: all parameters of a group in one pass over memory and one call.

The loops see a table of addresses instead of arrays, so that a model of sixty
small parameters costs one call, not sixty. The parameters are cut into blocks
of equal size, which the threads share. Order and meaning of the operations are
those of the reference kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from math import sqrt as root
from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from .addresses import addresses_of, pointer
from .jit import Kernel, inline, kernel, prange

__all__ = ["adagrad_step", "adam_bound", "adam_step", "rmsprop_step", "sgd_bound", "sgd_step"]

Arrays = Sequence[NDArray]

#: Elements of a block: enough work for a thread, and five arrays of them fit in its cache.
_BLOCK = 4096
#: With fewer elements in all, one thread is done before the others are awake.
_PARALLEL = 1 << 15
_FLOAT32_BYTES = 4
_FLOAT = np.float32


# Tables ---------------------------------------------------------------------------------


@lru_cache(16)
def _cut(sizes: tuple[int, ...]) -> tuple[NDArray, NDArray, int]:
    """The sizes as an array; each parameter's first block, and the number of all blocks."""
    blocks = accumulate((-(-size // _BLOCK) for size in sizes), initial=0)
    return np.array(sizes, np.int64), np.array([*blocks], np.int64), sum(sizes)


def _run(
    loop: Kernel, options: Sequence[Any], parameters: Arrays, grads: Arrays, *others: Arrays
) -> None:
    """Call ``loop`` with a table: a row of addresses for each list, a column for each parameter.

    The arrays are contiguous float32; only the gradients may have other strides, and are
    copied then.
    """
    rows = _in_rows(grads)  # held here: the table has addresses only
    run, *tables = _bound(loop, parameters, rows, *others)
    run(*tables, *options)


def _in_rows(grads: Arrays) -> list[NDArray]:
    """The gradients row by row, as the parameters are."""
    return [g if g.flags.c_contiguous else np.ascontiguousarray(g) for g in grads]


def _bound(loop: Kernel, *lists: Arrays) -> tuple[Any, NDArray, NDArray, NDArray]:
    """The loop for so many elements, and its tables: addresses, sizes and blocks."""
    addresses = addresses_of(lists)
    sizes, blocks, total = _cut(tuple([w.size for w in lists[0]]))
    return loop if total >= _PARALLEL else loop.serial, addresses, sizes, blocks


@inline
def _find(blocks, sizes, b):
    """Block ``b``: its parameter's number, its first element there, how many it has."""
    p, end = 0, sizes.size
    while end - p > 1:
        middle = (p + end) // 2
        if blocks[middle] <= b:
            p = middle
        else:
            end = middle
    start = (b - blocks[p]) * _BLOCK
    return p, start, min(_BLOCK, sizes[p] - start)


@inline
def _floats(address, start, count):
    place = np.uint64(address) + np.uint64(start * _FLOAT32_BYTES)
    return carray(pointer(place), (count,), np.float32)


@inline
def _gradient(g, w, weight_decay, maximize):
    g = -g if maximize else g
    # A choice, not a product with 0: that would be NaN for an infinite weight.
    return g + w * weight_decay if weight_decay != 0 else g


# SGD ------------------------------------------------------------------------------------


@kernel
def _sgd(addresses, sizes, blocks, lr, weight_decay, maximize):
    for b in prange(blocks[-1]):
        p, start, count = _find(blocks, sizes, b)
        w = _floats(addresses[0, p], start, count)
        g = _floats(addresses[1, p], start, count)
        for i in range(count):
            w[i] -= _gradient(g[i], w[i], weight_decay, maximize) * lr


@kernel
def _sgd_momentum(
    addresses, sizes, blocks, lr, weight_decay, maximize, momentum, share, nesterov, first
):
    for b in prange(blocks[-1]):
        p, start, count = _find(blocks, sizes, b)
        w = _floats(addresses[0, p], start, count)
        g = _floats(addresses[1, p], start, count)
        v = _floats(addresses[2, p], start, count)
        for i in range(count):
            step = _gradient(g[i], w[i], weight_decay, maximize)
            mean = step if first else v[i] * momentum + step * share
            v[i] = mean
            w[i] -= (step + mean * momentum if nesterov else mean) * lr


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
    """See the reference kernel."""
    options = _FLOAT(lr), _FLOAT(weight_decay), bool(maximize)
    if momentum_buffers is None:
        _run(_sgd, options, parameters, grads)
        return
    options += _FLOAT(momentum), _FLOAT(1 - dampening), bool(nesterov), bool(first)
    _run(_sgd_momentum, options, parameters, grads, momentum_buffers)


def sgd_bound(
    parameters: Arrays, grads: Arrays, momentum_buffers: Arrays | None
) -> Callable[..., None]:
    """See the reference kernel."""
    if momentum_buffers is None:
        run, *tables = _bound(_sgd, parameters, grads)
    else:
        run, *tables = _bound(_sgd_momentum, parameters, grads, momentum_buffers)

    def step(
        lr: float,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
        maximize: bool,
    ) -> None:
        if momentum_buffers is None:
            run(*tables, _FLOAT(lr), _FLOAT(weight_decay), maximize)
        else:
            share = _FLOAT(1 - dampening)
            rates = _FLOAT(lr), _FLOAT(weight_decay), maximize, _FLOAT(momentum), share
            run(*tables, *rates, nesterov, False)

    return step


# Adam -----------------------------------------------------------------------------------


@kernel
def _adam(
    addresses,
    sizes,
    blocks,
    step_sizes,
    corrections,
    beta2,
    share1,
    share2,
    eps,
    keep,
    weight_decay,
    maximize,
    amsgrad,
):
    for b in prange(blocks[-1]):
        p, start, count = _find(blocks, sizes, b)
        w = _floats(addresses[0, p], start, count)
        g = _floats(addresses[1, p], start, count)
        m = _floats(addresses[2, p], start, count)
        v = _floats(addresses[3, p], start, count)
        step_size, correction = step_sizes[p], corrections[p]
        if amsgrad:
            largest = _floats(addresses[4, p], start, count)
            for i in range(count):
                weight = w[i] * keep
                step = _gradient(g[i], weight, weight_decay, maximize)
                mean = m[i] + (step - m[i]) * share1
                square = v[i] * beta2 + step * step * share2
                m[i], v[i] = mean, square
                # NaN stays, whichever of the two it is.
                most = largest[i] if largest[i] > square or largest[i] != largest[i] else square
                largest[i] = most
                w[i] = weight - mean / (root(most) * correction + eps) * step_size
        else:
            for i in range(count):
                weight = w[i] * keep
                step = _gradient(g[i], weight, weight_decay, maximize)
                mean = m[i] + (step - m[i]) * share1
                square = v[i] * beta2 + step * step * share2
                m[i], v[i] = mean, square
                w[i] = weight - mean / (root(square) * correction + eps) * step_size


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
    """See the reference kernel."""
    rows = _in_rows(grads)  # held here: a bound step knows addresses only
    step = adam_bound(parameters, rows, exp_avgs, exp_avg_sqs, max_exp_avg_sqs)
    step(steps, lr, beta1, beta2, eps, weight_decay, decoupled, bool(maximize))


def adam_bound(
    parameters: Arrays,
    grads: Arrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    max_exp_avg_sqs: Arrays | None,
) -> Callable[..., None]:
    """See the reference kernel."""
    lists = [parameters, grads, exp_avgs, exp_avg_sqs]
    if max_exp_avg_sqs is not None:
        lists.append(max_exp_avg_sqs)
    run, *tables = _bound(_adam, *lists)
    factors = np.empty((2, len(parameters)), np.float32)
    step_sizes, corrections = factors

    def step(
        steps: Sequence[int],
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        decoupled: bool,
        maximize: bool,
    ) -> None:
        known = {t: (lr / (1 - beta1**t), 1 / (1 - beta2**t) ** 0.5) for t in set(steps)}
        if len(known) == 1:
            ((step_sizes[:], corrections[:]),) = known.values()
        else:
            factors[:] = np.array([known[t] for t in steps]).T
        run(
            *tables,
            step_sizes,
            corrections,
            _FLOAT(beta2),
            _FLOAT(1 - beta1),
            _FLOAT(1 - beta2),
            _FLOAT(eps),
            _FLOAT(1 - lr * weight_decay if decoupled else 1),
            _FLOAT(0 if decoupled else weight_decay),
            maximize,
            max_exp_avg_sqs is not None,
        )

    return step


# RMSprop and Adagrad --------------------------------------------------------------------


@kernel
def _rmsprop(
    addresses,
    sizes,
    blocks,
    lr,
    alpha,
    share,
    eps,
    weight_decay,
    momentum,
    maximize,
    centered,
    heavy,
):
    for b in prange(blocks[-1]):
        p, start, count = _find(blocks, sizes, b)
        w = _floats(addresses[0, p], start, count)
        g = _floats(addresses[1, p], start, count)
        v = _floats(addresses[2, p], start, count)
        # Where a list is not wanted, its column is that of v, and is left alone.
        mean = _floats(addresses[3, p], start, count)
        buffer = _floats(addresses[4, p], start, count)
        for i in range(count):
            step = _gradient(g[i], w[i], weight_decay, maximize)
            square = v[i] * alpha + step * step * share
            v[i] = square
            if centered:
                average = mean[i] + (step - mean[i]) * share
                mean[i] = average
                square = square - average * average
            step = step / (root(square) + eps)
            if heavy:
                step = buffer[i] * momentum + step
                buffer[i] = step
            w[i] -= step * lr


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
    """See the reference kernel."""
    means = square_avgs if grad_avgs is None else grad_avgs
    buffers = square_avgs if momentum_buffers is None else momentum_buffers
    numbers = [_FLOAT(x) for x in (lr, alpha, 1 - alpha, eps, weight_decay, momentum)]
    kinds = bool(maximize), grad_avgs is not None, momentum_buffers is not None
    _run(_rmsprop, (*numbers, *kinds), parameters, grads, square_avgs, means, buffers)


@kernel
def _adagrad(addresses, sizes, blocks, rates, eps, weight_decay, maximize):
    for b in prange(blocks[-1]):
        p, start, count = _find(blocks, sizes, b)
        w = _floats(addresses[0, p], start, count)
        g = _floats(addresses[1, p], start, count)
        total = _floats(addresses[2, p], start, count)
        rate = rates[p]
        for i in range(count):
            step = _gradient(g[i], w[i], weight_decay, maximize)
            square = total[i] + step * step
            total[i] = square
            w[i] -= step / (root(square) + eps) * rate


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
    """See the reference kernel."""
    rates = np.array([lr / (1 + (t - 1) * lr_decay) for t in steps], np.float32)
    options = rates, _FLOAT(eps), _FLOAT(weight_decay), bool(maximize)
    _run(_adagrad, options, parameters, grads, sums)
