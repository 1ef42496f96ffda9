"""The multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from .. import nn
from ..errors import InputError

__all__ = ["MLP"]


class MLP(nn.Sequential):
    """Linear layers with an activation between them: x -> W2 f(W1 x + b1) + b2.

    The input is flattened first, so that images can be given as they are.

    Args:
        sizes: features of the input, of each hidden layer, and of the output.
        activation: makes the layer between two linear ones; called once for each.

    Shape: (n, ...) of sizes[0] elements each to (n, sizes[-1]).

    Raises:
        ValueError: for fewer than two sizes.

    >>> nano.models.MLP([784, 256, 10])(nano.zeros(5, 1, 28, 28)).shape
    (5, 10)
    """

    def __init__(self, sizes: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU) -> None:
        if len(sizes) < 2:
            raise InputError("MLP", f"expected at least two sizes, got {list(sizes)}.")
        layers: list[nn.Module] = [nn.Flatten(), nn.Linear(sizes[0], sizes[1])]
        for features_in, features_out in pairwise(sizes[1:]):
            layers += [activation(), nn.Linear(features_in, features_out)]
        super().__init__(*layers)
        self.sizes = tuple(sizes)
