"""Dropout."""

from __future__ import annotations

from ..functions.activation import check_probability, dropout, dropout1d, dropout2d
from ..tensor import Tensor
from .module import Module

__all__ = ["Dropout", "Dropout1d", "Dropout2d"]


class Dropout(Module):
    """In training, set each element to 0 with probability p and scale the others by 1 / (1 - p).

    In evaluation it changes nothing. The draws come from nano's default generator.

    Source: N. Srivastava et al., "Dropout: a simple way to prevent neural networks
    from overfitting", JMLR 15, 2014.

    Args:
        p: the probability.
        inplace: write the result into the input.

    Raises:
        ValueError: if ``p`` is not between 0 and 1.

    >>> nano.nn.Dropout(0.5).eval()(nano.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        check_probability(type(self).__name__, p)
        self.p = p
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Any shape; the output has the same."""
        return dropout(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout1d(Dropout):
    """:class:`Dropout` of whole channels of sequences, (n, c, l) or (c, l).

    Source: J. Tompson et al., "Efficient object localization using convolutional networks",
    CVPR 2015, arXiv:1411.4280.

    >>> nano.nn.Dropout1d().eval()(nano.ones(1, 2, 2)).shape
    (1, 2, 2)
    """

    def forward(self, input: Tensor) -> Tensor:
        """(n, c, l) or (c, l); the output has the same shape."""
        return dropout1d(input, self.p, self.training, self.inplace)


class Dropout2d(Dropout):
    """:class:`Dropout` of whole channels of images, (n, c, h, w).

    Source: J. Tompson et al., "Efficient object localization using convolutional networks",
    CVPR 2015, arXiv:1411.4280.

    >>> nano.nn.Dropout2d().eval()(nano.ones(1, 2, 2, 2)).shape
    (1, 2, 2, 2)
    """

    def forward(self, input: Tensor) -> Tensor:
        """(n, c, h, w); the output has the same shape."""
        return dropout2d(input, self.p, self.training, self.inplace)
