"""nano's networks in plain PyTorch, as its users write them, with the same names of weights.

They are what nano's are timed beside, and what ``tests/models`` compares them with: a
state dict of one side fits the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """``nano.models.MLP``."""
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(sizes[0], sizes[1])]
    for features_in, features_out in pairwise(sizes[1:]):
        layers += [nn.ReLU(), nn.Linear(features_in, features_out)]
    return nn.Sequential(*layers)


class LeNet(nn.Module):
    """``nano.models.LeNet``."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 16, 5, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))


class AlexNet(nn.Module):
    """``nano.models.AlexNet``."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1, dropout: float = 0.5) -> None:
        super().__init__()

        def block(channels_in: int, channels_out: int) -> list[nn.Module]:
            return [
                nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels_out),
                nn.ReLU(inplace=True),
            ]

        self.features = nn.Sequential(
            *block(in_channels, 64),
            nn.MaxPool2d(2),
            *block(64, 192),
            nn.MaxPool2d(2),
            *block(192, 384),
            *block(384, 256),
            *block(256, 256),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 3 * 3, 1024),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(1024, 512),
            nn.ReLU(inplace=True),
            nn.Linear(512, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class BasicBlock(nn.Module):
    """torchvision's block; without ``projection``, the shortcut of the paper's option A."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.downsample: nn.Module | None = None
        changes = stride != 1 or channels_in != channels_out
        self.thinned = changes and not projection
        if changes and projection:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        if self.downsample is not None:
            identity = self.downsample(x)
        elif self.thinned:
            new = self.conv2.out_channels - self.conv1.in_channels
            identity = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, new // 2, new - new // 2))
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """``nano.models.ResNet``; for ImageNet's stem, torchvision's names and results."""

    def __init__(
        self,
        blocks: Sequence[int],
        channels: Sequence[int],
        num_classes: int,
        stem: str,
        projection: bool,
    ) -> None:
        super().__init__()
        width = channels[0]
        if stem == "cifar":
            self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        else:
            self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if stem == "cifar" else nn.MaxPool2d(3, 2, padding=1)
        stages = []
        for i, (count, channels_out) in enumerate(zip(blocks, channels, strict=True)):
            stage = []
            for j in range(count):
                stage.append(BasicBlock(width, channels_out, 2 if i and not j else 1, projection))
                width = channels_out
            stages.append(nn.Sequential(*stage))
            self.add_module(f"layer{i + 1}", stages[-1])
        self.stages = len(stages)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


def resnet20(num_classes: int = 10) -> ResNet:
    """``nano.models.resnet20``."""
    return ResNet([3, 3, 3], [16, 32, 64], num_classes, "cifar", projection=False)


def resnet18(num_classes: int = 1000, stem: str = "imagenet") -> ResNet:
    """``nano.models.resnet18``."""
    return ResNet([2, 2, 2, 2], [64, 128, 256, 512], num_classes, stem, projection=True)


lenet, alexnet = LeNet, AlexNet
