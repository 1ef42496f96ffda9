"""One update step of one parameter, in place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..registry import register


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
    if maximize:
        grad = np.negative(grad)
    if weight_decay:
        grad = grad + weight_decay * parameter
    if momentum_buffer is not None:
        if first:
            momentum_buffer[...] = grad
        else:
            np.multiply(momentum_buffer, momentum, out=momentum_buffer)
            momentum_buffer += grad if not dampening else (1 - dampening) * grad
        grad = grad + momentum * momentum_buffer if nesterov else momentum_buffer
    parameter -= np.multiply(grad, lr)


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
    if maximize:
        grad = np.negative(grad)
    if weight_decay:
        if decoupled:
            parameter *= 1 - lr * weight_decay
        else:
            grad = grad + weight_decay * parameter
    exp_avg += (1 - beta1) * (grad - exp_avg)
    exp_avg_sq *= beta2
    exp_avg_sq += (1 - beta2) * np.square(grad)
    second = exp_avg_sq
    if max_exp_avg_sq is not None:
        second = np.maximum(max_exp_avg_sq, exp_avg_sq, out=max_exp_avg_sq)
    denominator = np.sqrt(second)
    denominator /= (1 - beta2**step) ** 0.5
    denominator += eps
    np.divide(exp_avg, denominator, out=denominator)
    denominator *= lr / (1 - beta1**step)
    parameter -= denominator


for _kernel in (sgd_step, adam_step):
    register(_kernel.__name__, _kernel)
