"""Arrays put into larger ones by loops, beside the reference kernels: to the bit."""

import numpy as np
import pytest

pytest.importorskip("numba")
from hypothesis import given, settings
from hypothesis import strategies as st

from nano.backends import explain, kernels
from nano.backends.fused import movement as fused
from nano.backends.fused.addresses import start_of
from nano.backends.fused.jit import kernel
from nano.backends.fused.vectors import LANES, load_some, store_some
from nano.backends.reference import movement as reference

from ...functions.harness import odd_layouts
from .beside import BFLOAT16

FLOAT32 = np.dtype(np.float32)


def drawn(shape, dtype, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape, np.float32)
    x.reshape(-1)[:3] = np.nan, np.inf, -0.0
    return x.astype(dtype)


def channels_last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def assert_same(found, wanted):
    assert found.dtype is wanted.dtype
    assert found.strides == wanted.strides
    bits = np.dtype(f"u{found.itemsize}")
    np.testing.assert_array_equal(found.view(bits), wanted.view(bits))


shapes = st.lists(st.integers(1, 20), min_size=1, max_size=4).filter(lambda s: np.prod(s) >= 3)


@settings(max_examples=60, deadline=None)
@given(shape=shapes, dtype=st.sampled_from([FLOAT32, BFLOAT16]), data=st.data())
def test_borders(shape, dtype, data):
    x = drawn(shape, dtype)
    widths = tuple(data.draw(st.tuples(st.integers(1 - n, 4), st.integers(0, 4))) for n in shape)
    for y in odd_layouts(x):
        assert_same(fused.pad_constant(y, widths, 1.5), reference.pad_constant(y, widths, 1.5))


@settings(max_examples=60, deadline=None)
@given(shape=shapes, dtype=st.sampled_from([FLOAT32, BFLOAT16]), data=st.data())
def test_parts(shape, dtype, data):
    values = drawn(shape, dtype)
    key, sizes = [], []
    for i, n in enumerate(shape):
        step = data.draw(st.integers(1, 3)) if i + 1 < len(shape) else 1
        first, rest = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
        key.append(slice(first, first + (n - 1) * step + 1, step))
        sizes.append(key[-1].stop + rest)
    key, sizes = (*key, ...), tuple(sizes)
    assert_same(fused.put_slice(sizes, key, values), reference.put_slice(sizes, key, values))


@kernel
def _copied(x, count, y):
    store_some(load_some(start_of(x), count, x[0]), start_of(y), count, y[0])


@pytest.mark.parametrize("count", [0, 5, LANES, LANES + 1, 1 << 31, 1 << 32, (1 << 32) + 3])
def test_parts_of_vectors(count):
    """Of arrays with more elements than 32 bits count, too."""
    x, y = np.arange(1, LANES + 1, dtype=np.float32), np.zeros(LANES, np.float32)
    _copied.serial(x, count, y)
    np.testing.assert_array_equal(y, np.where(np.arange(LANES) < count, x, 0))


def test_images_on_all_threads():
    x = channels_last(drawn((32, 16, 16, 16), FLOAT32))
    every, second = slice(None), slice(None, None, 2)
    widths = ((0, 0), (8, 8), (0, 0), (0, 0))
    put = (32, 16, 32, 32), (every, every, second, second, ...), x
    assert "fused runs" in explain("pad_constant", x, widths, 0)
    assert "fused runs" in explain("put_slice", *put)
    assert_same(kernels.pad_constant(x, widths, 0), reference.pad_constant(x, widths, 0))
    assert_same(kernels.put_slice(*put), reference.put_slice(*put))
    seen = x[:, :, ::2, ::2]
    assert_same(fused.pad_constant(seen, widths, 0), reference.pad_constant(seen, widths, 0))


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ((3, ...), "more than slices"),
        ((slice(None, None, -1), ...), "more than slices"),
        ((..., slice(None, None, 2)), "side by side"),
    ],
)
def test_what_is_left_to_numpy(key, reason):
    shape = (512, 512)
    values = np.zeros(np.zeros(shape)[key].shape, np.float32)
    assert reason in explain("put_slice", shape, key, values)
    assert_same(kernels.put_slice(shape, key, values), reference.put_slice(shape, key, values))
