"""Convolutions of oneDNN against the reference in float64, of whole numbers: equal to the bit."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import nano
from nano.backends import explain, kernels, use
from nano.backends.onednn import convolution as onednn
from nano.backends.onednn import epilogue
from nano.backends.reference import convolution as reference

from .common import (
    BFLOAT16,
    DTYPES,
    FLOAT32,
    is_channels_last,
    laid,
    layouts,
    needs_bfloat16,
    needs_onednn,
    whole,
)

pytestmark = needs_onednn


@st.composite
def geometries(draw):
    """(image, weight, stride, padding, dilation, groups) that have a result."""
    groups = draw(st.sampled_from([1, 1, 2, 3, 8]))
    c, o = (groups * draw(st.sampled_from([1, 1, 2, 3, 5, 16])) for _ in range(2))
    kernel, stride, padding, dilation, size = [], [], [], [], []
    for _ in range(2):
        k, d = draw(st.integers(1, 4)), draw(st.sampled_from([1, 1, 2, 3]))
        p = (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
        reach = (k - 1) * d + 1
        kernel.append(k)
        dilation.append(d)
        padding.append(p)
        stride.append(draw(st.integers(1, 3)))
        size.append(max(draw(st.integers(1, 9)), reach - sum(p)))
    n = draw(st.integers(1, 3))
    return (
        *((n, c, *size), (o, c // groups, *kernel)),
        *(tuple(stride), tuple(padding), tuple(dilation), groups),
    )


def assume_taken(accepted, image, shape, result, dtype, how):
    """Go on if a convolution is accepted; else the kernel meets nothing but padding."""
    if accepted is not True:
        missed = onednn.Geometry(image, shape, result, dtype, False, *how).misses_the_image()
        assert missed, accepted
        assume(False)


def wide(*arrays):
    return [None if a is None else a.astype(np.float64) for a in arrays]


@pytest.mark.parametrize("dtype", DTYPES)
@given(geometries(), layouts, layouts, st.booleans())
@settings(deadline=None, max_examples=60)
def test_forward(dtype, geometry, layout_x, layout_w, with_bias):
    image, shape, *how = geometry
    x, w = laid(whole(1, image, dtype), layout_x), laid(whole(2, shape, dtype), layout_w)
    bias = whole(3, (2 * shape[0],), dtype)[::-2] if with_bias else None
    wanted = reference.conv2d(*wide(x, w, bias), *how)
    accepted = onednn.accepts_conv2d(x, w, bias, *how)
    assume_taken(accepted, image, shape, wanted.shape, dtype, how)
    y = onednn.conv2d(x, w, bias, *how)
    assert y.dtype == dtype
    assert y.shape == wanted.shape
    assert is_channels_last(y)
    np.testing.assert_array_equal(y, wanted.astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@given(geometries(), layouts, layouts, st.booleans())
@settings(deadline=None, max_examples=60)
def test_transposed(dtype, geometry, layout_g, layout_w, with_bias):
    image, shape, *how = geometry
    result = reference.conv2d(np.zeros(image), np.zeros(shape), None, *how).shape
    g, w = laid(whole(1, result, dtype), layout_g), laid(whole(2, shape, dtype), layout_w)
    bias = whole(3, image[1:2], dtype) if with_bias else None
    accepted = onednn.accepts_conv_transpose2d(g, w, bias, image[2:], *how)
    assume_taken(accepted, image, shape, result, dtype, how)
    x = onednn.conv_transpose2d(g, w, bias, image[2:], *how)
    assert x.dtype == dtype
    assert x.shape == image
    assert is_channels_last(x)
    wanted = reference.conv_transpose2d(*wide(g, w, None), image[2:], *how).astype(dtype)
    if with_bias:  # added after the sum has been rounded
        wanted = wanted + bias.reshape(-1, 1, 1)
    np.testing.assert_array_equal(x, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@given(geometries(), layouts, layouts)
@settings(deadline=None, max_examples=60)
def test_weight_gradient(dtype, geometry, layout_g, layout_x):
    image, shape, *how = geometry
    result = reference.conv2d(np.zeros(image), np.zeros(shape), None, *how).shape
    g, x = laid(whole(1, result, dtype), layout_g), laid(whole(2, image, dtype), layout_x)
    if onednn.accepts_conv2d_weight(g, x, shape[2:], *how) is not True:
        idle = onednn.Geometry(image, shape, result, dtype, False, *how).has_idle_tap()
        assert idle, explain("conv2d_weight", g, x, shape[2:], *how)
        assume(False)
    dw = onednn.conv2d_weight(g, x, shape[2:], *how)
    assert dw.dtype == dtype
    assert dw.shape == shape
    assert dw.flags.c_contiguous
    wanted = reference.conv2d_weight(*wide(g, x), shape[2:], *how)
    np.testing.assert_array_equal(dw, wanted.astype(dtype))
    sums = onednn.conv2d_weight(g, x, shape[2:], *how, np.dtype(np.float32))
    assert sums.dtype == np.float32
    np.testing.assert_array_equal(sums, wanted)


#: Sizes at which oneDNN works in another way: blocked order, depthwise, the first layer, wide.
LARGE = [
    ((2, 256, 4, 4), (256, 256, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ((2, 257, 5, 5), (260, 257, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ((2, 256, 8, 8), (512, 256, 3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
    ((2, 64, 9, 9), (64, 1, 3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 64),
    ((4, 1, 28, 28), (96, 1, 11, 11), (4, 4), ((2, 2), (2, 2)), (1, 1), 1),
    ((4, 3, 32, 32), (16, 3, 3, 3), (1, 1), ((0, 1), (2, 0)), (1, 1), 1),
    ((1, 64, 1, 1), (10, 64, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("geometry", LARGE, ids=str)
def test_larger_sizes(dtype, geometry):
    image, shape, *how = geometry
    x, w = whole(1, image, dtype), whole(2, shape, dtype)
    wanted = reference.conv2d(*wide(x, w, None), *how)
    g = whole(3, wanted.shape, dtype)
    np.testing.assert_array_equal(onednn.conv2d(x, w, None, *how), wanted.astype(dtype))
    np.testing.assert_array_equal(
        onednn.conv_transpose2d(g, w, None, image[2:], *how),
        reference.conv_transpose2d(*wide(g, w, None), image[2:], *how).astype(dtype),
    )
    np.testing.assert_array_equal(
        onednn.conv2d_weight(g, x, shape[2:], *how),
        reference.conv2d_weight(*wide(g, x), shape[2:], *how).astype(dtype),
    )


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_kernel_that_misses_the_image(dtype, axis):
    """Where one row lies between the kernel's two, oneDNN 3.2 ended the process in bfloat16."""
    image, shape = [2, 16, 8, 8], [16, 16, 3, 3]
    padding, dilation = [(1, 1), (1, 1)], [1, 1]
    image[axis], shape[axis], padding[axis - 2], dilation[axis - 2] = 1, 2, (1, 2), 3
    how = ((1, 1), tuple(padding), tuple(dilation), 1)
    x, w, bias = whole(1, image, dtype), whole(2, shape, dtype), whole(3, (16,), dtype)
    assert "padding" in onednn.accepts_conv2d(x, w, bias, *how)
    assert "padding" in onednn.accepts_conv_transpose2d(x, w, None, tuple(image[2:]), *how)
    activation = (None, None, ("relu",))
    assert "padding" in epilogue.accepts_conv2d_epilogue(x, w, bias, *activation, *how)
    y = kernels.conv2d(x, w, bias, *how, None)
    np.testing.assert_array_equal(y, np.broadcast_to(bias.reshape(-1, 1, 1), image))
    assert not kernels.conv_transpose2d(x, w, None, tuple(image[2:]), *how, None).any()
    y = kernels.conv2d_epilogue(x, w, bias, *activation, *how, None)
    wanted = np.maximum(bias, 0).reshape(-1, 1, 1)
    np.testing.assert_array_equal(y, np.broadcast_to(wanted, image))


HOW = ((1, 1), ((1, 1), (1, 1)), (1, 1), 1)


@pytest.mark.parametrize("special", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values_reach_their_windows_only(special, dtype):
    x, w = whole(1, (1, 16, 8, 8), dtype), np.ones((16, 16, 3, 3), dtype)
    x[0, 3, 4, 4] = special
    y = onednn.conv2d(x, w, None, *HOW).astype("f4")
    touched = np.zeros((8, 8), bool)
    touched[3:6, 3:6] = True
    np.testing.assert_array_equal(~np.isfinite(y), np.broadcast_to(touched, y.shape))


def test_images_that_share_memory():
    """Overlapping windows, and one image as a whole batch."""
    row = whole(1, (2, 3, 9, 12))
    windows = np.lib.stride_tricks.sliding_window_view(row, 6, axis=3)[1].transpose(1, 0, 2, 3)
    same = np.broadcast_to(row[:1], (4, 3, 9, 12))
    for x in (windows, same):
        w = whole(3, (5, x.shape[1], 3, 3))
        wanted = reference.conv2d(*wide(x, w, None), *HOW)
        np.testing.assert_array_equal(onednn.conv2d(x, w, None, *HOW), wanted)


def test_weight_is_kept_until_its_version_moves():
    class Owner:
        pass

    owner = Owner()
    x, w = whole(1, (1, 32, 6, 6)), whole(2, (32, 32, 3, 3))
    first = onednn.conv2d(x, w, None, *HOW, token=(owner, 1))
    np.testing.assert_array_equal(first, onednn.conv2d(x, w, None, *HOW))
    w *= 2
    moved = onednn.conv2d(x, w, None, *HOW, token=(owner, 2))
    np.testing.assert_array_equal(moved, 2 * first)


def test_what_is_refused():
    x, w = np.ones((1, 2, 4, 4), FLOAT32), np.ones((2, 2, 3, 3), FLOAT32)
    assert "there is nothing" in explain("conv2d", x[:0], w, None, *HOW, None)
    assert kernels.conv2d(x[:0], w, None, *HOW, None).shape == (0, 2, 4, 4)
    doubles = [a.astype(float) for a in (x, w)]
    assert "not in float64" in explain("conv2d", *doubles, None, *HOW, None)
    assert "the dtypes differ" in explain("conv2d", x, w.astype(BFLOAT16), None, *HOW, None)
    assert explain("conv2d", x, w, None, *HOW, None).startswith("conv2d: onednn runs")
    with use("reference"):
        assert explain("conv2d", x, w, None, *HOW, None).startswith("conv2d: reference runs")


def test_precision_is_part_of_the_choice():
    x, w = (np.random.default_rng(i).uniform(1, 2, s).astype(FLOAT32) for i, s in enumerate(
        ((2, 32, 8, 8), (32, 32, 3, 3))))  # fmt: skip
    how = ((1, 1), ((0, 0), (0, 0)), (1, 1), 1)

    def three():
        y = onednn.conv2d(x, w, None, *how)
        return (
            y,
            onednn.conv_transpose2d(y, w, None, (8, 8), *how),
            onednn.conv2d_weight(y, x, (3, 3), *how),
        )

    best = three()
    nano.set_float32_matmul_precision("medium")
    try:
        rounded = three()
    finally:
        nano.set_float32_matmul_precision("highest")
    for a, b in zip(rounded, best, strict=True):
        # Each of two or three factors is off by at most 2^-9 of itself; all terms are positive.
        np.testing.assert_allclose(a, b, rtol=2**-7)
    for a, b in zip(three(), best, strict=True):
        np.testing.assert_array_equal(a, b)


@needs_bfloat16
@pytest.mark.parametrize(("size", "stride"), [((4, 4), (1, 1)), ((8, 7), (2, 2)), ((3, 5), (1, 2))])
def test_the_weights_gradient_as_one_product(size, stride):
    padding, how = ((1, 1), (0, 2)), ((1, 1), 1)
    x = whole(1, (2, 256, *size), BFLOAT16)
    result = [(n + sum(p) - 3) // s + 1 for n, p, s in zip(size, padding, stride, strict=True)]
    g = whole(2, (2, 257, *result), BFLOAT16)
    operation = onednn._weight_gradient(g, x, (3, 3), stride, padding, *how)
    assert isinstance(operation, onednn.WeightGradientByProduct)
    ours = kernels.conv2d_weight(g, x, (3, 3), stride, padding, *how)
    wanted = reference.conv2d_weight(*wide(g, x), (3, 3), stride, padding, *how)
    np.testing.assert_array_equal(ours, wanted.astype(BFLOAT16))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_weight_that_meets_only_padding_has_no_gradient(dtype):
    x, g = whole(1, (1, 1, 1, 1), dtype), whole(2, (1, 3, 1, 1), dtype)
    how = (1, 2), ((0, 0), (0, 1)), (1, 1), 1
    assert "only padding" in explain("conv2d_weight", g, x, (1, 2), *how)
    dw = kernels.conv2d_weight(g, x, (1, 2), *how)
    assert (dw[..., 1] == 0).all()
