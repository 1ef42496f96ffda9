"""Layer normalisation beside the reference kernel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from nano.backends import explain
from nano.backends.fused import layer_norm as fused
from nano.backends.reference import layer_norm as reference

from .beside import BFLOAT16, same

DTYPES = [np.dtype(np.float32), BFLOAT16]
EPS = 1e-5


def compare(shape, axes, dtype, with_parameters=True, seed=0, order=np.ascontiguousarray):
    rng = np.random.default_rng(seed)
    x, g = (order(rng.standard_normal(shape).astype(dtype)) for _ in range(2))
    normalized = shape[len(shape) - axes :]
    weight, bias = (rng.standard_normal(normalized).astype(np.float32) for _ in range(2))
    if not with_parameters:
        weight = bias = None
    wanted = reference.layer_norm(x, weight, bias, axes, EPS)
    same(fused.layer_norm(x, weight, bias, axes, EPS), wanted, dtype, 10)
    args = (g, x, weight, *wanted[1:], axes)
    # Of few elements the variance may be next to nothing, and slopes large: hence 100.
    same(fused.layer_norm_backward(*args), reference.layer_norm_backward(*args), dtype, 100)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(1, 12), min_size=1, max_size=4).map(tuple),
    dtype=st.sampled_from(DTYPES),
    order=st.sampled_from([np.ascontiguousarray, np.asfortranarray]),
    with_parameters=st.booleans(),
    data=st.data(),
)
def test_equals_the_reference(shape, dtype, order, with_parameters, data):
    axes = data.draw(st.integers(1, len(shape)))
    shape = (*shape[:-1], shape[-1] + 7)
    compare(shape, axes, dtype, with_parameters, data.draw(st.integers(0, 100)), order)


@pytest.mark.parametrize("shape", [(2048, 128), (70, 4096), (3, 50000)])
def test_on_all_threads(shape):
    compare(shape, 1, np.dtype(np.float32))


def test_nan_and_infinity_spoil_their_row_alone():
    x = np.random.default_rng(0).standard_normal((256, 64)).astype(np.float32)
    x[3, 5], x[7, 9], x[8, 0] = np.nan, np.inf, -np.inf
    y, mean, rstd = fused.layer_norm(x, None, None, 1, EPS)
    wanted = reference.layer_norm(x, None, None, 1, EPS)
    same((y, mean, rstd), wanted)
    assert np.isnan(y[[3, 7, 8]]).all()


def test_very_long_rows_are_refused():
    x = np.zeros((2, 1 << 17), np.float32)
    assert "exactly" in explain("layer_norm", x, None, None, 1, EPS)
    assert "fused runs" in explain("layer_norm", x.reshape(-1, 512), None, None, 1, EPS)
