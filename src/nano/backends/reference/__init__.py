"""The kernels in plain NumPy: their specification, and what runs where nothing faster does.

Each takes and returns arrays and knows nothing of tensors or derivatives. The
dtypes have been made equal by the operator that calls.
"""

from . import (
    activation,
    attention,
    batch_norm,
    convolution,
    elementwise,
    embedding,
    epilogue,
    layer_norm,
    linalg,
    losses,
    movement,
    normalise,
    optimizers,
    pooling,
    reduction,
    scatter,
)

__all__ = [
    "activation",
    "attention",
    "batch_norm",
    "convolution",
    "elementwise",
    "embedding",
    "epilogue",
    "layer_norm",
    "linalg",
    "losses",
    "movement",
    "normalise",
    "optimizers",
    "pooling",
    "reduction",
    "scatter",
]
