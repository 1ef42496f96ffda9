"""Conversion between float32 and bfloat16 beside NumPy's, bit by bit."""

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("numba")

import nano
from nano.backends import explain, kernels
from nano.backends.fused.convert import cast

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def test_every_bfloat16_number_becomes_float32_and_comes_back():
    x = np.arange(1 << 16, dtype=np.uint16).view(BFLOAT16)
    y = cast(x, np.float32)
    np.testing.assert_array_equal(y, x.astype(np.float32))
    back = cast(y, BFLOAT16)
    np.testing.assert_array_equal(back[~np.isnan(y)].view("u2"), x[~np.isnan(y)].view("u2"))
    assert np.isnan(back[np.isnan(y)].astype(np.float32)).all()


@pytest.mark.parametrize("size", [1 << 14, (1 << 17) + 3])
def test_rounding_is_to_nearest_even(size):
    bits = np.random.default_rng(0).integers(0, 1 << 32, size, np.uint32)
    bits[:1000] = (bits[:1000] & 0xFFFF0000) | 0x8000  # half way between two numbers
    bits[1000] = 0x7F7FFFFF  # the largest number becomes infinite
    bits[1001] = 0x7F800001  # a NaN that would become infinite if it were cut
    x = bits.view(np.float32)
    y, wanted = cast(x, BFLOAT16), x.astype(BFLOAT16)
    number = ~np.isnan(x)
    np.testing.assert_array_equal(y[number].view("u2"), wanted[number].view("u2"))
    assert np.isnan(y[~number].astype(np.float32)).all()


def test_memory_order_is_kept():
    x = np.random.default_rng(0).standard_normal((4, 9, 9, 32), np.float32).transpose(0, 3, 1, 2)
    for a in (x, x.transpose(1, 0, 2, 3)):
        y = kernels.cast(a, BFLOAT16)
        assert y.transpose(np.argsort([-s for s in a.strides])).flags.c_contiguous
        np.testing.assert_array_equal(y, a.astype(BFLOAT16))
    assert "fused runs" in explain("cast", x, BFLOAT16)


def test_other_dtypes_are_left_to_the_reference():
    x = np.zeros(5000, np.float32)
    for kind in (np.float64, np.int64, np.float16):
        assert "reference runs" in explain("cast", x, kind)
        assert kernels.cast(x, kind).dtype == kind
    assert "reference runs" in explain("cast", x[::2], BFLOAT16)


def test_tensors_are_converted_by_it():
    seen = []
    nano.backends.observe(lambda name, backend, a, k, run: (seen.append((name, backend)), run())[1])
    try:
        t = nano.ones(100, 100).bfloat16().float()
    finally:
        nano.backends.unobserve(nano.backends.registry._observers[-1])
    assert seen.count(("cast", "fused")) == 2
    assert t.dtype is nano.float32
