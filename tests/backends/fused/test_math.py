"""The vectorised functions beside NumPy's and SciPy's in float64, over all of float32."""

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("numba")

from scipy import special

from nano.backends.fused import math, vectors
from nano.backends.fused.jit import kernel, prange

REFERENCE = {
    "exp": np.exp,
    "exp_within_range": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "sigmoid": special.expit,
    "erf": special.erf,
}
#: Units in the last place; sigmoid rounds a sum, a quotient and a product after exp.
BOUND = {"sigmoid": 3.0}
SMALLEST_NORMAL = np.finfo(np.float32).tiny


def loop_of(function):
    def loop(x, y):
        for block in prange(x.shape[0]):
            for i in range(x.shape[1]):
                y[block, i] = function(x[block, i])

    return kernel(loop).serial


def everywhere():
    """Numbers of every exponent and sign, the special ones, and many where functions bend."""
    rng = np.random.default_rng(0)
    bits = np.arange(0, 1 << 32, 65521, dtype=np.uint64).astype(np.uint32).view(np.float32)
    near = [rng.uniform(-r, r, 20000) for r in (1, 4, 20, 110)]
    special_ones = [0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, 88.72283, 88.72284, -87.33655, -103.98]
    x = np.concatenate([bits, *near, special_ones]).astype(np.float32)
    return np.resize(x, (x.size // 512 + 1, 512))


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_errors_are_some_units_in_the_last_place(name):
    x = everywhere()
    if name == "exp_within_range":
        x = x[(x < 88) | np.isnan(x)].reshape(1, -1)
    y = np.empty_like(x)
    loop_of(getattr(math, name))(x, y)
    exact = REFERENCE[name](x.astype(np.float64))
    wanted = exact.astype(np.float32)
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(y[~finite], wanted[~finite])
    # Below the normal numbers, a result may be flushed to zero.
    unit = np.spacing(np.maximum(np.abs(wanted[finite]), SMALLEST_NORMAL)).astype(np.float64)
    error = np.abs(y[finite] - exact[finite])
    flushed = (y[finite] == 0) & (np.abs(exact[finite]) < SMALLEST_NORMAL)
    assert np.max(np.where(flushed, 0, error / unit)) < BOUND.get(name, 1.5)


def test_relu_and_the_larger():
    x = np.array([[-np.inf, -1, -0.0, 0, 2, np.inf, np.nan]], np.float32)
    y = np.empty_like(x)
    loop_of(math.relu)(x, y)
    np.testing.assert_array_equal(y, [[0, 0, 0, 0, 2, np.inf, np.nan]])

    def highest(x, y):
        top = np.float32(-np.inf)
        for i in range(x.shape[1]):
            top = math.larger(top, x[0, i])
        y[0, 0] = top

    kernel(highest).serial(x[:, :6], y)
    assert y[0, 0] == np.inf


@pytest.mark.parametrize("narrow", [math.narrow, math.narrow_result])
def test_bfloat16_is_rounded_as_ml_dtypes_does(narrow):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 1 << 32, (64, 512), np.uint32).view(np.float32)
    if narrow is math.narrow_result:  # which may make them 0
        x[np.abs(x) < np.finfo(np.float32).tiny] = 0

    def loop(x, y, z):
        for r in prange(x.shape[0]):
            for i in range(x.shape[1]):
                y[r, i] = narrow(x[r, i], y[r, i])
                z[r, i] = math.wide(y[r, i])

    y, z = np.empty(x.shape, np.uint16), np.empty_like(x)
    kernel(loop).serial(x, y, z)
    wanted = x.astype(ml_dtypes.bfloat16)
    number = ~np.isnan(x)
    np.testing.assert_array_equal(y[number], wanted.view(np.uint16)[number])
    np.testing.assert_array_equal(z, wanted.astype(np.float32))


def test_the_exponential_of_a_vector_is_that_of_its_numbers():
    x = everywhere()
    x = x[(x < 88) | np.isnan(x)]
    x = np.resize(x, (x.size // vectors.LANES, vectors.LANES))

    def loop(x, y):
        for r in prange(x.shape[0]):
            e = math.exp_of_vector(vectors.load(x.ctypes.data + 4 * r * vectors.LANES))
            vectors.store(e, y.ctypes.data + 4 * r * vectors.LANES)

    y, wanted = np.empty_like(x), np.empty_like(x)
    kernel(loop).serial(x, y)
    loop_of(math.exp_within_range)(x, wanted)
    np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("normal_cdf", special.ndtr),
        ("gelu_slope", lambda x: special.ndtr(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_curves_of_gelu_to_two_units_of_1(name, reference):
    """Where 1/2 is added, the error is one of the sum, however little is left of it."""
    x = everywhere()
    y = np.empty_like(x)
    loop_of(getattr(math, name))(x, y)
    wanted = reference(x.astype(np.float64))
    np.testing.assert_array_equal(np.isnan(y), np.isnan(wanted))
    assert np.nanmax(np.abs(y - wanted)) < 2 * np.finfo(np.float32).eps
    assert (y[x < -7] == 0)[np.isfinite(x[x < -7])].all()
