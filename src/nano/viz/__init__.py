"""Pictures of what happens in training."""

from .confusion import confusion_matrix
from .curves import draw_curves

__all__ = ["confusion_matrix", "draw_curves"]
