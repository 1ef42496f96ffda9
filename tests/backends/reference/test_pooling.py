"""The pooling kernels against their definition in loops; backward kernels as transposes."""

import ml_dtypes
import numpy as np
import pytest

from nano.backends.reference import pooling as reference

from ...functions.harness import odd_layouts

#: (input, kernel, stride, padding, dilation, output)
MAXIMA = [
    ((2, 3, 6, 5), (2, 2), (2, 2), (0, 0), (1, 1), (3, 2)),
    ((2, 3, 6, 5), (3, 2), (2, 1), (1, 1), (1, 1), (3, 6)),
    ((1, 2, 7, 8), (3, 3), (1, 2), (1, 1), (2, 2), (5, 3)),
    ((1, 2, 5, 5), (2, 2), (2, 2), (0, 0), (1, 1), (3, 3)),
    ((1, 1, 20, 20), (17, 17), (1, 1), (0, 0), (1, 1), (4, 4)),
    ((0, 2, 4, 4), (2, 2), (2, 2), (0, 0), (1, 1), (2, 2)),
]


def drawn(shape, kind="float64"):
    rng = np.random.default_rng(0)
    if kind == "special":  # ties, NaN and infinities, of which windows may be full
        return rng.choice([np.nan, -np.inf, -np.inf, -np.inf, 0.0, 1.0], shape)
    return rng.integers(-3, 4, shape).astype(kind)


@pytest.mark.parametrize("geometry", MAXIMA, ids=str)
@pytest.mark.parametrize("kind", ["float64", "special", "int64", "uint8", "float16"])
def test_maximum_equals_its_definition(geometry, kind):
    shape, *rest = geometry
    x = drawn(shape, kind)
    wanted, wanted_places = reference.max_pool2d_loops(x, *rest)
    for array in (x, *odd_layouts(x)):
        y, places = reference.max_pool2d(array, *rest)
        assert y.dtype == x.dtype
        assert places.dtype == (np.uint8 if rest[0][0] * rest[0][1] <= 256 else np.int32)
        np.testing.assert_array_equal(y, wanted)
        np.testing.assert_array_equal(places, wanted_places)
        assert y.transpose(0, 2, 3, 1).flags.c_contiguous
        assert places.transpose(0, 2, 3, 1).flags.c_contiguous
        again = reference.max_pool2d_gather(array, places, *rest[:-1])
        np.testing.assert_array_equal(again, y)


@pytest.mark.parametrize("geometry", MAXIMA, ids=str)
def test_backward_is_the_transpose_of_gather(geometry):
    shape, *rest = geometry
    x, v = drawn(shape), np.random.default_rng(1).integers(-3, 4, shape).astype("float64")
    y, places = reference.max_pool2d(x, *rest)
    g = np.random.default_rng(2).integers(-3, 4, y.shape).astype("float64")
    for odd in (g, *odd_layouts(g)):
        dx = reference.max_pool2d_backward(odd, places, shape[2:], *rest[:-1])
        # Small whole numbers: both sums are exact.
        assert (dx * v).sum() == (g * reference.max_pool2d_gather(v, places, *rest[:-1])).sum()
        assert dx.shape == shape


#: (input, kernel, stride, padding, output)
MEANS = [
    ((2, 3, 6, 5), (2, 2), (2, 2), (0, 0), (3, 2)),
    ((2, 3, 6, 5), (3, 2), (2, 1), (1, 1), (3, 6)),
    ((1, 2, 5, 5), (3, 3), (2, 2), (1, 1), (3, 3)),
    ((1, 2, 4, 4), (3, 3), (2, 2), (1, 1), (3, 3)),
    ((0, 2, 4, 4), (2, 2), (2, 2), (0, 0), (2, 2)),
]


@pytest.mark.parametrize("geometry", MEANS, ids=str)
@pytest.mark.parametrize(("include", "divisor"), [(True, None), (False, None), (True, -3)])
def test_mean_equals_its_definition_and_its_transpose(geometry, include, divisor):
    shape, *rest = geometry
    x = drawn(shape)
    wanted = reference.avg_pool2d_loops(x, *rest, include, divisor)
    for array in (x, *odd_layouts(x)):
        y = reference.avg_pool2d(array, *rest, include, divisor)
        np.testing.assert_allclose(y, wanted, rtol=1e-14, atol=1e-14)
    g = np.random.default_rng(2).uniform(-1, 1, y.shape)
    for array in (g, *odd_layouts(g)):
        dx = reference.avg_pool2d_backward(array, shape[2:], *rest[:-1], include, divisor)
        assert dx.shape == shape
        np.testing.assert_allclose((dx * x).sum(), (g * y).sum(), rtol=1e-12)


@pytest.mark.parametrize("output_size", [(1, 1), (2, 3), (5, 4), (7, 9), (0, 2)])
def test_adaptive_mean(output_size):
    x = np.random.default_rng(0).uniform(-1, 1, (2, 3, 5, 4))
    y = reference.adaptive_avg_pool2d(x, output_size)
    assert y.shape == (2, 3, *output_size)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    rows = reference.adaptive_windows(5, output_size[0])
    columns = reference.adaptive_windows(4, output_size[1])
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            wanted = x[:, :, top:bottom, left:right].mean((2, 3))
            np.testing.assert_allclose(y[:, :, i, j], wanted, rtol=1e-13, atol=1e-14)
    g = np.random.default_rng(1).uniform(-1, 1, y.shape)
    dx = reference.adaptive_avg_pool2d_backward(g, (5, 4))
    assert dx.shape == x.shape
    np.testing.assert_allclose((dx * x).sum(), (g * y).sum(), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_sixteen_bits_are_summed_in_float32(dtype):
    x = np.ones((1, 1, 64, 64), dtype)
    # In 16 bits the sum of 4,096 ones stops at 2,048 or 256, and the mean is not 1.
    for y in (
        reference.avg_pool2d(x, (64, 64), (1, 1), (0, 0), (1, 1), True, None),
        reference.adaptive_avg_pool2d(x, (1, 1)),
    ):
        assert y.dtype == dtype
        assert float(y[0, 0, 0, 0]) == 1
    g = np.ones((1, 1, 64, 64), dtype)
    dx = reference.avg_pool2d_backward(g, (127, 127), (64, 64), (1, 1), (0, 0), True, 1)
    assert float(dx[0, 0, 63, 63]) == 4096
    dx = reference.max_pool2d_backward(
        np.ones((1, 1, 1, 4096), dtype), np.arange(4096, dtype=np.int32)[::-1].reshape(1, 1, 1, -1),
        (1, 8191), (1, 4096), (1, 1), (0, 0), (1, 1),
    )  # fmt: skip
    assert dx.dtype == dtype
    assert float(dx[0, 0, 0, 4095]) == 4096


def test_integer_means_are_cut_towards_zero():
    x = np.array([[-4, -3], [-1, 0]]).reshape(1, 1, 2, 2) - 1  # the sum is -12
    for divisor, wanted in ((None, -3), (5, -2), (-5, 2)):
        y = reference.avg_pool2d(x, (2, 2), (2, 2), (0, 0), (1, 1), True, divisor)
        assert y.dtype == np.int64
        assert y.item() == wanted
