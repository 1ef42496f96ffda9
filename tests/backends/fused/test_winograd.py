"""Winograd's convolutions beside the reference: sizes, paddings, layouts, infinities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nano.backends import explain, is_available, kernels, use

pytestmark = pytest.mark.skipif(
    not (is_available("fused") and is_available("onednn")), reason="needs Numba and oneDNN"
)

_ONE = (1, 1)
#: Of the largest result. The basis has sums of four inputs and four products where the
#: definition has one: the error is some units in the last place of float32 (6e-8) more.
_TOLERANCE = 5e-6


def _operands(n, c, o, h, w, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, h, w, c), np.float32).transpose(0, 3, 1, 2)
    return x, rng.standard_normal((o, c, 3, 3), np.float32)


def _assert_close(ours, exact):
    assert ours.shape == exact.shape
    np.testing.assert_allclose(ours, exact, rtol=0, atol=_TOLERANCE * np.abs(exact).max())


def _both(name, *args):
    assert explain(name, *args).startswith(f"{name}: fused runs")
    ours = getattr(kernels, name)(*args)
    with use("reference"):
        return ours, getattr(kernels, name)(*args)


@settings(max_examples=12, deadline=None)
@given(
    channels=st.sampled_from([(64, 128), (128, 64), (97, 131)]),
    size=st.tuples(st.integers(7, 12), st.integers(7, 12)),
    top=st.integers(0, 2),
    left=st.integers(0, 2),
    bottom=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_it_is_the_convolution_and_its_transpose(channels, size, top, left, bottom, seed):
    c, o = channels
    x, w = _operands(22, c, o, *size, seed)
    bias = np.linspace(-1, 1, o, dtype=np.float32)
    padding = ((top, bottom), (left, 1))
    ours, exact = _both("conv2d", x, w, bias, _ONE, padding, _ONE, 1, None)
    _assert_close(ours, exact)
    g = np.ascontiguousarray(exact)  # row by row: it is brought to channels-last
    if g.shape[2] * g.shape[3] * len(g) >= 1024:
        _assert_close(*_both("conv_transpose2d", g, w, None, size, _ONE, padding, _ONE, 1, None))


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan, 3e38])
def test_what_is_not_finite_stays_where_it_belongs(odd):
    x, w = _operands(16, 64, 128, 8, 8, 0)
    x[3, 5, 2, 2] = odd
    ours, exact = _both("conv2d", x, w, None, _ONE, ((1, 1), (1, 1)), _ONE, 1, None)
    assert np.array_equal(np.isfinite(ours), np.isfinite(exact))
    assert np.array_equal(np.isnan(ours), np.isnan(exact))
    others = np.arange(16) != 3
    _assert_close(ours[others], exact[others])


def test_strides_and_small_work_are_refused():
    x, w = _operands(16, 64, 128, 8, 8, 0)
    padding = ((1, 1), (1, 1))
    for args in (
        (x, w, None, (2, 2), padding, _ONE, 1, None),
        (x[:1], w, None, _ONE, padding, _ONE, 1, None),
        (x.astype(np.float64), w.astype(np.float64), None, _ONE, padding, _ONE, 1, None),
    ):
        assert "Winograd" in explain("conv2d", *args)
        assert "fused runs" not in explain("conv2d", *args)
