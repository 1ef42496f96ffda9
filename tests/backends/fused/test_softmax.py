"""Softmax and its logarithm beside the reference kernels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from nano.backends import explain, kernels
from nano.backends.fused import softmax as fused
from nano.backends.reference import normalise as reference

from .beside import BFLOAT16, same

DTYPES = [np.dtype(np.float32), BFLOAT16]


def compare(x, g, axis):
    for name in ("softmax", "log_softmax"):
        y = getattr(fused, name)(x, axis)
        same(y, getattr(reference, name)(x, axis))
        name += "_backward"
        # Differences of numbers of the gradient's size: where they cancel, its digits count.
        floor = float(np.abs(g).max(initial=0))
        found, wanted = (getattr(m, name)(g, y, axis) for m in (fused, reference))
        same(found, wanted, scale=4, floor=floor)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(1, 20), min_size=1, max_size=3).map(tuple),
    size=st.sampled_from([1.0, 30.0, 1e4]),
    dtype=st.sampled_from(DTYPES),
    data=st.data(),
)
def test_equals_the_reference(shape, size, dtype, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 100)))
    axis = data.draw(st.integers(0, len(shape) - 1))
    x = (rng.standard_normal(shape) * size).astype(dtype)
    compare(x, rng.standard_normal(shape).astype(dtype), axis)


@pytest.mark.parametrize("shape", [(2048, 65), (30, 5000)])
def test_on_all_threads(shape):
    rng = np.random.default_rng(0)
    x, g = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    compare(x, g, 1)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_special_values(name):
    x = np.random.default_rng(0).standard_normal((256, 64)).astype(np.float32)
    x[1, 5], x[2, 0], x[3, 63] = np.nan, np.inf, -np.inf
    x[4], x[5], x[6, :32] = -np.inf, np.nan, -np.inf
    x[7], x[7, 3] = -3e38, 3e38
    same(getattr(fused, name)(x, 1), getattr(reference, name)(x, 1))


def test_the_axis_must_lie_in_a_row():
    x = np.zeros((8, 10, 16, 16), np.float32)
    assert "row" in explain("softmax", x, 1)
    last = np.zeros((8, 16, 16, 10), np.float32).transpose(0, 3, 1, 2)
    assert "fused runs" in explain("softmax", last, 1)
    y = kernels.softmax(last, 1)
    assert y.strides == last.strides
    np.testing.assert_allclose(y, 0.1, rtol=1e-6)
