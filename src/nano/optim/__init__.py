"""Optimizers: what turns gradients into steps. Start at ``optimizer.py``."""

from . import lr_scheduler
from .adagrad import Adagrad
from .adam import Adam, AdamW
from .muon import Muon
from .optimizer import Optimizer
from .rmsprop import RMSprop
from .sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Muon", "Optimizer", "RMSprop", "lr_scheduler"]
