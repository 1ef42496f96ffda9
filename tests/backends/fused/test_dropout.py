"""Dropout's mask: the same numbers as the reference kernel's, for the same seed."""

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("numba")

from nano.backends import explain, kernels, use
from nano.backends.fused.dropout import dropout_mask


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(128, 129), (4, 64, 32, 33)])
def test_mask_equals_the_reference(shape, p, dtype):
    ours, theirs = np.random.default_rng(5), np.random.default_rng(5)
    mask = dropout_mask(ours, shape, p, np.dtype(dtype))
    with use("reference"):
        wanted = kernels.dropout_mask(theirs, shape, p, np.dtype(dtype))
    assert mask.dtype == wanted.dtype
    assert mask.shape == shape
    np.testing.assert_array_equal(mask, wanted)
    assert ours.random() == theirs.random()


def test_what_is_left_to_the_reference():
    generator, large = np.random.default_rng(0), (200, 100)
    assert "fused runs" in explain("dropout_mask", generator, large, 0.5, np.dtype("f4"))
    for arguments in [((2, 3), 0.5, np.dtype("f4")), (large, 1, np.dtype("f4"))]:
        assert "reference runs" in explain("dropout_mask", generator, *arguments)
    assert "reference runs" in explain("dropout_mask", generator, large, 0.5, np.dtype("f8"))
