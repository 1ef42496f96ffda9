"""Comparing a compiled kernel with the reference kernel."""

import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
#: float32: sums are done in another order, and exp is another polynomial. bfloat16: both
#: sides compute in float32 and round once, to neighbours at most.
TOLERANCE = {np.dtype(np.float32): 1e-5, BFLOAT16: 2**-7}


def same(found, wanted, dtype=None, scale=1.0, floor=1e-30):
    """Equal within ``scale`` times the dtype's tolerance of the largest finite value, or ``floor``.

    NaN and infinities stand at the same places. A tuple is compared item by item.
    """
    if isinstance(wanted, tuple):
        assert len(found) == len(wanted)
        for f, w in zip(found, wanted, strict=True):
            same(f, w, dtype, scale, floor)
        return
    if wanted is None:
        assert found is None
        return
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    tolerance = scale * TOLERANCE[np.dtype(dtype or wanted.dtype)]
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(found[~finite], wanted[~finite])
    largest = np.abs(wanted[finite]).max(initial=floor)
    np.testing.assert_allclose(
        found[finite] / largest, wanted[finite] / largest, rtol=tolerance, atol=tolerance
    )
