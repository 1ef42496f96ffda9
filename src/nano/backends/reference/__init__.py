"""The kernels in plain NumPy: their specification, and what runs where nothing faster does.

Each takes and returns arrays and knows nothing of tensors or derivatives. The
dtypes have been made equal by the operator that calls.
"""

from . import (
    activation,
    elementwise,
    linalg,
    losses,
    movement,
    normalise,
    optimizers,
    reduction,
    scatter,
)

__all__ = [
    "activation",
    "elementwise",
    "linalg",
    "losses",
    "movement",
    "normalise",
    "optimizers",
    "reduction",
    "scatter",
]
