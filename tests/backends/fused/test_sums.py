"""Sums over all but the channels beside sums in float64."""

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("numba")

from nano.backends import explain, kernels
from nano.backends.fused.sums import sum as channel_sum

from ...functions.harness import odd_layouts

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@pytest.mark.parametrize("dtype", [np.float32, BFLOAT16])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(
    "shape", [(20000, 1), (3001, 6), (2000, 64), (40, 1000), (3, 20000), (1, 20000), (90000, 10)]
)
def test_rows(shape, keepdims, dtype):
    x = (np.random.default_rng(0).standard_normal(shape) + 0.5).astype(dtype)
    y = channel_sum(x, (0,), keepdims)
    wanted = x.astype(np.float64).sum(0, keepdims=keepdims)
    assert y.dtype == dtype
    assert y.shape == wanted.shape
    # float32: up to 64 additions in a row of numbers about 1, whose errors mostly cancel.
    scale = np.abs(x.astype(np.float64)).sum(0, keepdims=keepdims)
    error = np.abs(y.astype(np.float64) - wanted)
    assert (error <= scale * (1e-6 if dtype == np.float32 else 4e-3)).all()


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("channels", [6, 64])
def test_channels_last_images(channels, keepdims):
    x = np.random.default_rng(0).integers(-8, 9, (5, 34, 35, channels)).astype(np.float32)
    x = x.transpose(0, 3, 1, 2)
    assert "fused runs" in explain("sum", x, (0, 2, 3), keepdims)
    # Whole numbers: both sums are exact.
    y = kernels.sum(x, (0, 2, 3), keepdims)
    np.testing.assert_array_equal(y, x.astype(np.float64).sum((0, 2, 3), keepdims=keepdims))


def test_infinities_and_nan():
    x = np.ones((5000, 4), np.float32)
    x[7, 1], x[8, 2], x[9, 3], x[10, 3] = np.nan, np.inf, np.inf, -np.inf
    np.testing.assert_array_equal(channel_sum(x, (0,), False), [5000, np.nan, np.inf, np.nan])


def test_what_is_left_to_the_reference():
    x = np.ones((2000, 100), np.float32)
    assert "reference runs" in explain("sum", x[:200], (0,), False)
    assert "fused runs" in explain("sum", x, (0,), False)
    for array in odd_layouts(x):
        assert "reference runs" in explain("sum", array, (0,), False)
    for axis in (None, (1,), (0, 1)):
        assert "reference runs" in explain("sum", x, axis, False)
    assert "reference runs" in explain("sum", np.ones((9, 8, 20, 20), "f4"), (0, 2, 3), False)
    assert "reference runs" in explain("sum", x.astype(np.float64), (0,), False)
