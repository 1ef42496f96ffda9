"""Activations that are more than one element-wise formula, and dropout."""

from __future__ import annotations

import warnings
from math import pi, sqrt
from typing import Any

from ..autograd.function import Function
from ..autograd.views import write_in_place
from ..backends import kernels
from ..errors import ArgumentError, InputError, ShapeError, TypeMismatchError
from ..random import default_generator
from ..tensor import Tensor
from .operands import check_tensor, require_floating
from .unary import Elementwise, sigmoid

__all__ = ["dropout", "dropout1d", "dropout2d", "gelu", "leaky_relu", "silu"]


class Gelu(Elementwise):
    """x Phi(x); d/dx = Phi(x) + x phi(x), with phi the normal density and Phi its integral.

    The approximation is 0.5 x (1 + tanh u) = x sigmoid(2 u) with
    u = sqrt(2 / pi) (x + 0.044715 x^3).
    """

    formula = (
        "x * sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))"
        " if approximate == 'tanh' else "
        "x * normal_cdf(x)"
    )

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

    formula = (
        "grad_output * (sigmoid(1.5957691216057308 * x * (1 + 0.044715 * (x * x)))"
        " + x * (sigmoid(1.5957691216057308 * x * (1 + 0.044715 * (x * x)))"
        " * sigmoid(-1.5957691216057308 * x * (1 + 0.044715 * (x * x))))"
        " * (1.5957691216057308 * (1 + 3 * 0.044715 * (x * x))))"
        " if approximate == 'tanh' else "
        "grad_output * gelu_slope(x)"
    )

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


class Silu(Elementwise):
    """x s with s = 1 / (1 + exp(-x)); d/dx = s (1 + x (1 - s))."""

    formula = "x * sigmoid(x)"

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return kernels.silu(x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return SiluBackward.apply(grad_output, x)


class SiluBackward(Elementwise):
    """g silu'(x); d/dg = silu'(x), d/dx = g s (1 - s) (2 + x (1 - 2 s))."""

    formula = "grad_output * (sigmoid(x) * (1 + x * (1 - sigmoid(x))))"

    @staticmethod
    def forward(ctx, grad_output, x):
        ctx.save_for_backward(grad_output, x)
        return kernels.silu_backward(grad_output, x)

    @staticmethod
    def backward(ctx, grad_output):
        g, x = ctx.saved_tensors
        need_g, need_x = ctx.needs_input_grad
        grad_x = None
        if need_x:
            s = sigmoid(x)
            grad_x = grad_output * g * (s * (1.0 - s) * (2.0 + x * (1.0 - 2.0 * s)))
        return SiluBackward.apply(grad_output, x) if need_g else None, grad_x


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """input * sigmoid(input), also called swish.

    Source: S. Elfwing, E. Uchibe and K. Doya, "Sigmoid-weighted linear units for neural
    network function approximation in reinforcement learning", 2017, arXiv:1702.03118.

    Args:
        input: any shape, floating point.
        inplace: write the result into ``input``.

    Raises:
        RuntimeError: if the input is not floating point.

    >>> silu(nano.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.2689,  0.0000,  0.7311])
    """
    require_floating("silu", input)
    if inplace:
        return write_in_place("silu_", input, Silu, input)
    return Silu.apply(input)


class LeakyRelu(Elementwise):
    """x where x > 0, else s x; d/dx = 1 where x > 0, else s."""

    formula = "where(x > 0, x, x * negative_slope)"

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

    formula = "where(x > 0, grad_output, grad_output * negative_slope)"

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
    """x m with m = 0 with probability p and 1 / (1 - p) else; d/dx = m.

    One m is drawn for each element or, if ``channels`` is set, for each (n, c).
    """

    random = True

    @staticmethod
    def forward(ctx, x, *, p, generator, channels=False):
        shape = (*x.shape[:2], *([1] * (x.ndim - 2))) if channels else x.shape
        mask = kernels.dropout_mask(generator.numpy, shape, p, x.dtype)
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


def _channel_dropout(owner: str, input: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
    """Dropout of whole channels of an input (n, c, *)."""
    if not training or p == 0:
        return input
    require_floating(owner, input)
    options = {"p": p, "generator": default_generator, "channels": True}
    if inplace:
        return write_in_place(f"{owner}_", input, Dropout, input, **options)
    return Dropout.apply(input, **options)


def dropout1d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """:func:`dropout` of whole channels of sequences, (n, c, l) or (c, l).

    Source: J. Tompson et al., "Efficient object localization using convolutional networks",
    CVPR 2015, arXiv:1411.4280.

    Args:
        input: (n, c, l) or (c, l), floating point.
        p, training, inplace: as of :func:`dropout`.

    Raises:
        RuntimeError: for another number of dimensions.
        ValueError: if ``p`` is not between 0 and 1.

    >>> sorted(map(tuple, dropout1d(nano.ones(1, 50, 2))[0].tolist()))[::49]
    [(0.0, 0.0), (2.0, 2.0)]
    """
    check_probability("dropout1d", p)
    if check_tensor("dropout1d", input).ndim not in (2, 3):
        raise ShapeError(
            "dropout1d",
            f"expected 2-d or 3-d input, (n, c, l) or (c, l), got shape {input.shape}.",
            hint="Use dropout() for single elements.",
        )
    if input.ndim == 3 or not training:
        return _channel_dropout("dropout1d", input, p, training, inplace)
    result = _channel_dropout("dropout1d", input.unsqueeze(0), p, training, inplace)
    return input if inplace else result.squeeze(0)


def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """:func:`dropout` of whole channels of images, (n, c, h, w).

    As in PyTorch, a 3-d input is taken as (n, c, l), with a warning.

    Source: J. Tompson et al., "Efficient object localization using convolutional networks",
    CVPR 2015, arXiv:1411.4280.

    Args:
        input: (n, c, h, w), floating point.
        p, training, inplace: as of :func:`dropout`.

    Raises:
        RuntimeError: for an input of less than two dimensions.
        ValueError: if ``p`` is not between 0 and 1.

    >>> sorted(set(dropout2d(nano.ones(1, 100, 2, 2)).amax((0, 2, 3)).tolist()))
    [0.0, 2.0]
    """
    check_probability("dropout2d", p)
    ndim = check_tensor("dropout2d", input).ndim
    if ndim < 2:
        raise ShapeError(
            "dropout2d", f"input must have at least 2 dimensions (n, c, *), got {input.shape}."
        )
    if ndim == 3:
        warnings.warn(
            "dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D "
            "dropout behavior is desired: input is interpreted as shape (N, C, L). "
            "Use dropout1d for it.",
            stacklevel=2,
        )
    elif ndim != 4:
        warnings.warn(
            f"dropout2d: Received a {ndim}-D input to dropout2d, which is deprecated and will "
            "result in an error in a future release. To drop single elements use dropout().",
            stacklevel=2,
        )
    return _channel_dropout("dropout2d", input, p, training, inplace)


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
