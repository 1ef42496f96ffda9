"""Direct convolutions of few channels beside the reference: sizes, paddings, infinities."""

from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nano.backends import explain, is_available, kernels, use

pytestmark = pytest.mark.skipif(not is_available("fused"), reason="needs Numba")

_ONE = (1, 1)
#: Of the largest result: float32 sums of up to 60,000 products in blocks, measured 5e-7.
_TOLERANCE = 2e-6
_NO_PADDING = ((0, 0), (0, 0))


def _images(n, c, h, w, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, h, w, c), np.float32).transpose(0, 3, 1, 2)


def _weight(o, c, kh, kw):
    return np.random.default_rng(1).standard_normal((o, c, kh, kw), np.float32)


def _fused(name, *args):
    assert explain(name, *args).startswith(f"{name}: fused runs")
    return getattr(kernels, name)(*args)


def _direct(name, *args):
    """As for larger arrays, which the reference would take long for."""
    return getattr(import_module("nano.backends.fused.direct"), name)(*args)


def _reference(name, *args):
    with use("reference"):
        return getattr(kernels, name)(*args)


def _assert_close(ours, exact):
    assert ours.shape == exact.shape
    np.testing.assert_allclose(ours, exact, rtol=0, atol=_TOLERANCE * np.abs(exact).max())


def _compare(name, *args):
    _assert_close(_fused(name, *args), _reference(name, *args))


#: Outputs, channels, kernel: pixels that share vectors, one and several vectors in a row of
#: sums, windows cut into blocks that overlap.


def _slow(*shape):
    """Each shape of a weight is compiled by itself, for some seconds."""
    return pytest.param(*shape, marks=pytest.mark.slow)


_FORWARD = [
    (6, 1, (5, 5)),
    (1, 20, (4, 2)),
    (96, 1, (2, 3)),
    _slow(16, 6, (5, 5)),
    _slow(40, 1, (3, 1)),
]
_BACKWARD = [(16, 6, (5, 5)), (3, 12, (2, 7)), _slow(7, 1, (3, 2)), _slow(5, 19, (1, 3))]
_SIZES = st.sampled_from([(8, 26), (11, 10), (5, 7)])  # few, as code is compiled for widths
_PADDING = st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2)


def _input_size(size, kernel, padding):
    return tuple(n + k - 1 - sum(p) for n, k, p in zip(size, kernel, padding, strict=True))


@pytest.mark.parametrize(("o", "c", "kernel"), _FORWARD)
@settings(max_examples=8, deadline=None)
@given(
    images=st.integers(1, 4),
    size=_SIZES,
    padding=_PADDING,
    with_bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_it_is_the_convolution_and_its_weights_gradient(
    o, c, kernel, images, size, padding, with_bias, seed
):
    x, weight = (
        _images(images, c, *_input_size(size, kernel, padding), seed),
        _weight(o, c, *kernel),
    )
    g = np.random.default_rng(seed).standard_normal((images, o, *size), np.float32)
    bias = np.linspace(-1, 1, o, dtype=np.float32) if with_bias else None
    for name, args in (
        ("conv2d", (x, weight, bias, _ONE, padding, _ONE, 1)),
        ("conv2d_weight", (g, x, kernel, _ONE, padding, _ONE, 1)),
    ):
        _assert_close(_direct(name, *args), _reference(name, *args))


@pytest.mark.parametrize(("o", "c", "kernel"), _BACKWARD)
@settings(max_examples=8, deadline=None)
@given(
    images=st.integers(1, 4),
    size=_SIZES,
    padding=_PADDING,
    with_bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_it_is_the_transpose(o, c, kernel, images, size, padding, with_bias, seed):
    g, weight = _images(images, o, *size, seed), _weight(o, c, *kernel)
    bias = np.linspace(-1, 1, c, dtype=np.float32) if with_bias else None
    result = _input_size(size, kernel, padding)
    args = (g, weight, bias, result, _ONE, padding, _ONE, 1)
    _assert_close(_direct("conv_transpose2d", *args), _reference("conv_transpose2d", *args))


def test_arrays_may_lie_in_any_way():
    x, weight = _images(64, 2, 20, 22), _weight(6, 2, 5, 5)
    g = _images(64, 6, 16, 18)
    how = (_ONE, _NO_PADDING, _ONE, 1)
    for layout in (
        lambda a: np.repeat(a, 2, axis=0)[::2],
        np.ascontiguousarray,
        lambda a: a[:, ::-1],
        lambda a: a[:, :, :, ::-1],
        lambda a: np.broadcast_to(a[:1], a.shape),
    ):
        _compare("conv2d", layout(x), layout(weight), None, *how)
        _compare("conv_transpose2d", layout(g), layout(weight), None, (20, 22), *how)
        _compare("conv2d_weight", layout(g), layout(x), (5, 5), *how)


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [(0, 0), (9, 9), (9, 10), (27, 27)])
def test_what_is_not_finite_stays_where_it_belongs(odd, place):
    x, weight, g = _images(64, 1, 28, 28), _weight(6, 1, 5, 5), _images(64, 6, 24, 24)
    x[3, 0, *place] = odd
    g[5, 2, *[max(i - 4, 0) for i in place]] = odd
    how = (_ONE, _NO_PADDING, _ONE, 1)
    finite_x = np.where(np.isfinite(x), x, 0)
    for name, args in (
        ("conv2d", (x, weight, None, *how)),
        ("conv_transpose2d", (g, weight, None, (28, 28), *how)),
        ("conv2d_weight", (g, finite_x, (5, 5), *how)),
        ("conv2d_weight", (_images(64, 6, 24, 24), x, (5, 5), *how)),
    ):
        ours, exact = _fused(name, *args), _reference(name, *args)
        assert np.array_equal(np.isnan(ours), np.isnan(exact))
        finite = np.isfinite(exact)
        assert np.array_equal(ours[~finite], exact[~finite], equal_nan=True)
        assert name == "conv2d_weight" or finite.any()
        if finite.any():
            _assert_close(ours[finite], exact[finite])


def test_weights_that_are_not_finite_stay_where_they_belong():
    x, weight = np.abs(_images(64, 1, 28, 28)), _weight(6, 1, 5, 5)
    weight[2, 0, 1, 1] = np.inf
    y = _fused("conv2d", x, weight, None, _ONE, _NO_PADDING, _ONE, 1)
    assert np.isposinf(y[:, 2]).all()
    assert np.isfinite(np.delete(y, 2, axis=1)).all()


def test_the_sums_are_the_same_each_time():
    x, g = _images(128, 1, 28, 28), _images(128, 6, 24, 24)
    args = (g, x, (5, 5), _ONE, _NO_PADDING, _ONE, 1)
    first = _fused("conv2d_weight", *args)
    for _ in range(5):
        assert np.array_equal(_fused("conv2d_weight", *args), first)


def test_a_single_channel_is_for_the_way_forward():
    x, weight, how = _images(64, 1, 28, 27), _weight(64, 1, 3, 3), (_ONE, _NO_PADDING, _ONE, 1)
    _compare("conv2d", x, weight, None, *how)
    g = _images(64, 64, 26, 25)
    said = explain("conv2d_weight", g, x, (3, 3), *how)
    assert "direct sums" in said
    assert "fused runs" not in said


def test_what_does_not_pay_is_refused():
    x, weight = _images(128, 1, 28, 28), _weight(6, 1, 5, 5)
    how = (_ONE, _NO_PADDING, _ONE, 1)
    for images, weights, (stride, padding, dilation, groups) in (
        (x[:0], weight, how),
        (x[:2], weight, how),
        (x[..., 1:], weight, how),  # an odd number of pixels cannot be paired
        (x.astype(np.float64), weight.astype(np.float64), how),
        (x, _weight(16, 1, 5, 5), how),
        (x, _weight(6, 1, 5, 9), how),
        (x, weight, ((2, 2), _NO_PADDING, _ONE, 1)),
        (x, weight, (_ONE, _NO_PADDING, (2, 2), 1)),
        (np.repeat(x, 2, 1), weight, (_ONE, _NO_PADDING, _ONE, 2)),
    ):
        said = explain("conv2d", images, weights, None, stride, padding, dilation, groups)
        assert "direct sums" in said
        assert "fused runs" not in said
    g = _images(128, 16, 24, 24)
    said = explain("conv_transpose2d", g, _weight(16, 16, 5, 5), None, (28, 28), *how)
    assert "direct sums" in said
    assert "fused runs" not in said
