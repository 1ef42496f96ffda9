"""Data sets and the loader that makes batches of them."""

from .cifar10 import CIFAR10
from .digits import Digits
from .loader import DataLoader, default_collate
from .mnist import MNIST, read_idx
from .pictures import read_digit, read_photograph
from .sets import Dataset, Subset, TensorDataset, random_split
from .transforms import (
    Compose,
    Cutout,
    Normalize,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
)
from .workers import WorkerInfo, get_worker_info

__all__ = [
    "CIFAR10",
    "MNIST",
    "Compose",
    "Cutout",
    "DataLoader",
    "Dataset",
    "Digits",
    "Normalize",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "Subset",
    "TensorDataset",
    "WorkerInfo",
    "default_collate",
    "get_worker_info",
    "random_split",
    "read_digit",
    "read_idx",
    "read_photograph",
]
