"""Residual networks: for CIFAR-10 (20 to 56 layers), and of ImageNet's widths (18, 34)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import nn
from ..errors import InputError
from ..nn import functional as F
from ..tensor import Tensor

__all__ = [
    "BasicBlock",
    "ResNet",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet44",
    "resnet56",
]


class BasicBlock(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)).

    Args:
        channels_in, channels_out: of the block.
        stride: of its first convolution.
        projection: how the shortcut changes the shape, where it must: True for a 1x1
            convolution with batch normalisation, False for every ``stride``-th pixel with
            zeros in the new channels (option A of the paper, which has no weights).
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.stride = stride
        self.new_channels = channels_out - channels_in
        self.downsample: nn.Sequential | None = None
        if projection and (stride != 1 or self.new_channels):
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, input: Tensor) -> Tensor:
        """The block's output, (n, channels_out, h / stride, w / stride)."""
        shortcut = self.shortcut(input)
        x = self.bn1(self.conv1(input), activation="relu")
        return self.bn2(self.conv2(x), residual=shortcut, activation="relu")

    def shortcut(self, input: Tensor) -> Tensor:
        """The input in the shape of the output."""
        if self.downsample is not None:
            return self.downsample(input)
        if self.stride == 1 and not self.new_channels:
            return input
        before = self.new_channels // 2
        after = self.new_channels - before
        thinned = input[:, :, :: self.stride, :: self.stride]
        return F.pad(thinned, (0, 0, 0, 0, before, after))


class ResNet(nn.Module):
    """A stem, stages of residual blocks, the mean over the image, and a linear layer.

    Source: K. He, X. Zhang, S. Ren and J. Sun, "Deep residual learning for image
    recognition", CVPR 2016, arXiv:1512.03385. Weights of convolutions are drawn as K. He et
    al. 2015 propose (fan out, ReLU).

    Args:
        blocks: how many residual blocks each stage has; every stage but the first halves
            height and width.
        channels: of each stage.
        num_classes: size of the output.
        stem: ``"cifar"`` for a 3x3 convolution; ``"imagenet"`` for a 7x7 one of stride 2 and
            maxima of stride 2.
        projection: how shortcuts change shape, see :class:`BasicBlock`.
        in_channels: of the images.

    Shape: (n, in_channels, h, w) to (n, num_classes).

    Raises:
        ValueError: for another stem.

    >>> nano.models.ResNet([1, 1], [8, 16], 10)(nano.zeros(2, 3, 32, 32)).shape
    (2, 10)
    """

    def __init__(
        self,
        blocks: Sequence[int],
        channels: Sequence[int],
        num_classes: int,
        stem: str = "cifar",
        projection: bool = True,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if stem not in ("cifar", "imagenet"):
            raise InputError("ResNet", f'stem must be "cifar" or "imagenet", got {stem!r}.')
        self.stem = stem
        width = channels[0]
        if stem == "cifar":
            self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        else:
            self.conv1 = nn.Conv2d(in_channels, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.stages = len(blocks)
        for i, (count, channels_out) in enumerate(zip(blocks, channels, strict=True)):
            stage = []
            for j in range(count):
                stride = 2 if i and not j else 1
                stage.append(BasicBlock(width, channels_out, stride, projection))
                width = channels_out
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, input: Tensor) -> Tensor:
        """The scores of the classes."""
        x = self.bn1(self.conv1(input), activation="relu")
        if self.stem == "imagenet":
            x = F.max_pool2d(x, 3, 2, padding=1)
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(self.avgpool(x).flatten(1))


def _cifar(layers: int, num_classes: int, **options: Any) -> ResNet:
    """The paper's form for CIFAR-10: 6 n + 2 layers of 16, 32 and 64 channels, option A."""
    count = (layers - 2) // 6
    return ResNet([count] * 3, [16, 32, 64], num_classes, projection=False, **options)


def resnet20(num_classes: int = 10, **options: Any) -> ResNet:
    """ResNet of 20 layers for CIFAR-10; ``options`` are those of :class:`ResNet`.

    >>> sum(p.numel() for p in resnet20().parameters())
    269722
    """
    return _cifar(20, num_classes, **options)


def resnet32(num_classes: int = 10, **options: Any) -> ResNet:
    """ResNet of 32 layers for CIFAR-10.

    >>> sum(p.numel() for p in resnet32().parameters())
    464154
    """
    return _cifar(32, num_classes, **options)


def resnet44(num_classes: int = 10, **options: Any) -> ResNet:
    """ResNet of 44 layers for CIFAR-10.

    >>> sum(p.numel() for p in resnet44().parameters())
    658586
    """
    return _cifar(44, num_classes, **options)


def resnet56(num_classes: int = 10, **options: Any) -> ResNet:
    """ResNet of 56 layers for CIFAR-10.

    >>> sum(p.numel() for p in resnet56().parameters())
    853018
    """
    return _cifar(56, num_classes, **options)


def resnet18(num_classes: int = 1000, stem: str = "imagenet", **options: Any) -> ResNet:
    """ResNet of 18 layers and 64 to 512 channels, with torchvision's names of weights.

    >>> sum(p.numel() for p in resnet18().parameters())
    11689512
    """
    return ResNet([2, 2, 2, 2], [64, 128, 256, 512], num_classes, stem, **options)


def resnet34(num_classes: int = 1000, stem: str = "imagenet", **options: Any) -> ResNet:
    """ResNet of 34 layers and 64 to 512 channels, with torchvision's names of weights.

    >>> sum(p.numel() for p in resnet34().parameters())
    21797672
    """
    return ResNet([3, 4, 6, 3], [64, 128, 256, 512], num_classes, stem, **options)
