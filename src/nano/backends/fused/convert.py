"""Conversion between float32 and bfloat16: which NumPy does one number at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .elementwise import flat
from .jit import kernel, prange
from .math import narrow, wide

__all__ = ["cast"]

_PARALLEL = 1 << 17


@kernel
def _cast(x, y):
    for i in prange(x.size):
        y[i] = narrow(wide(x[i]), y[i])


def cast(x: NDArray, dtype: Any) -> NDArray:
    """See the reference kernel. To bfloat16 it rounds to nearest even; NaN stays NaN."""
    y = np.empty_like(x, dtype)
    (_cast if x.size >= _PARALLEL else _cast.serial)(flat(x), flat(y))
    return y
