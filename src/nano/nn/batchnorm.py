"""Batch normalisation as layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.grad_mode import no_grad
from ..dtypes import float64, get_default_dtype, to_dtype
from ..errors import InputError
from ..functions.batch_norm import batch_norm
from ..tensor import Tensor, wrap
from . import init
from .module import Module
from .parameter import Parameter

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"]


class _BatchNorm(Module):
    """What the layers for all numbers of dimensions share."""

    #: The numbers of dimensions that the input may have.
    _ndims: tuple[int, ...] = ()

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        d = (get_default_dtype() if dtype is None else to_dtype(dtype)).numpy

        def channels() -> Tensor:
            return wrap(np.empty(num_features, d))

        self.register_parameter("weight", Parameter(channels()) if affine else None)
        self.register_parameter("bias", Parameter(channels()) if affine and bias else None)
        self.register_buffer("running_mean", channels() if track_running_stats else None)
        self.register_buffer("running_var", channels() if track_running_stats else None)
        self.register_buffer(
            "num_batches_tracked",
            wrap(np.zeros((), np.int64)) if track_running_stats else None,
        )
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget the running statistics: mean 0, variance 1, no batch seen."""
        with no_grad():
            for buffer, value in (
                (self.running_mean, 0),
                (self.running_var, 1),
                (self.num_batches_tracked, 0),
            ):
                if buffer is not None:
                    buffer.fill_(value)

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, and :meth:`reset_running_stats`."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(
        self, input: Tensor, residual: Tensor | None = None, activation: str | None = None
    ) -> Tensor:
        """act(norm(input) + residual); the output has the input's shape."""
        if input.ndim not in self._ndims:
            wanted = " or ".join(f"{n}D" for n in self._ndims)
            raise InputError(
                type(self).__name__, f"expected {wanted} input (got {input.ndim}D input)."
            )
        momentum, seen = self.momentum, self.num_batches_tracked
        if momentum is None:  # the plain mean of all batches
            # A tensor, so that a compiled program computes it anew.
            momentum = 0.0 if seen is None else 1.0 / (seen + 1).to(float64)
        tracked = not self.training or self.track_running_stats
        output = batch_norm(
            input,
            self.running_mean if tracked else None,
            self.running_var if tracked else None,
            self.weight,
            self.bias,
            self.training or (self.running_mean is None and self.running_var is None),
            momentum,
            self.eps,
            residual=residual,
            activation=activation,
        )
        if self.training and self.track_running_stats and seen is not None:
            seen.add_(1)
        return output

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm2d(_BatchNorm):
    """y = act((x - mean) / sqrt(var + eps) weight + bias + residual), for images.

    In training mean and variance are those of each channel over the batch, and running
    ones are kept: running = (1 - momentum) running + momentum new. In evaluation the
    running ones are used.

    Source: S. Ioffe and C. Szegedy, "Batch normalization: accelerating deep network training
    by reducing internal covariate shift", ICML 2015, arXiv:1502.03167.

    Args:
        num_features: how many channels the input has.
        eps: added to the variance.
        momentum: weight of the new statistics; None for the mean of all batches.
        affine: whether there are a weight (from 1) and a bias (from 0).
        track_running_stats: whether running statistics are kept; if not, those of the
            batch are used in evaluation too.
        device: only ``"cpu"``.
        dtype: of parameters and statistics; the default dtype if left out.
        bias: whether there is a bias.

    Shapes: input and output (n, num_features, h, w). ``forward(input, residual, activation)``
    adds a tensor of the same shape, and applies ``"relu"``, in the same pass: nano's own.

    Raises:
        ValueError: for another number of dimensions, or one value a channel in training.

    >>> layer = nano.nn.BatchNorm2d(3)
    >>> layer(nano.ones(2, 3, 4, 4), activation="relu").shape
    (2, 3, 4, 4)
    >>> layer.running_mean
    tensor([0.1000, 0.1000, 0.1000])
    """

    _ndims = (4,)


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (n, num_features) or (n, num_features, l); see :class:`BatchNorm2d`.

    >>> nano.nn.BatchNorm1d(2, affine=False)(nano.tensor([[1.0, 0.0], [3.0, 4.0]]))
    tensor([[-1.0000, -1.0000],
            [ 1.0000,  1.0000]])
    """

    _ndims = (2, 3)


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of (n, num_features, d, h, w); see :class:`BatchNorm2d`.

    >>> nano.nn.BatchNorm3d(1).eval()(nano.ones(1, 1, 2, 1, 1)).shape
    (1, 1, 2, 1, 1)
    """

    _ndims = (5,)
