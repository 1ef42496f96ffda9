"""Whole networks."""

from .alexnet import AlexNet, alexnet
from .lenet import LeNet, lenet
from .mlp import MLP
from .resnet import ResNet, resnet18, resnet20, resnet32, resnet34, resnet44, resnet56

__all__ = [
    "MLP",
    "AlexNet",
    "LeNet",
    "ResNet",
    "alexnet",
    "lenet",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet44",
    "resnet56",
]
