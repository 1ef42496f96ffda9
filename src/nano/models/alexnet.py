"""AlexNet for small images, with batch normalisation."""

from __future__ import annotations

from .. import nn
from ..tensor import Tensor

__all__ = ["AlexNet", "alexnet"]


class AlexNet(nn.Module):
    """Five convolutions with pooling, then three linear layers with dropout.

    Source: A. Krizhevsky, I. Sutskever and G. E. Hinton, "ImageNet classification with deep
    convolutional neural networks", NIPS 2012. The channels are those of A. Krizhevsky, "One
    weird trick for parallelizing convolutional neural networks", 2014, arXiv:1404.5997; the
    kernels are 3x3 as images are 28x28 here and not 224x224, and batch normalisation stands
    in for local response normalisation.

    Args:
        num_classes: size of the output.
        in_channels: 1 for grey images, 3 for colours.
        dropout: probability in training, before the first two linear layers.

    Shape: (n, in_channels, 28, 28) to (n, num_classes).

    >>> nano.models.alexnet()(nano.zeros(2, 1, 28, 28)).shape
    (2, 10)
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_block(in_channels, 64),
            nn.MaxPool2d(2),
            *_block(64, 192),
            nn.MaxPool2d(2),
            *_block(192, 384),
            *_block(384, 256),
            *_block(256, 256),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 3 * 3, 1024),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(1024, 512),
            nn.ReLU(),
            nn.Linear(512, num_classes),
        )

    def forward(self, input: Tensor) -> Tensor:
        """The scores of the classes."""
        return self.classifier(self.features(input).flatten(1))


def _block(channels_in: int, channels_out: int) -> list[nn.Module]:
    """A convolution that keeps the size, normalised; Sequential does the last two in one pass."""
    return [
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    ]


def alexnet(num_classes: int = 10, in_channels: int = 1, dropout: float = 0.5) -> AlexNet:
    """An :class:`AlexNet`.

    >>> len(alexnet().features)
    18
    """
    return AlexNet(num_classes, in_channels, dropout)
