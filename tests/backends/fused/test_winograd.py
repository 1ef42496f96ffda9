"""Winograd's convolutions beside the reference: sizes, paddings, layouts, infinities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nano
from nano.backends import explain, is_available, kernels, use

pytestmark = pytest.mark.skipif(
    not (is_available("fused") and is_available("onednn")), reason="needs Numba and oneDNN"
)

_ONE = (1, 1)
#: Of the largest result. Numbers are larger in the basis, and cancel again on the way back.
#: Measured over ResNet-18's and AlexNet's shapes, for images after ReLU and with a mean of 10:
#: up to 2.9e-6; PyTorch's direct sums, up to 3.4e-6.
_TOLERANCE = 5e-6


def _operands(n, c, o, h, w, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, h, w, c), np.float32).transpose(0, 3, 1, 2)
    return x, rng.standard_normal((o, c, 3, 3), np.float32)


def _assert_close(ours, exact):
    assert ours.shape == exact.shape
    np.testing.assert_allclose(ours, exact, rtol=0, atol=_TOLERANCE * np.abs(exact).max())


def _fused(name, *args):
    assert explain(name, *args).startswith(f"{name}: fused runs")
    return getattr(kernels, name)(*args)


def _reference(name, *args):
    with use("reference"):
        return getattr(kernels, name)(*args)


@settings(max_examples=20, deadline=None)
@given(
    images=st.sampled_from(
        [
            *((32, 64, 192), (32, 128, 64), (32, 97, 131), (32, 256, 64)),
            *((256, 16, 16), (96, 16, 48), (64, 32, 32), (64, 64, 16), (32, 64, 64)),
        ]
    ),
    size=st.tuples(st.integers(7, 13), st.integers(7, 13)),
    top=st.integers(0, 2),
    left=st.integers(0, 2),
    bottom=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_it_is_the_convolution_and_its_transposes(images, size, top, left, bottom, seed):
    n, c, o = images
    x, w = _operands(n, c, o, *size, seed)
    bias = np.linspace(-1, 1, o, dtype=np.float32)
    how = (_ONE, ((top, bottom), (left, 1)), _ONE, 1)
    exact = _reference("conv2d", x, w, bias, *how)
    if _fits(exact.shape[2:]):
        _assert_close(_fused("conv2d", x, w, bias, *how), exact)
    g = np.ascontiguousarray(exact)  # row by row: it is brought to channels-last
    if _fits(size):
        args = (g, w, None, size, *how)
        _assert_close(_fused("conv_transpose2d", *args), _reference("conv_transpose2d", *args))
    if _fits(g.shape[2:]):
        args = (g, x, (3, 3), *how)
        _assert_close(_fused("conv2d_weight", *args), _reference("conv2d_weight", *args))


@pytest.mark.parametrize(("c", "size"), [(16, (30, 530)), (64, (4, 256)), (128, (8, 1050))])
def test_wide_images_are_cut_and_threads_may_share_the_outputs(c, size):
    x, w = _operands(1, c, c, *size, 0)
    how = (_ONE, ((1, 1), (1, 1)), _ONE, 1)
    threads = nano.get_num_threads()
    nano.set_num_threads(5)
    try:
        for name, args in (("conv2d", (x, w, None, *how)), ("conv2d_weight", (x, x, (3, 3), *how))):
            _assert_close(_fused(name, *args), _reference(name, *args))
    finally:
        nano.set_num_threads(threads)


@pytest.mark.parametrize("wide", [200, 300])
def test_padding_may_be_wider_than_the_strips_that_images_are_cut_into(wide):
    x, w = _operands(1, 64, 64, 8, 8, 0)
    args = (x, w, None, _ONE, (_ONE, (wide, wide)), _ONE, 1)
    _assert_close(_fused("conv2d", *args), _reference("conv2d", *args))


def _fits(size):
    """Whether 10 of the 16 pixels of a tile are in the image."""
    return np.prod(size) >= 10 * np.prod([-(-n // 4) for n in size])


@pytest.mark.parametrize("mean", [0, 10])
@pytest.mark.parametrize(
    ("n", "c", "o", "size"),
    [
        *((64, 64, 64, 32), (64, 128, 192, 14), (64, 512, 256, 4)),
        *((128, 16, 16, 32), (128, 32, 32, 16), (128, 64, 64, 8)),
    ],
)
def test_the_error_is_a_few_roundings(n, c, o, size, mean):
    x, w = _operands(n, c, o, size, size, 0)
    g, _ = _operands(n, o, 1, size, size, 1)
    x += mean
    g += mean / 10
    how = (_ONE, ((1, 1), (1, 1)), _ONE, 1)
    few = slice(0, 64, 16)
    for name, args, some in (
        ("conv2d", (x, w, None, *how), (few, slice(4))),
        ("conv_transpose2d", (g, w, None, (size, size), *how), (few, slice(4))),
        ("conv2d_weight", (g, x, (3, 3), *how), (slice(4), slice(4))),
    ):
        ours, exact = _fused(name, *args), _in_float64(name, args, some)
        _assert_close(ours[some], exact)


def _in_float64(name, args, some):
    """The images (or outputs) and channels ``some`` of the result."""
    a, b, *how = args
    images, channels = some
    if name == "conv2d":
        a, b = a[images], b[channels]
    elif name == "conv_transpose2d":
        a, b = a[images], b[:, channels]
    else:
        a, b = a[:, images], b[:, channels]
    return _reference(name, a.astype(np.float64), b.astype(np.float64), *how)


def test_arrays_may_lie_in_any_way():
    x, _ = _operands(64, 64, 64, 8, 9, 0)
    every_second, channels_first = np.repeat(x, 2, axis=0)[::2], np.ascontiguousarray(x)
    one = np.broadcast_to(np.float32(1), (64, 64, 8, 9))
    for a in (every_second, channels_first, x[:, ::-1]):
        args = (one, a, (3, 3), _ONE, ((1, 1), (1, 1)), _ONE, 1)
        _assert_close(_fused("conv2d_weight", *args), _reference("conv2d_weight", *args))


@pytest.mark.parametrize("channels", [(64, 128), (64, 64)])
@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan, 3e38])
def test_what_is_not_finite_stays_where_it_belongs(odd, channels):
    x, w = _operands(32, *channels, 8, 8, 0)
    x[3, 5, 2, 2] = odd
    args = (x, w, None, _ONE, ((1, 1), (1, 1)), _ONE, 1)
    ours, exact = _fused("conv2d", *args), _reference("conv2d", *args)
    assert np.array_equal(np.isfinite(ours), np.isfinite(exact))
    assert np.array_equal(np.isnan(ours), np.isnan(exact))
    others = np.arange(32) != 3
    _assert_close(ours[others], exact[others])


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan, 3e38])
@pytest.mark.parametrize("where", ["image", "gradient"])
@pytest.mark.parametrize("o", [64, 128])
def test_one_channel_that_is_not_finite_leaves_the_others_alone(odd, where, o):
    x, _ = _operands(32, 64, 1, 8, 8, 0)
    g, _ = _operands(32, o, 1, 8, 8, 1)
    (x if where == "image" else g)[3, 5, 2, 2] = odd
    args = (g, x, (3, 3), _ONE, ((1, 1), (1, 1)), _ONE, 1)
    ours, exact = _fused("conv2d_weight", *args), _reference("conv2d_weight", *args)
    assert np.array_equal(np.isfinite(ours), np.isfinite(exact))
    assert np.array_equal(np.isnan(ours), np.isnan(exact))
    finite = np.isfinite(exact).all((0, 2, 3) if where == "image" else (1, 2, 3))
    _assert_close(
        *(a[:, finite] if where == "image" else a[finite] for a in (ours, exact)),
    )


def test_strides_and_small_work_are_refused():
    x, w = _operands(32, 64, 128, 8, 8, 0)
    padding = ((1, 1), (1, 1))
    for a, b, stride in (
        (x, w, (2, 2)),
        (x[:1], w, _ONE),
        (x[:0], w, _ONE),
        (x[:, :32], w[:, :32], _ONE),
        (x[:4], w, _ONE),
        (x[:, :24], w[:, :24], _ONE),
        (x.astype(np.float64), w.astype(np.float64), _ONE),
    ):
        assert _is_refused("conv2d", a, b, None, stride, padding, _ONE, 1)
        g = np.empty((len(a), 128, 8 // stride[0], 8 // stride[0]), a.dtype)
        assert _is_refused("conv2d_weight", g, a, (3, 3), stride, padding, _ONE, 1)
    # Tiles of 4x4 pixels would be mostly outside.
    tiny = np.ones((256, 64, 2, 2), np.float32)
    assert _is_refused("conv2d", tiny, w, None, _ONE, padding, _ONE, 1)
    assert _is_refused("conv2d_weight", tiny, tiny, (3, 3), _ONE, padding, _ONE, 1)


def _is_refused(name, *args):
    said = explain(name, *args)
    return "Winograd" in said and "fused runs" not in said


@pytest.mark.parametrize("relu", [None, ("relu",)])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("o", [64, 128])
def test_what_follows(relu, added, scaled, o):
    x, w = _operands(32, 64, o, 8, 11, 0)
    rng = np.random.default_rng(1)
    bias, scale = rng.standard_normal((2, o), np.float32)
    residual = rng.standard_normal((32, o, 8, 11), np.float32) if added else None
    args = (x, w, bias, scale if scaled else None, residual, relu, _ONE, (_ONE, _ONE), _ONE, 1)
    _assert_close(_fused("conv2d_epilogue", *args), _reference("conv2d_epilogue", *args))


@pytest.mark.parametrize("odd", [np.inf, np.nan])
def test_a_relu_of_what_is_not_finite(odd):
    x, w = _operands(32, 64, 128, 8, 8, 0)
    x[3, 5, 2, 2] = odd
    args = (x, w, None, None, None, ("relu",), _ONE, (_ONE, _ONE), _ONE, 1)
    ours, exact = (run("conv2d_epilogue", *args) for run in (_fused, _reference))
    others = np.arange(len(x)) != 3
    _assert_close(ours[others], exact[others])
    assert np.isnan(ours[3][np.isnan(exact[3])]).all()


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(
    ("n", "c", "o", "h", "w"),
    [(32, 64, 64, 8, 11), (32, 64, 128, 10, 8), (200, 16, 32, 13, 31), (1, 64, 256, 64, 64)],
)
def test_moments(n, c, o, h, w, biased):
    x, weight = _operands(n, c, o, h, w, 0)
    # A mean of up to some hundred deviations, of which the squares must not take the digits.
    bias = np.linspace(-100, 100, o, dtype=np.float32) if biased else None
    args = (x, weight, bias, _ONE, (_ONE, _ONE), _ONE, 1)
    y, mean, var = _fused("conv2d_moments", *args)
    assert np.array_equal(y, _fused("conv2d", *args))
    exact = y.astype(np.float64)
    # Sums of a block, of some hundred numbers, are in float32.
    deviation = exact.std((0, 2, 3))
    assert (np.abs(mean - exact.mean((0, 2, 3))) < 1e-6 * (np.abs(mean) + deviation)).all()
    np.testing.assert_allclose(var, deviation**2, rtol=2e-6)
    right, its_mean, its_var = _reference("conv2d_moments", *args)
    _assert_close(y, right)
    # As far apart as the results are.
    assert (np.abs(mean - its_mean) < 1e-5 * deviation + 1e-6 * np.abs(mean)).all()
    np.testing.assert_allclose(var, its_var, rtol=2e-5)


def test_moments_keep_their_digits_where_padding_makes_the_border_another():
    """The first pixel is then no number to take distances from: 4e-6 instead of 2e-7."""
    x, w = _operands(4, 16, 16, 112, 112, 0)
    y, mean, var = _fused("conv2d_moments", x + 100, w, None, _ONE, (_ONE, _ONE), _ONE, 1)
    exact = y.astype(np.float64)
    assert (np.abs(mean - exact.mean((0, 2, 3))) < 1e-6 * np.abs(mean)).all()
    np.testing.assert_allclose(var, exact.var((0, 2, 3)), rtol=1e-6)


def test_moments_of_what_is_not_finite():
    x, w = _operands(32, 64, 128, 8, 8, 0)
    w[5, 0, 0, 0] = np.nan
    args = (x, w, None, _ONE, (_ONE, _ONE), _ONE, 1)
    ours, exact = (run("conv2d_moments", *args) for run in (_fused, _reference))
    others = np.arange(128) != 5
    for a, b in zip(ours[1:], exact[1:], strict=True):
        assert np.isnan(a[5])
        _assert_close(a[others], b[others])


def test_moments_of_channels_that_fill_no_vector_are_refused():
    x, w = _operands(32, 64, 72, 8, 8, 0)
    args = (x, w, None, _ONE, (_ONE, _ONE), _ONE, 1)
    assert "whole vectors" in explain("conv2d_moments", *args)


def test_other_activations_are_refused():
    x, w = _operands(32, 64, 128, 8, 8, 0)
    args = (x, w, None, None, None, ("gelu",), _ONE, (_ONE, _ONE), _ONE, 1)
    assert "comes with a ReLU" in explain("conv2d_epilogue", *args)


def test_a_weight_is_transformed_anew_when_its_version_moves():
    from nano.storage import Storage

    x, w = _operands(32, 64, 128, 8, 8, 0)
    owner = Storage()

    def convolved(version):
        return kernels.conv2d(x, w, None, _ONE, (_ONE, _ONE), _ONE, 1, (owner, version))

    first = convolved(0)
    w *= 2
    assert np.array_equal(convolved(0), first)  # nobody has said that it changed
    np.testing.assert_array_equal(convolved(1), 2 * first)
