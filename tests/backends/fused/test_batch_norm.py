"""Batch normalisation beside the reference kernel: layouts, dtypes, special values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from nano.backends import explain, kernels, use
from nano.backends.fused import batch_norm as fused
from nano.backends.reference import batch_norm as reference

from .beside import BFLOAT16, same

DTYPES = [np.dtype(np.float32), BFLOAT16]
EPS = 1e-5


def channels_last(x):
    order = (0, *range(2, x.ndim), 1)
    return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))


def drawn(shape, dtype=np.float32, order=channels_last, seed=0):
    """Images with an offset, parameters, a residual and a gradient."""
    rng = np.random.default_rng(seed)
    x, residual, g = (order(rng.standard_normal(shape).astype(dtype)) for _ in range(3))
    x = order((x.astype(np.float32) * 2 + 3).astype(dtype))
    weight, bias = (rng.standard_normal(shape[1]).astype(np.float32) for _ in range(2))
    return x, weight, bias, residual, g


def settled(x, weight, bias, mean, var, g):
    """``g`` without what passes a ReLU or not by a rounding: arguments next to 0."""
    y = reference.batch_norm_inference(
        x.astype(np.float64), weight, bias, mean, var, EPS, None, None
    )
    return np.where(np.abs(y) < 1e-3, 0, g).astype(g.dtype)


def compare(x, weight, bias, residual, g, activation, scale=1.0):
    y, mean, var = fused.batch_norm(x, weight, bias, EPS, residual, activation)
    same((y, mean, var), reference.batch_norm(x, weight, bias, EPS, residual, activation), x.dtype,
         scale)  # fmt: skip
    args = (x, weight, bias, mean, var, EPS, residual, activation)
    same(fused.batch_norm_inference(*args), reference.batch_norm_inference(*args), x.dtype, scale)
    if activation and residual is None:
        g = settled(x, weight, bias, mean, var, g)
    for training in (True, False):
        args = (g, x, y, weight, bias, mean, var, EPS, activation, training, residual is not None)
        # Sums of terms of either sign: the error is that of the terms, of which two values a
        # channel leave nothing but rounding.
        terms = np.abs(g.astype(np.float64)).max() / np.sqrt(var.min() + EPS)
        same(fused.batch_norm_backward(*args), reference.batch_norm_backward(*args), x.dtype,
             4 * scale, terms / 100)  # fmt: skip
    return y


@settings(max_examples=40, deadline=None)
@given(
    shape=st.one_of(
        st.tuples(*[st.integers(1, 9)] * 2, *[st.integers(1, 7)] * 2),
        st.tuples(st.integers(2, 40), st.integers(1, 40)),
        st.tuples(st.integers(1, 5), st.integers(1, 20), st.integers(1, 40)),
    ).filter(lambda s: np.prod(s) // s[1] > 1),
    dtype=st.sampled_from(DTYPES),
    order=st.sampled_from([channels_last, np.ascontiguousarray, np.asfortranarray]),
    activation=st.sampled_from([None, "relu"]),
    with_residual=st.booleans(),
    with_parameters=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_equals_the_reference(
    shape, dtype, order, activation, with_residual, with_parameters, seed
):
    x, weight, bias, residual, g = drawn(shape, dtype, order, seed)
    if not with_parameters:
        weight = bias = None
    # Few elements a channel make the variance, and with it the slopes, of any size.
    compare(x, weight, bias, residual if with_residual else None, g, activation, scale=20.0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(8, 16, 32, 33), (32, 6, 28, 28), (512, 300)])
@pytest.mark.parametrize("order", [channels_last, np.ascontiguousarray])
def test_on_all_threads(shape, order, dtype):
    x, weight, bias, residual, g = drawn(shape, dtype, order)
    assert x.size >= 1 << 17
    y = compare(x, weight, bias, residual, g, "relu")
    assert y.strides == x.strides
    assert "fused runs" in explain("batch_norm", x, weight, bias, EPS, None, None)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("order", [channels_last, np.ascontiguousarray])
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("with_residual", [False, True])
def test_a_gradient_in_two_parts(with_residual, activation, order, dtype):
    x, weight, bias, residual, g = drawn((8, 16, 24, 25), dtype, order)
    more = drawn(x.shape, dtype, order, seed=1)[-1]
    y, mean, var = fused.batch_norm(
        x, weight, bias, EPS, residual if with_residual else None, activation
    )
    args = (x, y, weight, bias, mean, var, EPS, activation, True, with_residual)
    found = fused.batch_norm_backward(g, *args, more)
    for a, b in zip(found, fused.batch_norm_backward(g + more, *args), strict=True):
        np.testing.assert_array_equal(a, b)
    g = settled(x, weight, bias, mean, var, g)
    more = np.where(g == 0, 0, more).astype(dtype)
    args = (g, *args, more)
    same(fused.batch_norm_backward(*args), reference.batch_norm_backward(*args), dtype, 4)


def test_results_lie_as_the_input_whatever_the_others_do():
    x, weight, bias, residual, g = drawn((8, 16, 24, 24))
    y, mean, var = kernels.batch_norm(x, weight, bias, EPS, np.ascontiguousarray(residual), "relu")
    for other in (g, np.ascontiguousarray(g), np.broadcast_to(np.float32(1), g.shape)):
        dx, _, _, masked = kernels.batch_norm_backward(
            other, x, y, weight, bias, mean, var, EPS, "relu", True, True
        )
        assert y.strides == dx.strides == masked.strides == x.strides
        np.testing.assert_array_equal(masked, other * (y > 0))


@pytest.mark.parametrize("order", [channels_last, np.ascontiguousarray])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1234])
def test_a_special_value_spoils_its_channel_alone(order, value, place):
    x, weight, bias, *_ = drawn((4, 16, 24, 24), order=order)
    x.transpose(1, 0, 2, 3)[3].reshape(-1)[place:] = x[0, 3, 0, 0]
    x[place // 576, 3, place // 24 % 24, place % 24] = value
    for activation in (None, "relu"):
        found = fused.batch_norm(x, weight, bias, EPS, None, activation)
        assert np.isnan(found[0][:, 3]).all()
        wanted = reference.batch_norm(x, weight, bias, EPS, None, activation)
        same(found[0], wanted[0])
        same(found[1], wanted[1])


@pytest.mark.parametrize("order", [channels_last, np.ascontiguousarray])
def test_a_large_offset_costs_no_digits(order):
    """Squares of the values themselves would have none left."""
    rng = np.random.default_rng(0)
    exact = rng.standard_normal((8, 8, 24, 24)) + 3000
    x = order(exact.astype(np.float32))
    _, mean, var = fused.batch_norm(x, None, None, EPS, None, None)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean((0, 2, 3)), rtol=1e-7)
    np.testing.assert_allclose(var, exact.var((0, 2, 3)), rtol=1e-5)


def test_a_constant_channel_has_variance_zero():
    x = channels_last(np.full((4, 8, 24, 24), 0.1, np.float32))
    y, mean, var = fused.batch_norm(x, None, None, EPS, None, None)
    np.testing.assert_allclose(mean, 0.1, rtol=1e-7)
    np.testing.assert_allclose(var, 0, atol=1e-12)
    np.testing.assert_allclose(y, 0, atol=1e-5)


def test_what_is_refused_goes_to_the_reference():
    x, weight, bias, *_ = drawn((4, 16, 24, 24))
    args = (weight, bias, EPS, None, None)
    assert "fewer than" in explain("batch_norm", x[:1, :, :4], *args)
    assert "not for float64" in explain("batch_norm", x.astype(np.float64), *args)
    mean, var = np.zeros(16, np.float32), np.ones(16, np.float32)
    given = (weight, bias, mean, var, EPS, None, None)
    assert "fused runs" in explain("batch_norm_inference", x[:1, :, :16, :16], *given)
    assert "fewer than" in explain("batch_norm_inference", x[:1, :, :8, :8], *given)
    with use("reference"):
        assert "reference runs" in explain("batch_norm", x, *args)
