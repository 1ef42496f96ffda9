"""Matrix products of oneDNN against NumPy's in float64, of whole numbers: equal to the last bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nano
from nano.backends import explain, kernels, use
from nano.backends.onednn import matmul as onednn
from nano.backends.reference import linalg as reference

from .common import BFLOAT16, DTYPES, FLOAT32, laid, layouts, needs_onednn, whole

pytestmark = needs_onednn
sizes = st.integers(1, 40)
batches = st.sampled_from([(), (3,), (1,), (2, 3), (2, 1), (1, 3), (2, 1, 3)])


@pytest.fixture(autouse=True)
def as_small_as_you_like(monkeypatch, request):
    """Small products too, but where a test is about which are taken."""
    if request.cls is not TestWhatIsTaken:
        monkeypatch.setattr(onednn, "_FEW", {})
        monkeypatch.setattr(onednn, "_FEWEST", 1)


def taken(answer, *sizes):
    """Whether oneDNN takes a product; of single rows and columns, it may have no fast one."""
    slow = 1 in sizes and answer == "oneDNN has no fast implementation for these sizes"
    assert answer is True or slow
    return not slow


def exact(x, y):
    return np.matmul(x.astype(np.float64), y.astype(np.float64))


@pytest.mark.parametrize("dtype", DTYPES)
@given(sizes, sizes, sizes, layouts, layouts)
@settings(deadline=None, max_examples=60)
def test_matrices(dtype, n, k, m, layout_x, layout_y):
    x, y = laid(whole(1, (n, k), dtype), layout_x), laid(whole(2, (k, m), dtype), layout_y)
    if not taken(onednn.accepts_matmul(x, y), n, k, m):
        return
    z = onednn.matmul(x, y)
    assert z.dtype == dtype
    assert z.flags.c_contiguous
    np.testing.assert_array_equal(z, exact(x, y).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@given(batches, batches, sizes, sizes, sizes, layouts, layouts)
@settings(deadline=None, max_examples=60)
def test_batches(dtype, left, right, n, k, m, layout_x, layout_y):
    try:
        np.broadcast_shapes(left, right)
    except ValueError:
        right = left
    x = laid(whole(1, (*left, n, k), dtype), layout_x)
    y = laid(whole(2, (*right, k, m), dtype), layout_y)
    answer = onednn.accepts_matmul(x, y)
    assert answer is True or answer == "oneDNN has no fast implementation for these sizes"
    if answer is True:
        z = onednn.matmul(x, y)
        assert z.dtype == dtype
        np.testing.assert_array_equal(z, exact(x, y).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transpose", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_transposed_operands_are_not_copied(dtype, transpose):
    """Batches of attention's heads, in the strides that splitting and swapping leave."""
    q = whole(1, (2, 16, 3, 8), dtype).transpose(0, 2, 1, 3)  # (batch, heads, 16, 8)
    x = q.swapaxes(-1, -2) if transpose[0] else q
    y = whole(2, (2, 3, 5, x.shape[-1]), dtype).swapaxes(-1, -2)
    y = y if transpose[1] else np.ascontiguousarray(y)
    one, other = onednn.batched(x, y)
    assert np.shares_memory(one, x)
    assert np.shares_memory(other, y)
    assert onednn.accepts_matmul(x, y) is True
    np.testing.assert_array_equal(onednn.matmul(x, y), exact(x, y).astype(dtype))


def test_broadcast_memory():
    """A gradient that came out of expand() has strides of 0."""
    x = np.broadcast_to(np.float32(2), (5, 7))
    y = np.broadcast_to(whole(1, (4,)), (7, 4))
    np.testing.assert_array_equal(onednn.matmul(x, y), exact(x, y))
    batch = np.broadcast_to(whole(1, (7, 4)), (3, 7, 4))
    np.testing.assert_array_equal(onednn.matmul(np.ones((3, 5, 7), "f4"), batch), exact(
        np.ones((3, 5, 7)), batch))  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_sliding_windows(dtype):
    """Rows that share memory."""
    x = np.lib.stride_tricks.sliding_window_view(whole(1, (3, 40), dtype), 8, axis=1)
    y = whole(2, (3, 8, 20), dtype)
    for a, b in ((x, y), (x[0], y[0]), (x.swapaxes(-1, -2), x)):
        np.testing.assert_array_equal(onednn.matmul(a, b), exact(a, b).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("with_bias", [False, True])
@given(st.sampled_from([(), (1,), (6,), (2, 3), (2, 1, 4)]), sizes, sizes, layouts, layouts)
@settings(deadline=None, max_examples=40)
def test_linear(dtype, with_bias, leading, n_in, n_out, layout_x, layout_weight):
    x = whole(1, (*leading, n_in), dtype)
    x = laid(x, layout_x) if x.ndim > 1 else x[::-1]
    weight = laid(whole(2, (n_out, n_in), dtype), layout_weight)
    bias = whole(3, (2 * n_out,), dtype)[::-2] if with_bias else None
    if not taken(onednn.accepts_linear(x, weight, bias), x.size // n_in, n_in, n_out):
        return
    y = onednn.linear(x, weight, bias)
    wanted = exact(x, weight.T) + (0 if bias is None else bias.astype(np.float64))
    assert y.shape == wanted.shape
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, wanted.astype(dtype))


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values_spread_as_in_numpy(special, dtype):
    x, y = whole(1, (20, 30), dtype), whole(2, (30, 10), dtype)
    x[3, 4] = special
    for got, wanted in (
        (onednn.matmul(x, y), reference.matmul(x, y)),
        (onednn.linear(x, y.T, y[0]), reference.linear(x, y.T, y[0])),
    ):
        np.testing.assert_array_equal(got.astype("f4"), wanted.astype("f4"))
        assert not np.isfinite(got[3].astype("f4")).all()
        assert np.isfinite(np.delete(got, 3, 0).astype("f4")).all()


def test_sums_of_bfloat16_are_taken_in_float32():
    """In bfloat16 a sum of ones ends at 256."""
    if not isinstance(onednn.accepts_matmul(np.ones((2, 2), BFLOAT16), np.ones((2, 2), BFLOAT16)),
                      bool):  # fmt: skip
        pytest.skip("the processor does not multiply bfloat16 numbers")
    ones = np.ones((64, 1024), BFLOAT16)
    assert (onednn.matmul(ones, ones.T) == 1024).all()


class TestWhatIsTaken:
    def test_small_products_are_left_to_numpy(self):
        x = np.ones((32, 32), np.float32)
        assert explain("matmul", x, x).splitlines()[0] == "matmul: reference runs"
        assert "NumPy does as soon" in explain("matmul", x, x)
        assert "NumPy does as soon" in explain("linear", x, x, None)

    def test_large_ones_are_taken(self):
        x = np.ones((256, 256), np.float32)
        assert explain("matmul", x, x).startswith("matmul: onednn runs")
        assert explain("linear", x, x, x[0]).startswith("linear: onednn runs")

    @pytest.mark.parametrize("dtype", ["f8", "f2", "i4", "i2", "c8"])
    def test_other_dtypes_are_not(self, dtype):
        x = np.ones((256, 256), dtype)
        assert "oneDNN computes in float32 and bfloat16" in explain("matmul", x, x)
        assert explain("matmul", x, x).startswith("matmul: reference runs")

    def test_vectors_and_nothing_are_not(self):
        v = np.ones(4096, np.float32)
        assert "vectors" in explain("matmul", v, v)
        assert "vectors" in explain("matmul", np.ones((4096, 4096), "f4"), v)
        for shapes in (((0, 999), (999, 999)), ((999, 0), (0, 999)), ((999, 999), (999, 0))):
            x, y = (np.ones(s, np.float32) for s in shapes)
            assert onednn.accepts_matmul(x, y) is not True
            np.testing.assert_array_equal(kernels.matmul(x, y), np.matmul(x, y))

    def test_reference_can_be_asked_for(self):
        x = np.ones((256, 256), np.float32)
        with use("reference"):
            assert explain("matmul", x, x).startswith("matmul: reference runs")


def test_derivatives_through_large_layers():
    """Linear's backward calls products with transposed operands; PyTorch agrees."""
    import torch

    rng = np.random.default_rng(0)
    arrays = [rng.uniform(-1, 1, s).astype("f4") for s in ((96, 130), (110, 130), (110,))]
    ours = [nano.tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    (nano.nn.functional.linear(*ours) ** 2).sum().backward()
    (torch.nn.functional.linear(*theirs) ** 2).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        # Sums of some 100 terms of size 1, in float32.
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-4, atol=1e-3)


def test_precision_is_part_of_the_choice():
    x, y = (np.random.default_rng(i).uniform(1, 2, (96, 96)).astype(FLOAT32) for i in (0, 1))
    best = onednn.matmul(x, y)
    bias = np.ones(96, FLOAT32)
    layer = onednn.linear(x, y, bias)
    nano.set_float32_matmul_precision("medium")
    try:
        rounded, rounded_layer = onednn.matmul(x, y), onednn.linear(x, y, bias)
    finally:
        nano.set_float32_matmul_precision("highest")
    assert rounded.dtype == FLOAT32
    # Rounded to 8 bits, each factor is off by at most 2^-9 of itself; all terms are positive.
    np.testing.assert_allclose(rounded, best, rtol=2**-8)
    np.testing.assert_allclose(rounded_layer, layer, rtol=2**-8)
    np.testing.assert_array_equal(onednn.matmul(x, y), best)
    np.testing.assert_array_equal(onednn.linear(x, y, bias), layer)
