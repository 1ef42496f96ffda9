"""Convolutions of small bfloat16 images beside the reference, and their transposes."""

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
_SAME = (_ONE, (_ONE, _ONE), _ONE, 1)
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def _random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32).astype(_BFLOAT16)


def _images(n, c, h, w, seed=0):
    return _random(n, h, w, c, seed=seed).transpose(0, 3, 1, 2)


def _tiles(name, *args):
    """As for larger arrays, which the reference would take long for."""
    from nano.backends.fused import amx_images

    return getattr(amx_images, name)(*args)


def _exact(name, x, weight, bias, *how):
    x, weight = x.astype(np.float32), weight.astype(np.float32)
    with use("reference"):
        return getattr(kernels, name)(x, weight, bias, *how)


def _assert_close(ours, exact):
    """Half of the last of 8 bits, and of the largest, float32 sums of up to 5,000 products."""
    assert ours.dtype == _BFLOAT16
    assert ours.shape == exact.shape
    np.testing.assert_allclose(
        ours.astype(np.float32), exact, rtol=2**-8, atol=2e-6 * np.abs(exact).max()
    )


_PAIR = st.tuples(st.integers(1, 2), st.integers(1, 2))


@settings(max_examples=60, deadline=None)
@given(
    n=st.sampled_from([1, 17, 32, 50]),
    channels=st.sampled_from([(32, 32), (64, 96), (128, 32)]),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=_PAIR,
    dilation=_PAIR,
    padding=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
    threads=st.sampled_from([1, 2, 5]),
    with_bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_it_is_the_convolution_and_its_transpose(
    n, channels, size, kernel, stride, dilation, padding, threads, with_bias, seed
):
    o, c = channels
    result = tuple(
        (m + sum(p) - d * (k - 1) - 1) // s + 1
        for m, k, s, d, p in zip(size, kernel, stride, dilation, padding, strict=True)
    )
    assume(min(result) >= 1)
    weight, how = _random(o, c, *kernel, seed=seed), (stride, padding, dilation, 1)
    before = nano.get_num_threads()
    nano.set_num_threads(threads)
    try:
        for name, inputs, outputs, *more in (("conv2d", c, o), ("conv_transpose2d", o, c, size)):
            x = _images(n, inputs, *(result if more else size), seed)
            bias = np.linspace(-1, 1, outputs, dtype=np.float32) if with_bias else None
            args = (name, x, weight, bias, *more, *how)
            _assert_close(_tiles(*args), _exact(*args))
    finally:
        nano.set_num_threads(before)


@pytest.mark.parametrize(
    ("n", "o", "c", "size", "kernel", "stride"),
    [(64, 256, 256, 4, 3, 1), (32, 512, 128, 8, 3, 2), (32, 512, 512, 7, 3, 1)],
)
def test_those_of_a_network_are_done_here(n, o, c, size, kernel, stride):
    small, pad = size // stride, kernel // 2
    weight = _random(o, c, kernel, kernel)
    how = ((stride, stride), ((pad, pad), (pad, pad)), _ONE, 1)
    for name, x, *more in (
        ("conv2d", _images(n, c, size, size)),
        ("conv_transpose2d", _images(n, o, small, small), (size, size)),
    ):
        args = (x, weight, None, *more, *how)
        assert explain(name, *args).startswith(f"{name}: fused runs")
        ours = getattr(kernels, name)(*args)
        assert ours.transpose(0, 2, 3, 1).flags.c_contiguous
        _assert_close(ours, _exact(name, *args))


def test_arrays_may_lie_in_any_way():
    x, weight = _images(32, 64, 4, 5), _random(64, 64, 3, 3)
    for layout in (
        np.ascontiguousarray,
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a[:, ::-1, :, ::-1],
        lambda a: np.broadcast_to(a[:1], a.shape),
    ):
        args = (layout(x), layout(weight), None)
        _assert_close(_tiles("conv2d", *args, *_SAME), _exact("conv2d", *args, *_SAME))
        how = (*args, (4, 5), *_SAME)
        _assert_close(_tiles("conv_transpose2d", *how), _exact("conv_transpose2d", *how))


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_where_it_belongs(odd):
    x, weight = _images(32, 32, 4, 4), _random(32, 32, 3, 3)
    x[3, 5, 0, 0] = odd
    ours, exact = (
        run("conv2d", x, weight, None, *_SAME).astype(np.float32) for run in (_tiles, _exact)
    )
    finite = np.isfinite(exact)
    assert finite[3, :, 2:].all()
    assert not finite[3, :, :2, :2].any()
    np.testing.assert_array_equal(ours[~finite], exact[~finite])
    _assert_close(np.where(finite, ours, 0).astype(_BFLOAT16), np.where(finite, exact, 0))


def test_a_weight_is_brought_to_tiles_anew_when_its_version_moves():
    from nano.storage import Storage

    x, weight, owner = _images(32, 32, 4, 4), _random(32, 32, 3, 3), Storage()

    def convolved(version):
        return _tiles("conv2d", x, weight, None, *_SAME, (owner, version))

    first = convolved(0)
    weight *= 2
    assert np.array_equal(convolved(0), first)  # nobody has said that it changed
    np.testing.assert_array_equal(convolved(1), 2 * first)


def test_what_does_not_pay_is_refused():
    x, weight = _images(32, 256, 4, 4), _random(256, 256, 3, 3)
    for a, b, groups in (
        (x[:, :48], weight[:, :48], 1),
        (x, weight[:, :64], 2),
        (x[:8], weight, 1),
        (x[:0], weight, 1),
        (x, weight[..., :1, :1], 1),
        (x, weight.astype(np.float32), 1),
        (x.repeat(5, -1), weight, 1),
    ):
        for name, size in (("conv2d", ()), ("conv_transpose2d", (a.shape[2:],))):
            said = explain(name, a, b, None, *size, _ONE, (_ONE, _ONE), _ONE, groups)
            assert "fused refuses: " in said
            assert "tiles (AMX)" in said


def test_without_tiles_others_serve(monkeypatch):
    args = (_images(32, 256, 4, 4), _random(256, 256, 3, 3), None, *_SAME)
    monkeypatch.setattr(suits_convolution, "multiplies_tiles", lambda: "there are none")
    assert "fused refuses: there are none" in explain("conv2d", *args)
    _assert_close(kernels.conv2d(*args), _exact("conv2d", *args))
