"""What follows a convolution or a product, done by oneDNN's post-ops, against doing it in turn."""

import itertools

import numpy as np
import pytest

from nano.backends import explain, kernels
from nano.backends.onednn import epilogue as onednn
from nano.backends.onednn.post_ops import ACTIVATIONS
from nano.backends.reference import epilogue as reference

from .common import BFLOAT16, DTYPES, FLOAT32, laid, needs_onednn

pytestmark = needs_onednn

_ONE = (1, 1)
#: bfloat16 has 8 bits; oneDNN rounds once, the operators in turn after each. In float32, the
#: polynomials of the activations are exact to some 1e-6.
_TOLERANCES = {FLOAT32: 5e-6, BFLOAT16: 5e-2}
_NAMED = [None, ("leaky_relu", 0.1), *[(name,) for name in ACTIVATIONS if name != "leaky_relu"]]


def draw(seed, *shape, dtype=FLOAT32):
    return np.random.default_rng(seed).standard_normal(shape, np.float32).astype(dtype)


def assert_close(ours, expected, dtype):
    assert ours.shape == expected.shape
    assert ours.dtype == expected.dtype
    tolerance = _TOLERANCES[dtype]
    np.testing.assert_allclose(
        *(ours.astype(np.float64), expected.astype(np.float64)), rtol=tolerance, atol=tolerance
    )


def operands(channels, shape, dtype):
    """All choices of bias, scale and residual."""
    for scaled, biased, added in itertools.product([False, True], repeat=3):
        if scaled and not biased:
            continue
        own = FLOAT32 if scaled else dtype
        yield (
            draw(2, channels, dtype=own) if biased else None,
            draw(3, channels) if scaled else None,
            draw(4, *shape, dtype=dtype) if added else None,
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", _NAMED)
def test_convolutions(dtype, activation):
    x = laid(draw(0, 2, 16, 6, 6, dtype=dtype), "channels last")
    w = draw(1, 32, 16, 3, 3, dtype=dtype) / dtype.type(12)
    for bias, scale, residual in operands(32, (2, 32, 3, 3), dtype):
        args = (x, w, bias, scale, residual, activation, (2, 2), (_ONE, _ONE), _ONE, 1)
        assert explain("conv2d_epilogue", *args).startswith("conv2d_epilogue: onednn runs")
        assert_close(onednn.conv2d_epilogue(*args), reference.conv2d_epilogue(*args), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_images_in_blocks(dtype):
    """Where oneDNN's own order is faster, the residual is brought to it too."""
    x = laid(draw(0, 2, 256, 4, 4, dtype=dtype), "channels last")
    w = draw(1, 256, 256, 3, 3, dtype=dtype) / dtype.type(48)
    residual = laid(draw(2, 2, 256, 4, 4, dtype=dtype), "channels last")
    scale, bias = draw(3, 256), draw(4, 256)
    args = (x, w, bias, scale, residual, ("relu",), _ONE, (_ONE, _ONE), _ONE, 1)
    assert_close(onednn.conv2d_epilogue(*args), reference.conv2d_epilogue(*args), dtype)


@pytest.mark.parametrize("layout", ["c", "channels last", "reversed", "gaps"])
def test_residuals_in_any_order(layout):
    x, w = draw(0, 2, 8, 5, 5), draw(1, 16, 8, 3, 3) / 9
    residual = laid(draw(2, 2, 16, 5, 5), layout)
    args = (x, w, None, None, residual, ("relu",), _ONE, (_ONE, _ONE), _ONE, 1)
    assert_close(onednn.conv2d_epilogue(*args), reference.conv2d_epilogue(*args), FLOAT32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", _NAMED)
@pytest.mark.parametrize("shape", [(160, 128), (4, 40, 128)])
def test_products(dtype, activation, shape):
    x, w = draw(0, *shape, dtype=dtype), draw(1, 136, 128, dtype=dtype) / dtype.type(12)
    for bias, scale, residual in operands(136, (*shape[:-1], 136), dtype):
        args = (x, w.T, bias, scale, residual, activation)
        assert explain("matmul_epilogue", *args).startswith("matmul_epilogue: onednn runs")
        assert_close(onednn.matmul_epilogue(*args), reference.matmul_epilogue(*args), dtype)


def test_batches_of_products():
    x, y = draw(0, 3, 96, 96), draw(1, 3, 96, 96) / 10
    args = (x, y, draw(2, 96), None, draw(3, 3, 96, 96), ("gelu",))
    assert_close(onednn.matmul_epilogue(*args), reference.matmul_epilogue(*args), FLOAT32)


def test_small_products_are_left_to_numpy():
    args = (draw(0, 4, 4), draw(1, 4, 4), None, None, None, ("relu",))
    assert "NumPy" in explain("matmul_epilogue", *args)
    expected = np.maximum(args[0] @ args[1], 0)
    np.testing.assert_allclose(kernels.matmul_epilogue(*args), expected)


def _activated(activation, values):
    """The activation of the values by post-ops: a product with the unit matrix, and a bias."""
    x, unit = np.zeros((len(values), 16), np.float32), np.eye(16, dtype=np.float32)
    residual = np.repeat(np.array(values, np.float32)[:, None], 16, 1)
    return onednn.matmul_epilogue(x, unit, None, None, residual, activation)[:, 3]


@pytest.mark.parametrize("activation", _NAMED[1:])
def test_nan_stays_nan(activation):
    assert np.isnan(_activated(activation, [np.nan, 1.0]))[0]


@pytest.mark.parametrize("activation", [("relu",), ("leaky_relu", 0.0)])
def test_relu_is_exact_but_for_minus_infinity(activation):
    values = [-3e38, -1e-30, -0.0, 0.0, 1e-30, 1.5, 3e38, np.inf]
    got = _activated(activation, [*values, -np.inf])
    assert got[:-1].tolist() == np.maximum(values, np.float32(0)).astype(np.float32).tolist()
    assert not np.signbit(got[:-1]).any()
    assert np.isnan(got[-1])
