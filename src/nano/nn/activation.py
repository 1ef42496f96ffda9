"""Activations as modules."""

from __future__ import annotations

from ..functions import activation as functions
from ..functions import unary
from ..functions.softmax import log_softmax, softmax
from ..tensor import Tensor
from .module import Module

__all__ = ["GELU", "LeakyReLU", "LogSoftmax", "ReLU", "SiLU", "Sigmoid", "Softmax", "Tanh"]


class ReLU(Module):
    """max(x, 0).

    Source: V. Nair and G. E. Hinton, "Rectified linear units improve restricted
    Boltzmann machines", ICML 2010.

    >>> nano.nn.ReLU()(nano.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Any shape; the output has the same."""
        if self.inplace:
            return input.relu_()
        return unary.relu(input)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class LeakyReLU(Module):
    """x where x > 0, else negative_slope x.

    Source: A. L. Maas, A. Y. Hannun and A. Y. Ng, "Rectifier nonlinearities improve
    neural network acoustic models", ICML 2013.

    >>> nano.nn.LeakyReLU(0.1)(nano.tensor([-1.0, 2.0]))
    tensor([-0.1000,  2.0000])
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, input: Tensor) -> Tensor:
        """Any shape; the output has the same."""
        return functions.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class Sigmoid(Module):
    """The logistic function 1 / (1 + exp(-x)).

    >>> nano.nn.Sigmoid()(nano.tensor([0.0, 2.0]))
    tensor([0.5000, 0.8808])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape; the output has the same."""
        return unary.sigmoid(input)


class Tanh(Module):
    """The hyperbolic tangent.

    >>> nano.nn.Tanh()(nano.tensor([0.0, 1.0]))
    tensor([0.0000, 0.7616])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape; the output has the same."""
        return unary.tanh(input)


class GELU(Module):
    """x Phi(x), with Phi the distribution function of the standard normal distribution.

    Source: D. Hendrycks and K. Gimpel, "Gaussian error linear units (GELUs)", 2016,
    arXiv:1606.08415.

    Args:
        approximate: ``"none"``, or ``"tanh"`` for the paper's approximation.

    >>> nano.nn.GELU()(nano.tensor([-1.0, 1.0]))
    tensor([-0.1587,  0.8413])
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        """Any shape; the output has the same."""
        return functions.gelu(input, approximate=self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x / (1 + exp(-x)), also called swish.

    Source: S. Elfwing, E. Uchibe and K. Doya, "Sigmoid-weighted linear units for neural
    network function approximation in reinforcement learning", 2017, arXiv:1702.03118.

    >>> nano.nn.SiLU()(nano.tensor([-1.0, 1.0]))
    tensor([-0.2689,  0.7311])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Any shape; the output has the same."""
        return functions.silu(input, self.inplace)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class Softmax(Module):
    """exp(x_i) / sum_j exp(x_j) along ``dim``.

    Source: J. S. Bridle, "Probabilistic interpretation of feedforward classification
    network outputs", Neurocomputing, 1990.

    >>> nano.nn.Softmax(dim=0)(nano.tensor([0.0, 0.0]))
    tensor([0.5000, 0.5000])
    """

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """Any shape; the output has the same."""
        return softmax(input, functions.implicit_dim("Softmax", input, self.dim))

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """log(exp(x_i) / sum_j exp(x_j)) along ``dim``: what NLLLoss takes.

    >>> nano.nn.LogSoftmax(dim=0)(nano.tensor([0.0, 0.0]))
    tensor([-0.6931, -0.6931])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape; the output has the same."""
        return log_softmax(input, functions.implicit_dim("LogSoftmax", input, self.dim))
