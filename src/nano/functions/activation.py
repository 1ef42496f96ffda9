"""Activations that are more than one element-wise formula, and dropout."""

from __future__ import annotations

import warnings
from math import pi, sqrt
from typing import Any

from ..autograd.function import Function
from ..autograd.views import write_in_place
from ..backends import kernels
from ..errors import ArgumentError, InputError, TypeMismatchError
from ..random import default_generator
from ..tensor import Tensor
from .operands import check_tensor, require_floating
from .unary import Elementwise

__all__ = ["dropout", "gelu", "leaky_relu"]


class Gelu(Elementwise):
    """x Phi(x); d/dx = Phi(x) + x phi(x), with phi the normal density and Phi its integral.

    The approximation is 0.5 x (1 + tanh u) with u = sqrt(2 / pi) (x + 0.044715 x^3).
    """

    @staticmethod
    def forward(ctx, x, *, approximate):
        ctx.save_for_backward(x)
        ctx.approximate = approximate
        return kernels.gelu_tanh(x) if approximate == "tanh" else kernels.gelu(x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return GeluBackward.apply(grad_output, x, approximate=ctx.approximate)


class GeluBackward(Elementwise):
    """g gelu'(x); d/dg = gelu'(x), d/dx = g gelu''(x)."""

    @staticmethod
    def forward(ctx, grad_output, x, *, approximate):
        ctx.save_for_backward(grad_output, x)
        ctx.approximate = approximate
        if approximate == "tanh":
            return kernels.gelu_tanh_backward(grad_output, x)
        return kernels.gelu_backward(grad_output, x)

    @staticmethod
    def backward(ctx, grad_output):
        g, x = ctx.saved_tensors
        need_g, need_x = ctx.needs_input_grad
        curve = _gelu_tanh_curve if ctx.approximate == "tanh" else _gelu_curve
        return (
            GeluBackward.apply(grad_output, x, approximate=ctx.approximate) if need_g else None,
            grad_output * g * curve(x) if need_x else None,
        )


def _gelu_curve(x: Any) -> Tensor:
    """The second derivative: phi(x) (2 - x^2)."""
    return (x * x * -0.5).exp() * ((2.0 - x * x) * (1 / sqrt(2 * pi)))


def _gelu_tanh_curve(x: Any) -> Tensor:
    """The second derivative of 0.5 x (1 + tanh u): (1 - t^2) (u' + x (u'' / 2 - t u'^2))."""
    k, c = sqrt(2 / pi), 0.044715
    t = (k * (x + c * x * x * x)).tanh()
    du = k * (1.0 + 3 * c * x * x)
    return (1.0 - t * t) * (du + x * (3 * k * c * x - t * du * du))


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """Gaussian error linear unit: input times the standard normal distribution function.

    Source: D. Hendrycks and K. Gimpel, "Gaussian error linear units (GELUs)", 2016,
    arXiv:1606.08415.

    Args:
        input: any shape, floating point.
        approximate: ``"none"``, or ``"tanh"`` for 0.5 x (1 + tanh(sqrt(2 / pi)
            (x + 0.044715 x^3))).

    Raises:
        RuntimeError: for another ``approximate``, or an input that is not floating point.

    >>> gelu(nano.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.1587,  0.0000,  0.8413])
    """
    if approximate not in ("none", "tanh"):
        raise ArgumentError("gelu", f'approximate must be "none" or "tanh", got {approximate!r}.')
    return Gelu.apply(require_floating("gelu", input), approximate=approximate)


class LeakyRelu(Elementwise):
    """x where x > 0, else s x; d/dx = 1 where x > 0, else s."""

    @staticmethod
    def forward(ctx, x, *, negative_slope):
        ctx.save_for_backward(x)
        ctx.slope = negative_slope
        return kernels.leaky_relu(x, x, negative_slope)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return LeakyReluBackward.apply(grad_output, x.detach(), negative_slope=ctx.slope)


class LeakyReluBackward(Elementwise):
    """g where x > 0, else s g; linear in g, constant in x."""

    @staticmethod
    def forward(ctx, grad_output, x, *, negative_slope):
        ctx.save_for_backward(x)
        ctx.slope = negative_slope
        return kernels.leaky_relu(grad_output, x, negative_slope)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return LeakyReluBackward.apply(grad_output, x, negative_slope=ctx.slope), None


def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """input where it is positive, else negative_slope * input.

    Source: A. L. Maas, A. Y. Hannun and A. Y. Ng, "Rectifier nonlinearities improve
    neural network acoustic models", ICML 2013.

    >>> leaky_relu(nano.tensor([-1.0, 2.0]), 0.1)
    tensor([-0.1000,  2.0000])
    """
    require_floating("leaky_relu", input)
    return LeakyRelu.apply(input, negative_slope=float(negative_slope))


class Dropout(Function):
    """x m with m = 0 with probability p and 1 / (1 - p) else; d/dx = m."""

    @staticmethod
    def forward(ctx, x, *, p, generator):
        mask = kernels.dropout_mask(generator.numpy, x.shape, p, x.dtype)
        ctx.save_for_backward(mask)
        return kernels.multiply(x, mask)

    @staticmethod
    def backward(ctx, grad_output):
        (mask,) = ctx.saved_tensors
        return grad_output * mask


def check_probability(owner: str, p: Any) -> None:
    """
    Raises:
        ValueError: if ``p`` is not between 0 and 1.
    """
    if isinstance(p, bool) or not isinstance(p, (int, float)):
        raise TypeMismatchError(owner, f"p must be a number, got {type(p).__name__}.")
    if not 0 <= p <= 1:
        raise InputError(owner, f"dropout probability has to be between 0 and 1, but got {p}.")


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Set each element to 0 with probability ``p`` and scale the others by 1 / (1 - p).

    The draws come from nano's default generator.

    Source: N. Srivastava et al., "Dropout: a simple way to prevent neural networks
    from overfitting", JMLR 15, 2014.

    Args:
        input: any shape, floating point.
        p: the probability.
        training: if not, ``input`` is given back as it is.
        inplace: write the result into ``input``.

    Raises:
        ValueError: if ``p`` is not between 0 and 1.

    >>> sorted(set(dropout(nano.tensor([1.0] * 100)).tolist()))
    [0.0, 2.0]
    """
    check_probability("dropout", p)
    if not training or p == 0:
        return check_tensor("dropout", input)
    require_floating("dropout", input)
    if inplace:
        return write_in_place("dropout_", input, Dropout, input, p=p, generator=default_generator)
    return Dropout.apply(input, p=p, generator=default_generator)


def implicit_dim(name: str, input: Tensor, dim: int | None) -> int:
    """``dim``, or the one that PyTorch takes where none is given, with its warning."""
    if dim is not None:
        return dim
    warnings.warn(
        f"Implicit dimension choice for {name} has been deprecated. "
        "Change the call to include dim=X as an argument.",
        stacklevel=3,
    )
    return 0 if input.ndim in (0, 1, 3) else 1
