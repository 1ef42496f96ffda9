"""The reference kernel of batch normalisation against loops over its definition."""

import math

import ml_dtypes
import numpy as np
import pytest

from nano.backends.reference import batch_norm as kernels

SHAPE = (3, 2, 4, 5)


def batch_norm_loops(x, weight, bias, eps, residual, activation):
    """act((x - mean) / sqrt(var + eps) weight + bias + residual), one element after another."""
    n, channels, h, w = x.shape
    places = [(i, row, column) for i in range(n) for row in range(h) for column in range(w)]
    y, means, variances = np.empty(x.shape), [], []
    for c in range(channels):
        values = [float(x[i, c, row, column]) for i, row, column in places]
        mean = math.fsum(values) / len(values)
        var = math.fsum([(v - mean) ** 2 for v in values]) / len(values)
        for (i, row, column), value in zip(places, values, strict=True):
            t = (value - mean) / math.sqrt(var + eps)
            t = t * float(weight[c]) + float(bias[c])
            if residual is not None:
                t += float(residual[i, c, row, column])
            y[i, c, row, column] = max(t, 0.0) if activation == "relu" else t
        means.append(mean)
        variances.append(var)
    return y, np.array(means), np.array(variances)


def operands(dtype):
    rng = np.random.default_rng(0)
    x, residual = rng.normal(1, 2, SHAPE).astype(dtype), rng.normal(size=SHAPE).astype(dtype)
    wide = np.float64 if dtype == np.float64 else np.float32
    weight, bias = rng.uniform(0.5, 2, 2).astype(wide), rng.normal(size=2).astype(wide)
    return x, weight, bias, residual


def channels_last(a):
    return np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


#: Rounding errors of one result: of the dtype, some for the steps before it in float32.
TOLERANCE = {
    np.float64: 1e-12,
    np.float32: 1e-5,
    np.float16: 2e-3,
    ml_dtypes.bfloat16: 1.6e-2,
}


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda d: d.__name__)
def test_batch_norm_equals_loops(dtype, with_residual, activation):
    x, weight, bias, residual = operands(dtype)
    residual = residual if with_residual else None
    expected, mean, var = batch_norm_loops(x, weight, bias, 1e-3, residual, activation)
    tolerance = TOLERANCE[dtype]
    for order in (np.array, channels_last, lambda a: a[::-1][::-1]):
        given = None if residual is None else order(residual)
        y, m, v = kernels.batch_norm(order(x), weight, bias, 1e-3, given, activation)
        assert (y.dtype, m.dtype, v.dtype) == (x.dtype, weight.dtype, weight.dtype)
        np.testing.assert_allclose(y.astype(np.float64), expected, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(m, mean, rtol=1e-5)
        np.testing.assert_allclose(v, var, rtol=1e-5)
        again = kernels.batch_norm_inference(order(x), weight, bias, m, v, 1e-3, given, activation)
        np.testing.assert_allclose(
            again.astype(np.float64), expected, rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_results_lie_in_memory_as_the_input_does(training, activation):
    x, weight, bias, residual = operands(np.float32)
    x = channels_last(x)
    y, mean, var = kernels.batch_norm(x, weight, bias, 1e-5, residual, activation)
    assert y.strides == x.strides
    # A gradient may come in any order, and spread from one element.
    for g in (residual, np.broadcast_to(np.float32(1), x.shape)):
        dx, *_ = kernels.batch_norm_backward(
            g, x, y, weight, bias, mean, var, 1e-5, activation, training, True
        )
        assert dx.strides == x.strides
    assert kernels.batch_norm_inference(
        x, weight, bias, mean, var, 1e-5, None, activation
    ).strides == (x.strides)


def test_the_mean_of_many_elements_is_exact():
    # Added up one by one in float32, the mean of a channel would be 2 % off.
    x = np.full((1, 2, 1000, 3000), 0.1, np.float32)
    _, mean, var = kernels.batch_norm(channels_last(x), None, None, 1e-5, None, None)
    np.testing.assert_allclose(mean, np.float32(0.1), rtol=1e-6)
    np.testing.assert_allclose(var, 0, atol=1e-12)
