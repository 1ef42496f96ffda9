"""Data sets and the loader that makes batches of them."""

from .digits import Digits
from .loader import DataLoader, default_collate
from .mnist import MNIST, read_idx
from .pictures import read_digit
from .sets import Dataset, Subset, TensorDataset, random_split

__all__ = [
    "MNIST",
    "DataLoader",
    "Dataset",
    "Digits",
    "Subset",
    "TensorDataset",
    "default_collate",
    "random_split",
    "read_digit",
    "read_idx",
]
