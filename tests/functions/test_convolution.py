"""Convolution and its transpose against PyTorch, with derivatives of derivatives."""

import numpy as np
import pytest
import torch

import nano
from nano.functions.convolution import Conv2dWeight, ConvTranspose2d

from .harness import FLOATS, INTEGERS, WIDE, Case, assert_same, operator_tests, to_array

NUMBERS = (*FLOATS, *INTEGERS)

#: The sums have up to some hundred terms of size 1, and 16-bit results are rounded once.
SUMS = {"float32": (1e-5, 1e-5), "float16": (4e-3, 2e-2), "bfloat16": (3e-2, 1e-1)}


def case(name, function, *shapes, dtypes=WIDE, **options):
    """A convolution of random inputs; the third shape, if any, is the bias's."""
    return Case(
        f"{function} {name}",
        lambda m, *inputs: getattr(m, function)(*inputs, **options),
        shapes,
        dtypes=dtypes,
        tolerance=SUMS,
    )


CASES = [
    case("plain", "conv2d", (2, 3, 5, 6), (4, 3, 3, 2), (4,), dtypes=NUMBERS),
    case("no bias", "conv2d", (2, 3, 5, 6), (4, 3, 3, 2), dtypes=FLOATS),
    case("one image", "conv2d", (3, 5, 6), (4, 3, 3, 2), (4,)),
    case("stride", "conv2d", (2, 2, 7, 8), (3, 2, 3, 3), (3,), stride=(2, 3), padding=(1, 2)),
    case("dilation", "conv2d", (1, 2, 7, 8), (3, 2, 2, 3), (3,), dilation=(3, 2), padding=1),
    case("groups", "conv2d", (2, 4, 5, 5), (6, 2, 3, 3), (6,), groups=2, stride=2),
    case("depthwise", "conv2d", (2, 3, 5, 5), (6, 1, 3, 3), (6,), groups=3, padding=1),
    case("same", "conv2d", (2, 2, 5, 6), (3, 2, 3, 4), (3,), padding="same", dilation=(1, 2)),
    case("valid", "conv2d", (2, 2, 5, 6), (3, 2, 4, 3), padding="valid"),
    case("1x1", "conv2d", (2, 3, 4, 4), (5, 3, 1, 1), (5,), dtypes=FLOATS),
    case("1x1 stride", "conv2d", (2, 3, 5, 4), (5, 3, 1, 1), stride=2),
    case("wide padding", "conv2d", (1, 1, 2, 2), (1, 1, 2, 2), padding=3, stride=2),
    case("empty batch", "conv2d", (0, 3, 5, 6), (4, 3, 3, 2), (4,)),
    case("plain", "conv1d", (2, 3, 7), (4, 3, 3), (4,), dtypes=NUMBERS),
    case("one signal", "conv1d", (3, 7), (4, 3, 3), stride=2, padding=1, dilation=2),
    case("same", "conv1d", (2, 4, 7), (4, 2, 5), (4,), padding="same", groups=2),
    case("plain", "conv_transpose2d", (2, 3, 3, 4), (3, 2, 3, 2), (2,), dtypes=FLOATS),
    case("integers", "conv_transpose2d", (2, 3, 3, 4), (3, 2, 3, 2), dtypes=("int64",)),
    case("one image", "conv_transpose2d", (3, 3, 4), (3, 2, 3, 2)),
    case(
        "stride", "conv_transpose2d", (2, 3, 3, 4), (3, 2, 3, 3), (2,),
        stride=(2, 3), padding=(1, 0), output_padding=(1, 2),
    ),
    case(
        "groups", "conv_transpose2d", (2, 4, 3, 3), (4, 2, 2, 3), (4,),
        groups=2, dilation=(1, 2), stride=2,
    ),
    case(
        "output padding beyond the stride", "conv_transpose2d", (1, 2, 3, 3), (2, 2, 3, 3), (2,),
        dilation=3, output_padding=(2, 1),
    ),
    case("empty batch", "conv_transpose2d", (0, 3, 3, 4), (3, 2, 3, 2), (2,)),
    case("plain", "conv_transpose1d", (2, 3, 4), (3, 2, 3), (2,), stride=2, output_padding=1),
    case("one signal", "conv_transpose1d", (3, 4), (3, 2, 3), padding=1),
]  # fmt: skip

TestConvolution = operator_tests(CASES)


def test_the_three_maps_are_each_others_derivatives():
    """Second derivatives for every pair of inputs, by name of the node that computes them."""
    x = nano.randn(2, 3, 5, 5, requires_grad=True)
    w = nano.randn(4, 3, 3, 3, requires_grad=True)
    y = nano.conv2d(x, w)
    dx, dw = nano.autograd.grad((y * y).sum(), (x, w), create_graph=True)
    assert y.grad_fn.name() == "Conv2dBackward0"
    assert dx.grad_fn.name() == "ConvTranspose2dBackward0"
    assert dw.grad_fn.name() == "Conv2dWeightBackward0"


def test_only_what_is_wanted_is_computed():
    seen = []

    def hook(function, inputs, attributes, proceed):
        seen.append(function)
        return proceed()

    x, w = nano.randn(1, 1, 4, 4), nano.randn(1, 1, 3, 3, requires_grad=True)
    y = nano.conv2d(x, w).sum()
    nano.hook.add_hook(hook)
    try:
        y.backward()
    finally:
        nano.hook.remove_hook(hook)
    assert Conv2dWeight in seen
    assert ConvTranspose2d not in seen


def test_memory_is_channels_last():
    x, w = nano.randn(2, 3, 5, 5, requires_grad=True), nano.randn(4, 3, 3, 3, requires_grad=True)
    y = nano.conv2d(x, w)
    assert y.permute(0, 2, 3, 1).is_contiguous()
    back = nano.conv_transpose2d(y, w)
    assert back.permute(0, 2, 3, 1).is_contiguous()
    (dx,) = nano.autograd.grad(y.sum(), x)
    assert dx.permute(0, 2, 3, 1).is_contiguous()


def test_a_convolution_without_input_channels_is_its_bias():
    y = nano.conv2d(nano.ones(1, 0, 4, 4), nano.ones(2, 0, 3, 3), nano.tensor([1.0, 2.0]))
    assert y.shape == (1, 2, 2, 2)
    assert y[0, :, 0, 0].tolist() == [1.0, 2.0]


# PyTorch says that it copies the input; nano does not.
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(("kernel", "dilation"), [((4, 2), 1), ((2, 3), (3, 1)), ((1, 6), 1)])
def test_an_odd_padding_has_one_more_at_the_end(kernel, dilation):
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(1, 2, 7, 8)), rng.normal(size=(3, 2, *kernel))
    ours, theirs = (
        m.conv2d(*map(m.tensor, arrays), padding="same", dilation=dilation) for m in (nano, torch)
    )
    assert_same(ours, theirs, (1e-12, 1e-12))


def test_gradient_penalty_equals_pytorch():
    """A step that needs the second derivative of a small network."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s) for s in ((2, 3, 6, 6), (4, 3, 3, 3), (4,), (4, 2, 3, 3))]
    grads = []
    for m in (nano, torch):
        x, w, b, v = (m.tensor(a, requires_grad=True) for a in arrays)
        hidden = m.tanh(m.conv2d(x, w, b, stride=2, padding=1))
        y = m.conv_transpose2d(hidden, v, stride=2, output_padding=1)
        (dx,) = m.autograd.grad((y * y).sum(), x, create_graph=True)
        (dx * dx).sum().backward()
        grads.append([x.grad, w.grad, b.grad, v.grad])
    for ours, theirs in zip(*grads, strict=True):
        np.testing.assert_allclose(to_array(ours), to_array(theirs), rtol=1e-9)


X, W = (1, 4, 6, 6), (2, 4, 3, 3)
#: Calls that PyTorch refuses: function, shapes of input and weight, options.
REFUSED = [
    ("conv2d", X, (2, 3, 3, 3), {}),
    ("conv2d", X, (2, 4, 9, 9), {}),
    ("conv2d", X, (2, 4, 0, 3), {}),
    ("conv2d", X, (0, 4, 3, 3), {}),
    ("conv2d", X, (2, 4, 3), {}),
    ("conv2d", (6, 6), W, {}),
    ("conv2d", (1, 1, 4, 6, 6), W, {}),
    ("conv2d", (1, 4, 0, 6), W, {"padding": 2}),
    ("conv2d", X, W, {"padding": -1}),
    ("conv2d", X, W, {"stride": 0}),
    ("conv2d", X, W, {"dilation": 0}),
    ("conv2d", X, W, {"groups": 0}),
    ("conv2d", X, W, {"groups": 3}),
    ("conv2d", X, (3, 2, 3, 3), {"groups": 2}),
    ("conv2d", X, W, {"groups": 1.0}),
    ("conv2d", X, W, {"stride": (1, 2, 3)}),
    ("conv2d", X, W, {"stride": ()}),
    ("conv2d", X, W, {"stride": 1.5}),
    ("conv2d", X, W, {"stride": "a"}),
    ("conv2d", X, W, {"padding": True}),
    ("conv2d", X, W, {"padding": "full"}),
    ("conv2d", X, W, {"padding": "same", "stride": 2}),
    ("conv1d", X, (2, 4, 3), {}),
    ("conv1d", (2, 4, 6), (2, 4, 3, 3), {}),
    ("conv1d", (2, 4, 6), (2, 4, 7), {}),
    ("conv_transpose2d", X, (3, 2, 3, 3), {}),
    ("conv_transpose2d", X, (4, 2, 3, 3), {"output_padding": 1}),
    ("conv_transpose2d", X, (4, 2, 3, 3), {"stride": 2, "output_padding": -1}),
    ("conv_transpose2d", X, (4, 2, 3, 3), {"padding": "same"}),
    ("conv_transpose2d", X, (4, 2, 3, 3), {"groups": 3}),
    ("conv_transpose2d", (1, 4, 1, 1), (4, 2, 3, 3), {"padding": 2}),
    ("conv_transpose2d", (1, 4, 0, 6), (4, 2, 3, 3), {}),
    ("conv_transpose1d", X, (4, 2, 3), {}),
]


@pytest.mark.parametrize(("function", "x", "w", "options"), REFUSED, ids=str)
def test_refuses_what_pytorch_refuses(function, x, w, options):
    errors = []
    for m in (torch, nano):
        with pytest.raises((RuntimeError, TypeError)) as caught:
            getattr(m, function)(m.ones(*x), m.ones(*w), **options)
        errors.append(caught)
    theirs, ours = errors
    assert isinstance(ours.value, theirs.type)
    assert str(ours.value).startswith(f"[{function}] ")


@pytest.mark.parametrize(
    ("dtypes", "bias"),
    [
        (("float32", "float64", None), None),
        (("float32", "float32", "float64"), (2,)),
        (("bool", "bool", None), None),
        (("float32", "float32", "float32"), (3,)),
        (("float32", "float32", "float32"), (2, 1)),
    ],
)
def test_refuses_other_dtypes_and_biases_as_pytorch(dtypes, bias):
    for m in (torch, nano):
        x, w, b = (
            None if d is None else m.ones(*shape, dtype=getattr(m, d))
            for d, shape in zip(dtypes, (X, W, bias), strict=True)
        )
        with pytest.raises(RuntimeError):
            m.conv2d(x, w, b)


def test_refuses_what_is_no_tensor():
    for args in (([1.0], nano.ones(*W)), (nano.ones(*X), 1.0), (nano.ones(*X), nano.ones(*W), 1)):
        with pytest.raises(TypeError, match=r"\[conv2d\] .* must be a Tensor"):
            nano.conv2d(*args)


def test_an_error_says_what_to_write():
    with pytest.raises(RuntimeError) as caught:
        nano.conv2d(nano.ones(8, 3, 28, 28), nano.ones(16, 1, 3, 3))
    assert str(caught.value) == (
        "[conv2d] input has 3 channels, but weight (16, 1, 3, 3) expects 1.\n"
        "    input (8, 3, 28, 28) · weight (16, 1, 3, 3) · groups 1\n"
        "    Give the layer in_channels=3, or convert the input."
    )


@pytest.mark.parametrize("m", [nano, torch])
def test_sizes_may_be_numpy_integers_or_lists(m):
    x, w = m.ones(1, 1, 4, 4), m.ones(1, 1, 2, 2)
    y = m.conv2d(x, w, stride=[2], padding=(np.int64(1), 0))
    assert tuple(y.shape) == (1, 1, 3, 2)


def test_autograd_through_a_sum_of_uses():
    """One weight used twice adds its gradients up, as in PyTorch."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1, 2, 5, 5)), rng.normal(size=(2, 2, 3, 3))
    grads = []
    for m in (nano, torch):
        weight = m.tensor(w, requires_grad=True)
        y = m.conv2d(m.conv2d(m.tensor(x), weight, padding=1), weight)
        y.sum().backward()
        grads.append(weight.grad)
    assert_same(*grads, (1e-12, 1e-12))
