"""LeNet: the convolutional network that read cheques, with batch normalisation."""

from __future__ import annotations

from .. import nn
from ..nn import functional as F
from ..tensor import Tensor

__all__ = ["LeNet", "lenet"]


class LeNet(nn.Module):
    """Two convolutions with pooling, then three linear layers.

    Source: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to
    document recognition", Proceedings of the IEEE 86, 1998. As is usual today, with batch
    normalisation, ReLU and maxima in place of tanh and averages.

    Args:
        num_classes: size of the output.
        in_channels: 1 for grey images, 3 for colours.

    Shape: (n, in_channels, 28, 28) to (n, num_classes).

    >>> nano.models.lenet()(nano.zeros(2, 1, 28, 28)).shape
    (2, 10)
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 16, 5, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, input: Tensor) -> Tensor:
        """The scores of the classes."""
        x = self.bn1(self.conv1(input), activation="relu")
        x = F.max_pool2d(x, 2)
        x = self.bn2(self.conv2(x), activation="relu")
        x = F.max_pool2d(x, 2)
        x = x.flatten(1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


def lenet(num_classes: int = 10, in_channels: int = 1) -> LeNet:
    """A :class:`LeNet`.

    >>> sum(p.numel() for p in lenet().parameters())
    61728
    """
    return LeNet(num_classes, in_channels)
