"""The compiled element-wise loops beside the reference kernels, evaluated in float64."""

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("numba")
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from nano.backends import explain, kernels, use
from nano.backends.fused import elementwise as fused

from ...functions.harness import odd_layouts

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT32 = np.dtype(np.float32)
#: No larger numbers: float32 would overflow where float64, which judges, does not.
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, -1e-30, 1e9, -1e9, 88.0, -88.0, -104.0]
#: How many arrays a kernel takes, and its error in units of float32's last place. Where 1 is
#: added to a number near -1, the error is one of the sum, whatever is left of it.
KERNELS = {
    "relu": (1, 0, 0),
    "exp": (1, 4, 0),
    "tanh": (1, 4, 0),
    "sigmoid": (1, 4, 0),
    "silu": (1, 5, 0),
    "gelu": (1, 5, 4),
    "gelu_tanh": (1, 5, 4),
    "relu_backward": (2, 0, 0),
    "silu_backward": (2, 8, 8),
    "gelu_backward": (2, 8, 8),
    "gelu_tanh_backward": (2, 8, 32),
    "add": (2, 0, 0),
    "subtract": (2, 0, 0),
    "multiply": (2, 0, 0),
    "divide": (2, 1, 0),
}


def operands(name, seed, shape, dtype):
    """The gradient is finite: times a slope that only float32 takes as 0 it would be NaN."""
    arrays = [numbers(seed + i, shape, dtype) for i in range(KERNELS[name][0])]
    if name.endswith("backward"):
        arrays[0] = np.nan_to_num(arrays[0].astype(np.float32), posinf=1, neginf=1).astype(dtype)
    return arrays


def numbers(seed, shape, dtype):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(shape) * rng.choice([0.01, 1, 8], shape)).astype(np.float32)
    special = rng.random(shape) < 0.1
    x[special] = rng.choice(SPECIAL, special.sum())
    return x.astype(dtype)


def reference(name, *arrays):
    """The reference kernel on float64 numbers."""
    with use("reference"), np.errstate(all="ignore"):
        return getattr(kernels, name)(*[a.astype(np.float64) for a in arrays])


def check(name, *arrays):
    """The fused kernel's result is the reference's, to the error stated above."""
    _, relative, absolute = KERNELS[name]
    y = getattr(fused, name)(*arrays)
    wanted = reference(name, *arrays)
    assert y.dtype == arrays[0].dtype
    assert y.shape == arrays[0].shape
    assert y.strides == np.empty_like(arrays[0]).strides
    if not relative:
        wanted = wanted.astype(np.float32).astype(y.dtype)  # bfloat16 rounds twice, as it should
        np.testing.assert_array_equal(y.astype(np.float32), wanted.astype(np.float32))
        return
    unit = np.finfo(np.float32).eps
    scale = np.maximum(*[np.abs(a.astype(np.float64)) for a in (arrays[0], arrays[-1])])
    scale = np.maximum(np.where(np.isfinite(scale), scale, 0), 1)
    # Denormal numbers are flushed to zero in the pool's threads.
    allowed = relative * unit * np.abs(wanted) + (absolute * unit + 1.2e-38) * scale
    if y.dtype == BFLOAT16:
        allowed += np.abs(wanted) / 256
    with np.errstate(all="ignore"):
        wrong = ~(np.abs(y.astype(np.float64) - wanted) <= allowed)
    wrong &= ~(np.isnan(y) & np.isnan(wanted)) & ~(y == wanted.astype(y.dtype))
    where = np.argwhere(wrong)
    assert not len(where), [
        (a[tuple(where[0])], y[tuple(where[0])], wanted[tuple(where[0])]) for a in arrays
    ]


@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16], ids=str)
@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=15, deadline=None)
@given(shape=array_shapes(max_dims=4, max_side=9), seed=st.integers(0, 99), data=st.data())
def test_any_dense_layout(name, dtype, shape, seed, data):
    order = data.draw(st.permutations(range(len(shape))))
    arrays = [a.transpose(order) for a in operands(name, seed, shape, dtype)]
    check(name, *arrays)


@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16], ids=str)
@pytest.mark.parametrize("name", KERNELS)
def test_large_arrays_are_shared_by_the_threads(name, dtype):
    size = (1 << 17) + 5  # the last vector is not full
    check(name, *operands(name, 0, size, dtype))


@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16], ids=str)
def test_leaky_relu(dtype):
    value, x = numbers(0, (3, 1001), dtype), numbers(1, (3, 1001), dtype)
    y = fused.leaky_relu(value, x, 0.25)  # a power of two: bfloat16 is exact
    with use("reference"):
        wanted = kernels.leaky_relu(value, x, 0.25)
    np.testing.assert_array_equal(y.astype(np.float32), wanted.astype(np.float32))


def test_all_numbers_of_bfloat16():
    x = np.arange(1 << 16, dtype=np.uint16).view(BFLOAT16)
    y = fused.exp(x)
    with np.errstate(all="ignore"):
        wanted = np.exp(x.astype(np.float32))
    wanted[wanted < 1.2e-38] = 0
    got = y.astype(np.float32)
    got[got < 1.2e-38] = 0
    np.testing.assert_allclose(got, wanted, rtol=1 / 256)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "relu_backward"])
def test_what_is_left_to_the_reference(name):
    x = np.ones((300, 500), np.float32)
    assert "fused runs" in explain(name, x, x)
    for y in [*odd_layouts(x), x[:1], x.astype(np.float64)]:
        if y.shape == x.shape or name != "relu_backward":
            assert "reference runs" in explain(name, x, y)
    small = x[:2, :2].copy()
    assert "reference runs" in explain(name, small, small)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
def test_numbers_are_left_to_the_reference(name):
    x = np.ones((300, 500), np.float32)
    for arguments in [(x, 2.0), (2.0, x), (2.0, 3.0), (x, 2), (2, x)]:
        assert "reference runs" in explain(name, *arguments)
        getattr(kernels, name)(*arguments)


def test_a_gradient_passes_only_where_the_output_is_positive():
    """Also an infinite one: PyTorch chooses, and does not multiply with a mask."""
    g = np.array([np.inf, np.nan, np.inf, 2.0], np.float32)
    y = np.array([0.0, 0.0, 1.0, np.nan], np.float32)
    for size in (1, 1000):  # the reference kernel has a way of its own for large arrays
        many_g, many_y = np.tile(g, size), np.tile(y, size)
        wanted = np.tile(np.array([0, 0, np.inf, 2], np.float32), size)
        np.testing.assert_array_equal(fused.relu_backward(many_g, many_y), wanted)
        with use("reference"):
            np.testing.assert_array_equal(kernels.relu_backward(many_g, many_y), wanted)
            for kind in (np.float64, BFLOAT16):
                dx = kernels.relu_backward(many_g.astype(kind), many_y.astype(kind))
                np.testing.assert_array_equal(dx.astype(np.float32), wanted)
