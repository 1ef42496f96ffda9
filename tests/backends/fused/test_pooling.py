"""The compiled pooling loops beside the reference kernels."""

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("numba")
from hypothesis import given, settings
from hypothesis import strategies as st

from nano.backends import explain, kernels, use
from nano.backends.fused import max_pooling
from nano.backends.fused import pooling as fused
from nano.backends.reference import pooling as reference

from ...functions.harness import odd_layouts

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT32 = np.dtype(np.float32)
DTYPES = st.sampled_from([FLOAT32, BFLOAT16])


def drawn(seed, shape, dtype, special=False):
    """Small whole numbers: with ties, and sums of them are exact in both dtypes."""
    rng = np.random.default_rng(seed)
    if special:
        return rng.choice([np.nan, -np.inf, -np.inf, np.inf, 0.0, 1.0], shape).astype(dtype)
    return rng.integers(-2, 3, shape).astype(dtype)


@st.composite
def windows(draw, dilated=True):
    """(input size, kernel, stride, padding, dilation, output size) as PyTorch allows them."""
    axes = []
    for _ in range(2):
        kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
        dilation = draw(st.integers(1, 2)) if dilated else 1
        padding = 0 if dilation > 1 else draw(st.integers(0, kernel // 2))
        reach = dilation * (kernel - 1) + 1
        size = draw(st.integers(max(1, reach - 2 * padding), 9))
        outputs = (size + 2 * padding - reach) // stride + 1
        if draw(st.booleans()) and outputs * stride < size + padding:  # ceil_mode
            outputs += 1
        axes.append((size, kernel, stride, padding, dilation, outputs))
    return tuple(zip(*axes, strict=True))


def layouts(x):
    """Channels-last first, which is what convolutions leave; then others."""
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    return [last, x, *odd_layouts(x)]


def same(a, b):
    """The arrays are equal; float32 holds all that occurs here, and NumPy knows its NaN."""
    np.testing.assert_array_equal(a.astype(np.float32), b.astype(np.float32))


channels = st.sampled_from([1, 3, 6, 16, 19])


@settings(max_examples=60, deadline=None)
@given(windows(), channels, DTYPES, st.booleans(), st.integers(0, 99))
def test_maximum(geometry, c, dtype, special, seed):
    size, *rest, outputs = geometry
    x = drawn(seed, (2, c, *size), dtype, special)
    wanted, wanted_places = reference.max_pool2d(x, *rest, outputs)
    for a in layouts(x):
        y, places = max_pooling.max_pool2d(a, *rest, outputs)
        assert (y.dtype, places.dtype) == (dtype, wanted_places.dtype)
        same(y, wanted)
        same(places, wanted_places)
        assert y.transpose(0, 2, 3, 1).flags.c_contiguous
        same(max_pooling.max_pool2d_gather(a, places, *rest), y)
    g = drawn(seed + 1, y.shape, dtype)
    dx = reference.max_pool2d_backward(g, wanted_places, size, *rest)
    for a in layouts(g):
        same(max_pooling.max_pool2d_backward(a, places, size, *rest), dx)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("c", [1, 2, 5, 8])
def test_neighbours_share_vectors(c, stride):
    # 16 windows of a channel are one vector: rows are longer than that, and not by whole vectors.
    x = drawn(stride, (2, 3, 53, c), FLOAT32)
    x[0, 0, ::7] = np.nan
    x = x.transpose(0, 3, 1, 2)
    geometry = ((2, 2), (stride, stride), (1, 1), (1, 1))
    outputs = tuple(-(-(n + 2 - 2) // stride) for n in x.shape[2:])  # the last beyond the image
    y, places = max_pooling.max_pool2d(x, *geometry, outputs)
    wanted, wanted_places = reference.max_pool2d(x, *geometry, outputs)
    same(y, wanted)
    same(places, wanted_places)
    g = drawn(4, y.shape, FLOAT32)
    dx = max_pooling.max_pool2d_backward(g, places, x.shape[2:], *geometry)
    same(dx, reference.max_pool2d_backward(g, places, x.shape[2:], *geometry))


@settings(max_examples=60, deadline=None)
@given(
    windows(dilated=False),
    channels,
    DTYPES,
    st.booleans(),
    st.sampled_from([None, 3, -2]),
    st.integers(0, 99),
)
def test_mean(geometry, c, dtype, count_padding, divisor, seed):
    size, kernel, stride, padding, _, outputs = geometry
    rest = (kernel, stride, padding)
    x = drawn(seed, (2, c, *size), dtype)
    wanted = reference.avg_pool2d(x, *rest, outputs, count_padding, divisor)
    # The divisions round: once in each of the two results, or once for each window.
    tolerance = {"rtol": 1e-6, "atol": 1e-6} if dtype == FLOAT32 else {"rtol": 1e-2, "atol": 1e-2}
    wide = np.float32
    for a in layouts(x):
        y = fused.avg_pool2d(a, *rest, outputs, count_padding, divisor)
        assert y.dtype == dtype
        np.testing.assert_allclose(y.astype(wide), wanted.astype(wide), **tolerance)
    g = drawn(seed + 1, wanted.shape, dtype)
    dx = reference.avg_pool2d_backward(g, size, *rest, count_padding, divisor)
    for a in layouts(g):
        got = fused.avg_pool2d_backward(a, size, *rest, count_padding, divisor)
        np.testing.assert_allclose(got.astype(wide), dx.astype(wide), **tolerance)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(1, 9)] * 2), st.tuples(*[st.integers(1, 11)] * 2), channels, DTYPES)
def test_adaptive_mean(size, outputs, c, dtype):
    x, g = drawn(0, (2, c, *size), dtype), drawn(1, (2, c, *outputs), dtype)
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == FLOAT32 else {"rtol": 1e-2, "atol": 1e-2}
    y, wanted = fused.adaptive_avg_pool2d(x, outputs), reference.adaptive_avg_pool2d(x, outputs)
    np.testing.assert_allclose(y.astype("f4"), wanted.astype("f4"), **tolerance)
    dx = fused.adaptive_avg_pool2d_backward(g, size)
    wanted = reference.adaptive_avg_pool2d_backward(g, size)
    np.testing.assert_allclose(dx.astype("f4"), wanted.astype("f4"), **tolerance)


@pytest.mark.parametrize("c", [6, 32])
@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16], ids=str)
def test_large_images_are_shared_by_the_threads(c, dtype):
    x = drawn(0, (16, 28, 28, c), dtype).transpose(0, 3, 1, 2)
    geometry = ((3, 3), (2, 2), (1, 1), (1, 1))
    assert "fused runs" in explain("max_pool2d", x, *geometry, (14, 14))
    y, places = kernels.max_pool2d(x, *geometry, (14, 14))
    dx = kernels.max_pool2d_backward(y, places, (28, 28), *geometry)
    z = kernels.max_pool2d_gather(x, places, *geometry)
    mean = kernels.adaptive_avg_pool2d(x, (1, 1))
    with use("reference"):
        wanted, wanted_places = kernels.max_pool2d(x, *geometry, (14, 14))
        wanted_dx = kernels.max_pool2d_backward(y, places, (28, 28), *geometry)
        wanted_mean = kernels.adaptive_avg_pool2d(x, (1, 1))
    same(y, wanted)
    same(z, wanted)
    same(places, wanted_places)
    same(dx, wanted_dx)
    np.testing.assert_allclose(mean.astype("f4"), wanted_mean.astype("f4"), rtol=1e-2, atol=1e-6)


def test_places_of_large_windows_are_int32():
    x = drawn(0, (1, 2, 20, 20), FLOAT32)
    geometry = ((17, 17), (1, 1), (0, 0), (1, 1))
    y, places = max_pooling.max_pool2d(x, *geometry, (4, 4))
    _, wanted_places = reference.max_pool2d(x, *geometry, (4, 4))
    assert places.dtype == wanted_places.dtype == np.int32
    same(places, wanted_places)
    g = drawn(1, y.shape, FLOAT32)
    same(
        max_pooling.max_pool2d_backward(g, places, (20, 20), *geometry),
        reference.max_pool2d_backward(g, places, (20, 20), *geometry),
    )


def test_windows_beside_the_image_are_left_to_others():
    x = np.zeros((64, 64, 2, 2), np.float32)
    why = explain("max_pool2d", x, (2, 2), (1, 1), (1, 1), (3, 3), (1, 1))
    assert "fused refuses" in why
    y, _ = kernels.max_pool2d(x, (2, 2), (1, 1), (1, 1), (3, 3), (1, 1))
    assert np.isneginf(y).all()
