"""One update step of one parameter, in place.

A step is a chain of element-wise operators. Large arrays are gone through in
blocks, so that every operator but the first finds its block in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..registry import register

#: Elements of a block: five float32 arrays of this size fit in the second-level cache.
_BLOCK = 16384


def _blocks(*arrays: NDArray | None) -> Iterator[Any]:
    """The arrays block by block; in one piece if they are small or not all contiguous."""
    size = arrays[0].size  # type: ignore[union-attr]
    if size <= 2 * _BLOCK or not all(a is None or a.flags.c_contiguous for a in arrays):
        yield arrays
        return
    flat = [None if a is None else a.reshape(-1) for a in arrays]
    for start in range(0, size, _BLOCK):
        part = slice(start, start + _BLOCK)
        yield [None if a is None else a[part] for a in flat]


def sgd_step(
    parameter: NDArray,
    grad: NDArray,
    momentum_buffer: NDArray | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    first: bool,
) -> None:
    """Stochastic gradient descent with momentum, in PyTorch's order of operations.

    The momentum buffer is written too; ``first`` says that it holds nothing yet.
    """
    for w, g, v in _blocks(parameter, grad, momentum_buffer):
        if maximize:
            g = np.negative(g)
        if weight_decay:
            g = np.add(g, np.multiply(w, weight_decay))
        if v is not None:
            if first:
                v[...] = g
            else:
                np.multiply(v, momentum, v)
                np.add(v, np.multiply(g, 1 - dampening) if dampening else g, v)
            g = np.add(g, np.multiply(v, momentum)) if nesterov else v
        np.subtract(w, np.multiply(g, lr), w)


def adam_step(
    parameter: NDArray,
    grad: NDArray,
    exp_avg: NDArray,
    exp_avg_sq: NDArray,
    max_exp_avg_sq: NDArray | None,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> None:
    """Adam (Kingma and Ba 2015); ``decoupled`` makes it AdamW (Loshchilov and Hutter 2019).

    ``max_exp_avg_sq`` is given for AMSGrad (Reddi, Kale and Kumar 2018). ``step`` counts from 1.
    """
    step_size = lr / (1 - beta1**step)
    root_correction = 1 / (1 - beta2**step) ** 0.5
    for w, g, m, v, largest in _blocks(parameter, grad, exp_avg, exp_avg_sq, max_exp_avg_sq):
        if maximize:
            g = np.negative(g)
        if weight_decay and decoupled:
            np.multiply(w, 1 - lr * weight_decay, w)
        elif weight_decay:
            g = np.add(g, np.multiply(w, weight_decay))
        scratch = np.asarray(np.subtract(g, m))
        np.multiply(scratch, 1 - beta1, scratch)
        np.add(m, scratch, m)
        np.multiply(v, beta2, v)
        np.multiply(g, g, scratch)
        np.multiply(scratch, 1 - beta2, scratch)
        np.add(v, scratch, v)
        if largest is not None:
            np.maximum(largest, v, out=largest)
        np.sqrt(v if largest is None else largest, scratch)
        np.multiply(scratch, root_correction, scratch)
        np.add(scratch, eps, scratch)
        np.divide(m, scratch, scratch)
        np.multiply(scratch, step_size, scratch)
        np.subtract(w, scratch, w)


for _kernel in (sgd_step, adam_step):
    register(_kernel.__name__, _kernel)
