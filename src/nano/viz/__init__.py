"""Pictures of what happens in training."""

from .curves import draw_curves

__all__ = ["draw_curves"]
