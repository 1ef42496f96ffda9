"""Gradients of weights in tiles of bfloat16 beside the reference: sizes, paddings, infinities."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import nano
from nano.backends import explain, is_available, kernels, use
from nano.backends.fused import suits_convolution
from nano.backends.fused.processor import multiplies_tiles

pytestmark = pytest.mark.skipif(
    not is_available("fused") or multiplies_tiles() is not True, reason="needs Numba and AMX"
)

_ONE = (1, 1)
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def _images(n, c, h, w, seed=0):
    x = np.random.default_rng(seed).standard_normal((n, h, w, c), np.float32)
    return x.astype(_BFLOAT16).transpose(0, 3, 1, 2)


def _tiles(*args):
    """As for larger arrays, which the reference would take long for."""
    from nano.backends.fused import amx_weight

    return amx_weight.conv2d_weight(*args)


def _exact(grad, x, *how):
    with use("reference"):
        return kernels.conv2d_weight(grad.astype(np.float32), x.astype(np.float32), *how)


def _assert_close(ours, exact):
    """Half of the last of 8 bits, and of the largest, float32 sums of up to 10,000 products."""
    assert ours.dtype == _BFLOAT16
    assert ours.shape == exact.shape
    assert ours.flags.c_contiguous
    np.testing.assert_allclose(
        ours.astype(np.float32), exact, rtol=2**-8, atol=2e-6 * np.abs(exact).max()
    )


_PAIR = st.tuples(st.integers(1, 2), st.integers(1, 2))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 9),
    channels=st.sampled_from([(32, 32), (64, 96), (128, 32)]),
    size=st.tuples(st.integers(1, 12), st.integers(1, 40)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=_PAIR,
    dilation=_PAIR,
    padding=st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2),
    threads=st.sampled_from([1, 2, 5]),
    seed=st.integers(0, 99),
)
def test_it_is_the_gradient(n, channels, size, kernel, stride, dilation, padding, threads, seed):
    o, c = channels
    result = [
        (m + sum(p) - d * (k - 1) - 1) // s + 1
        for m, k, s, d, p in zip(size, kernel, stride, dilation, padding, strict=True)
    ]
    assume(min(result) >= 1)
    args = (_images(n, o, *result, seed), _images(n, c, *size, seed + 1), kernel)
    how = (stride, padding, dilation, 1)
    before = nano.get_num_threads()
    nano.set_num_threads(threads)
    try:
        _assert_close(_tiles(*args, *how), _exact(*args, *how))
    finally:
        nano.set_num_threads(before)


@pytest.mark.parametrize("o", [32, 256])
@pytest.mark.parametrize("size", [(70, 64), (16, 200)])
def test_large_images_are_cut_into_strips(o, size):
    g, x = _images(2, o, *size), _images(2, 256, *size, 1)
    how = (_ONE, (_ONE, _ONE), _ONE, 1)
    _assert_close(_tiles(g, x, (3, 3), *how), _exact(g, x, (3, 3), *how))


@pytest.mark.parametrize(
    ("n", "o", "c", "size", "kernel", "stride"),
    [
        (16, 64, 64, 16, 3, 1),
        (16, 128, 64, 16, 3, 2),
        (128, 64, 128, 8, 1, 2),
        (64, 256, 256, 4, 3, 1),
    ],
)
def test_those_of_a_network_are_done_here(n, o, c, size, kernel, stride):
    x, g = _images(n, c, size, size), _images(n, o, size // stride, size // stride, 1)
    pad = kernel // 2
    args = (g, x, (kernel, kernel), (stride, stride), ((pad, pad), (pad, pad)), _ONE, 1)
    assert explain("conv2d_weight", *args).startswith("conv2d_weight: fused runs")
    _assert_close(kernels.conv2d_weight(*args), _exact(*args))


def test_arrays_may_lie_in_any_way():
    g, x, how = _images(8, 64, 8, 8), _images(8, 32, 8, 8, 1), (_ONE, (_ONE, _ONE), _ONE, 1)
    for layout in (
        np.ascontiguousarray,
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a[:, ::-1, :, ::-1],
        lambda a: np.broadcast_to(a[:1], a.shape),
    ):
        args = (layout(g), layout(x), (3, 3), *how)
        _assert_close(_tiles(*args), _exact(*args))


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("where", ["image", "gradient"])
@pytest.mark.parametrize("place", [(0, 0), (6, 6), (3, 6)])
def test_what_is_not_finite_stays_where_it_belongs(odd, where, place):
    """Also beside the last pixel of an odd number, and beside an image that is missing."""
    x, g, how = _images(5, 32, 7, 7), _images(5, 32, 7, 7, 1), (_ONE, (_ONE, _ONE), _ONE, 1)
    changed = x if where == "image" else g
    changed[4, 3, *place] = 0
    without = _exact(g, x, (3, 3), *how)
    changed[4, 3, *place] = odd
    ours, exact = _tiles(g, x, (3, 3), *how).astype(np.float32), _exact(g, x, (3, 3), *how)
    single = np.zeros_like(changed)
    single[4, 3, *place] = 1
    ones = np.ones_like(x)
    met = (
        _exact(ones, single, (3, 3), *how)
        if where == "image"
        else _exact(single, ones, (3, 3), *how)
    )
    met = met != 0
    np.testing.assert_array_equal(ours[met], exact[met])
    # An infinity times the padding's 0 is NaN to the reference; here, if they are multiplied.
    nan = np.isnan(ours)
    assert not nan[np.isfinite(exact)].any()
    rest = ~met & ~nan
    assert rest.any()
    _assert_close(np.where(rest, ours, 0).astype(_BFLOAT16), np.where(rest, without, 0))


@pytest.mark.parametrize("size", [16, 4])
def test_in_float32_the_sums_are_not_rounded(size):
    g, x = _images(16, 128, size, size), _images(16, 128, size, size, 1)
    args = (g, x, (3, 3), _ONE, (_ONE, _ONE), _ONE, 1, np.dtype(np.float32))
    assert explain("conv2d_weight", *args).startswith("conv2d_weight: fused runs")
    ours, exact = kernels.conv2d_weight(*args), _exact(*args)
    assert ours.dtype == np.float32
    # Float32 sums of up to 4,096 products in another order.
    np.testing.assert_allclose(ours, exact, rtol=0, atol=2e-6 * np.abs(exact).max())
    assert np.array_equal(ours.astype(_BFLOAT16), _tiles(*args[:-1]))


def test_the_sums_are_the_same_each_time():
    args = (
        _images(16, 64, 16, 16),
        _images(16, 64, 16, 16, 1),
        (3, 3),
        _ONE,
        (_ONE, _ONE),
        _ONE,
        1,
    )
    first = _tiles(*args)
    for _ in range(5):
        assert np.array_equal(_tiles(*args), first)


def test_what_does_not_pay_is_refused():
    g, x = _images(16, 64, 16, 16), _images(16, 64, 16, 16, 1)
    for a, b, kernel, groups in (
        (g, x[:, :48], (3, 3), 1),
        (g, x, (3, 3), 2),
        (g, x, (7, 7), 1),
        (g[:1], x[:1], (1, 1), 1),
        (g[:0], x[:0], (3, 3), 1),
        (g[:1].repeat(3, -1), x[:1].repeat(3, -1), (3, 3), 1),  # tiles for two images
        (g.astype(np.float32), x, (3, 3), 1),
    ):
        said = explain("conv2d_weight", a, b, kernel, _ONE, (_ONE, _ONE), _ONE, groups)
        assert "tiles (AMX)" in said
        assert "fused runs" not in said


def test_without_tiles_others_serve(monkeypatch):
    args = (_images(8, 64, 16, 16), _images(8, 64, 16, 16, 1), (3, 3), _ONE, (_ONE, _ONE), _ONE, 1)
    monkeypatch.setattr(suits_convolution, "multiplies_tiles", lambda: "there are none")
    assert "fused refuses: there are none" in explain("conv2d_weight", *args)
    _assert_close(kernels.conv2d_weight(*args), _exact(*args))
