"""Normalisation by oneDNN against the reference in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nano.backends import candidates, explain, use
from nano.backends.onednn import normalise as onednn
from nano.backends.reference import batch_norm as reference_batch
from nano.backends.reference import layer_norm as reference_layer

from .common import BFLOAT16, DTYPES, FLOAT32, laid, layouts, needs_onednn

pytestmark = needs_onednn

#: float32: some roundings of numbers of size 1 to 10. bfloat16: results are rounded to 8 bits.
TOLERANCE = {FLOAT32: {"rtol": 1e-5, "atol": 1e-5}, BFLOAT16: {"rtol": 2**-7, "atol": 2**-7}}
EPS = 1e-5


@pytest.fixture(autouse=True, scope="module")
def as_small_as_you_like():
    before = onednn._FEW
    onednn._FEW = 1
    yield
    onednn._FEW = before


def drawn(seed, shape, dtype=FLOAT32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def wide(*arrays):
    return [None if a is None else a.astype(np.float64) for a in arrays]


def check(got, wanted, dtype, scale=1.0):
    assert got.shape == wanted.shape
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(
        got.astype(np.float64), wanted, rtol=tolerance["rtol"], atol=scale * tolerance["atol"]
    )


@st.composite
def batches(draw):
    """Shapes of batches with some elements a channel, of two to four dimensions."""
    c = draw(st.sampled_from([1, 3, 16, 17, 40]))
    n = draw(st.integers(8, 20))
    return (n, c, *draw(st.lists(st.integers(1, 6), max_size=2)))


@pytest.mark.parametrize("dtype", DTYPES)
@given(batches(), layouts, st.booleans(), st.sampled_from([None, "relu"]), st.booleans())
@settings(deadline=None, max_examples=60)
def test_batch_norm(dtype, shape, layout, affine, activation, add):
    c = shape[1]
    x, g = laid(drawn(1, shape, dtype), layout), laid(drawn(2, shape, dtype), layout)
    weight, bias = (drawn(3, c), drawn(4, c)) if affine else (None, None)
    residual = drawn(5, shape, dtype) if add and dtype == FLOAT32 else None
    how = (EPS, residual, activation)
    assert onednn.accepts_batch_norm(x, weight, bias, *how) is True
    y, mean, var = onednn.batch_norm(x, weight, bias, *how)
    wide_how = (EPS, *wide(residual), activation)
    wanted = reference_batch.batch_norm(*wide(x, weight, bias), *wide_how)
    assert (y.dtype, mean.dtype, var.dtype) == (dtype, FLOAT32, FLOAT32)
    assert y.strides == np.empty_like(x).strides
    check(y, wanted[0], dtype, 10)
    check(mean, wanted[1], FLOAT32)
    check(var, wanted[2], FLOAT32)

    given_mean, given_var = drawn(6, c), np.abs(drawn(7, c)) + 1
    assert onednn.accepts_batch_norm_inference(x, weight, bias, mean, var, *how) is True
    check(
        onednn.batch_norm_inference(x, weight, bias, given_mean, given_var, *how),
        reference_batch.batch_norm_inference(
            *wide(x, weight, bias, given_mean, given_var), *wide_how
        ),
        dtype,
        10,
    )
    for training in (True, False):
        rest = (EPS, activation, training, add)
        arguments = (g, x, y, weight, bias, mean, var)
        assert onednn.accepts_batch_norm_backward(*arguments, *rest) is True
        found = onednn.batch_norm_backward(*arguments, *rest)
        right = reference_batch.batch_norm_backward(*wide(*arguments), *rest)
        assert found[0].dtype == dtype
        check(found[0], right[0], dtype, 10)
        # Sums of up to 720 numbers, of which the parts are rounded to bfloat16 nowhere.
        check(found[1], right[1], FLOAT32, 100)
        check(found[2], right[2], FLOAT32, 100)
        assert (found[3] is None) == (right[3] is None)
        if right[3] is not None:
            np.testing.assert_array_equal(found[3].astype(float), right[3])


def test_variance_far_from_zero():
    """The mean of squares less the square of the mean would be wrong by more than 1."""
    x = drawn(1, (64, 16, 8, 8)) + FLOAT32.type(3000)
    _, mean, var = onednn.batch_norm(x, None, None, EPS, None, None)
    axes = (0, 2, 3)
    # A sum of 4096 numbers in float32; what the mean is off by enters the variance squared.
    np.testing.assert_allclose(mean, x.mean(axes, dtype=np.float64), rtol=5e-6)
    np.testing.assert_allclose(var, x.var(axes, dtype=np.float64), rtol=1e-3)


@pytest.mark.parametrize("activation", [None, "relu"])
def test_nan_spreads_over_its_channel(activation):
    x = drawn(1, (8, 16, 4, 4))
    x[2, 3, 1, 1] = np.nan
    y, mean, _ = onednn.batch_norm(x, None, None, EPS, None, activation)
    assert np.isnan(y[:, 3]).all()
    assert np.isfinite(np.delete(y, 3, 1)).all()
    np.testing.assert_array_equal(np.isnan(mean), np.arange(16) == 3)


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=3),
    st.lists(st.sampled_from([1, 2, 5, 16, 33]), min_size=1, max_size=2),
    layouts,
    st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_layer_norm(dtype, samples, last, layout, affine):
    shape, axes = (*samples, *last), len(last)
    x, g = laid(drawn(1, shape, dtype), layout), laid(drawn(2, shape, dtype), layout)
    weight, bias = (drawn(3, last), drawn(4, last)) if affine else (None, None)
    assert onednn.accepts_layer_norm(x, weight, bias, axes, EPS) is True
    y, mean, rstd = onednn.layer_norm(x, weight, bias, axes, EPS)
    wanted = reference_layer.layer_norm(*wide(x, weight, bias), axes, EPS)
    assert (y.dtype, mean.dtype, rstd.dtype) == (dtype, FLOAT32, FLOAT32)
    check(y, wanted[0], dtype, 10)
    check(mean, wanted[1], FLOAT32)
    # Near var = 0, where rstd is 316, an error of var counts for more.
    check(rstd, wanted[2], FLOAT32, 1000)
    if x.size == np.prod(samples):
        return  # every sample is one element; its gradient is 0, made of cancelling infinities
    assert onednn.accepts_layer_norm_backward(g, x, weight, mean, rstd, axes) is True
    found = onednn.layer_norm_backward(g, x, weight, mean, rstd, axes)
    right = reference_layer.layer_norm_backward(*wide(g, x, weight, mean, rstd), axes)
    size = float(np.abs(right[0]).max()) + 1
    check(found[0], right[0], dtype, 10 * size)
    for a, b in zip(found[1:], right[1:], strict=True):
        assert (a is None) == (b is None)
        if b is not None:
            check(a, b, FLOAT32, 100)


def test_layer_norm_keeps_nan_in_its_sample():
    x = drawn(1, (6, 40))
    x[2, 3] = np.nan
    y, _, _ = onednn.layer_norm(x, None, None, 1, EPS)
    assert np.isnan(y[2]).all()
    assert np.isfinite(np.delete(y, 2, 0)).all()


def test_what_is_refused():
    x = np.ones((4, 3, 2, 2, 2), FLOAT32)
    assert "four dimensions" in onednn.accepts_batch_norm(x, None, None, EPS, None, None)
    y = np.ones((4, 3, 2, 2), BFLOAT16)
    if onednn.suits(y) is True:
        assert "rounded twice" in onednn.accepts_batch_norm(y, None, None, EPS, y, None)
    assert "not in float64" in onednn.accepts_layer_norm(np.ones((4, 4)), None, None, 1, EPS)


@pytest.mark.parametrize("name", ["batch_norm", "batch_norm_backward", "layer_norm"])
def test_numba_comes_first(name):
    order = [c.backend for c in candidates(name)]
    assert order in (["fused", "onednn", "reference"], ["onednn", "reference"])
    with use("onednn"):
        assert candidates(name)[0].backend == "onednn"


def test_softmax_is_not_offered():
    """Its rows with a NaN are not what PyTorch's are."""
    assert "onednn" not in {c.backend for c in candidates("softmax")}
    assert "onednn" not in explain("softmax", np.ones((4, 4), FLOAT32), -1)
