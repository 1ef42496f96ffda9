"""What the tests of the oneDNN kernels share: drawn arrays in drawn layouts."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import strategies as st

from nano.backends.onednn.library import UnavailableError, library

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT32 = np.dtype(np.float32)

try:
    LOADED = library()
    MISSING = ""
except UnavailableError as reason:
    LOADED, MISSING = None, str(reason)

needs_onednn = pytest.mark.skipif(LOADED is None, reason=f"oneDNN: {MISSING}")
needs_bfloat16 = pytest.mark.skipif(
    LOADED is None or not LOADED.has_bfloat16,
    reason="without bfloat16 instructions oneDNN is not asked",
)
#: One parameter a dtype that oneDNN computes in on this processor.
DTYPES = [
    pytest.param(FLOAT32, id="float32"),
    pytest.param(BFLOAT16, id="bfloat16", marks=needs_bfloat16),
]

LAYOUTS = ("c", "channels last", "column-major", "transposed", "reversed", "gaps", "row gaps")
layouts = st.sampled_from(LAYOUTS)


def whole(seed, shape, dtype=FLOAT32):
    """Small whole numbers: their products, and sums of up to a million, are exact in float32."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(dtype)


def laid(a, layout):
    """The same values in another memory layout."""
    if layout == "channels last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)
    if layout == "column-major":
        return np.asfortranarray(a)
    if layout == "transposed":
        return np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2)
    if layout == "reversed":
        backwards = tuple(slice(None, None, -1) for _ in a.shape)
        return np.ascontiguousarray(a[backwards])[backwards]
    if layout == "gaps":
        gaps = np.full(tuple(2 * n for n in a.shape), 77, a.dtype)
        every_other = tuple(slice(None, None, 2) for _ in a.shape)
        gaps[every_other] = a
        return gaps[every_other]
    if layout == "row gaps":
        wide = np.full((*a.shape[:-1], a.shape[-1] + 5), 77, a.dtype)
        wide[..., 2:-3] = a
        return wide[..., 2:-3]
    return a


def is_channels_last(a):
    return a.transpose(0, 2, 3, 1).flags.c_contiguous
