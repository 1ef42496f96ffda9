"""The three convolution kernels against their definition in loops, and against PyTorch."""

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nano.backends.reference import convolution as reference
from nano.backends.reference.windows import output_size, reach

from ...functions.harness import odd_layouts

#: (x, weight, stride, padding, dilation, groups)
GEOMETRIES = [
    ((2, 3, 6, 5), (4, 3, 3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    ((2, 3, 6, 5), (4, 3, 3, 2), (2, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ((1, 4, 7, 7), (6, 2, 3, 3), (2, 3), ((1, 2), (0, 3)), (1, 2), 2),
    ((2, 4, 5, 5), (4, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 4),
    ((2, 3, 4, 4), (6, 1, 2, 2), (1, 1), ((0, 1), (0, 1)), (1, 1), 3),
    ((1, 1, 1, 1), (1, 1, 3, 3), (1, 1), ((4, 1), (1, 4)), (1, 1), 1),
    ((2, 3, 5, 5), (4, 3, 1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1), 1),
    ((2, 2, 5, 5), (3, 2, 5, 5), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    ((2, 2, 2, 9), (3, 2, 1, 2), (3, 4), ((0, 3), (2, 0)), (5, 3), 1),
    ((0, 3, 5, 5), (4, 3, 3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    ((2, 0, 5, 5), (4, 0, 3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
]


def drawn(geometry, dtype="float64"):
    """x, weight, bias and a gradient of the output."""
    x, weight, stride, padding, dilation, _ = geometry
    size = output_size(x[2:], weight[2:], stride, padding, dilation)
    rng = np.random.default_rng(0)
    shapes = x, weight, weight[:1], (x[0], weight[0], *size)
    return [rng.uniform(-1, 1, shape).astype(dtype) for shape in shapes]


def kernels_and_loops(geometry, x, weight, bias, g):
    """The results of each kernel, and of the loops that define it."""
    rest = geometry[2:]
    back = np.resize(bias, x.shape[1]) if bias.size else bias[:0]
    for b, c in ((bias, back), (None, None)):
        size, window = x.shape[2:], weight.shape[2:]
        yield reference.conv2d(x, weight, b, *rest), reference.conv2d_loops(x, weight, b, *rest)
        yield (
            reference.conv_transpose2d(g, weight, c, size, *rest),
            reference.conv_transpose2d_loops(g, weight, c, size, *rest),
        )
        yield (
            reference.conv2d_weight(g, x, window, *rest),
            reference.conv2d_weight_loops(g, x, window, *rest),
        )


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_kernels_equal_their_definition(geometry):
    for got, wanted in kernels_and_loops(geometry, *drawn(geometry)):
        # The sums have some hundred terms, in another order.
        assert got.shape == wanted.shape
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_kernels_equal_their_definition_everywhere(data):
    def pair(low, high):
        return data.draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    groups, each, of_each = (data.draw(st.integers(1, 2)) for _ in range(3))
    window, stride, dilation = pair(1, 3), pair(1, 3), pair(1, 2)
    padding = pair(0, 3), pair(0, 3)
    size = tuple(
        max(1, d * (k - 1) + 1 - sum(p)) + extra
        for d, k, p, extra in zip(dilation, window, padding, pair(0, 3), strict=True)
    )
    geometry = (
        (data.draw(st.integers(0, 2)), groups * each, *size),
        (groups * of_each, each, *window),
        stride,
        padding,
        dilation,
        groups,
    )
    for got, wanted in kernels_and_loops(geometry, *drawn(geometry)):
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("geometry", GEOMETRIES[:5], ids=str)
@pytest.mark.parametrize("which", range(4))
def test_any_strides(geometry, which):
    arrays = drawn(geometry)
    wanted = [wanted for _, wanted in kernels_and_loops(geometry, *arrays)]
    for odd in odd_layouts(arrays[which]):
        moved = [*arrays[:which], odd, *arrays[which + 1 :]]
        for (got, _), right in zip(kernels_and_loops(geometry, *moved), wanted, strict=True):
            np.testing.assert_allclose(got, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_sixteen_bits_are_summed_in_float32(dtype):
    rest = (1, 1), ((0, 0), (0, 0)), (1, 1), 1
    # 4,096 ones and a product of 1: in 16 bits a sum would stop at 2,048 or 256.
    x, w = np.ones((1, 4096, 1, 1), dtype), np.ones((1, 4096, 1, 1), dtype)
    y = reference.conv2d(x, w, None, *rest)
    assert y.dtype == dtype
    assert float(y[0, 0, 0, 0]) == 4096
    back = reference.conv_transpose2d(x, w.transpose(1, 0, 2, 3), None, (1, 1), *rest)
    assert back.dtype == dtype
    assert float(back[0, 0, 0, 0]) == 4096
    many = np.ones((1, 1, 64, 64), dtype)
    dw = reference.conv2d_weight(many, many, (1, 1), *rest)
    assert dw.dtype == dtype
    assert float(dw[0, 0, 0, 0]) == 4096


def test_memory_layout():
    x, weight, bias, g = drawn(GEOMETRIES[1])
    rest = GEOMETRIES[1][2:]
    y = reference.conv2d(x, weight, bias, *rest)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    dx = reference.conv_transpose2d(g, weight, None, x.shape[2:], *rest)
    assert dx.transpose(0, 2, 3, 1).flags.c_contiguous
    assert reference.conv2d_weight(g, x, (3, 2), *rest).flags.c_contiguous


def test_a_batch_in_several_chunks(monkeypatch):
    monkeypatch.setattr(reference, "_CHUNK", 4096)
    geometry = ((5, 3, 6, 5), *GEOMETRIES[1][1:])
    arrays = drawn(geometry)
    assert len(list(reference._chunks(5, 3 * 2 * 3 * 24 * 8))) > 1
    for got, wanted in kernels_and_loops(geometry, *arrays):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


def test_integers():
    x = np.arange(2 * 4 * 16).reshape(2, 4, 4, 4) % 7
    w = np.arange(2 * 2 * 9).reshape(2, 2, 3, 3) % 5
    rest = (1, 1), ((1, 1), (1, 1)), (1, 1), 2
    theirs = torch.conv2d(torch.tensor(x), torch.tensor(w), padding=1, groups=2)
    np.testing.assert_array_equal(reference.conv2d(x, w, None, *rest), theirs.numpy())


def test_reach_finds_all_inside_and_nothing_else():
    for offset in range(-4, 8):
        for stride in (1, 2, 3):
            for size in (0, 1, 5):
                outputs, inputs = reach(offset, stride, size, 4)
                wanted = [o for o in range(4) if 0 <= o * stride + offset < size]
                assert list(range(4))[outputs] == wanted
                assert list(range(size))[inputs] == [o * stride + offset for o in wanted]
