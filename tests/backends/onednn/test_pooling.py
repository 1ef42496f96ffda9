"""Pooling of oneDNN against the reference; its sums are of whole numbers and therefore exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nano.backends import candidates, explain, registry, unavailable
from nano.backends.onednn import pooling as onednn
from nano.backends.reference import pooling as reference

from .common import BFLOAT16, DTYPES, FLOAT32, is_channels_last, laid, layouts, needs_onednn, whole

pytestmark = needs_onednn

#: Of a quotient of two exact numbers: one unit in the last place.
TOLERANCE = {FLOAT32: 2e-7, BFLOAT16: 2**-7}


@st.composite
def geometries(draw):
    """(image, kernel, stride, padding, output) with the output's size rounded down or up."""
    kernel, stride, padding, size, output = [], [], [], [], []
    for _ in range(2):
        k, s = draw(st.integers(1, 4)), draw(st.integers(1, 4))
        p = draw(st.integers(0, k // 2))
        n = max(draw(st.integers(1, 12)), k - 2 * p)
        room = n + 2 * p - k
        o = room // s + 1
        if draw(st.booleans()) and room % s and o * s < n + p:
            o += 1  # a last window that is not full, as with ceil_mode
        for found, new in zip(
            (kernel, stride, padding, size, output), (k, s, p, n, o), strict=True
        ):
            found.append(new)
    image = (draw(st.integers(1, 3)), draw(st.sampled_from([1, 3, 16, 17])), *size)
    return (image, tuple(kernel), tuple(stride), tuple(padding), tuple(output))


@pytest.mark.parametrize("dtype", DTYPES)
@given(geometries(), layouts, st.booleans())
@settings(deadline=None, max_examples=80)
def test_means_and_their_gradient(dtype, geometry, layout, include):
    image, kernel, stride, padding, output = geometry
    x = laid(whole(1, image, dtype), layout)
    g = laid(whole(2, (*image[:2], *output), dtype), layout)
    forward = (kernel, stride, padding, output, include, None)
    backward = (image[2:], kernel, stride, padding, include, None)
    overhangs = any(
        (o - 1) * s - p + k > n + p
        for n, k, s, p, o in zip(image[2:], kernel, stride, padding, output, strict=True)
    )
    taken = not (include and overhangs)
    assert (onednn.accepts_avg_pool2d(x, *forward) is True) == taken
    assert (onednn.accepts_avg_pool2d_backward(g, *backward) is True) == taken
    if not taken:
        return
    y = onednn.avg_pool2d(x, *forward)
    assert y.dtype == dtype
    assert is_channels_last(y)
    np.testing.assert_allclose(
        y.astype(float), reference.avg_pool2d(x.astype(float), *forward), rtol=TOLERANCE[dtype]
    )
    dx = onednn.avg_pool2d_backward(g, *backward)
    assert dx.dtype == dtype
    assert dx.shape == image
    wanted = reference.avg_pool2d_backward(g.astype(float), *backward)
    # Up to 16 quotients of size 3, which may cancel.
    tolerance = 16 * TOLERANCE[dtype]
    np.testing.assert_allclose(dx.astype(float), wanted, rtol=tolerance, atol=3 * tolerance)


@given(geometries(), layouts)
@settings(deadline=None, max_examples=80)
def test_gradient_of_maxima(geometry, layout):
    image, kernel, stride, padding, output = geometry
    x = whole(1, image)  # with ties
    _, places = reference.max_pool2d(x, kernel, stride, padding, (1, 1), output)
    g = laid(whole(2, places.shape), layout)
    rest = (image[2:], kernel, stride, padding, (1, 1))
    assert onednn.accepts_max_pool2d_backward(g, laid(places, layout), *rest) is True
    dx = onednn.max_pool2d_backward(g, laid(places, layout), *rest)
    assert is_channels_last(dx)
    np.testing.assert_array_equal(dx, reference.max_pool2d_backward(g, places, *rest))


def test_gradient_of_maxima_of_windows_of_more_than_256():
    x = whole(1, (2, 3, 20, 20))
    rest = ((17, 17), (3, 3), (1, 1), (1, 1))
    _, places = reference.max_pool2d(x, *rest, (2, 2))
    assert places.dtype == np.int32
    g = whole(2, places.shape)
    dx = onednn.max_pool2d_backward(g, places, (20, 20), *rest)
    np.testing.assert_array_equal(dx, reference.max_pool2d_backward(g, places, (20, 20), *rest))


def test_means_of_special_values():
    x = np.ones((1, 1, 4, 4), FLOAT32)
    x[0, 0, 0, 0], x[0, 0, 3, 3] = np.nan, np.inf
    y = onednn.avg_pool2d(x, (2, 2), (2, 2), (0, 0), (2, 2), True, None)
    np.testing.assert_array_equal(y[0, 0], [[np.nan, 1], [1, np.inf]])


def test_divisor():
    x = whole(1, (1, 4, 6, 6))
    how = ((2, 2), (2, 2), (0, 0), (3, 3), True)
    assert "size of the window" in onednn.accepts_avg_pool2d(x, *how, 3)
    np.testing.assert_array_equal(
        onednn.avg_pool2d(x, *how, 4), reference.avg_pool2d(x, *how, None)
    )


def test_maxima_are_not_taken():
    """oneDNN passes over NaN, and PyTorch does not."""
    assert "onednn" not in {c.backend for c in candidates("max_pool2d")}


def test_numba_comes_first():
    """And oneDNN takes its place where Numba is missing."""
    x = np.ones((2, 16, 64, 64), FLOAT32)
    how = ((2, 2), (2, 2), (0, 0), (32, 32), True, None)
    before = dict(registry._unavailable), dict(registry._available)
    try:
        unavailable("fused", "not there")
        assert explain("avg_pool2d", x, *how).startswith("avg_pool2d: onednn runs")
    finally:
        for now, then in zip((registry._unavailable, registry._available), before, strict=True):
            now.clear()
            now.update(then)
        registry._choose_anew()
    order = [c.backend for c in candidates("avg_pool2d")]
    if "fused" in order:
        assert order.index("fused") < order.index("onednn") < order.index("reference")
