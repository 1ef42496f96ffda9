"""Dropout's mask. The numbers come from NumPy's generator, so they are the same everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .convert import cast
from .jit import kernel, prange

__all__ = ["dropout_mask"]

_PARALLEL = 1 << 17


@kernel
def _mask(numbers, p, scale):
    """In place: 0 where the number is below p, else the scale."""
    for i in prange(numbers.size):
        numbers[i] = scale if numbers[i] >= p else np.float32(0)


def dropout_mask(
    generator: np.random.Generator, shape: tuple[int, ...], p: float, dtype: Any
) -> NDArray:
    """See the reference kernel."""
    mask = generator.random(shape, np.float32)
    loop = _mask if mask.size >= _PARALLEL else _mask.serial
    loop(mask.reshape(-1), np.float32(p), np.float32(1 / (1 - p)))
    return mask if dtype == np.float32 else cast(mask, dtype)
