"""Training: the Trainer, its callbacks, and what it writes."""

from .callbacks import Callback, OneCycle
from .interrupts import Interrupts, Stopped
from .metrics import accuracy, confusion_counts
from .progress import Progress
from .trainer import Trainer

__all__ = [
    "Callback",
    "Interrupts",
    "OneCycle",
    "Progress",
    "Stopped",
    "Trainer",
    "accuracy",
    "confusion_counts",
]
