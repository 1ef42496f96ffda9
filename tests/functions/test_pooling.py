"""Pooling against PyTorch: values, indices, ties and NaN, sizes, derivatives of derivatives."""

import itertools

import numpy as np
import pytest
import torch

import nano

from .harness import FLOATS, INTEGERS, WIDE, Case, operator_tests

NAN, INF = float("nan"), float("inf")


def case(name, function, shape, *args, dtypes=FLOATS, grad=True, **options):
    return Case(
        f"{function} {name}",
        lambda m, x: getattr(m.nn.functional, function)(x, *args, **options),
        [shape],
        dtypes=dtypes,
        grad=grad,
    )


CASES = [
    case("plain", "max_pool2d", (2, 3, 6, 5), 2, dtypes=(*FLOATS, *INTEGERS)),
    case("one image", "max_pool2d", (3, 6, 5), (2, 3), return_indices=True),
    case("overlap", "max_pool2d", (2, 3, 6, 7), 3, 2, 1, return_indices=True),
    case("dilation", "max_pool2d", (1, 2, 8, 7), (3, 2), 1, 1, 2, return_indices=True),
    case("ceil", "max_pool2d", (1, 2, 6, 7), 3, 2, (1, 0), 1, True, True),
    case("large window", "max_pool2d", (1, 1, 20, 20), 17, 1, return_indices=True),
    case("empty batch", "max_pool2d", (0, 3, 6, 5), 2, dtypes=WIDE),
    case("plain", "max_pool1d", (2, 3, 7), 2, return_indices=True),
    case("one signal", "max_pool1d", (3, 7), 3, 2, 1, 1, True),
    case("plain", "avg_pool2d", (2, 3, 6, 5), 2, dtypes=(*FLOATS, "int64")),
    case("one image", "avg_pool2d", (3, 6, 5), (2, 3), (1, 2)),
    case("padding", "avg_pool2d", (2, 3, 6, 7), 3, 2, 1),
    case("without padding", "avg_pool2d", (2, 3, 6, 7), 3, 2, 1, count_include_pad=False),
    case("ceil", "avg_pool2d", (2, 3, 6, 6), 3, 2, 1, True),
    case("ceil without padding", "avg_pool2d", (2, 3, 6, 6), 3, 2, 1, True, False),
    case("divisor", "avg_pool2d", (2, 3, 6, 7), 3, 2, 1, divisor_override=-2),
    case("empty batch", "avg_pool2d", (0, 3, 6, 5), 2, dtypes=WIDE),
    case("plain", "avg_pool1d", (2, 3, 7), 2),
    case("one signal", "avg_pool1d", (3, 8), 3, 2, 1, True, False),
    case("one", "adaptive_avg_pool2d", (2, 3, 5, 4), 1),
    case("shared rows", "adaptive_avg_pool2d", (2, 3, 5, 7), (3, 4)),
    case("as it is", "adaptive_avg_pool2d", (3, 5, 7), (None, 2)),
    case("larger", "adaptive_avg_pool2d", (1, 2, 3, 2), (5, 3)),
    case("none", "adaptive_avg_pool2d", (1, 2, 3, 2), (0, 3), dtypes=WIDE, grad=False),
    case("empty batch", "adaptive_avg_pool2d", (0, 2, 3, 2), 2, dtypes=WIDE),
    case("plain", "adaptive_avg_pool1d", (2, 3, 7), 3),
    case("one", "adaptive_max_pool2d", (2, 3, 5, 4), 1, return_indices=True),
    case("shared rows", "adaptive_max_pool2d", (2, 3, 5, 7), (3, 4), True),
    case("as it is", "adaptive_max_pool2d", (3, 5, 7), (None, 2), True),
    case("larger", "adaptive_max_pool2d", (1, 2, 3, 2), (5, 3), True),
    case("none", "adaptive_max_pool2d", (1, 2, 3, 2), (0, 3), dtypes=WIDE, grad=False),
    case("empty batch", "adaptive_max_pool2d", (0, 2, 3, 2), 2, dtypes=WIDE),
    case("plain", "adaptive_max_pool1d", (3, 7), 3, True),
]

TestPooling = operator_tests(CASES)

SPECIAL = [
    [[1, NAN, 3, 4], [2, 2, NAN, 0], [0.0, -0.0, -0.0, 0.0], [1, 1, 1, 1]],
    [[NAN] * 4] * 4,
    [[-INF] * 4] * 4,
    [[INF, INF, -INF, NAN]] * 4,
]


@pytest.mark.parametrize("values", SPECIAL, ids=str)
@pytest.mark.parametrize("args", [(2,), (3, 1), (3, 1, 1), (2, 1, 1, 2)], ids=str)
def test_nan_ties_and_infinities(values, args):
    """Values, indices and the place that gets the gradient."""
    results = []
    for m in (nano, torch):
        x = m.tensor([[values]], dtype=m.float32, requires_grad=True)
        y, indices = m.nn.functional.max_pool2d(x, *args, return_indices=True)
        y.backward(m.ones_like(y))
        results.append([y.detach().numpy(), indices.numpy(), x.grad.numpy()])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("values", SPECIAL, ids=str)
@pytest.mark.parametrize("size", [1, 2, 3, (4, 3)])
def test_nan_and_infinities_in_adaptive_windows(values, size):
    results = []
    for m in (nano, torch):
        x = m.tensor([[values]], dtype=m.float32)
        y, indices = m.nn.functional.adaptive_max_pool2d(x, size, return_indices=True)
        mean = m.nn.functional.adaptive_avg_pool2d(x, size)
        results.append([y.numpy(), indices.numpy(), mean.numpy()])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_sizes_and_divisors_of_all_small_geometries(ceil_mode):
    compared = 0
    for n, k, s, p in itertools.product(range(1, 8), range(1, 4), range(1, 5), range(2)):
        if p > k // 2:
            continue
        args = k, s, p, ceil_mode
        x = np.arange(1.0, n + 1).reshape(1, 1, n)
        try:
            theirs = torch.nn.functional.avg_pool1d(torch.tensor(x), *args)
        except RuntimeError:
            with pytest.raises(RuntimeError):
                nano.avg_pool1d(nano.tensor(x), *args)
            continue
        ours = nano.avg_pool1d(nano.tensor(x), *args)
        assert ours.shape == tuple(theirs.shape), args
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-12)
        for d in (1, 2):
            try:
                theirs = torch.nn.functional.max_pool1d(torch.tensor(x), k, s, p, d, ceil_mode)
            except RuntimeError:
                continue
            ours = nano.max_pool1d(nano.tensor(x), k, s, p, d, ceil_mode)
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
            compared += 1
    assert compared > 100


@pytest.mark.parametrize("function", ["adaptive_avg_pool2d", "adaptive_max_pool2d"])
def test_no_windows_give_no_gradient(function):
    """PyTorch refuses to go back through an empty result."""
    x = nano.ones(1, 2, 3, 2, requires_grad=True)
    getattr(nano.nn.functional, function)(x, (0, 3)).sum().backward()
    assert not x.grad.any()


def test_indices_carry_no_gradient():
    x = nano.randn(1, 1, 4, 4, requires_grad=True)
    y, indices = nano.max_pool2d(x, 2, return_indices=True)
    assert indices.dtype is nano.int64
    assert not indices.requires_grad
    assert y.requires_grad


def test_memory_is_channels_last():
    x = nano.randn(2, 3, 6, 6)
    for y in (
        nano.max_pool2d(x, 2),
        nano.nn.functional.avg_pool2d(x, 2),
        nano.nn.functional.adaptive_avg_pool2d(x, 2),
        nano.nn.functional.adaptive_max_pool2d(x, 2),
    ):
        assert y.permute(0, 2, 3, 1).is_contiguous()


X = (1, 4, 6, 6)
#: Calls that PyTorch refuses: function, shape, arguments, options.
REFUSED = [
    ("max_pool2d", X, (3,), {"padding": 2}),
    ("max_pool2d", X, (3,), {"padding": -1}),
    ("max_pool2d", X, (2,), {"padding": 2, "dilation": 3}),
    ("max_pool2d", X, (3,), {"stride": 0}),
    ("max_pool2d", X, (3,), {"dilation": 0}),
    ("max_pool2d", X, (0,), {}),
    ("max_pool2d", X, (9,), {}),
    ("max_pool2d", X, (2.5,), {}),
    ("max_pool2d", X, ((2, 2, 2),), {}),
    ("max_pool2d", (6, 6), (2,), {}),
    ("max_pool2d", (1, 1, 4, 6, 6), (2,), {}),
    ("max_pool2d", (1, 0, 6, 6), (2,), {}),
    ("max_pool2d", (1, 4, 0, 6), (2,), {}),
    ("max_pool1d", (6,), (2,), {}),
    ("max_pool1d", X, (2,), {}),
    ("avg_pool2d", X, (3,), {"padding": 2}),
    ("avg_pool2d", X, (3,), {"padding": -1}),
    ("avg_pool2d", X, (2,), {"stride": 0}),
    ("avg_pool2d", X, (2,), {"divisor_override": 0}),
    ("avg_pool2d", X, (9,), {}),
    ("avg_pool2d", (1, 0, 6, 6), (2,), {}),
    ("avg_pool1d", (6,), (2,), {}),
    ("adaptive_avg_pool2d", X, ((3, -1),), {}),
    ("adaptive_avg_pool2d", X, ((1, 2, 3),), {}),
    ("adaptive_avg_pool2d", X, (2.5,), {}),
    ("adaptive_avg_pool2d", (6, 6), (2,), {}),
    ("adaptive_avg_pool2d", (1, 4, 0, 6), (2,), {}),
    ("adaptive_max_pool2d", X, (-1,), {}),
    ("adaptive_max_pool2d", X, ((1, 2, 3),), {}),
    ("adaptive_max_pool2d", (1, 4, 0, 6), (2,), {}),
]


@pytest.mark.parametrize(("function", "shape", "args", "options"), REFUSED, ids=str)
def test_refuses_what_pytorch_refuses(function, shape, args, options):
    errors = []
    for m in (torch, nano):
        with pytest.raises((RuntimeError, TypeError)) as caught:
            getattr(m.nn.functional, function)(m.ones(*shape), *args, **options)
        errors.append(caught)
    theirs, ours = errors
    assert isinstance(ours.value, theirs.type)
    assert str(ours.value).startswith(f"[{function}] ")


@pytest.mark.parametrize(
    ("function", "dtype"),
    [
        ("max_pool2d", "bool"),
        ("avg_pool2d", "int32"),
        ("avg_pool2d", "bool"),
        ("adaptive_avg_pool2d", "int64"),
        ("adaptive_max_pool2d", "int64"),
    ],
)
def test_refuses_dtypes_as_pytorch(function, dtype):
    for m in (torch, nano):
        with pytest.raises(NotImplementedError):
            getattr(m.nn.functional, function)(m.ones(1, 1, 4, 4, dtype=getattr(m, dtype)), 2)


def test_an_empty_stride_is_the_window():
    for m in (torch, nano):
        assert tuple(m.nn.functional.max_pool2d(m.ones(1, 1, 4, 4), 2, []).shape) == (1, 1, 2, 2)
