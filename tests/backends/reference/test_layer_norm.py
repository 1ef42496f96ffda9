"""The reference kernels of layer normalisation against loops over their definition."""

import math

import ml_dtypes
import numpy as np
import pytest

from nano.backends.reference import layer_norm as kernels


def layer_norm_loops(rows, weight, bias, eps):
    """(x - mean) / sqrt(var + eps) weight + bias for a matrix, one row after another."""
    y, means, scales = np.empty(rows.shape), [], []
    for i, row in enumerate(rows):
        values = [float(v) for v in row]
        mean = math.fsum(values) / len(values)
        var = math.fsum([(v - mean) ** 2 for v in values]) / len(values)
        scale = 1 / math.sqrt(var + eps)
        for j, v in enumerate(values):
            y[i, j] = (v - mean) * scale * float(weight[j]) + float(bias[j])
        means.append(mean)
        scales.append(scale)
    return y, np.array(means), np.array(scales)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(np.float64, 1e-12), (np.float32, 1e-5), (np.float16, 2e-3), (ml_dtypes.bfloat16, 1.6e-2)],
)
def test_layer_norm_equals_loops(dtype, tolerance):
    rng = np.random.default_rng(0)
    x = rng.normal(1, 2, (2, 3, 4, 5)).astype(dtype)
    wide = np.float64 if dtype == np.float64 else np.float32
    weight, bias = rng.normal(size=(4, 5)).astype(wide), rng.normal(size=(4, 5)).astype(wide)
    expected, mean, scale = layer_norm_loops(
        x.reshape(6, 20), weight.reshape(-1), bias.reshape(-1), 1e-3
    )
    for given in (x, np.asfortranarray(x)):
        y, m, rstd = kernels.layer_norm(given, weight, bias, 2, 1e-3)
        assert (y.dtype, m.dtype, rstd.dtype) == (x.dtype, wide, wide)
        assert m.shape == rstd.shape == (2, 3)
        np.testing.assert_allclose(
            y.astype(np.float64).reshape(6, 20), expected, rtol=tolerance, atol=tolerance
        )
        np.testing.assert_allclose(m.reshape(-1), mean, rtol=1e-5)
        np.testing.assert_allclose(rstd.reshape(-1), scale, rtol=1e-5)


def test_without_a_weight_there_are_no_gradients_of_parameters():
    x = np.random.default_rng(0).normal(size=(3, 4))
    _, mean, rstd = kernels.layer_norm(x, None, None, 1, 1e-5)
    dx, dweight, dbias = kernels.layer_norm_backward(x, x, None, mean, rstd, 1)
    assert dweight is dbias is None
    # A normalised row does not change when a constant is added to x: dx sums to 0.
    np.testing.assert_allclose(dx.sum(1), 0, atol=1e-12)
