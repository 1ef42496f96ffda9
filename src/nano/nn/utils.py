"""What one does to all parameters at once: clip their gradients, put their elements in order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from ..autograd.views import bump_version
from ..errors import AnomalyError
from ..hook import Call, hooks, through_hooks
from ..layouts import memory_format as memory_format_class
from ..tensor import Tensor, wrap
from .conv import Conv2d, ConvTranspose2d
from .module import Module

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "convert_conv2d_weight_memory_format",
]


M = TypeVar("M", bound=Module)


def _change(name: str, parameters: Any, change: Callable[[list[Tensor]], Any]) -> Any:
    """What ``change`` gives, which gets the gradients of the parameters."""
    several = [parameters] if isinstance(parameters, Tensor) else list(parameters)

    def run() -> Any:
        return change([p._grad for p in several if p._grad is not None])

    if hooks:
        return through_hooks(Call(name, "change", run), tuple(several), {}, run)
    return run()


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients by one factor so that their common norm is at most ``max_norm``.

    Source: R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent
    neural networks", ICML 2013.

    Args:
        parameters: one or several tensors; those without gradient are left out.
        max_norm: the bound.
        norm_type: the p of the norm; may be ``inf``.
        error_if_nonfinite: refuse a norm that is NaN or infinite.

    Returns:
        The norm before clipping, 0-d.

    Raises:
        RuntimeError: if the norm is not finite and ``error_if_nonfinite`` is set.

    >>> p = nano.tensor([3.0, 4.0], requires_grad=True)
    >>> (p * p).sum().backward()
    >>> clip_grad_norm_(p, 1.0), p.grad
    (tensor(10.), tensor([0.6000, 0.8000]))
    """

    def change(grads: list[Tensor]) -> Tensor:
        return _clip_norm(grads, float(max_norm), float(norm_type), error_if_nonfinite)

    return _change("clip_grad_norm_", parameters, change)


def _clip_norm(grads: list[Tensor], max_norm: float, p: float, error_if_nonfinite: bool) -> Tensor:
    if not grads:
        return wrap(np.asarray(0.0, np.float32))
    norms = [_norm(g._data, p) for g in grads]
    total = _norm(np.array(norms), p)
    if error_if_nonfinite and not math.isfinite(total):
        raise AnomalyError(
            "clip_grad_norm_",
            f"the total norm of the gradients is {total}, so they cannot be clipped.",
            hint="Look for NaN or inf in the loss, or set error_if_nonfinite=False.",
        )
    # The 1e-6 is PyTorch's; it keeps a norm of 0 from dividing.
    factor = max_norm / (total + 1e-6)
    if not factor >= 1.0:
        for g in grads:
            np.multiply(g._data, factor, out=g._data)
            bump_version(g, "clip_grad_norm_")
    return wrap(np.asarray(total).astype(grads[0]._data.dtype))


def _norm(x: Any, p: float) -> float:
    """The p-norm of all elements, in double precision."""
    x = np.abs(np.asarray(x, np.float64))
    if p == math.inf:
        return float(x.max(initial=0.0))
    return float(np.sum(x * x) ** 0.5 if p == 2 else np.sum(x**p) ** (1 / p))


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clamp every element of the gradients to [-clip_value, clip_value].

    >>> p = nano.tensor([3.0, -4.0], requires_grad=True)
    >>> (p * p).sum().backward()
    >>> clip_grad_value_(p, 7.0); p.grad
    tensor([ 6., -7.])
    """
    bound = float(clip_value)

    def change(grads: list[Tensor]) -> None:
        for g in grads:
            np.clip(g._data, -bound, bound, out=g._data)
            bump_version(g, "clip_grad_value_")

    _change("clip_grad_value_", parameters, change)


def convert_conv2d_weight_memory_format(module: M, memory_format: memory_format_class) -> M:
    """Put the weights of all two-dimensional convolutions in an order; returns the module.

    ``module.to(memory_format=...)`` does so with every parameter of four dimensions.

    >>> layer = nano.nn.Conv2d(3, 4, 5)
    >>> convert_conv2d_weight_memory_format(layer, nano.channels_last).weight.stride()
    (75, 1, 15, 3)
    """
    for part in module.modules():
        if isinstance(part, (Conv2d, ConvTranspose2d)):
            part.weight.data = part.weight.detach().contiguous(memory_format=memory_format)
    return module
